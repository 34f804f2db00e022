"""Connections and conversations that a console watches, in place of the service's own when there is one.

Only what is said as commands and as status lines is told to the `Watch`. Of a command whose argument is a
secret the verb is told, of a line that is no command its length: it may be a password that came out of
step. Of the answer to a challenge nothing but that it came.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mailgate.console.watched import Watch, Watched
from mailgate.errors import LineTooLong, MailgateError
from mailgate.lmtp.commands import RULES as LMTP_RULES
from mailgate.lmtp.effects import Effect
from mailgate.lmtp.session import Session as LmtpSession
from mailgate.net.kpop import KPOPFactory, KPOPProtocol
from mailgate.net.lmtp import LMTPFactory, LMTPProtocol
from mailgate.net.pop3 import POP3Factory
from mailgate.net.pop3_protocol import POP3Protocol
from mailgate.pop3.commands import RULES, State
from mailgate.pop3.conversation import Reply
from mailgate.pop3.effects import Turn
from mailgate.pop3.known import KnownSession
from mailgate.pop3.session import Session, Table

HIDDEN = b"********"
# That a client may name, served or not; what else stands behind AUTH may be a secret.
MECHANISMS = frozenset(
    b"PLAIN LOGIN EXTERNAL ANONYMOUS GSSAPI GS2-KRB5 GSS-SPNEGO NTLM CRAM-MD5 DIGEST-MD5 SCRAM-SHA-1"
    b" SCRAM-SHA-1-PLUS SCRAM-SHA-256 SCRAM-SHA-256-PLUS SCRAM-SHA-512 SCRAM-SHA-512-PLUS XOAUTH2"
    b" OAUTHBEARER OTP SKEY SRP KERBEROS_V4".split())
_STATUS = (b"+OK", b"-ERR")

Tell = Callable[[str, bytes], None]


def watch(factory: Any, protocol: str, records: Watch) -> None:
    """Have a factory make connections that are watched."""
    factory.watch, factory.watched_as = records, protocol
    if isinstance(factory, LMTPFactory):
        factory.connection = WatchedLMTP
        return
    assert isinstance(factory, POP3Factory), "there is no other"
    kpop = isinstance(factory, KPOPFactory)
    factory.connection = WatchedKPOP if kpop else WatchedPOP3
    factory.table = Table(factory.table.rules, factory.table.words, WatchedKnown if kpop else WatchedSession)
    factory.table.keeps_answers = False     # each command has to be carried out to be seen


def command_shown(line: bytes) -> bytes:
    """Return a line of a client as it may be told."""
    word, blank, rest = line.partition(b" ")
    verb = word.upper()
    if verb not in RULES:
        return b"(no command: %d octets)" % len(line)
    if not rest:
        return word
    if verb == b"PASS":
        return word + b" " + HIDDEN
    first, more, _ = rest.partition(b" ")
    if verb == b"AUTH":     # some clients leave the mechanism out
        named = [first] if first.upper() in MECHANISMS else []
        return b" ".join([word, *named, *([HIDDEN] if more or not named else [])])
    if verb == b"APOP":     # or the name
        return b" ".join([word, first, HIDDEN] if more else [word, HIDDEN])
    return word + blank + rest


def reply_shown(reply: Reply) -> bytes:
    """Return a reply's status line; empty where it has none. A challenge is told, not shown."""
    octets = reply if isinstance(reply, bytes) else reply.octets
    if octets.startswith(b"+ "):
        return b"+ " + HIDDEN
    return octets.partition(b"\r\n")[0] if octets.startswith(_STATUS) else b""


# Conversations --------------------------------------------------------------------------------------


class _Told:
    """A POP3 conversation that tells what is said. `tell` is set by its connection."""

    tell: Tell

    def open(self) -> Turn:
        """Greet."""
        turn: Turn = super().open()     # type: ignore[misc]
        self.tell("S", reply_shown(turn))
        return turn

    def _command(self, line: bytes) -> Reply:
        self.tell("C", command_shown(line))
        return self._replied(super()._command(line))        # type: ignore[misc]

    def _response(self, line: bytes) -> Reply:
        self.tell("C", b"*" if line == b"*" else HIDDEN)
        return self._replied(super()._response(line))       # type: ignore[misc]

    def outcome(self, result: object) -> Turn:
        """Take the result of an ask."""
        turn: Turn = super().outcome(result)    # type: ignore[misc]
        self.tell("S", reply_shown(turn))
        return turn

    def _refused(self, fault: MailgateError) -> Reply:
        if isinstance(fault, LineTooLong):
            self.tell("C", b"(a line that is too long)")
        return self._replied(super()._refused(fault))       # type: ignore[misc]

    def _replied(self, reply: Reply) -> Reply:
        self.tell("S", reply_shown(reply))
        return reply


