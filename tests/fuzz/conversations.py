"""Targets that are conversations: POP3, LMTP, sendauth. One reply a command, however they are cut."""

from __future__ import annotations

import re
from array import array
from typing import Any

from mailgate.auth import sasl
from mailgate.errors import LoginRefused, NoSuchRecipient, StoreUnavailable
from mailgate.kpop.sendauth import (
    DONE,
    REQUEST_OCTETS,
    Denied,
    Exchange,
    GiveUp,
    Granted,
    Judge,
    framed,
)
from mailgate.lmtp import effects as lmtp
from mailgate.lmtp.policy import LmtpPolicy
from mailgate.lmtp.session import Session as LmtpSession
from mailgate.lmtp.session import Surroundings
from mailgate.model import Envelope, ScanListing
from mailgate.model import Target as Maildrop
from mailgate.pop3 import effects as pop3
from mailgate.pop3.commands import State
from mailgate.pop3.policy import Limits, Policy
from mailgate.pop3.session import Session, Table
from mailgate.wire.dots import to_wire
from mailgate.wire.shown import shown
from tests.fuzz.mechanisms import FACTS, answer_to
from tests.fuzz.seeds import KPOP_SEED, LMTP_SEEDS, LMTP_WORDS, POP3_LINES, POP3_SEEDS
from tests.fuzz.target import Target, chance, hold, one_line, pieces, reply_lines, same

# POP3 -------------------------------------------------------------------------------------------

AUTH_OCTETS = 2000
LIMITS = Limits(auth_line_octets=AUTH_OCTETS, bad_commands=100_000, failed_logins=100_000)
POLICY = Policy(sdps=True, last=True, apop=True, hostname=b"mail.example.org", limits=LIMITS)
STRICT = Policy(limits=Limits(auth_line_octets=AUTH_OCTETS, bad_commands=3, failed_logins=2))
CONTENTS = (b"A: 1\r\n\r\n.\r\n..\r\nhello\r\n", b"", b"x\r\n" * 50)
ENVELOPE = Envelope(b"s\r\n.@x", b"r@y\0", 0)
TABLE = Table()


class Drop:
    """A maildrop that was opened."""

    listing = ScanListing(array("Q", [len(one) for one in CONTENTS]),
                          [b"id%d" % n for n in range(len(CONTENTS))])


class Pop3Talk:
    """A session whose asks are answered at once; `claims` are those that it made."""

    def __init__(self, policy: Policy) -> None:
        self.session: Any = Session(TABLE, policy, plaintext_allowed=True, protected=True, kept=lambda: None,
                                    timestamp=b"<1@mail.example.org>")
        self.session.facts = lambda: FACTS
        self.closed = False
        self.said = b""
        self.claims: list[Any] = []

    def say(self, octets: bytes) -> bytes:
        """Return what comes back."""
        if self.closed:
            return b""
        before = len(self.said)
        self.session.receive(octets)
        turn = self.session.advance()
        while turn is not pop3.NOTHING:
            self.said += turn.octets
            if turn.then is pop3.CLOSE:
                self.closed = True
                break
            hold(turn.then is not pop3.START_TLS, "TLS where none is offered")
            turn = (self.session.advance() if turn.then is None
                    else self.session.outcome(self._done(turn.then)))
        most = AUTH_OCTETS if self.session.state is State.AUTHORIZATION else LIMITS.line_octets
        hold(self.session.pending < max(most, 1), f"{self.session.pending} octets are kept")
        return self.said[before:]

    def _done(self, ask: Any) -> object:
        if isinstance(ask, pop3.LogIn):
            self.claims.append(ask.claim)
            one_line(shown(ask.claim.name))
            proven = not isinstance(ask.claim, sasl.PasswordClaim) or ask.claim.password == b"secret"
            return Drop() if proven and ask.claim.name == b"mrose" else LoginRefused("no")
        if isinstance(ask, pop3.Refuse):
            one_line(shown(ask.name))
            return ask.fault
        if isinstance(ask, sasl.Consult):
            return answer_to(ask.question)
        if isinstance(ask, pop3.Fetch):
            return to_wire(CONTENTS[ask.number - 1]) if ask.body_lines is None else b"A: 1\r\n\r\n"
        if isinstance(ask, pop3.ShowEnvelope):
            return ENVELOPE
        hold(isinstance(ask, pop3.Commit), ask)
        return StoreUnavailable("no") if len(ask.marked) == 2 else None


