"""Without faults a harness says what the service says, octet for octet.

The service's own tests are run again, each on the harness's connection: every transcript, in all
segmentations, whatever vanishes or pipelines or does not read.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailgate.net.pop3 import POP3Factory
from mailgate.testing.harness.records import Records
from mailgate.testing.harness.troubled import TroubledPOP3
from mailgate.testing.trouble.active import Trouble
from tests.pop3 import (
    staging,
    test_any_octets,
    test_backlog,
    test_clocks,
    test_limits,
    test_transcripts_auth,
    test_transcripts_capa,
    test_transcripts_faults,
    test_transcripts_lines,
    test_transcripts_login,
    test_transcripts_marks,
    test_transcripts_mechanisms,
    test_transcripts_scram,
    test_transcripts_sdps,
    test_transcripts_session,
    test_transcripts_transaction,
    test_vanishing,
)

MODULES = (test_any_octets, test_backlog, test_clocks, test_limits,
           test_transcripts_auth, test_transcripts_capa, test_transcripts_faults, test_transcripts_lines,
           test_transcripts_login, test_transcripts_marks, test_transcripts_mechanisms,
           test_transcripts_scram, test_transcripts_sdps, test_transcripts_session,
           test_transcripts_transaction, test_vanishing)

# What is about the service's thrift, and not about what it says: a harness records all, waits for whoever
# closed his half, and writes each reply by itself.
OF_THRIFT = {"MemoryTests", "test_few_are_waited_for", "test_login_that_nobody_waits_for",
             "test_answers_of_one_segment_leave_in_one_write"}
# That a client may vanish at any point is shown of harnesses in test_troubled.py.
SHOWN_ELSEWHERE = {"test_login_pending_in_the_checker", "test_login_pending_in_the_realm",
                   "test_auth_pending", "test_retr_pending", "test_stream_pending", "test_noise"}
LEFT_OUT = OF_THRIFT | SHOWN_ELSEWHERE


class QuietHarness:
    """A harness with nothing but what a connection asks of it."""

    def __init__(self, clock: Clock, random: Any) -> None:
        self.clock = clock
        self._random = random
        self.records = Records(clock.seconds)
        self.trouble = Trouble()

    def random_of(self, session: int) -> Any:
        """The service's own."""
        return self._random

    def has_vanished(self, maildrop: Any, number: int) -> bool:
        """No message does."""
        return False


class TroubledFactory(POP3Factory):
    """Makes the harness's connections as the service's factory makes its own."""

    connection = TroubledPOP3
    shown_as = "pop3"
    at_once = False

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.harness = QuietHarness(self.clock, self.random)


class OnTheHarness(SynchronousTestCase):
    """Puts the harness's factory in the place of the service's."""

    def setUp(self) -> None:
        super().setUp()
        for module in (staging, *MODULES):
            if hasattr(module, "POP3Factory"):
                patcher = patch.object(module, "POP3Factory", TroubledFactory)
                patcher.start()
                self.addCleanup(patcher.stop)


def _again() -> dict[str, type]:
    """Return a class for each of theirs, with all its tests but those left out."""
    classes = {}
    for module in MODULES:
        for name, case in vars(module).items():
            if isinstance(case, type) and issubclass(case, SynchronousTestCase) and (
                    case.__module__ == module.__name__ and name not in LEFT_OUT):
                again = f"Same{module.__name__.rpartition('.')[2].title().replace('_', '')}{name}"
                no_tests = {test: None for test in LEFT_OUT if hasattr(case, test)}
                classes[again] = type(again, (OnTheHarness, case), {"__module__": __name__, **no_tests})
    return classes


globals().update(_again())
