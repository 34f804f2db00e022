"""Lines in, turns out: what a POP3 conversation does in every state, without I/O (RFC 1939 section 3).

Octets go in by `receive`, turns come out of `advance`: octets to send and at most one thing to do
after them. While an ask is open nothing advances, so answers keep their order however
much a client pipelines (RFC 2449 section 6.6). What the states understand is said by those that
stand on this: `authorization`, and on that `session`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, Union

from mailgate.errors import BadCommand, BadExchange, MailgateError
from mailgate.pop3 import replies
from mailgate.pop3.commands import Rule, State
from mailgate.pop3.effects import CLOSE, NOTHING, Ask, Turn
from mailgate.pop3.policy import Policy
from mailgate.wire.lines import LineFramer

COMMANDS_A_TURN = 64             # at most: some milliseconds, whatever they are
OUTPUT_TURN_OCTETS = 64 * 1024   # a turn ends past this, so that the shell can feel back-pressure
# What is kept of answers that sessions share: so many of one listing at most, and short ones alone.
KEPT_ANSWERS, KEPT_LINE_OCTETS, KEPT_REPLY_OCTETS = 256, 24, 128

Finish = Callable[[Any], Turn]
Reply = Union[bytes, Turn]
Verb = tuple[Callable[..., Reply], Rule]


class Verbs(Protocol):
    """A compiled command table: mailgate.pop3.session.Table."""

    verbs: dict[State, dict[bytes, Verb]]
    keeps_answers: bool

    def capabilities(self, session: Any) -> list[bytes]:
        """Return the words that are true on this connection."""


class Conversation:
    """One conversation. The shell calls `receive`, `advance` and `outcome`."""

    __slots__ = ("policy", "state", "_table", "_verbs", "_lines", "_name", "_exchange", "_finish",
                 "_bad_commands", "_known_answers")

    def __init__(self, table: Verbs, policy: Policy) -> None:
        self.policy = policy
        self.state = State.AUTHORIZATION
        self._table = table
        self._verbs = table.verbs[State.AUTHORIZATION]
        self._lines = LineFramer(policy.limits.line_octets)
        self._name: bytes | None = None             # left by a command for the very next one alone
        self._exchange: Any = None                  # while one is open, lines are answers to it
        self._finish: Finish | None = None          # what takes the outcome of the open ask
        self._bad_commands = 0                      # in a row; before the login, in all
        self._known_answers: dict[bytes, bytes] | None = None    # answers that hold now, by line

    # What the shell calls ---------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take octets from the client. They wait until `advance`."""
        if self.state is not State.UPDATE:
            self._lines.feed(data)

    def answer(self, data: bytes) -> Reply | None:
        """Answer octets that are one whole command behind the login, with nothing waiting before it.

        That is what clients send that do not pipeline: half the way of `receive` and `advance`, which
        have to take what is anything else; some commands whose answers are kept take half of that.
        None: it is something else, and nothing was taken.
        """
        if self.state is not State.TRANSACTION or self._finish is not None or not self._lines.at_start:
            return None
        if data.find(b"\n") != len(data) - 1:
            return self._answer_all(data)
        if len(data) > self._lines.limit:
            return None
        line = data[:-2] if data[-2:] == b"\r\n" else data[:-1]
        if self._known_answers is not None and (kept := self._known_answers.get(line)) is not None:
            self._bad_commands = 0
            return kept
        try:
            return self._command(line)
        except MailgateError as fault:
            return self._refused(fault)

    def _answer_all(self, data: bytes) -> bytes | None:
        """Answer whole lines that came together, if the answers to all of them are kept."""
        kept = self._known_answers
        if kept is None or data[-2:] != b"\r\n":
            return None
        lines = data[:-2].split(b"\r\n", COMMANDS_A_TURN)
        try:
            answers = [kept[line] for line in lines]
        except KeyError:
            return None
        self._bad_commands = 0
        return b"".join(answers)

    @property
    def pending(self) -> int:
        """Octets that were received and not read yet."""
        return self._lines.pending

    def drop_line(self) -> None:
        """Forget what waits: the beginning of a line that is too long, by what the shell knows."""
        self._lines.drop_line()

    @property
    def can_go_on(self) -> bool:
        """Whether there is something to read, and no ask open that it has to wait for."""
        return self._finish is None and not self._lines.is_empty()

    @property
    def asking(self) -> bool:
        """Whether an ask waits for its outcome."""
        return self._finish is not None

    def outcome(self, result: object) -> Turn:
        """Take the result of the open ask, or the exception that ended it."""
        finish, self._finish = self._finish, None
        if finish is None:
            raise AssertionError("no ask is open")
        if isinstance(result, BaseException):
            return self._failed(result)
        return finish(result)

    def advance(self) -> Turn:
        """Carry out waiting commands until more octets, an outcome or room for output is needed.

        At most so many that others need not wait long: there may be more.
        """
        if self._finish is not None or self.state is State.UPDATE:
            return NOTHING
        replies_sent: list[bytes] = []
        size = 0
        next_line = self._lines.next_line
        authorizing = self.state is State.AUTHORIZATION     # until an outcome: that ends a turn
        for _ in range(COMMANDS_A_TURN):
            if authorizing:
                self._set_line_limit()
            try:
                line = next_line()
                if line is None:
                    break
                reply = self._command(line) if self._exchange is None else self._response(line)
            except MailgateError as fault:
                reply = self._refused(fault)
            if isinstance(reply, bytes):
                replies_sent.append(reply)
                size += len(reply)
                if size >= OUTPUT_TURN_OCTETS:
                    break
            else:
                replies_sent.append(reply.octets)
                return Turn(b"".join(replies_sent), reply.then)
        return Turn(b"".join(replies_sent)) if replies_sent else NOTHING

    # What the states say ----------------------------------------------------------------------

    def _set_line_limit(self) -> None:
        """Say how long the next line may be; asked before each line of AUTHORIZATION."""

    def _response(self, line: bytes) -> Reply:
        """Take a line of the open exchange."""
        raise NotImplementedError

    def _unusual(self, line: bytes) -> tuple[Verb, bytes]:
        """Return the verb of a line that does not begin with one, and the rest. Raises: BadCommand."""
        raise BadCommand(f"no verb {line.partition(b' ')[0]!r} in {self.state.name}")

    # Lines ------------------------------------------------------------------------------------

    def _command(self, line: bytes) -> Reply:
        word, _, rest = line.partition(b" ")
        found = self._verbs.get(word) or self._verbs.get(word.upper())
        if found is None:
            found, rest = self._unusual(line)
        method, rule = found
        if rule.when is not None and not rule.when(self):   # type: ignore[arg-type]   # it is a Session
            raise BadCommand(f"{word!r} is not offered here")
        if self._name is not None and rule.method != "on_pass":
            self._name = None           # PASS counts only directly after USER (RFC 1939 section 7)
        if not rest:
            args = []
        elif rule.tail or b" " not in rest:
            args = [rest]
        else:
            args = rest.rstrip(b" ").split(b" ")
            if args == [b""]:
                args = []
        if not rule.least <= len(args) <= rule.most:
            raise BadCommand(f"{word!r} with {len(args)} arguments")
        reply = method(self, *args)
        if rule.kept and self._known_answers is not None:
            self._keep(line, reply)
        if self.state is State.TRANSACTION:     # before, nothing makes good again: a login is what is wanted
            self._bad_commands = 0
        return reply

    def _keep(self, line: bytes, reply: Reply) -> None:
        kept = self._known_answers
        if (kept is not None and isinstance(reply, bytes) and len(reply) <= KEPT_REPLY_OCTETS
                and len(line) <= KEPT_LINE_OCTETS and len(kept) < KEPT_ANSWERS):
            kept[line] = reply

    def _refused(self, fault: MailgateError) -> Reply:
        """Answer a fault, and close after too many bad commands."""
        reply = replies.refusal(fault)
        if isinstance(fault, (BadCommand, BadExchange)):
            self._exchange = self._name = None
            self._bad_commands += 1
            if self._bad_commands >= self.policy.limits.bad_commands:
                return self._close(reply)
        return reply

    def _failed(self, fault: BaseException) -> Turn:
        """Answer the fault that ended an ask."""
        return Turn(replies.refusal(fault))

    def _close(self, reply: bytes) -> Turn:
        self.state = State.UPDATE
        self._lines.clear_buffer()
        return Turn(reply, CLOSE)

    def _ask(self, ask: Ask, finish: Finish) -> Turn:
        self._finish = finish
        return Turn(b"", ask)
