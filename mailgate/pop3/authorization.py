"""AUTHORIZATION: how a client says who it is (RFC 1939 sections 4 and 7, RFC 5034).

USER and PASS, APOP, and SASL exchanges; which mechanisms are announced, what a refusal says, and
when there were too many. Who may log in is decided elsewhere: a claim is an ask.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any

from mailgate.auth import sasl
from mailgate.auth.sasl.digests import read_apop
from mailgate.auth.sasl.mechanisms import MECHANISMS
from mailgate.errors import (
    BadCommand,
    BadExchange,
    ExchangeCancelled,
    LoginBrokenOff,
    LoginGarbled,
    LoginRefused,
    MailgateError,
    PlaintextRefused,
    TooManyLogins,
    Undecided,
)
from mailgate.pop3 import replies
from mailgate.pop3.conversation import Conversation, Reply, Verb, Verbs
from mailgate.pop3.effects import START_TLS, LogIn, Refuse, Turn
from mailgate.pop3.policy import Policy

AUTH_LINE_OCTETS = 12_288   # of AUTH and of responses, where none needs more (RFC 5034 section 4)
_NAME_WITHIN_OCTETS = 64    # of an AUTH line, the mechanism's name is found
LONG = frozenset({"token", "ticket"})   # what a client brings in lines that may be longer
BROUGHT = frozenset({"password", "token", "certificate", "ticket"})   # needed of a client, not kept for it


class Authorization(Conversation):
    """A conversation up to its login; `_logged_in` takes what the login opened."""

    __slots__ = ("failed_logins", "can_start_tls", "timestamp", "facts", "_mechanisms", "_plaintext",
                 "_protected", "_kept", "_telling", "_refusal", "_bound", "mechanism", "_disclosed")

    def __init__(self, table: Verbs, policy: Policy, *, plaintext_allowed: bool,
                 can_start_tls: bool = False, protected: bool | None = None,
                 mechanisms: Mapping[bytes, sasl.Mechanism] = MECHANISMS,
                 kept: Callable[[], Container[str] | None] = frozenset,
                 timestamp: bytes | None = None) -> None:
        super().__init__(table, policy)
        self.failed_logins = 0
        self.can_start_tls = can_start_tls
        self._mechanisms = mechanisms
        self._plaintext = plaintext_allowed
        self._protected = plaintext_allowed if protected is None else protected   # nobody listens
        self.facts: Callable[[], sasl.Facts] = sasl.no_facts    # the shell puts in what it knows
        self._kept = kept                           # what there is for every user; None: announce regardless
        self.timestamp = timestamp                  # of the greeting; None: no APOP
        self._telling: bytes | None = None          # the challenge that tells a refusal of the open login
        self._refusal: LoginRefused | None = None   # told so; the answer ends the exchange
        self._bound = False                         # the channel's binding was used
        self.mechanism = b"USER"                    # of the latest claim, for the log
        self._disclosed: bytes | None = None        # whose verifier's salt the open exchange asked for

    def open(self) -> Turn:
        """Return the greeting."""
        timestamp = b"" if self.timestamp is None else b" " + self.timestamp
        return Turn(b"+OK %b%b\r\n" % (self.policy.greeting, timestamp))

    def resume(self, before: Authorization) -> None:
        """Take over from the conversation before TLS only what guards against guessing, and the greeting."""
        self.timestamp = before.timestamp       # no other is sent (RFC 2595 section 4)
        self.failed_logins = before.failed_logins
        self._bad_commands = before._bad_commands

    # What is offered --------------------------------------------------------------------------

    @property
    def plaintext_allowed(self) -> bool:
        """Whether a password in clear is taken on this connection."""
        return self._plaintext

    def mechanism_names(self) -> list[bytes]:
        """Return the SASL mechanisms that can be used on this connection now, by whoever logs in here.

        Clients take the strongest and try no other: what only some users have a verifier for is not
        among them.
        """
        return self._announced(self.facts())

    def _announced(self, facts: sasl.Facts) -> list[bytes]:
        kept = self._kept()
        return [name for name, row in self._mechanisms.items()
                if self._usable(row, facts) and (kept is None or row.needs in BROUGHT or row.needs in kept)]

    def _usable(self, row: sasl.Mechanism, facts: sasl.Facts) -> bool:
        return ((self._protected or not row.plaintext)
                and (bool(facts.bindings) or not row.binds)
                and (bool(facts.identities) or row.needs != "certificate"))

    # Lines ------------------------------------------------------------------------------------

    def _set_line_limit(self) -> None:
        limits = self.policy.limits
        if self._exchange is not None:
            name = self.mechanism
        elif self._lines.peek(5).upper() in (b"AUTH ", b"AUTH\t"):
            name = b"".join(self._lines.peek(_NAME_WITHIN_OCTETS).split()[1:2]).upper()
        else:
            self._lines.limit = limits.line_octets
            return
        row = self._mechanisms.get(name)
        long = row is not None and row.needs in LONG and (self._protected or not row.plaintext)
        self._lines.limit = limits.auth_line_octets if long else min(
            AUTH_LINE_OCTETS, limits.auth_line_octets)

    def _unusual(self, line: bytes) -> tuple[Verb, bytes]:
        # RFC 1734 section 3 let any blanks follow AUTH, tabs too.
        word, _, rest = line.replace(b"\t", b" ", 1).partition(b" ")
        if word.upper() != b"AUTH" or b"AUTH" not in self._verbs:
            raise BadCommand(f"no verb {word!r} in {self.state.name}")
        return self._verbs[b"AUTH"], rest

    # Commands ---------------------------------------------------------------------------------

    def on_user(self, name: bytes) -> bytes:
        """Keep the name for PASS; every name is welcome (RFC 1939 section 13)."""
        if not self._plaintext:
            raise PlaintextRefused("USER")
        name = name.strip(b" ")
        if not name:
            raise BadCommand("USER without a name")
        self._name = name
        return b"+OK send the password\r\n"

    def on_pass(self, password: bytes) -> Turn:
        """Log in; only directly after a USER (RFC 1939 section 7)."""
        if not self._plaintext:
            raise PlaintextRefused("PASS")
        name, self._name = self._name, None
        if name is None:
            raise BadCommand("PASS without USER")
        self.mechanism = b"USER"
        return self._log_in(sasl.PasswordClaim(name, password))

    def on_apop(self, rest: bytes) -> Turn:
        """Log in by the MD5 of the greeting's timestamp and the password (RFC 1939 section 7)."""
        assert self.timestamp is not None, "the table asks for it"
        self.mechanism = b"APOP"
        return self._log_in(read_apop(rest, self.timestamp))

    def on_auth(self, rest: bytes = b"") -> Reply:
        """Begin an exchange (RFC 5034 section 4); alone, list the mechanisms as old clients expect."""
        words = [word for word in rest.replace(b"\t", b" ").split(b" ") if word]
        if not words:
            return replies.lines(b"mechanisms follow", self.mechanism_names())
        if len(words) > 2:
            raise BadCommand("AUTH with too many arguments")
        row = self._mechanisms.get(words[0].upper())
        if row is None:
            raise BadCommand(f"no mechanism {words[0]!r}")
        if row.plaintext and not self._protected:
            raise PlaintextRefused("AUTH")
        facts = self.facts()
        if not self._usable(row, facts):
            raise BadCommand(f"no mechanism {words[0]!r} here")
        response = None
        if len(words) == 2:
            if row.server_first:
                raise BadExchange("an initial response where the server begins")
            response = b"" if words[1] == b"=" else sasl.decode(words[1])
        self.mechanism, self._disclosed = words[0].upper(), None
        self._exchange = row.begin(facts._replace(offered=tuple(self._announced(facts))))
        self._bound = row.binds     # good for one exchange: failing closes (RFC 9266 section 4.1)
        return self._carry_on(self._exchange.step, response)

    def on_stls(self) -> Turn:
        """Begin TLS; nothing that was learnt in clear outlives it (RFC 2595 section 4)."""
        return Turn(b"+OK begin TLS\r\n", START_TLS)

    # The exchange -----------------------------------------------------------------------------

    def _response(self, line: bytes) -> Reply:
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            return self._failed(refusal)
        if line == b"*":
            raise ExchangeCancelled("the client gave up")
        return self._carry_on(self._exchange.step, sasl.decode(line))

    def _consulted(self, answer: Any) -> Turn:
        try:
            reply = self._carry_on(self._exchange.answered, answer)
        except MailgateError as fault:
            reply = self._refused(fault)
        return Turn(reply) if isinstance(reply, bytes) else reply

    def _carry_on(self, take: Callable[[Any], sasl.Step], given: bytes | None) -> Reply:
        """Give the open exchange what it waits for, and do what it wants next."""
        try:
            step = take(given)
        except LoginRefused as refused:
            return self._ask(Refuse(refused, getattr(self._exchange, "name", b"")), self._logged_in)
        if isinstance(step, sasl.Challenge):
            return b"+ %b\r\n" % sasl.encode(step.data)
        if isinstance(step, sasl.Consult):
            if isinstance(step.question, sasl.ScramQuestion):
                self._disclosed = step.question.name
            return self._ask(step, self._consulted)
        if step.refusal is None:
            self._exchange = None
        return self._log_in(step.claim, step.refusal)

    # The login, and its refusal ---------------------------------------------------------------

    def _log_in(self, claim: sasl.Claim, refusal: bytes | None = None) -> Turn:
        self._telling = refusal
        return self._ask(LogIn(claim), self._logged_in)

    def _logged_in(self, maildrop: Any) -> Turn:
        """Take what the login opened."""
        raise NotImplementedError

    def _refused(self, fault: MailgateError) -> Reply:
        if self._refusal is not None:       # a line too long for the answer to a refusal
            refusal, self._refusal = self._refusal, None
            return self._failed(refusal)
        name, self._disclosed = self._disclosed, None
        if name is not None and self._exchange is not None and isinstance(fault, (BadCommand, BadExchange)):
            kind = LoginBrokenOff if isinstance(fault, ExchangeCancelled) else LoginGarbled
            return self._ask(Refuse(kind(str(fault)), name), self._logged_in)
        reply = super()._refused(fault)
        if self._bound and isinstance(fault, (BadCommand, BadExchange)) and isinstance(reply, bytes):
            return self._close(reply)
        return reply

    def _failed(self, fault: BaseException) -> Turn:
        """Answer the fault that ended an ask; close after too many refused logins."""
        telling, self._telling = self._telling, None
        if telling is not None and isinstance(fault, LoginRefused):
            self._refusal = fault
            return Turn(b"+ %b\r\n" % sasl.encode(telling))
        self._exchange = None
        if isinstance(fault, (LoginRefused, Undecided)):
            self.failed_logins += 1
        too_many = self.failed_logins >= self.policy.limits.failed_logins or isinstance(fault, TooManyLogins)
        if too_many or self._bound:
            return self._close(replies.refusal(fault))
        return super()._failed(fault)
