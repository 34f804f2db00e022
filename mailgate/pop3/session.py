"""The server's side of a POP3 conversation, without I/O (RFC 1939).

Octets go in by `receive`, turns come out of `advance`: octets to send and at most one thing to do
after them. While an ask is open nothing advances, so answers keep their order however
much a client pipelines (RFC 2449 section 6.6).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any, Union

from mailgate.auth import sasl
from mailgate.auth.sasl.digests import read_apop
from mailgate.auth.sasl.mechanisms import MECHANISMS
from mailgate.errors import (
    BadCommand,
    BadExchange,
    ExchangeCancelled,
    LoginRefused,
    MailgateError,
    NoSuchMessage,
    PlaintextRefused,
)
from mailgate.model import EMPTY_LISTING
from mailgate.pop3 import replies
from mailgate.pop3.commands import RULES, WORDS, Rule, State, Word
from mailgate.pop3.effects import (
    CLOSE,
    START_TLS,
    Ask,
    Commit,
    Fetch,
    LogIn,
    Pour,
    Refuse,
    ShowEnvelope,
    Turn,
)
from mailgate.pop3.policy import Policy
from mailgate.wire.lines import LineFramer

OUTPUT_TURN_OCTETS = 64 * 1024   # a turn ends past this, so that the shell can feel back-pressure
MAX_NUMBER_DIGITS = 10

Finish = Callable[[Any], Turn]
Reply = Union[bytes, Turn]
NOTHING = Turn(b"")
BROUGHT = frozenset({"password", "token", "certificate"})   # needed of a client, not kept for it


class Session:
    """One conversation. The shell calls `open` once, then `receive`, `advance` and `outcome`."""

    __slots__ = ("policy", "state", "failed_logins", "can_start_tls", "_table", "_verbs", "_mechanisms",
                 "_plaintext", "_lines", "_name", "_exchange", "_finish", "_bad_commands",
                 "_maildrop_listing", "_marked", "_count", "_octets", "_highest", "retrieved", "removed",
                 "timestamp", "facts", "_protected", "_kept", "_refusal",
                 "_telling", "_bound")

    def __init__(self, table: Table, policy: Policy, *, plaintext_allowed: bool,
                 can_start_tls: bool = False, protected: bool | None = None,
                 mechanisms: Mapping[bytes, sasl.Mechanism] = MECHANISMS,
                 kept: Callable[[], Container[str] | None] = frozenset,
                 timestamp: bytes | None = None) -> None:
        self.policy = policy
        self.state = State.AUTHORIZATION
        self.failed_logins = 0
        self.can_start_tls = can_start_tls
        self._table = table
        self._verbs = table.verbs[State.AUTHORIZATION]
        self._mechanisms = mechanisms
        self._plaintext = plaintext_allowed
        self._protected = plaintext_allowed if protected is None else protected   # nobody listens
        self.facts: Callable[[], sasl.Facts] = sasl.no_facts    # the shell puts in what it knows
        self._kept = kept                           # what there is for every user; None: announce regardless
        self.timestamp = timestamp                  # of the greeting; None: no APOP
        self._lines = LineFramer(policy.limits.line_octets)
        self._name: bytes | None = None             # of a USER that the next PASS may complete
        self._exchange: sasl.Exchange | None = None
        self._telling: bytes | None = None          # the challenge that tells a refusal of the open login
        self._refusal: LoginRefused | None = None   # told so; the answer ends the exchange
        self._bound = False                         # the channel's binding was used
        self._finish: Finish | None = None          # what takes the outcome of the open ask
        self._bad_commands = 0                      # in a row
        self._maildrop_listing = EMPTY_LISTING
        self._marked: set[int] = set()
        self._count = self._octets = 0              # of the unmarked messages
        self._highest = 0                           # message-number that LAST answers
        self.retrieved = 0                          # by RETR, for the log
        self.removed: int | None = None             # by QUIT, once that is done: set by the shell

    # What the shell calls ---------------------------------------------------------------------

    def open(self) -> Turn:
        """Return the greeting."""
        timestamp = b"" if self.timestamp is None else b" " + self.timestamp
        return Turn(b"+OK %b%b\r\n" % (self.policy.greeting, timestamp))

    def resume(self, before: Session) -> None:
        """Take over from the conversation before TLS only what guards against guessing, and the greeting."""
        self.timestamp = before.timestamp       # no other is sent (RFC 2595 section 4)
        self.failed_logins = before.failed_logins
        self._bad_commands = before._bad_commands

    def receive(self, data: bytes) -> None:
        """Take octets from the client. They wait until `advance`."""
        if self.state is not State.UPDATE:
            self._lines.feed(data)

    @property
    def pending(self) -> int:
        """Octets that were received and not read yet."""
        return self._lines.pending

    @property
    def asking(self) -> bool:
        """Whether an ask waits for its outcome."""
        return self._finish is not None

    @property
    def logged_in(self) -> bool:
        """Whether a login succeeded, now or before QUIT."""
        return self._verbs is self._table.verbs[State.TRANSACTION]

    def outcome(self, result: object) -> Turn:
        """Take the result of the open ask, or the exception that ended it."""
        finish, self._finish = self._finish, None
        if finish is None:
            raise AssertionError("no ask is open")
        if isinstance(result, BaseException):
            return self._failed(result)
        return finish(result)

    def advance(self) -> Turn:
        """Carry out waiting commands until more octets, an outcome or room for output is needed."""
        replies_sent: list[bytes] = []
        size = 0
        while self._finish is None and self.state is not State.UPDATE and size < OUTPUT_TURN_OCTETS:
            if self.state is State.AUTHORIZATION:
                self._set_line_limit()
            try:
                line = self._lines.next_line()
                if line is None:
                    break
                reply = self._command(line) if self._exchange is None else self._response(line)
            except MailgateError as fault:
                reply = self._refused(fault)
            if isinstance(reply, bytes):
                replies_sent.append(reply)
                size += len(reply)
            else:
                replies_sent.append(reply.octets)
                return Turn(b"".join(replies_sent), reply.then)
        return Turn(b"".join(replies_sent)) if replies_sent else NOTHING

    # Lines ------------------------------------------------------------------------------------

    def _set_line_limit(self) -> None:
        limits = self.policy.limits
        long = self._exchange is not None or self._lines.peek(5).upper() in (b"AUTH ", b"AUTH\t")
        self._lines.limit = limits.auth_line_octets if long else limits.line_octets

    def _command(self, line: bytes) -> Reply:
        word, _, rest = line.partition(b" ")
        found = self._verbs.get(word) or self._verbs.get(word.upper())
        if found is None:
            found, rest = self._unusual(line)
        method, rule = found
        if rule.when is not None and not rule.when(self):
            raise BadCommand(f"{word!r} is not offered here")
        if self._name is not None and rule.method != "on_pass":
            self._name = None           # PASS counts only directly after USER (RFC 1939 section 7)
        args = [rest] if rule.tail else rest.rstrip(b" ").split(b" ")
        if args == [b""]:
            args = []
        if not rule.least <= len(args) <= rule.most:
            raise BadCommand(f"{word!r} with {len(args)} arguments")
        reply = method(self, *args)
        self._bad_commands = 0
        return reply

    def _unusual(self, line: bytes) -> tuple[Verb, bytes]:
        # RFC 1734 section 3 let any blanks follow AUTH, tabs too.
        word, _, rest = line.replace(b"\t", b" ", 1).partition(b" ")
        if word.upper() != b"AUTH" or b"AUTH" not in self._verbs:
            raise BadCommand(f"no verb {word!r} in {self.state.name}")
        return self._verbs[b"AUTH"], rest

    def _refused(self, fault: MailgateError) -> Reply:
        """Answer a fault, and close after too many bad commands."""
        if self._refusal is not None:       # a line too long for the answer to a refusal
            refusal, self._refusal = self._refusal, None
            return self._failed(refusal)
        reply = replies.refusal(fault)
        if isinstance(fault, (BadCommand, BadExchange)):
            self._exchange = self._name = None
            self._bad_commands += 1
            if self._bad_commands >= self.policy.limits.bad_commands or self._bound:
                return self._close(reply)
        return reply

    def _close(self, reply: bytes) -> Turn:
        self.state = State.UPDATE
        self._lines.clear_buffer()
        return Turn(reply, CLOSE)

    def _ask(self, ask: Ask, finish: Finish) -> Turn:
        self._finish = finish
        return Turn(b"", ask)

    def _failed(self, fault: BaseException) -> Turn:
        if self.state is State.UPDATE:
            return Turn(replies.commit_refusal(fault), CLOSE)
        telling, self._telling = self._telling, None
        if telling is not None and isinstance(fault, LoginRefused):
            self._refusal = fault
            return Turn(b"+ %b\r\n" % sasl.encode(telling))
        self._exchange = None
        if isinstance(fault, LoginRefused):
            self.failed_logins += 1
        if self.failed_logins >= self.policy.limits.failed_logins or self._bound:
            return self._close(replies.refusal(fault))
        return Turn(replies.refusal(fault))

    # AUTHORIZATION ----------------------------------------------------------------------------

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
        return self._log_in(sasl.PasswordClaim(name, password))

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
        self._exchange = row.begin(facts._replace(offered=tuple(self._announced(facts))))
        self._bound = row.binds     # good for one exchange: failing closes (RFC 9266 section 4.1)
        return self._carry_on(self._exchange.step, response)

    def _response(self, line: bytes) -> Reply:
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            return self._failed(refusal)
        if line == b"*":
            raise ExchangeCancelled("the client gave up")
        assert self._exchange is not None, "an exchange is open"
        return self._carry_on(self._exchange.step, sasl.decode(line))

    def _consulted(self, answer: Any) -> Turn:
        exchange: Any = self._exchange
        try:
            reply = self._carry_on(exchange.answered, answer)
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
            return self._ask(step, self._consulted)
        if step.refusal is None:
            self._exchange = None
        return self._log_in(step.claim, step.refusal)

    def on_apop(self, rest: bytes) -> Turn:
        """Log in by the MD5 of the greeting's timestamp and the password (RFC 1939 section 7)."""
        assert self.timestamp is not None, "the table asks for it"
        return self._log_in(read_apop(rest, self.timestamp))

    def _log_in(self, claim: sasl.Claim, refusal: bytes | None = None) -> Turn:
        self._telling = refusal
        return self._ask(LogIn(claim), self._logged_in)

    def _logged_in(self, maildrop: Any) -> Turn:
        listing = maildrop.listing
        self._exchange, self._bound = None, False
        self.state = State.TRANSACTION
        self._verbs = self._table.verbs[State.TRANSACTION]
        self._lines.limit = self.policy.limits.line_octets
        self._maildrop_listing = listing
        self._count, self._octets = len(listing), listing.octets
        return Turn(b"+OK maildrop has %d messages (%d octets)\r\n" % (self._count, self._octets))

    def on_stls(self) -> Turn:
        """Begin TLS; nothing that was learnt in clear outlives it (RFC 2595 section 4)."""
        return Turn(b"+OK begin TLS\r\n", START_TLS)

    # TRANSACTION ------------------------------------------------------------------------------

    def _number(self, argument: bytes) -> int:
        """Return the number of an unmarked message (RFC 1939 section 4).

        Raises: BadCommand for what is no number, NoSuchMessage.
        """
        if not argument.isdigit() or len(argument) > MAX_NUMBER_DIGITS:
            raise BadCommand(f"{argument!r} is no message-number")
        number = int(argument)
        if not 0 < number <= len(self._maildrop_listing) or number in self._marked:
            raise NoSuchMessage(str(number))
        return number

    def on_stat(self) -> bytes:
        """Count and octets of the unmarked messages (RFC 1939 section 5)."""
        return b"+OK %d %d\r\n" % (self._count, self._octets)

    def on_list(self, argument: bytes | None = None) -> bytes:
        """The scan listing, or one line of it."""
        if argument is None:
            return replies.scan_listing(self._maildrop_listing, self._marked, self._octets)
        number = self._number(argument)
        return b"+OK %d %d\r\n" % (number, self._maildrop_listing.sizes[number - 1])

    def on_uidl(self, argument: bytes | None = None) -> bytes:
        """The unique-ids, or one (RFC 1939 section 7)."""
        if argument is None:
            return replies.unique_ids(self._maildrop_listing, self._marked)
        number = self._number(argument)
        return b"+OK %d %b\r\n" % (number, self._maildrop_listing.unique_id(number - 1))

    def on_retr(self, argument: bytes) -> Turn:
        """A whole message."""
        number = self._number(argument)
        head = b"+OK %d octets\r\n" % self._maildrop_listing.sizes[number - 1]

        def fetched(content: object) -> Turn:
            self.retrieved += 1
            self._highest = max(self._highest, number)
            return self._content(head, content)

        return self._ask(Fetch(number), fetched)

    def on_top(self, argument: bytes, count: bytes) -> Turn:
        """Header, blank line and the first lines of the body (RFC 1939 section 7)."""
        number = self._number(argument)
        if not count.isdigit() or len(count) > MAX_NUMBER_DIGITS:
            raise BadCommand(f"{count!r} is no number of lines")
        body_lines: int | None = int(count)
        # No message has more lines than octets: fetchmail asks for 99999999 when it means RETR.
        if int(count) >= self._maildrop_listing.sizes[number - 1]:
            body_lines = None
        return self._ask(Fetch(number, body_lines),
                         lambda content: self._content(b"+OK top of message follows\r\n", content))

    def _content(self, head: bytes, content: object) -> Turn:
        if isinstance(content, bytes):
            return Turn(b"".join((head, content, replies.END)))
        self._finish = lambda _: Turn(replies.END)
        return Turn(head, Pour(content))

    def on_dele(self, argument: bytes) -> bytes:
        """Mark a message; QUIT removes it."""
        number = self._number(argument)
        self._marked.add(number)
        self._count -= 1
        self._octets -= self._maildrop_listing.sizes[number - 1]
        self._highest = max(self._highest, number)
        return b"+OK marked as deleted\r\n"

    def on_noop(self) -> bytes:
        """Nothing."""
        return b"+OK nothing done\r\n"

    def on_rset(self) -> bytes:
        """Unmark every message; LAST begins anew (RFC 1460)."""
        self._marked.clear()
        self._highest = 0
        self._count, self._octets = len(self._maildrop_listing), self._maildrop_listing.octets
        return b"+OK maildrop has %d messages (%d octets)\r\n" % (self._count, self._octets)

    def on_last(self) -> bytes:
        """The highest message-number retrieved or marked (RFC 1225, 1460)."""
        return b"+OK %d\r\n" % self._highest

    def on_env(self, argument: bytes) -> Turn:
        """The envelope of a message, as Demon's SDPS gives it."""
        return self._ask(ShowEnvelope(self._number(argument)), lambda shown: Turn(replies.envelope(shown)))

    # Both -------------------------------------------------------------------------------------

    def on_capa(self) -> bytes:
        """What is true on this connection (RFC 2449 section 5); the same before and after the login."""
        return replies.lines(b"capability list follows", self._table.capabilities(self))

    def on_quit(self) -> Reply:
        """Enter UPDATE from TRANSACTION, or just leave (RFC 1939 sections 4, 6)."""
        if self.state is State.AUTHORIZATION:
            return self._close(b"+OK goodbye\r\n")
        self.state = State.UPDATE
        self._lines.clear_buffer()
        return self._ask(Commit(frozenset(self._marked)), lambda _: Turn(b"+OK goodbye\r\n", CLOSE))


Verb = tuple[Callable[..., Reply], Rule]


class Table:
    """A compiled command table: in each state, each verb's method and rule, looked up once for all."""

    def __init__(self, rules: Mapping[bytes, Rule] = RULES, words: tuple[Word, ...] = WORDS,
                 conversation: type[Session] = Session) -> None:
        self.rules = rules
        self.words = words
        self.conversation = conversation
        self.verbs: dict[State, dict[bytes, Verb]] = {
            state: {verb: (getattr(conversation, rule.method), rule)
                    for verb, rule in rules.items() if state in rule.states}
            for state in (State.AUTHORIZATION, State.TRANSACTION)}

    def capabilities(self, session: Session) -> list[bytes]:
        """Return the words that are true on this connection, in the table's order."""
        rows = [rule.capa for rule in self.rules.values()
                if rule.capa is not None and (rule.when is None or rule.when(session))]
        said = [row if isinstance(row, bytes) else row(session) for row in (*rows, *self.words)]
        return [word for word in said if word is not None]
