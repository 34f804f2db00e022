"""KPOP on which trouble may be made: the same connection as POP3's, behind a ticket."""

from __future__ import annotations

from twisted.python.failure import Failure

from mailgate.net.kpop import KPOPProtocol
from mailgate.testing.harness.troubled import Troubled
from mailgate.wire.shown import shown


class TroubledKPOP(Troubled, KPOPProtocol):
    """POP3 behind a Kerberos ticket. What the ticket's exchange says is neither recorded nor troubled."""

    def connectionMade(self) -> None:
        """Wait: the client begins."""
        self._know_peer()
        KPOPProtocol.connectionMade(self)

    def dataReceived(self, data: bytes) -> None:
        """Take octets of the exchange, or of POP3 behind it."""
        if self._exchange is None:
            super().dataReceived(data)
        else:
            KPOPProtocol.dataReceived(self, data)

    def readConnectionLost(self) -> None:
        """See KPOPProtocol.readConnectionLost."""
        if self._exchange is None:
            super().readConnectionLost()
        else:
            KPOPProtocol.readConnectionLost(self)

    def _send(self, data: bytes) -> None:
        if self._exchange is None:
            super()._send(data)
        else:
            KPOPProtocol._send(self, data)

    def _refused(self, failure: Failure) -> None:
        self._records.note(self.record, "*", text=f"ticket refused: {shown(str(failure.value))}")
        super()._refused(failure)

    def _begin_pop3(self) -> None:
        """Greet; what the client has said already is taken as any of its commands."""
        assert self._exchange is not None
        rest = self._exchange.rest
        self._exchange._buffer.clear()
        half_closed, self._half_closed = self._half_closed, False
        self._records.note(self.record, "*", text=f"ticket of {self.principal}")
        self._begin_greeting()
        super()._begin_pop3()
        if rest:
            self.dataReceived(rest)
        if half_closed:
            self.readConnectionLost()
