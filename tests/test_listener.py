"""A listener that cannot be closed in order."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailgate.service import Listener


class Port:
    """Fails to stop, as a unix socket does whose folder is gone."""

    def stopListening(self) -> None:
        raise FileNotFoundError


class CloseTests(SynchronousTestCase):
    def test_goes_on(self) -> None:
        """The stop of the service goes on to tell the sessions; the failure is logged."""
        listener = Listener.__new__(Listener)
        listener.protocol, listener.port = "lmtp", Port()
        self.successResultOf(Deferred.fromCoroutine(listener.close()))
        self.assertEqual(1, len(self.flushLoggedErrors(FileNotFoundError)))