MULTI_LINE = {b"CAPA": 0, b"LIST": 0, b"UIDL": 0, b"AUTH": 0, b"RETR": 1, b"TOP": 2,
              b"*ENV": 1}   # at so many arguments


def check_one_reply(line: bytes, reply: bytes, in_exchange: bool) -> None:
    """One reply to one line: a status line; behind some +OK a body that ends at its end."""
    lines = reply_lines(reply)
    hold(lines, f"no reply to {line[:80]!r}")
    hold(re.match(rb"\+OK( |$)|-ERR |\+ ", lines[0]), lines[0])
    if len(lines) == 1:
        return
    verb, *words = line.upper().split()
    hold(not in_exchange and lines[0].startswith(b"+OK") and verb in MULTI_LINE,
         f"{len(lines)} lines for {line[:80]!r}")
    hold((verb != b"LIST" and verb != b"UIDL") or not words, "a listing where one was asked for")
    hold(lines.index(b".") == len(lines) - 1, "a body that does not end at its end")


def check_pop3(data: bytes) -> None:
    """The first octet says whether to log in first, and which policy holds."""
    how, text = data[:1], data[1:]
    policy = STRICT if how in b"sS" and how else POLICY
    outputs = []
    for parts in (None, [text], pieces(text, chance(data))):
        talk = Pop3Talk(policy)
        talk.session.open()
        if how in b"tT":
            hold(talk.say(b"USER mrose\r\nPASS secret\r\n").startswith(b"+OK"), "no login")
        if parts is None:
            for line in text.split(b"\n")[:-1]:
                in_exchange = talk.session._exchange is not None
                was_closed = talk.closed
                reply = talk.say(line + b"\n")
                if not was_closed:
                    check_one_reply(line, reply, in_exchange)
            talk.say(text.rpartition(b"\n")[2])
        else:
            for part in parts:
                talk.say(part)
        outputs.append((talk.said, talk.claims, talk.closed))
    same(outputs[1], outputs[0], "whole and line by line")
    same(outputs[2], outputs[0], "in pieces and line by line")


# LMTP -------------------------------------------------------------------------------------------

LMTP_POLICY = LmtpPolicy(size_octets=300, received_limit=4, recipients=100, bad_commands=100_000)


class LmtpTalk:
    """A session over a store that takes what it is given."""

    def __init__(self, policy: LmtpPolicy = LMTP_POLICY) -> None:
        self.session = LmtpSession(policy,
                                   Surroundings("mail.example.org", "203.0.113.7", False, lambda: 10 ** 12,
                                                        lambda ms: "ID", True))
        self.said = b""
        self.closed = False
        self.content = b""
        self.stored: list[Any] = []
        self.told: list[Any] = []

    def say(self, octets: bytes) -> bytes:
        if self.closed:
            return b""
        before = len(self.said)
        self.session.receive(octets)
        waiting = list(self.session.advance())
        while waiting:
            effect = waiting.pop(0)
            if isinstance(effect, bytes):
                self.said += effect
            elif effect is lmtp.ABORT:
                self.content = b""
            elif effect in (lmtp.CLOSE, lmtp.START_TLS):
                self.closed = True
                break
            elif isinstance(effect, lmtp.Delivered):
                self.told.append(repr(effect))
            else:
                hold(not waiting, "an ask that is not the last")
                waiting += self.session.outcome(self._done(effect))
            if not waiting:
                waiting += self.session.advance()
        hold(self.session.pending <= max(len(octets), LMTP_POLICY.line_octets),
             f"{self.session.pending} octets are kept")
        return self.said[before:]

    def _done(self, ask: Any) -> object:
        if isinstance(ask, lmtp.Route):
            hold(not re.search(rb"[\x00-\x1f\x7f]", ask.path), ask.path)
            return NoSuchRecipient("no") if ask.path.startswith(b"nobody") else Maildrop("m")
        if isinstance(ask, lmtp.Write):
            self.content += ask.content
            return None
        if isinstance(ask, lmtp.Learn):
            return None
        hold(isinstance(ask, lmtp.Commit), ask)
        for placement in ask.placements:
            hold(placement.preamble.count(b"\n") == 2, placement.preamble)
        hold(b"\0" not in self.content and not re.search(rb"\r(?!\n)", self.content),
             "a NUL or a bare CR is stored")
        hold(len(self.content) <= LMTP_POLICY.size_octets + 400, "more is stored than may be")
        self.stored.append((self.content, ask.placements))
        self.content = b""
        return [StoreUnavailable("full") if placement.envelope.recipient.startswith(b"full") else
                lmtp.Learn(None) if placement.envelope.recipient.startswith(b"late") else None
                for placement in ask.placements]


