"""One connection to a server that is a script."""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from mailgate.net.tls import secured
from mailgate.testing.harness.outlet import Outlet
from mailgate.testing.harness.records import Command
from mailgate.testing.scripted.playing import Call, Effect, Heard, Missed, Player, StartTLS, as_mismatch
from mailgate.testing.trouble.model import End, Octets
from mailgate.wire.shown import shown

UNREAD_OCTETS = 64 * 1024       # that wait while the script is not at a C: line


@implementer(IHalfCloseableProtocol, IHandshakeListener)
class ScriptedConnection(Protocol):
    """Plays one session; its factory is a ScriptFactory."""

    transport: Any

    def __init__(self, factory: Any, session: int) -> None:
        self.factory = factory
        self._session = session
        self._player = Player(factory.script, session)
        self._records = factory.records
        self.record = factory.records.begin(factory.name)
        self._outlet = Outlet(factory.clock, self._write, self._end, self._go_on)
        self._effects: deque[Effect] = deque()
        self._handshaking = False
        self._going = False
        self._gone = False
        self._paused = False        # nothing is read at the moment
        self._command: Command | None = None        # the latest, whose reply has not begun
        self._how = ""

    # The transport's side ---------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Begin; inside TLS, when that stands."""
        peer = self.transport.getPeer()
        self.record.peer = f"{getattr(peer, 'host', None)}:{getattr(peer, 'port', '')}"
        no_delay = getattr(self.transport, "setTcpNoDelay", None)
        if no_delay is not None:
            no_delay(True)
        self.factory.idle.watched.add(self)
        if isinstance(self.transport, TLSMemoryBIOProtocol):
            self.record.tls = self._handshaking = True
        else:
            self._go_on()

    def handshakeCompleted(self) -> None:
        """Inside TLS: go on."""
        facts = secured(self.transport)
        name = self.transport.getHandle().get_servername()
        self.record.tls_details = str(facts)
        self.record.server_name = None if name is None else shown(name)
        self._records.note(self.record, "*", text=f"inside TLS: {facts}")
        self._handshaking = False
        self._go_on()

    def dataReceived(self, data: bytes) -> None:
        """Take octets."""
        if self._player.over:
            return
        self._player.feed(data)
        self._go_on()
        if not self._gone and not self._can_go_on() and self._player.unread > UNREAD_OCTETS:
            self._paused = True         # what is not read is better left with the client
            self.transport.pauseProducing()

    def readConnectionLost(self) -> None:
        """The client says nothing more; it may still listen."""
        self._player.hang_up()
        self._go_on()

    def writeConnectionLost(self) -> None:
        """Our half is never closed alone."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Play on to see what the script says of the client's going."""
        self._gone = True
        self._outlet.clear()
        self._handshaking = False
        self._player.hang_up()
        if not self._how:
            self._go_on()
        self.factory.ended(self, self._player)
        self._records.end(self.record, self._how or "the client hung up")

    def cut(self) -> None:
        """End it at once."""
        self._how = self._how or "cut by the server"
        self._player.over = True
        self._outlet.clear()
        if not self._gone:
            self.transport.abortConnection()

    # Playing ----------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Play as far as it goes now."""
        if self._going:
            return
        self._going = True
        try:
            while self._can_go_on():
                if not self._effects:
                    self._effects.extend(self._player.next())
                    if not self._effects:
                        break
                self._carry_out(self._effects.popleft())
        finally:
            self._going = False
        if self._paused and (self._player.over or self._can_go_on()) and not self._gone:
            self._paused = False
            self.transport.resumeProducing()

    def _can_go_on(self) -> bool:
        return self._gone or (self._outlet.idle and not self._handshaking and not self._outlet.ended)

    def _carry_out(self, effect: Effect) -> None:
        if isinstance(effect, Heard):
            self._note_heard(effect.octets)
        elif isinstance(effect, Missed):
            self._miss(effect)
        elif isinstance(effect, Call):
            self.factory.happen(effect.name)
        elif isinstance(effect, StartTLS):
            self._start_tls()
        elif isinstance(effect, End):
            self._how = self._how or ("reset by the script" if effect.torn else "the script's end")
            if not self._gone:
                self._outlet.put([effect])
        elif not self._gone:
            if isinstance(effect, Octets) and self._command is not None:
                self._command.reply = effect.octets.partition(b"\n")[0].rstrip(b"\r")
                self._command = None
            self._outlet.put([effect])

    def _start_tls(self) -> None:
        if self._gone or self.record.tls:       # there is TLS: since the first octet, say
            return
        self.record.tls = self._handshaking = True
        self._records.note(self.record, "*", text="TLS begins")
        self.transport.startTLS(self.factory.tls)

    def _write(self, octets: bytes) -> None:
        self._records.note(self.record, "S", octets)
        self.transport.write(octets)

    def _end(self, step: End) -> None:
        if step.torn:
            self._records.note(self.record, "*", text="reset")
            self.transport.abortConnection()
        else:
            self.transport.loseConnection()

    # What is kept of it -----------------------------------------------------------------------

    def _note_heard(self, octets: bytes) -> Any:
        event = self._records.note(self.record, "C", octets)
        verb, _, argument = octets.rstrip(b"\r\n").partition(b" ")
        self._command = Command(shown(verb.upper()), argument, self.factory.clock.seconds())
        self._command.hide(event, self.record.discretion)
        self._records.add_command(self.record, self._command)
        return event

    def _miss(self, missed: Missed) -> None:
        masked = b"" if missed.octets is None else self._note_heard(missed.octets).shown()
        mismatch = as_mismatch(missed, self._session, masked)
        self._records.note(self.record, "*", text=f"mismatch: {mismatch}")
        self._how = self._how or f"mismatch with the script: {mismatch}"
        self.factory.missed(mismatch)
