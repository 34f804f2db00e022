"""The client's side of a POP3 conversation, without I/O: commands go out, events of their replies come back.

    session = ClientSession()                   # the reply to GREETING is the first to come
    transport.write(session.send(uidl()))
    for event in session.receive(data): ...

Commands may be sent while replies are outstanding (RFC 2449 section 6.6): replies come in their
order. Whatever a server sends, nothing here raises or grows: status lines and listings have limits,
content is given out in pieces as it comes, up to what its command allows. There is no DELE here.
"""

from __future__ import annotations

import base64
import enum
import hashlib
from collections import deque
from typing import NamedTuple, Union

from mailgate.errors import LineTooLong
from mailgate.pop3.answers import Reply, read_status
from mailgate.pop3.content import ContentReader
from mailgate.wire.lines import LineFramer
from mailgate.wire.shown import quoted

LINE_OCTETS = 4096              # of a status or listing line; RFC 2449 has 512, greetings can be longer
COMMAND_OCTETS = 255            # a line that any server must take (RFC 2449 section 4, RFC 5034 section 4)
MOST_LINES = 1_000_000          # of one listing: as many messages as a maildrop may have
MOST_CAPABILITIES = 256


class Shape(enum.Enum):
    """What comes behind a command, besides its status line."""

    STATUS = enum.auto()        # nothing
    LINES = enum.auto()         # after +OK: lines, `most` of them
    CONTENT = enum.auto()       # after +OK: octets, `most` of them
    EXCHANGE = enum.auto()      # before it: challenges (RFC 5034)
    TLS = enum.auto()           # after +OK: no octet that is not TLS's


class Command:
    """One command on its way, told from others by its identity. `verb` is fit for a log, `octets` is not."""

    __slots__ = ("verb", "octets", "shape", "most", "responses")

    def __init__(self, verb: str, octets: bytes, shape: Shape = Shape.STATUS, most: int = 0,
                 responses: tuple[bytes, ...] = ()) -> None:
        self.verb = verb
        self.octets = octets
        self.shape = shape
        self.most = most
        self.responses = responses      # to challenges, in order; further ones are answered by `*`

    def __repr__(self) -> str:
        return f"Command({self.verb!r})"


def capa() -> Command:
    """CAPA (RFC 2449 section 5)."""
    return Command("CAPA", b"CAPA\r\n", Shape.LINES, MOST_CAPABILITIES)


def stls() -> Command:
    """STLS (RFC 2595 section 4)."""
    return Command("STLS", b"STLS\r\n", Shape.TLS)


def user(name: bytes) -> Command:
    """USER. Raises: ValueError, for a name that no line can carry."""
    return Command("USER", b"USER %b\r\n" % _argument(name))


def pass_(password: bytes) -> Command:
    """PASS. Raises: ValueError."""
    return Command("PASS", b"PASS %b\r\n" % _argument(password))


def apop(name: bytes, password: bytes, stamp: bytes) -> Command:
    """APOP, over the greeting's timestamp (RFC 1939 section 7). Raises: ValueError."""
    if b" " in name:
        raise ValueError("APOP carries no name with a blank")
    digest = hashlib.md5(stamp + password, usedforsecurity=False).hexdigest().encode()
    return Command("APOP", b"APOP %b %b\r\n" % (_argument(name), digest))


def auth_plain(name: bytes, password: bytes) -> Command:
    """AUTH PLAIN, its response in the first line where that may be so long (RFC 5034 section 4).

    Raises: ValueError.
    """
    if b"\0" in name + password:
        raise ValueError("PLAIN carries no NUL")
    response = base64.b64encode(b"\0%b\0%b" % (name, password)) + b"\r\n"
    line = b"AUTH PLAIN " + response
    if len(line) <= COMMAND_OCTETS:
        return Command("AUTH PLAIN", line, Shape.EXCHANGE)
    return Command("AUTH PLAIN", b"AUTH PLAIN\r\n", Shape.EXCHANGE, responses=(response,))


def stat() -> Command:
    """STAT."""
    return Command("STAT", b"STAT\r\n")


def list_() -> Command:
    """LIST of all messages."""
    return Command("LIST", b"LIST\r\n", Shape.LINES, MOST_LINES)


def uidl() -> Command:
    """UIDL of all messages."""
    return Command("UIDL", b"UIDL\r\n", Shape.LINES, MOST_LINES)


def top(number: int, lines: int, most: int) -> Command:
    """TOP. `most`: octets that the reply may have; more end the conversation."""
    return Command(f"TOP {number}", b"TOP %d %d\r\n" % (number, lines), Shape.CONTENT, most)


def retr(number: int, most: int) -> Command:
    """RETR. `most` as for `top`."""
    return Command(f"RETR {number}", b"RETR %d\r\n" % number, Shape.CONTENT, most)


def noop() -> Command:
    """NOOP."""
    return Command("NOOP", b"NOOP\r\n")


def rset() -> Command:
    """RSET: no message is marked any more."""
    return Command("RSET", b"RSET\r\n")


def quit_() -> Command:
    """QUIT."""
    return Command("QUIT", b"QUIT\r\n")


def _argument(octets: bytes) -> bytes:
    if not octets or any(one in octets for one in b"\r\n\0"):
        raise ValueError("empty, or with a line end or a NUL in it: no command can carry it")
    return octets