class WatchedSession(_Told, Session):
    """POP3."""


class WatchedKnown(_Told, KnownSession):
    """POP3 behind a Kerberos ticket."""


class WatchedLmtpSession(LmtpSession):
    """LMTP. What DATA and BDAT bring is never looked at."""

    tell: Tell

    def open(self) -> list[Effect]:
        """Greet."""
        return self._replied(super().open())

    def outcome(self, result: object) -> list[Effect]:
        """Take the result of an ask."""
        return self._replied(super().outcome(result))

    def stop(self, farewell: bytes) -> list[Effect]:
        """End the conversation from our side."""
        return self._replied(super().stop(farewell))

    def _refused(self, fault: MailgateError) -> list[Effect]:
        effects = super()._refused(fault)
        if len(effects) == 1:       # else `stop` has told it
            self._replied(effects)
        return effects

    def _replied(self, effects: list[Effect]) -> list[Effect]:
        for effect in effects:
            if isinstance(effect, bytes):
                self.tell("S", effect.partition(b"\r\n")[0])
        return effects


def _told(verb: bytes, method: str) -> Callable[[Any, bytes], list[Effect]]:
    own = getattr(LmtpSession, method)

    def on_command(self: Any, argument: bytes) -> list[Effect]:
        self.tell("C", b" ".join([verb, argument]) if argument else verb)
        effects: list[Effect] = own(self, argument)
        return effects if method == "on_quit" else self._replied(effects)

    return on_command


for _verb, _rule in LMTP_RULES.items():
    setattr(WatchedLmtpSession, _rule.method, _told(_verb, _rule.method))


# Connections ----------------------------------------------------------------------------------------


class _Seen:
    """A connection that keeps a `Watched` of itself."""

    factory: Any
    watched: Watched | None = None

    def connectionMade(self) -> None:
        """Begin."""
        peer = self.transport.getPeer()     # type: ignore[attr-defined]
        host, port = getattr(peer, "host", None), getattr(peer, "port", "")
        self.watched = self.factory.watch.begin(
            self.factory.watched_as, f"{host}:{port}" if host else "unix socket")
        super().connectionMade()        # type: ignore[misc]

    def handshakeCompleted(self) -> None:
        """TLS stands."""
        super().handshakeCompleted()    # type: ignore[misc]
        if self.watched is not None and not self.watched.tls and self.tls is not None:  # type: ignore[attr-defined]
            self.watched.tls = str(self.tls)    # type: ignore[attr-defined]
            self.factory.watch.note(self.watched, "*", f"inside TLS: {self.watched.tls}")

    def dataReceived(self, data: bytes) -> None:
        """Count octets."""
        if self.watched is not None:
            self.watched.octets_in += len(data)
        super().dataReceived(data)      # type: ignore[misc]

    def _send(self, data: bytes) -> None:
        if self.watched is not None:
            self.watched.octets_out += len(data)
            self.factory.watch.changed(self.watched)
        super()._send(data)     # type: ignore[misc]

    def connectionLost(self, *reason: Any) -> None:
        """End."""
        super().connectionLost(*reason)     # type: ignore[misc]
        watched, self.watched = self.watched, None
        if watched is not None:
            watched.state = "ended"
            self.factory.watch.note(watched, "*", "the connection has ended")
            self.factory.watch.end(watched)

    def _tell(self, who: str, octets: bytes) -> None:
        """Take a line of the conversation's."""
        if self.watched is None or not octets:
            return
        self.watched.commands += who == "C" and octets != HIDDEN
        self._look(self.watched)
        self.factory.watch.note(self.watched, who, octets)

    def _look(self, watched: Watched) -> None:
        """Learn what the conversation has come to."""
        state = getattr(getattr(self, "_session", None), "state", None)
        if state is not None:
            watched.state = _spelled(state)

    def _converse(self, *, secure: bool) -> Any:
        session = super()._converse(secure=secure)      # type: ignore[misc]
        session.tell = self._tell
        return session


class _SeenLogin(_Seen):
    def _look(self, watched: Watched) -> None:
        super()._look(watched)
        if self._maildrop is not None:      # type: ignore[attr-defined]
            watched.user = self._login_name     # type: ignore[attr-defined]


class WatchedPOP3(_SeenLogin, POP3Protocol):
    """POP3, with TLS from the first octet or later."""


class WatchedKPOP(_SeenLogin, KPOPProtocol):
    """POP3 behind a Kerberos ticket; nothing of the exchange is told."""


class WatchedLMTP(_Seen, LMTPProtocol):
    """LMTP."""

    conversation = WatchedLmtpSession


def _spelled(state: Any) -> str:
    """Return a state's name."""
    return "UPDATE" if state is State.UPDATE else str(state.name or state)
