"""From failures to faults."""

from __future__ import annotations

from twisted.cred.error import UnauthorizedLogin
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mailgate.auth.credentials import Refused
from mailgate.errors import LoginRefused, MaildropInUse, StoreUnavailable
from mailgate.net.faults import as_fault


class AsFault(SynchronousTestCase):
    """What a conversation is given for what happened."""

    def test_refusals(self) -> None:
        """Ours keep the reason for the log; those of any other checker become ours."""
        refused = Refused("disabled")
        self.assertIs(refused, as_fault(Failure(refused)))
        self.assertIs(LoginRefused, type(as_fault(Failure(UnauthorizedLogin("no")))))

    def test_faults(self) -> None:
        """They pass as they are; a bug passes too, and is logged."""
        for fault in (MaildropInUse("x"), StoreUnavailable("x")):
            self.assertIs(fault, as_fault(Failure(fault)))
        bug = ZeroDivisionError()
        self.assertIs(bug, as_fault(Failure(bug)))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