def replies_in(octets: bytes) -> int:
    """Return how many replies these lines are."""
    lines = reply_lines(octets)
    for line in lines:
        hold(re.match(rb"[2345]\d\d[ -]", line), line)
    return sum(line[3:4] == b" " for line in lines)


def check_lmtp(data: bytes) -> None:
    outputs = []
    for parts in (None, [data], pieces(data, chance(data))):
        talk = LmtpTalk()
        talk.session.open()
        if parts is None:
            for line in data.split(b"\n")[:-1]:
                session, closed = talk.session, talk.closed
                is_command, recipients = session._source is None, session._transaction
                most = max(1, len(recipients.accepted)) if recipients else 1
                most += not is_command      # the octets of a BDAT may end within a line
                count = replies_in(talk.say(line + b"\n"))
                is_chunk = line[:4].upper() == b"BDAT"
                if not closed and is_command and not is_chunk:
                    hold(count == 1, f"{count} replies to {line[:80]!r}")
                hold(closed or count <= most, f"{count} replies to {line[:80]!r}")
            talk.say(data.rpartition(b"\n")[2])
        else:
            for part in parts:
                talk.say(part)
        outputs.append((talk.said, talk.stored, talk.told, talk.closed))
    same(outputs[1], outputs[0], "whole and line by line")
    same(outputs[2], outputs[0], "in pieces and line by line")


# KPOP -------------------------------------------------------------------------------------------


def _sendauth(parts: list[bytes]) -> list[object]:
    exchange, came = Exchange(("KPOPV1.0", "KPOPV2.0")), []
    sent = b""
    for index, part in enumerate(parts):
        exchange.receive(part)
        hold(exchange.pending <= REQUEST_OCTETS + 4 + len(part), "octets are kept")
        while (turn := exchange.advance()) != (b"", None):
            sent += turn.octets
            while isinstance(turn.then, Judge):
                came.append(turn.then)
                good = len(turn.then.request) % 3
                result = Granted(b"reply" if good == 1 else None) if good else Denied(b"error" * (good == 0))
                turn = exchange.outcome(result)
                sent += turn.octets
            if turn.then is DONE:
                return [*came, sent, DONE, exchange.rest + b"".join(parts[index + 1:])]
            if isinstance(turn.then, GiveUp):
                one_line(turn.then.reason)
                return [*came, sent, turn.then]
    return [*came, sent]


def check_sendauth(data: bytes) -> None:
    same(_sendauth([data]), _sendauth(pieces(data, chance(data))))


TARGETS = {
    "pop3": Target(check_pop3, POP3_SEEDS,
                   (*(line + b"\r\n" for line in POP3_LINES), *POP3_LINES, b"x" * 300)),
    "lmtp": Target(check_lmtp, LMTP_SEEDS, LMTP_WORDS),
    "sendauth": Target(check_sendauth, (KPOP_SEED, KPOP_SEED + b"USER mrose\r\n", b"AUTH", framed(b"x") * 2),
                       (b"\0\0\0\x13", b"KRB5_SENDAUTH_V1.0\0", b"KPOPV1.0\0", b"\xff\xff\xff\xff",
                        b"\0\0\0\0", b"QUIT"),
                       70_000),
}
