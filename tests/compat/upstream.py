"""Upstream's POP3 tests, loaded once more with mailgate.compat.POP3 in the place of their subject."""

from __future__ import annotations

import importlib.util
import types
from typing import Any
from unittest import mock

import twisted.mail
from twisted.mail import pop3, protocols
from twisted.mail.test import test_pop3

from mailgate import compat

# Which upstream tests do not pass, by the class that defines them, and why. docs/adapters.rst shows the same.
NOT_PASSED = {
    "CommandMixin.test_UIDL":
        "It wants ``UIDL 1`` answered with the unique-id alone. RFC 1939 section 7 asks for the "
        "message-number in front of it.",
    "AnotherPOP3Tests.test_badUTF8CharactersInCommand":
        "It wants an octet that is no text to come back as it is in the answer, and a traceback in the log "
        "for each unknown command. Here it is escaped, and a client fills no log.",
}

# Test cases of that module that are about something else than the class POP3.
OF_OTHERS = {"UtilityTests", "POP3MiscTests", "POP3ClientDeprecationTests", "APOPCredentialsTests"}


def defined_name(case: type, test: str) -> str:
    """Return a test's name behind that of the class that defines it."""
    return next(f"{base.__name__}.{test}" for base in case.__mro__ if test in vars(base))


def with_stand_in() -> types.ModuleType:
    """Return a copy of `twisted.mail.test.test_pop3` that tests our POP3 and nothing of Twisted's.

    Its `pop3` is Twisted's module with the one class replaced, and `VirtualPOP3` is defined anew on
    top of that; the modules that everybody else imports stay as they are.
    """
    replaced = types.ModuleType(pop3.__name__)
    replaced.__dict__.update(pop3.__dict__, POP3=compat.POP3)
    with mock.patch.object(twisted.mail, "pop3", replaced):
        virtual = _copy_of(protocols)
        with mock.patch.object(twisted.mail, "protocols", virtual):
            return _copy_of(test_pop3)


def _copy_of(module: Any) -> types.ModuleType:
    spec = module.__spec__
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy
