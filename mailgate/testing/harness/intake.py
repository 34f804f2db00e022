"""What comes in on a connection that trouble may be made on: lines, given to the session one by one."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from mailgate.testing.harness.learning import Learning
from mailgate.testing.harness.outlet import Outlet
from mailgate.testing.harness.reply import meaning

COMMANDS_A_TURN = 200           # then other connections have theirs


class Intake(Learning):
    """A connection whose client is heard line by line, each when the one before it is answered."""

    _outlet: Outlet

    def __init__(self, factory: Any) -> None:
        super().__init__(factory)
        self._inbox = bytearray()
        self._searched = 0                          # octets of it that hold no line end
        self._line_head = b""                       # of a line whose beginning the session has
        self._feeding = False
        self._fed_later: Any = None                 # the delayed call that feeds on
        self._hung_up = False                       # the client's half is closed
        self._challenged = False                    # the client's next line is no command

    # Whoever answers --------------------------------------------------------------------------

    def _can_take(self) -> bool:
        """Return whether it is the client's turn."""
        raise NotImplementedError

    def _take(self, line: bytes) -> None:
        """Have one line of the client's answered."""
        raise NotImplementedError

    def _take_unasked(self) -> bool:
        """Carry out what the client has not said yet; False: there is nothing."""
        raise NotImplementedError

    # Octets and lines -------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Take octets; commands are given to the session one by one."""
        if self._lets_go and len(self._inbox) > self.factory.policy.limits.backlog_octets:
            return
        self._inbox += data
        self._heard = self.factory.clock.seconds()
        self._outlet.heard()
        self._feed()

    def readConnectionLost(self) -> None:
        """The client has closed its half: it is told when everything that came before is answered."""
        self._hung_up = True
        if self._outlet.stalled:                # nothing will be written that tells whether it is there
            self._how = "the client hung up"
            super().cut()
        else:
            self._feed()

    def _feed(self) -> None:
        """Give the session what it can take now."""
        if self._feeding or self._fed_later is not None:
            return
        self._feeding = True
        try:
            for _ in range(COMMANDS_A_TURN):
                if not self._feed_one():
                    break
            else:
                self._fed_later = self.factory.clock.callLater(0, self._feed_on)
        finally:
            self._feeding = False
        self._bound_backlog(0)
        if self._hung_up and self._can_take() and self._fed_later is None:
            self._hung_up = False
            self._client_is_through()

    def _feed_on(self) -> None:
        self._fed_later = None
        self._feed()

    def _feed_one(self) -> bool:
        """Have one command carried out; False: there is none, or it is not its time."""
        if not self._can_take():
            return False
        if self._take_unasked():
            return True
        line = self._next_line()
        if line is None:
            self._pass_beginning()
            return False
        self._take(line)
        return True

    def _bound_backlog(self, pending: int) -> None:
        """Read on unless so much waits for its turn that it is better left with the client."""
        waits = (self._fed_later is not None or not self._can_take()) and not self._lets_go
        self._read_on(not waits or len(self._inbox) <= self.factory.policy.limits.backlog_octets)

    def _next_line(self) -> bytes | None:
        end = self._inbox.find(b"\n", self._searched) + 1
        if not end:
            self._searched = len(self._inbox)
            return None
        line = bytes(self._inbox[:end])
        del self._inbox[:end]
        self._searched = 0
        return line

    @property
    def _lets_go(self) -> bool:
        """Whether nothing is answered any more: what comes is read, so that the client's end is heard of."""
        return self._closing or self._outlet.stalled

    def _pass_beginning(self) -> None:
        """Give the session the beginning of a line that is too long already, or will have no end."""
        limits = self.factory.policy.limits
        if not self._inbox or not (
                self._hung_up or len(self._inbox) > 2 * max(limits.auth_line_octets, limits.line_octets)):
            return
        octets = self._take_inbox()
        self._line_head = self._line_head or octets
        self._records.note(self.record, "C", octets, secret=self._meaning(octets)[2])
        self._give(octets)

    def _take_inbox(self) -> bytes:
        octets = bytes(self._inbox)
        self._inbox.clear()
        self._searched = 0
        return octets

    def _client_is_through(self) -> None:
        """The client said all it wants, and closed its half; all is answered."""
        self._how = self._how or "the client hung up"
        if self._session.logged_in or self._session.pending:
            super().readConnectionLost()
        else:                           # the service cuts; here, what was said may have to wait
            self._half_closed = True
            self._close()

    def _give(self, octets: bytes) -> None:
        """Let the session have octets."""
        super().dataReceived(octets)

    def _meaning(self, line: bytes) -> tuple[str, bytes, tuple[int, int] | None]:
        """Return verb, argument, and what of the line is secret."""
        return meaning(line, response=bool(
            self._session._exchange is not None or self._challenged or self._takers))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See POP3Protocol.connectionLost. What was not taken any more is in the record, too."""
        if self._fed_later is not None and self._fed_later.active():
            self._fed_later.cancel()
        self._fed_later = None
        if self._inbox:
            self._records.note(self.record, "C", self._take_inbox())
        super().connectionLost(reason)
