"""The server's side of a POP3 conversation, without I/O (RFC 1939).

What is said before the login stands in `authorization`, how lines become turns in `conversation`; here
are TRANSACTION, UPDATE, and the table that says which command is understood in which state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mailgate.errors import BadCommand, NoSuchMessage
from mailgate.model import EMPTY_LISTING
from mailgate.pop3 import replies
from mailgate.pop3.authorization import Authorization
from mailgate.pop3.commands import RULES, WORDS, Rule, State, Word
from mailgate.pop3.conversation import Reply, Verb
from mailgate.pop3.effects import CLOSE, Commit, Fetch, Pour, ShowEnvelope, Turn

MAX_NUMBER_DIGITS = 10


class Session(Authorization):
    """One conversation. The shell calls `open` once, then `receive`, `advance` and `outcome`."""

    __slots__ = ("_maildrop_listing", "_marked", "_count", "_octets", "_highest", "retrieved", "removed")

    def __init__(self, *args: Any, **more: Any) -> None:
        """See Authorization."""
        super().__init__(*args, **more)
        self._maildrop_listing = EMPTY_LISTING
        self._marked: set[int] = set()
        self._count = self._octets = 0              # of the unmarked messages
        self._highest = 0                           # message-number that LAST answers
        self.retrieved = 0                          # by RETR, for the log
        self.removed: int | None = None             # by QUIT, once that is done: set by the shell

    @property
    def logged_in(self) -> bool:
        """Whether a login succeeded, now or before QUIT."""
        return self._verbs is self._table.verbs[State.TRANSACTION]

    def _logged_in(self, maildrop: Any) -> Turn:
        listing = maildrop.listing
        self._exchange, self._bound = None, False
        self.state = State.TRANSACTION
        self._verbs = self._table.verbs[State.TRANSACTION]
        self._lines.limit = self.policy.limits.line_octets
        self._maildrop_listing = listing
        self._known_answers = listing.answers if self._table.keeps_answers else None
        self._count, self._octets = len(listing), listing.octets
        return Turn(b"+OK maildrop has %d messages (%d octets)\r\n" % (self._count, self._octets))

    def _failed(self, fault: BaseException) -> Turn:
        """Answer the fault that ended an ask; that of a QUIT ends the session (RFC 1939 section 6)."""
        if self.state is State.UPDATE:
            return Turn(replies.commit_refusal(fault), CLOSE)
        return super()._failed(fault)

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
        self._known_answers = None
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
        self._known_answers = self._maildrop_listing.answers if self._table.keeps_answers else None
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


class Table:
    """A compiled command table: in each state, each verb's method and rule, looked up once for all."""

    def __init__(self, rules: Mapping[bytes, Rule] = RULES, words: tuple[Word, ...] = WORDS,
                 conversation: type[Session] = Session) -> None:
        self.rules = rules
        self.words = words
        self.conversation = conversation
        # what sessions with other tables have kept must be what this one would say
        self.keeps_answers = all(
            rules.get(verb) == rule and getattr(conversation, rule.method) is getattr(Session, rule.method)
            for verb, rule in RULES.items() if rule.kept)
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