# What comes back ------------------------------------------------------------------------------


class Line(NamedTuple):
    """A line of a listing, unstuffed, without its end."""

    command: Command
    line: bytes


class Piece(NamedTuple):
    """More octets of a message, unstuffed, cut anywhere."""

    command: Command
    octets: bytes


class Ended(NamedTuple):
    """A reply is complete."""

    command: Command
    reply: Reply


class Say(NamedTuple):
    """Send these octets: an exchange goes on."""

    octets: bytes


class Broken(NamedTuple):
    """The server said what no server may say: hang up. Nothing comes behind this."""

    words: str


Event = Union[Line, Piece, Ended, Say, Broken]


class ClientSession:
    """One conversation. Give octets to `receive`; it returns what they come to, in order."""

    __slots__ = ("greeting", "_lines", "_outstanding", "_reply", "_content", "_left", "_challenges", "_over")

    def __init__(self) -> None:
        self.greeting = Command("the greeting", b"")
        self._lines = LineFramer(LINE_OCTETS)
        self._outstanding: deque[Command] = deque([self.greeting])
        self._reply: Reply | None = None        # the status line of a longer reply that is coming
        self._content: ContentReader | None = None
        self._left = 0                          # lines or octets that this reply may still have
        self._challenges = 0                    # of this exchange, answered
        self._over = False

    @property
    def outstanding(self) -> int:
        """How many replies are still to come."""
        return len(self._outstanding)

    @property
    def awaited(self) -> str:
        """The verb of the command whose reply comes next, for an operator."""
        return self._outstanding[0].verb if self._outstanding else "nothing"

    def send(self, command: Command) -> bytes:
        """Return the octets to send. Behind STLS and AUTH nothing may be sent before their replies."""
        if any(one.shape in (Shape.EXCHANGE, Shape.TLS) for one in self._outstanding):
            raise AssertionError(f"{command.verb} behind {self._outstanding[-1].verb}")
        self._outstanding.append(command)
        return command.octets

    def receive(self, data: bytes) -> list[Event]:
        """Take octets of the server. After `Broken` nothing more is taken."""
        events: list[Event] = []
        if self._over:
            return events
        self._lines.feed(data)
        while (words := self._advance(events)) is None:
            pass
        if words:
            self._over = True
            self._lines.clear_buffer()
            events.append(Broken(words))
        return events

    def _advance(self, events: list[Event]) -> str | None:
        """Take one line or piece; return None if there may be more, words if it is over, else nothing."""
        if self._content is not None:
            return self._take_content(self._content, events)
        line = None
        try:
            if self._lines.pending < LINE_OCTETS or b"\n" in self._lines.peek(LINE_OCTETS):
                line = self._lines.next_line()
            elif self._lines.pending:
                raise LineTooLong
        except LineTooLong:
            return f"a line of more than {LINE_OCTETS} octets in the reply to {self.awaited}"
        if line is None:
            return ""
        if not self._outstanding:
            return f"unasked: {quoted(line)}"
        return self._take_status(line, events) if self._reply is None else self._take_line(line, events)

    def _take_status(self, line: bytes, events: list[Event]) -> str | None:
        command = self._outstanding[0]
        if command.shape is Shape.EXCHANGE and (line == b"+" or line.startswith(b"+ ")):
            return self._answer(command, events)
        reply = read_status(line)
        if reply is None:
            return f"the reply to {command.verb} is {quoted(line)}"
        if reply.ok and command.shape is Shape.TLS and self._lines.pending:
            return "octets in clear behind the reply to STLS"   # of somebody who would speak inside TLS
        if not reply.ok or command.shape not in (Shape.LINES, Shape.CONTENT):
            self._end(reply, events)
            return None
        self._reply, self._left = reply, command.most
        if command.shape is Shape.CONTENT:
            self._content = ContentReader()
        return None

    def _answer(self, command: Command, events: list[Event]) -> str | None:
        """Answer a challenge: no mechanism of ours has need of what it says."""
        responses = command.responses[self._challenges:]
        if self._challenges > len(command.responses):
            return f"the reply to {command.verb} does not end"
        self._challenges += 1
        events.append(Say(responses[0] if responses else b"*\r\n"))
        return None

    def _take_line(self, line: bytes, events: list[Event]) -> str | None:
        command = self._outstanding[0]
        if line == b".":
            assert self._reply is not None
            self._end(self._reply, events)
            return None
        self._left -= 1
        if self._left < 0:
            return f"the reply to {command.verb} has more than {command.most} lines"
        events.append(Line(command, line.removeprefix(b".")))
        return None

    def _take_content(self, content: ContentReader, events: list[Event]) -> str | None:
        command = self._outstanding[0]
        data = self._lines.take_rest(self._lines.pending)
        if not data:
            return ""
        octets = content.feed(data)
        if allowed := octets[:self._left]:
            events.append(Piece(command, allowed))
        self._left -= len(octets)
        if self._left < 0:
            return f"the reply to {command.verb} has more than {command.most} octets"
        if content.rest is not None:
            self._lines.feed(content.rest)
            assert self._reply is not None
            self._end(self._reply, events)
        return None

    def _end(self, reply: Reply, events: list[Event]) -> None:
        events.append(Ended(self._outstanding.popleft(), reply))
        self._reply = self._content = None
        self._challenges = 0
