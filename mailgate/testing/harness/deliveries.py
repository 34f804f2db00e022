"""What is said on connections that bring mail, by LMTP and SMTP, for the harness's records of deliveries.

The client's octets are recorded line by line, each when the one before it is answered, as on connections of
POP3; a message's as they come: nothing in it is taken for a command, or for a password.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from twisted.internet.error import ConnectionAborted
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from mailgate.errors import BadArguments
from mailgate.lmtp.commands import read_chunk
from mailgate.net.lmtp import LMTPProtocol
from mailgate.net.tls import hindrance, secured
from mailgate.testing.harness.flights import layer_of
from mailgate.testing.harness.records import Command, Records
from mailgate.testing.harness.reply import meaning
from mailgate.wire.shown import shown

GOOD = b"2"                         # replies that say yes begin so
LINE_OCTETS = 64 * 1024             # of a command that has no end yet; then it is recorded as it is
UNANSWERED_OCTETS = 1024 * 1024     # behind a command that has no answer; likewise
INTRODUCTIONS = ("LHLO", "EHLO", "HELO")


class Dots:
    """A message that ends with a line that is one dot."""

    def __init__(self) -> None:
        self._tail = b"\r\n"        # the dot may be the first line
        self.ended = False

    def take(self, octets: bytes) -> int:
        """Return how many of the octets are the message's, its end included."""
        found = (self._tail + octets).find(b"\r\n.\r\n")
        if found >= 0:
            self.ended = True
            return found + 5 - len(self._tail)
        self._tail = (self._tail + octets[-4:])[-4:]
        return len(octets)


class Chunk:
    """A piece of a message whose octets are counted (BDAT, RFC 3030)."""

    def __init__(self, octets: int) -> None:
        self._left = octets

    @property
    def ended(self) -> bool:
        """Whether all are there."""
        return self._left == 0

    def take(self, octets: bytes) -> int:
        """Return how many of the octets are the piece's."""
        taken = min(self._left, len(octets))
        self._left -= taken
        return taken


class Conversation:
    """One connection's. Tell it what both sides say, in order; the server says whole lines.

    `replies_each`: a message has a reply for each of its recipients (LMTP), not one alone. `line_end`: what
    the server takes for one.
    """

    def __init__(self, records: Records, protocol: str, *, replies_each: bool, line_end: bytes) -> None:
        self._records = records
        self.record = records.begin(protocol)
        self._replies_each = replies_each
        self._line_end = line_end
        self._unread = bytearray()              # of the client's
        self._line_head = b""                   # the beginning of a line that was recorded before its end
        self._reply = b""                       # of the server's, as far as it has come
        self._command: Command | None = None    # whose answer is waited for
        self._replies = 0                       # that it still gets
        self._content: Dots | Chunk | None = None       # what the client's octets belong to
        self._accepted = 0                      # recipients of the transaction

    def hear(self, octets: bytes) -> None:
        """Take octets of the client's, before they are answered."""
        self._unread += octets
        self._go_on()

    def say(self, octets: bytes) -> None:
        """Take octets of the server's."""
        for line in octets.splitlines(keepends=True):
            self._reply += line
            if line[3:4] != b"-":
                reply, self._reply = self._reply, b""
                self._records.note(self.record, "S", reply)
                self._answered(reply.partition(b"\n")[0].rstrip(b"\r"))

    def begin_tls(self) -> None:
        """TLS begins now; what came in clear behind STARTTLS is nobody's."""
        self.drop()
        self._command, self._replies, self._accepted, self._line_head = None, 0, 0, b""
        self.record.tls = True
        self._records.note(self.record, "*", text="TLS begins")

    def in_tls(self, transport: Any) -> None:
        """TLS stands."""
        facts = secured(transport)
        name = transport.getHandle().get_servername()
        self.record.tls, self.record.tls_details = True, str(facts)
        self.record.server_name = None if name is None else shown(name)
        self._records.note(self.record, "*", text=f"inside TLS: {facts}")

    def end(self, how: str) -> None:
        """The connection is gone."""
        self.drop()
        self._records.end(self.record, how)

    def drop(self) -> None:
        """Record what was read and is not answered any more."""
        if self._unread:
            self._records.note(self.record, "C", self._taken(len(self._unread)))

    # Inside -----------------------------------------------------------------------------------

    def _taken(self, count: int) -> bytes:
        octets = bytes(self._unread[:count])
        del self._unread[:count]
        return octets

    def _go_on(self) -> None:
        """Record what it is the client's turn to say."""
        while self._unread:
            if self._content is not None:
                octets = self._taken(self._content.take(bytes(self._unread)))
                self._records.note(self.record, "C", octets, content=True)
                if not self._content.ended:
                    return
                self._content = None
            elif self._replies:
                if len(self._unread) > UNANSWERED_OCTETS:
                    self.drop()
                return
            elif (end := self._unread.find(self._line_end)) >= 0:
                self._take(self._taken(end + len(self._line_end)))
            else:
                if len(self._unread) > LINE_OCTETS:
                    self._line_head = self._line_head or bytes(self._unread)
                    self.drop()
                return

    def _take(self, line: bytes) -> None:
        """Record a command."""
        head, self._line_head = self._line_head, b""
        verb, argument, secret = meaning(head + line, response=False)
        event = self._records.note(self.record, "C", line, secret=None if head else secret)
        self._command = command = Command(verb, argument, event.at, good=GOOD)
        self._records.add_command(self.record, command)
        command.hide(event, self.record.discretion)
        self._replies = 1
        if verb == "BDAT" and self._replies_each:
            with suppress(BadArguments):        # is answered, and ends the connection
                octets, last = read_chunk(argument.strip(b" "))
                self._content = Chunk(octets) if octets else None
                if last:
                    self._replies, self._accepted = self._accepted, 0

    def _answered(self, line: bytes) -> None:
        """Know a reply by the command that it answers. What comes unasked answers none."""
        command = self._command
        if command is None or not self._replies:
            return
        told = command.reply and not command.reply.startswith(b"354")
        command.reply = b"%b\r\n%b" % (command.reply, line) if told else line
        if command.verb == "DATA" and line.startswith(b"354"):
            self._content = Dots()
            self._replies, self._accepted = (self._accepted if self._replies_each else 1), 0
            self._go_on()
            return
        self._replies -= 1
        if line.startswith(GOOD):
            if command.verb == "RCPT":
                self._accepted += 1
            elif command.verb in (*INTRODUCTIONS, "RSET", "MAIL"):
                self._accepted = 0
        if not self._replies:
            self._go_on()


