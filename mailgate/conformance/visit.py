"""What a check is given: connections, logins, messages; bounded, recorded, and tidied up behind it."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import time
from collections.abc import Iterator
from typing import NamedTuple

from mailgate.conformance.connection import Closed, Connection, Observed, Refused, Reply, WireFault
from mailgate.conformance.delivering import Undelivered
from mailgate.conformance.findings import Finding, Skipped, skip
from mailgate.conformance.maildrop import Own, unique_ids
from mailgate.conformance.record import Record, shown
from mailgate.conformance.samples import Sample
from mailgate.conformance.target import Met, Target, capabilities, is_busy

SMALL_OCTETS = 256 << 10    # foreign messages above this are left alone
SEVERAL = 5                 # of foreign messages are enough
MOST_OWED = 4               # replies that a slow server may owe
RETRY_SECONDS = 0.25


class Unreachable(Exception):
    """No connection, or no TLS on it."""


class Busy(Skipped):
    """The maildrop stayed in use, or logins were asked to come later."""


class LoginRefused(Exception):
    """The password, or the way to log in, is not accepted."""


class Listed(NamedTuple):
    """One message of a session."""

    number: int
    size: int


class Visit:
    """The connections of one check. `with` ends all of them politely."""

    def __init__(self, target: Target, met: Met | None, own: Own, observed: Observed, record: Record) -> None:
        self.target = target
        self._met = met
        self.own = own
        self.observed = observed
        self.record = record
        self._connections: list[Connection] = []
        self._ends = time.monotonic() + target.pace.bounds.check_seconds
        self.remark = ""        # shown beside a pass

    @property
    def met(self) -> Met:
        """What is known of the server since the run began."""
        assert self._met is not None
        return self._met

    @property
    def quiet_seconds(self) -> float:
        """How long is waited for what should not come."""
        return self.target.pace.bounds.quiet_seconds

    # Connections ------------------------------------------------------------------------------

    def dial(self) -> Connection:
        """Connect; nothing is read yet. Raises: Unreachable."""
        time.sleep(self.target.pace.pause_seconds)
        patience = self.target.pace.bounds.reply_seconds
        try:
            sock = socket.create_connection((self.target.host, self.target.port), patience)
        except OSError as fault:
            raise Unreachable(f"{self.target.host}:{self.target.port}: {fault}") from None
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(sock, len(self._connections) + 1, self.record, self.target.pace.bounds,
                                self._ends, self.observed)
        self._connections.append(connection)
        return connection

    def connect_plain(self) -> Connection:
        """Connect and take the greeting, as far as the port allows in clear."""
        connection = self.dial()
        if self.target.tls == "implicit":
            connection.start_tls(self.target.context(), self.target.name)
        connection.greeting = connection.reply()
        return connection

    def connect(self) -> Connection:
        """Connect as logins do: TLS is on where it was asked for."""
        connection = self.connect_plain()
        assert connection.greeting is not None
        if not connection.greeting.ok:
            raise Finding(f"the greeting is {connection.greeting}")
        if self.target.tls == "starttls":
            self.start_tls(connection)
        return connection

    def start_tls(self, connection: Connection, *, verify: bool | None = None) -> None:
        """Say STLS and shake hands. Raises: Refused."""
        reply = connection.ask("STLS")
        if not reply.ok:
            raise Refused(f"STLS is answered by {reply}")
        connection.start_tls(self.target.context(verify=verify), self.target.name)

    # Logins -------------------------------------------------------------------------------------

    def login(self) -> Connection:
        """Return a new connection in TRANSACTION. A maildrop in use is waited for.

        Raises: Busy, LoginRefused.
        """
        until = time.monotonic() + self.target.pace.lock_seconds
        while True:
            connection = self.connect()
            reply = self.try_login(connection)
            if reply.ok:
                return connection
            connection.leave()
            if not is_busy(reply):
                raise LoginRefused(f"the login is answered by {reply}")
            if time.monotonic() > until:
                raise Busy(f"no login for {self.target.pace.lock_seconds:.0f} s: {reply}")
            time.sleep(RETRY_SECONDS)

    def try_login(self, connection: Connection, *, by_sasl: bool | None = None) -> Reply:
        """Log in once on a connection, whatever comes of it."""
        seconds = self.target.pace.login_seconds
        if self._met is not None and self._met.by_sasl if by_sasl is None else by_sasl:
            reply = connection.ask("AUTH PLAIN", seconds=seconds)
            if reply.raw.startswith(b"+ "):
                reply = connection.ask(self.plain(), shown="****", seconds=seconds)
        else:
            reply = connection.ask(b"USER " + self.target.user)
            if reply.ok:
                reply = connection.ask(self.password_line(), shown="PASS ****", seconds=seconds)
        connection.logged_in = reply.ok
        return reply

    def password_line(self) -> bytes:
        """Return PASS with the password."""
        return b"PASS " + self.target.password

    def plain(self) -> bytes:
        """Return the response for PLAIN (RFC 4616)."""
        return base64.b64encode(b"\0" + self.target.user + b"\0" + self.target.password)

    @contextlib.contextmanager
    def session(self) -> Iterator[Connection]:
        """Log in, and leave again, so that the next session finds no lock."""
        session = self.login()
        try:
            yield session
        finally:
            session.leave()

    def quit(self, session: Connection) -> Reply:
        """End a session by QUIT, so that what was marked is removed."""
        reply = session.ask("QUIT", seconds=self.target.pace.login_seconds)
        session.rest(self.quiet_seconds * 5)
        session.drop()
        return reply

    def capabilities(self, connection: Connection) -> dict[str, str]:
        """Return what CAPA lists. Raises: Skipped."""
        listed = capabilities(connection.ask("CAPA", multi=True))
        if listed is None:
            skip("there is no CAPA")
        return listed

    def needs(self, word: str) -> str:
        """Return a capability's arguments. Raises: Skipped where it is not announced."""
        if not self.met.has(word):
            skip(f"{word} is not announced")
        return self.met.argument(word)

    # Messages --------------------------------------------------------------------------------------

    def own_sample(self, name: str) -> Sample:
        """Return a message that was delivered and is there. Raises: Skipped."""
        if not self.own.can_deliver:
            skip("needs messages of its own: --deliver")
        if name in self.own.missing and name not in self.own.ids:
            skip(self.own.missing[name])
        return self.own.wanted[name]

    def expendable(self, count: int = 1) -> list[str]:
        """Return the unique-ids of messages that may be lost: fresh ones, or foreign if that is allowed.

        Raises: Skipped.
        """
        if self.own.can_deliver:
            try:
                return [self.own.ids[one.name] for one in self.own.fresh(self, count)]
            except Undelivered as fault:
                skip(str(fault))
        if not self.target.allow_delete:
            skip("needs messages that may be removed: --deliver or --allow-delete")
        with self.session() as session:
            there = list(unique_ids(session))
        if len(there) < count:
            skip(f"there are {len(there)} messages; {count} are needed")
        return there[-count:]

    def number(self, session: Connection, message: Sample | str) -> int:
        """Return a message's number in a session, by its unique-id. Raises: Finding."""
        wanted = self.own.ids[message.name] if isinstance(message, Sample) else message
        number = (self.own.number(session, wanted) if self.own.can_deliver
                  else unique_ids(session).get(wanted))
        if number is None:
            raise Finding(f"the message with unique-id {wanted} is not there any more")
        return number

    def listing(self, session: Connection) -> list[Listed]:
        """Return what LIST lists. Raises: Finding."""
        reply = session.ask("LIST", multi=True)
        if not reply.ok:
            raise Finding(f"LIST is answered by {reply}")
        listed = []
        for line in reply.lines:
            words = line.split(b" ")
            if len(words) < 2 or not words[0].isdigit() or not words[1].isdigit():
                raise Finding(f"LIST has the line {line!r}")
            listed.append(Listed(int(words[0]), int(words[1])))
        return listed

    def readable(self, session: Connection) -> list[Listed]:
        """Return a few messages that may be read, small ones first. Raises: Skipped."""
        listed = self.listing(session)
        if self.met.argument("EXPIRE").split(" ")[0] == "0" and not self.target.allow_delete:
            ours = {number for one, number in unique_ids(session).items() if one in self.own.seen}
            listed = [one for one in listed if one.number in ours]
        listed = sorted((one for one in listed if one.size <= SMALL_OCTETS), key=lambda one: one.size)
        if not listed:
            skip("there is no message that may be read; deliver some with --deliver")
        # the smallest, and the largest of them
        return listed if len(listed) <= SEVERAL else [*listed[:SEVERAL - 1], listed[-1]]

    def size(self, session: Connection, number: int) -> int:
        """Return a message's size. Raises: Finding."""
        reply = session.ask(f"LIST {number}")
        words = reply.text.split(b" ")
        if not reply.ok or len(words) < 2 or not words[1].isdigit():
            raise Finding(f"LIST {number} is answered by {reply}")
        return int(words[1])

    def stat(self, session: Connection) -> tuple[int, int]:
        """Return what STAT says: messages, octets. Raises: Finding."""
        reply = session.ask("STAT")
        words = reply.text.split(b" ")
        if not reply.ok or len(words) < 2 or not (words[0].isdigit() and words[1].isdigit()):
            raise Finding(f"STAT is answered by {reply}")
        return int(words[0]), int(words[1])

    def catch_up(self, session: Connection) -> tuple[list[Reply], tuple[int, int]]:
        """Say STAT; return the replies that come in front of its own, and what STAT says.

        A server may be slow: what was not there after a while may still come, and is in front of it.
        Raises: Finding.
        """
        session.say("STAT")
        owed: list[Reply] = []
        while len(owed) <= MOST_OWED:
            reply = session.reply()
            if reply.ok and (found := re.match(rb"(\d+) (\d+)( |$)", reply.text)):
                return owed, (int(found[1]), int(found[2]))
            owed.append(reply)
        raise Finding(f"the conversation is out of step: STAT is answered by {owed[-1]}")

    def in_step(self, connection: Connection, after: str) -> None:
        """Make certain that one reply, and no more, has come for everything. Raises: Finding."""
        if connection.logged_in:
            # whatever else had come would now be taken for the answer to STAT, which is unlike all others
            reply = connection.ask("STAT")
            if not reply.ok or not re.match(rb"\d+ \d+", reply.text):
                raise Finding(f"after {after} the conversation is out of step: STAT is answered by {reply}")
            return
        surplus, closed = connection.rest()
        if surplus:
            raise Finding(f"{after} is followed by more: {shown(surplus, 60)}")
        if closed:
            raise Finding(f"after {after} the server closes the connection")
        if connection.ask("XNOSUCH").ok:
            raise Finding(f"after {after} the conversation is out of step")

    def still_serves(self) -> None:
        """Make certain that a new connection is answered. Raises: Finding."""
        try:
            connection = self.connect()
        except (Unreachable, WireFault, Finding) as fault:
            raise Finding(f"afterwards a new connection is not served: {fault}") from None
        connection.leave()

    # The end -----------------------------------------------------------------------------------------

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *fault: object) -> None:
        for connection in self._connections:
            with contextlib.suppress(Closed, OSError):
                connection.leave()
