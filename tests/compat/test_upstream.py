"""twisted.mail's own tests of its POP3, run against mailgate.compat.POP3.

Each is a test here, under its own name. Those listed in `upstream.NOT_PASSED` have to fail: where
one begins to pass, or another to fail, this module fails.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

import twisted
from mailgate import compat
from tests.compat.upstream import NOT_PASSED, OF_OTHERS, defined_name, with_stand_in

PAGE = Path(__file__).parents[2] / "docs" / "adapters.rst"

_module = with_stand_in()
_cases = {name: case for name, case in vars(_module).items()
          if isinstance(case, type) and issubclass(case, (TestCase, SynchronousTestCase))
          and case.__module__ == _module.__name__}


def _must_fail(name: str) -> Callable[[Any], Any]:
    """Return a test that passes exactly if upstream's test of this name fails."""
    def test(self: Any) -> Any:
        method = getattr(super(type(self), self), name)
        try:
            outcome = method()
        except Exception:
            outcome = Failure()
        # A conversation goes on behind the test's back when its assertions failed before its end.
        begun = [*self.begun, outcome] if isinstance(outcome, Deferred) else list(self.begun)
        return DeferredList(begun, consumeErrors=True).addCallback(judge, outcome)

    def judge(ended: list[tuple[bool, Any]], outcome: Any) -> None:
        failures = [result for succeeded, result in ended if not succeeded]
        failures += [outcome] if isinstance(outcome, Failure) else []
        if not failures:
            raise AssertionError("it passes now: take it off NOT_PASSED")
        for failure in failures:
            failure.trap(AssertionError)        # any other exception is no verdict

    test.__name__ = name
    return test


def _names(case: Any) -> list[str]:
    return [name for name in dir(case) if name.startswith("test")]


def _under_test(case: Any) -> Any:
    def runTest(self: Any, *args: Any, **kwargs: Any) -> Any:
        conversation = case.runTest(self, *args, **kwargs)
        self.begun.append(conversation)
        return conversation

    def setUp(self: Any) -> Any:
        self.begun = []
        return case.setUp(self)

    changed = {name: _must_fail(name) for name in _names(case) if defined_name(case, name) in NOT_PASSED}
    if hasattr(case, "runTest"):
        changed["runTest"] = runTest
    return type(case.__name__, (case,), {"setUp": setUp, "__module__": __name__, **changed})


globals().update({name: _under_test(case) for name, case in _cases.items() if name not in OF_OTHERS})


class About(SynchronousTestCase):
    """The list and the loading themselves."""

    def test_the_subject_is_ours(self) -> None:
        self.assertIs(_module.pop3.POP3, compat.POP3)
        self.assertTrue(issubclass(_module.MyVirtualPOP3, compat.POP3))
        self.assertTrue(issubclass(_module.DummyPOP3, compat.POP3))

    def test_the_modules_of_others_are_as_they_were(self) -> None:
        from twisted.mail import pop3, protocols
        from twisted.mail.test import test_pop3

        self.assertTrue(issubclass(protocols.VirtualPOP3, pop3.POP3))
        self.assertTrue(issubclass(test_pop3.DummyPOP3, pop3.POP3))
        self.assertFalse(issubclass(pop3.POP3, compat.POP3))

    def test_every_name_is_one_of_upstreams(self) -> None:
        self.assertEqual(OF_OTHERS - set(_cases), set())
        tests = {defined_name(case, name) for case in _cases.values() for name in _names(case)}
        self.assertEqual(set(NOT_PASSED) - tests, set())

    def test_most_of_it_passes(self) -> None:
        """Nearly all of upstream's tests are run, and counted as the page says."""
        tests = [defined_name(case, name) for case in _cases.values() if case.__name__ not in OF_OTHERS
                 for name in _names(case)]
        failing = [name for name in tests if name in NOT_PASSED]
        self.assertGreater(len(tests), 100)
        self.assertLess(len(failing), 10)
        page = PAGE.read_text()
        if f"Twisted {twisted.__version__}" in page:        # the number of tests is its own in every release
            self.assertIn(f"{len(tests) - len(failing)} of {len(tests)}", page)

    def test_the_page_lists_them(self) -> None:
        """docs/adapters.rst gives each name with its reason, and no other."""
        listed = "".join(f"``{name}``\n" + textwrap.indent(textwrap.fill(reason, 106), "    ") + "\n"
                         for name, reason in NOT_PASSED.items())
        self.assertIn(listed, PAGE.read_text(), "the page should have:\n" + listed)