class Recorded:
    """A connection that brings mail and is recorded: what SMTP's and LMTP's have in common."""

    talk: Conversation
    transport: Any
    _how = ""               # the connection ended, where we know

    def begin_record(self) -> None:
        """Know who is there. The connection stands."""
        peer, record = self.transport.getPeer(), self.talk.record
        record.peer = f"{getattr(peer, 'host', None)}:{getattr(peer, 'port', '')}"
        record.tls = isinstance(self.transport, TLSMemoryBIOProtocol)

    def end_record(self, reason: Failure) -> None:
        """Know how it ended. The connection is gone, its transport still known."""
        record, layer = self.talk.record, layer_of(self.transport)
        if layer is not None and not record.tls_details:
            self._how = self._how or f"no TLS: {hindrance(layer, reason) or 'the client hung up'}"
        if reason.check(ConnectionAborted):
            self._how = self._how or "cut by the server"
        self.talk.end(self._how or "the client hung up")

    def closes(self) -> None:
        """The server closes now."""
        # behind the last answer the client may have said more
        answered = [one.verb for one in self.talk.record.commands[-2:] if one.reply]
        self._how = self._how or ("QUIT" if answered[-1:] == ["QUIT"] else "closed by the server")


class RecordedLMTP(Recorded, LMTPProtocol):
    """LMTP, as the service speaks it; its factory has a `harness`."""

    def __init__(self, factory: Any) -> None:
        super().__init__(factory)
        self.talk = Conversation(factory.harness.deliveries, factory.shown_as, replies_each=True,
                                 line_end=b"\n")

    def connectionMade(self) -> None:
        """See Connection."""
        self.begin_record()
        super().connectionMade()

    def handshakeCompleted(self) -> None:
        """See Connection."""
        self.talk.in_tls(self.transport)
        super().handshakeCompleted()

    def dataReceived(self, data: bytes) -> None:
        """See Connection."""
        self.talk.hear(data)
        super().dataReceived(data)

    def _send(self, data: bytes) -> None:
        if self.transport is not None and not self._closing:
            self.talk.say(data)
        super()._send(data)

    def _begin_tls(self, session: Any, turn: Any) -> None:
        self.talk.begin_tls()
        super()._begin_tls(session, turn)

    def _close(self) -> None:
        self.closes()
        super()._close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See LMTPProtocol."""
        self.end_record(reason)
        super().connectionLost(reason)
