"""Maildrops, a realm and a checker in memory, with a hook wherever a test wants time to stand still.

Nothing here is shared with the stores or with `mailgate.wire`: the wire form is worked out line by
line, so that a mistake there does not excuse itself here.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from mailgate.interfaces import IMaildrop, IMessageStream
from mailgate.model import Envelope, ScanListing

PIECE_OCTETS = 65536    # the most an IMessageStream gives at once


def crlf_form(message: bytes) -> bytes:
    """Return a message with CRLF line ends, the last one included; a bare CR is content."""
    lines = re.split(rb"\r\n|\n", message)
    if lines[-1] == b"":
        lines.pop()
    return b"".join(line + b"\r\n" for line in lines)


def stuffed(crlf: bytes) -> bytes:
    """Return the wire form of a message that has CRLF line ends."""
    lines = crlf.split(b"\r\n")
    return b"\r\n".join(b"." + line if line.startswith(b".") else line for line in lines)


def top_of(crlf: bytes, body_lines: int) -> bytes:
    """Return the header, the blank line and the first lines of the body."""
    lines = crlf.split(b"\r\n")[:-1]
    head = lines.index(b"") + 1 if b"" in lines else len(lines)
    return b"".join(line + b"\r\n" for line in lines[:head + body_lines])


@dataclass(eq=False)
class Mail:
    """One message of a maildrop; `streamed` ones leave as an IMessageStream."""

    content: bytes
    unique_id: bytes = b""
    sender: bytes = b"sender@example.org"
    recipient: bytes = b"fred@xyz.demon.co.uk"
    streamed: bool = False

    def __post_init__(self) -> None:
        self.crlf = crlf_form(self.content)
        self.wire = stuffed(self.crlf)
        self.octets = len(self.crlf)

    def top(self, body_lines: int) -> bytes:
        """Return the wire form of what TOP asks for."""
        return stuffed(top_of(self.crlf, body_lines))

    def pieces(self, wire: bytes) -> Iterator[bytes]:
        """Cut what is streamed into the pieces that an IMessageStream gives."""
        return (wire[at:at + PIECE_OCTETS] for at in range(0, len(wire), PIECE_OCTETS))


def mail_of(octets: int, **fields: Any) -> Mail:
    """Return a message of exactly so many octets in CRLF form."""
    head = b"Subject: x\r\n\r\n"
    assert octets == 0 or octets >= len(head) + 2
    body = b"" if not octets else head + b"b" * (octets - len(head) - 2) + b"\r\n"
    return Mail(body, **fields)


class Gate:
    """Holds Deferreds back between `shut` and `open`, and counts who came."""

    def __init__(self) -> None:
        self.arrivals = 0
        self.waiting: list[tuple[Deferred[Any], Callable[[], Any]]] = []
        self._shut = False
        self.fault: Exception | None = None     # what everybody who comes is answered with

    def shut(self) -> None:
        """From now on nobody passes."""
        self._shut = True

    def open(self) -> None:
        """Let everybody who waits pass, and everybody who comes later."""
        self._shut = False
        while self.waiting:
            passing, result = self.waiting.pop(0)
            # A Deferred that was cancelled takes one more result and keeps it to itself.
            succeed(None).addCallback(lambda _, take=result: take()).addBoth(passing.callback)

    @property
    def is_shut(self) -> bool:
        """Whether whoever comes has to wait."""
        return self._shut

    def passage(self, result: Callable[[], Any]) -> Deferred[Any]:
        """Return a Deferred of `result()`, called when the gate is open."""
        self.arrivals += 1

        def outcome() -> Any:
            if self.fault is not None:
                raise self.fault
            return result()

        if not self._shut:
            try:
                return succeed(outcome())
            except Exception:
                return fail()
        waiting: Deferred[Any] = Deferred()
        self.waiting.append((waiting, outcome))
        return waiting


@implementer(IMessageStream)
class Stream:
    """A large message in pieces; `fault_at` breaks it after that many octets."""

    def __init__(self, pieces: Iterator[bytes], gate: Gate, fault_at: int | None = None,
                 fault: Exception | None = None) -> None:
        self._pieces = pieces
        self._gate = gate
        self._fault_at = fault_at
        self._fault = fault
        self.at = 0
        self.closed = False
        self.reading = False
        self.misuse: list[str] = []

    def read(self) -> Deferred[bytes]:
        """Return the next piece."""
        if self.closed or self.reading:
            self.misuse.append("read after close" if self.closed else "two reads at a time")
        self.reading = True
        return self._gate.passage(self._piece)

    def _piece(self) -> bytes:
        self.reading = False
        if self._fault_at is not None and self.at >= self._fault_at:
            assert self._fault is not None
            raise self._fault
        piece = next(self._pieces, b"")
        self.at += len(piece)
        return piece

    def close(self) -> None:
        """Remember it."""
        self.closed = True


@implementer(IMaildrop)
class Maildrop:
    """A maildrop of one session. `held` tells whether its lease is still out.

    Gates: fetching, reading (pieces of a stream), enveloping, committing.
    """

    def __init__(self, mails: list[Mail], *, asynchronous: bool = False) -> None:
        self.mails = mails
        unique_ids = [mail.unique_id or b"uid-%d" % number for number, mail in enumerate(mails, 1)]
        self.listing = ScanListing(array("Q", [mail.octets for mail in mails]), unique_ids)
        self.asynchronous = asynchronous
        self.held = True
        self.removed: list[int] = []
        self.commits: list[list[int]] = []
        self.releases = 0
        self.misuse: list[str] = []
        self.streams: list[Stream] = []
        self.fetched: list[tuple[int, int | None]] = []
        self.fetching, self.reading, self.enveloping, self.committing = Gate(), Gate(), Gate(), Gate()
        self.stream_fault_at: int | None = None
        self.stream_fault: Exception | None = None

    def fetch(self, number: int, body_lines: int | None = None) -> Any:
        """Return bytes or a stream, at once or when the gate opens."""
        self._use()
        self.fetched.append((number, body_lines))
        return self._at_once_or_later(self.fetching, lambda: self._content(number, body_lines))

    def _content(self, number: int, body_lines: int | None) -> bytes | Stream:
        mail = self.mails[number - 1]
        wire = mail.wire if body_lines is None else mail.top(body_lines)
        if not mail.streamed:
            return wire
        stream = Stream(mail.pieces(wire), self.reading, self.stream_fault_at, self.stream_fault)
        self.streams.append(stream)
        return stream

    def envelope(self, number: int) -> Any:
        """Return the envelope, at once or when the gate opens."""
        self._use()
        mail = self.mails[number - 1]
        return self._at_once_or_later(
            self.enveloping, lambda: Envelope(mail.sender, mail.recipient, 899963657000))

    def commit(self, marked: Collection[int]) -> Deferred[None]:
        """Remove the marked messages; the lease is given up in any case."""
        self._use()
        self.commits.append(sorted(marked))

        def finish() -> None:
            self.removed += sorted(marked)

        def give_up(outcome: Any) -> Any:
            self.held = False
            return outcome

        return self.committing.passage(finish).addBoth(give_up)

    def release(self) -> Deferred[None]:
        """Give up the lease."""
        self.releases += 1
        if self.commits and self.held:
            self.misuse.append("released while the commit was under way")
        self.held = False
        return succeed(None)

    def _use(self) -> None:
        if not self.held:
            self.misuse.append("used without the lease")
        if self.commits:
            self.misuse.append("used after commit")

    def _at_once_or_later(self, gate: Gate, result: Callable[[], Any]) -> Any:
        if self.asynchronous or gate.is_shut or gate.fault:
            return gate.passage(result)
        gate.arrivals += 1
        return result()

    def gone_well(self) -> list[str]:
        """Return what is wrong now that the session is over; empty when nothing is."""
        wrong = list(self.misuse)
        if self.held:
            wrong.append("the lease is still out")
        if len(self.commits) > 1:
            wrong.append("committed twice")
        for stream in self.streams:
            wrong += stream.misuse
            if not stream.closed:
                wrong.append("a stream is still open")
        return wrong


@implementer(ICredentialsChecker)
class Users:
    """Names with their passwords; every attempt is counted. `checking` is its gate."""

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, passwords: dict[bytes, list[bytes]]) -> None:
        self.passwords = passwords
        self.checking = Gate()
        self.attempts: list[bytes] = []

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        """Return the name, or UnauthorizedLogin."""
        name = credentials.username
        name = name.encode() if isinstance(name, str) else name
        self.attempts.append(name)

        def check() -> Any:
            if any(credentials.checkPassword(password) for password in self.passwords.get(name, [])):
                return name
            return Failure(UnauthorizedLogin("no such name, or another password"))

        return self.checking.passage(check)


@implementer(IRealm)
@dataclass(eq=False)
class Realm:
    """Opens one maildrop a login. `opening` is its gate; its `fault` refuses every login."""

    mails: list[Mail]
    asynchronous: bool = False
    opening: Gate = field(default_factory=Gate)
    opened: list[Maildrop] = field(default_factory=list)
    logouts: int = 0
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    prepare: Callable[[Maildrop], object] | None = None
    logout_releases: bool = True    # as our own realm does; else the session has to do it

    def requestAvatar(self, avatarId: bytes, mind: object, *interfaces: Any) -> Deferred[Any]:
        """Return (IMaildrop, a maildrop that holds its lease, logout)."""
        self.asked.append((avatarId, mind, *interfaces))
        return self.opening.passage(self._open)

    def _open(self) -> Any:
        drop = Maildrop(self.mails, asynchronous=self.asynchronous)
        if self.prepare is not None:
            self.prepare(drop)
        self.opened.append(drop)

        def logout() -> None:
            self.logouts += 1
            if self.logout_releases and drop.held:
                drop.release()

        return IMaildrop, drop, logout

    @property
    def drop(self) -> Maildrop:
        """The maildrop of the last login."""
        return self.opened[-1]

    def gone_well(self) -> list[str]:
        """Return what is wrong now that every session is over; empty when nothing is."""
        wrong = [fault for drop in self.opened for fault in drop.gone_well()]
        if self.logouts != len(self.opened):
            wrong.append(f"{len(self.opened)} logins, {self.logouts} logouts")
        return wrong


PASSWORDS = {b"mrose": [b"secret"], b"xyz": [b"slot one", b"slot two"]}


def portal_of(realm: Realm, users: Users | None = None) -> Portal:
    """Return a portal over the realm, with the usual names."""
    return Portal(realm, [users or Users(PASSWORDS)])
