"""The server's side of an LMTP conversation, without I/O (RFC 2033, 5321, 3030).

Octets go in by `receive`, effects come out of `advance`: at most one ask, and that as the last.
While an ask is open nothing advances, so answers keep their order however much a client pipelines
(RFC 2920). Content passes through in pieces, each an ask of its own: what has come of a message and
is not with the store yet is never more than what `receive` was given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from mailgate.errors import (
    BadArguments,
    BadCommand,
    BadSequence,
    MailgateError,
    MessageTooLarge,
    NonAsciiRecipient,
    NonAsciiSender,
    StoreUnavailable,
)
from mailgate.lmtp import commands, replies
from mailgate.lmtp.commands import State
from mailgate.lmtp.content import ChunkSource, Content, DotSource
from mailgate.lmtp.effects import (
    ABORT,
    CLOSE,
    START_TLS,
    Ask,
    Commit,
    Delivered,
    Effect,
    Learn,
    Route,
    Write,
)
from mailgate.lmtp.policy import LmtpPolicy
from mailgate.lmtp.transaction import Transaction
from mailgate.wire.headers import received_line
from mailgate.wire.lines import LineFramer

STEPS_A_TURN = 64                # at most: commands, and pieces of content
OUTPUT_TURN_OCTETS = 64 * 1024   # a turn ends past this, so that the shell can feel back-pressure

Finish = Callable[[Any], "list[Effect]"]


class Surroundings(NamedTuple):
    """What a session knows of the world it is in."""

    hostname: str
    peer: str | None                    # the client's IP address; None over a unix socket
    tls: bool
    now_ms: Callable[[], int]           # milliseconds since 1970, UTC
    new_id: Callable[[int], str]        # a fresh delivery id, from the arrival time
    can_start_tls: bool = False         # there is a certificate, and no TLS yet


class Session:
    """One conversation. The shell calls `open` once, then `receive`, `advance` and `outcome`."""

    __slots__ = ("policy", "state", "steps", "_around", "_lines", "_client", "_transaction", "_source",
                 "_content", "_delivery_id", "_arrived_ms", "_outcomes", "_answered", "_finish",
                 "_bad_commands")

    def __init__(self, policy: LmtpPolicy, around: Surroundings) -> None:
        self.policy = policy
        self.state = State.GREETED
        self.steps = 0                                  # grows with all that brings mail nearer, and no talk
        self._around = around
        self._lines = LineFramer(policy.line_octets)
        self._client = b""                              # what LHLO said
        self._transaction: Transaction | None = None
        self._source: DotSource | ChunkSource | None = None     # what the coming octets belong to
        self._content: Content | None = None            # of the transaction; None: octets are dropped
        self._delivery_id = ""
        self._arrived_ms = 0
        self._outcomes: list[object] = []               # of the open commit, one a path
        self._answered = 0                              # recipients whose fate was told
        self._finish: Finish | None = None              # what takes the outcome of the open ask
        self._bad_commands = 0                          # in a row

    # What the shell calls ---------------------------------------------------------------------

    def open(self) -> list[Effect]:
        """Return the greeting."""
        return [replies.greeting(self._around.hostname)]

    def receive(self, data: bytes) -> None:
        """Take octets from the client. They wait until `advance`."""
        if self.state is not State.OVER:
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
    def writing(self) -> bool:
        """Whether the store was given content and has not taken it yet."""
        return self._finish in (self._written, self._written_last)

    @property
    def committing(self) -> bool:
        """Whether the message is being stored: from then on it is ours, whatever the client does."""
        return self._finish in (self._committed, self._learnt)

    @property
    def delivery_id(self) -> str:
        """The id of the message that came last; empty before the first."""
        return self._delivery_id

    def outcome(self, result: object) -> list[Effect]:
        """Take the result of the open ask, or the exception that ended it."""
        finish, self._finish = self._finish, None
        if finish is None:
            raise AssertionError("no ask is open")
        self.steps += 1
        return finish(result)

    def advance(self) -> list[Effect]:
        """Carry out what waits, until more octets, an outcome or room for output is needed.

        At most so many steps that others need not wait long: there may be more.
        """
        effects: list[Effect] = []
        size = 0
        for _ in range(STEPS_A_TURN):
            if self._finish is not None or self.state is State.OVER or size >= OUTPUT_TURN_OCTETS:
                break
            step = self._command() if self._source is None else self._take_content(self._source)
            if step is None:
                break
            effects += step
            size += sum([len(effect) for effect in step if isinstance(effect, bytes)])
        return effects

    def stop(self, farewell: bytes) -> list[Effect]:
        """Return what ends the conversation from our side. Not while committing."""
        self.hang_up()
        return [ABORT, farewell, CLOSE]

    def hang_up(self) -> None:
        """The client is gone: read nothing more. An open commit still takes its outcome."""
        self.state = State.OVER
        self._lines.clear_buffer()

    # Lines ------------------------------------------------------------------------------------

    def _command(self) -> list[Effect] | None:
        try:
            line = self._lines.next_line()
            if line is None:
                return None
            rule, argument = commands.read_command(line, self.state)
            effects: list[Effect] = getattr(self, rule.method)(argument)
        except MailgateError as fault:
            return self._refused(fault)
        self._bad_commands = 0
        return effects

    def _refused(self, fault: MailgateError) -> list[Effect]:
        """Answer a fault, and close after too many bad commands."""
        if isinstance(fault, BadCommand):
            self._bad_commands += 1
            if self._bad_commands >= self.policy.bad_commands:
                return self.stop(replies.TOO_MANY_ERRORS)
        return [replies.refusal(fault)]

    def _ask(self, ask: Ask, finish: Finish) -> list[Effect]:
        self._finish = finish
        return [ask]

    def _clear(self, state: State) -> None:
        """End the transaction."""
        self.state = state
        self._transaction = self._source = self._content = None
        self._outcomes = []

    # Commands ---------------------------------------------------------------------------------

    def on_lhlo(self, argument: bytes) -> list[Effect]:
        """Introduce; clears the transaction (RFC 5321 section 4.1.4)."""
        self._client = commands.read_client_name(argument)
        if self.state is State.GREETED:
            self.steps += 1
        self._clear(State.READY)
        offered = commands.extensions(self.policy, can_start_tls=self._around.can_start_tls)
        return [ABORT, replies.welcome(self._around.hostname, offered)]

    def on_starttls(self, _: bytes) -> list[Effect]:
        """Begin TLS; the client introduces itself anew inside it (RFC 3207 section 4.2)."""
        if self._around.tls:
            raise BadSequence("TLS has begun already")
        if not self._around.can_start_tls:
            raise BadCommand("STARTTLS without a certificate")
        self.state = State.OVER         # of this conversation; what it has not read yet is still pending
        return [replies.BEGIN_TLS, START_TLS]

    def on_mail(self, argument: bytes) -> list[Effect]:
        """Begin a transaction."""
        sender, options = commands.read_mail(argument, self.policy)
        if not (sender.isascii() or options.utf8):
            raise NonAsciiSender("MAIL without SMTPUTF8")
        if 0 < self.policy.size_octets < options.size_octets:
            raise MessageTooLarge(f"SIZE={options.size_octets}")
        self._transaction = Transaction(
            sender, utf8=options.utf8, most_recipients=self.policy.recipients)
        self.state = State.SENDER
        self.steps += 1
        return [replies.SENDER_OK]

    def on_rcpt(self, argument: bytes) -> list[Effect]:
        """Add a recipient, once the router knows it."""
        transaction = self._open_transaction()
        path = commands.read_rcpt(argument)
        if not (path.isascii() or transaction.utf8):
            raise NonAsciiRecipient("RCPT without SMTPUTF8")
        if transaction.accept_again(path):
            self.steps += 1
            return [replies.RECIPIENT_OK]

        def routed(result: Any) -> list[Effect]:
            if isinstance(result, BaseException):
                return [replies.refusal(result)]
            transaction.accept(path, result)
            self.state = State.RECIPIENTS
            return [replies.RECIPIENT_OK]

        return self._ask(Route(path), routed)

    def on_data(self, _: bytes) -> list[Effect]:
        """Take the message up to its dot line."""
        self._begin_content()
        self._source = DotSource()
        return [replies.GO_AHEAD]

    def on_bdat(self, argument: bytes) -> list[Effect]:
        """Take a piece of the message. Its octets are read even when it is refused."""
        try:
            octets, last = commands.read_chunk(argument)
        except BadArguments as fault:
            # Nobody knows where the next command begins: to guess would let content be commands.
            self.hang_up()
            return [replies.refusal(fault), CLOSE]
        if self.state is State.RECIPIENTS:
            self._begin_content()
        if self.state in (State.SENDER, State.RECIPIENTS):
            self.state = State.CHUNKS
        self._source = ChunkSource(octets, last)
        return []

    def on_rset(self, _: bytes) -> list[Effect]:
        """Forget the transaction."""
        self._clear(State.READY if self.state is not State.GREETED else State.GREETED)
        return [ABORT, replies.OK]

    def on_noop(self, _: bytes) -> list[Effect]:
        """Nothing."""
        return [replies.OK]

    def on_vrfy(self, _: bytes) -> list[Effect]:
        """Tell nothing: RCPT will (RFC 5321 section 7.3)."""
        return [replies.CANNOT_VERIFY]

    def on_help(self, _: bytes) -> list[Effect]:
        """Name the document."""
        return [replies.HELP]

    def on_quit(self, _: bytes) -> list[Effect]:
        """End the conversation; a transaction that is open is forgotten."""
        return self.stop(replies.BYE)

    # Content ----------------------------------------------------------------------------------

    def _open_transaction(self) -> Transaction:
        if self._transaction is None:
            raise AssertionError("the states let a command pass without a transaction")
        return self._transaction

    def _begin_content(self) -> None:
        transaction, around = self._open_transaction(), self._around
        self.steps += 1
        self._arrived_ms = around.now_ms()
        self._delivery_id = around.new_id(self._arrived_ms)
        # RFC 3848, RFC 6531 section 4.3.
        protocol = ("UTF8LMTP" if transaction.utf8 else "LMTP") + ("S" if around.tls else "")
        self._content = Content(self.policy, received_line(
            hostname=around.hostname, protocol=protocol, delivery_id=self._delivery_id,
            arrived_ms=self._arrived_ms, helo=self._client, peer=around.peer,
            recipient=transaction.only_path))

    def _take_content(self, source: DotSource | ChunkSource) -> list[Effect] | None:
        if source.ended:
            return self._end_source(source)
        if not self._lines.pending:
            return None
        octets = source.take(self._lines)
        if self._transaction is not None:
            self.steps += 1
        if self._content is None:
            return []
        sound = self._content.fault is None
        passed = self._content.feed(octets)
        if sound and self._content.fault is not None:
            return [ABORT]
        return self._ask(Write(passed), self._written) if passed else []

    def _written(self, result: object) -> list[Effect]:
        if isinstance(result, BaseException) and self._content is not None:
            self._content.fault = result
            return [ABORT]
        return []

    def _end_source(self, source: DotSource | ChunkSource) -> list[Effect]:
        """Answer the end of a DATA or of a BDAT."""
        self._source = None
        content = self._content
        if isinstance(source, ChunkSource) and not source.last:
            if content is None:
                return self._refused(BadSequence("BDAT without a recipient"))
            return [replies.refusal(content.fault) if content.fault else replies.chunk_taken(source.octets)]
        if content is None:     # a last BDAT without a recipient has no reply (RFC 2033 section 4.3)
            self._clear(State.GREETED if self.state is State.GREETED else State.READY)
            return []
        rest = content.finish()
        if rest:
            return self._ask(Write(rest), self._written_last)
        return self._commit(content)

    def _written_last(self, result: object) -> list[Effect]:
        if self._content is None:
            raise AssertionError("content was written and is not there")
        return self._written(result) + self._commit(self._content)

    # Storing ----------------------------------------------------------------------------------

    def _commit(self, content: Content) -> list[Effect]:
        transaction = self._open_transaction()
        self._answered = 0
        if content.fault is not None:
            self._outcomes = [content.fault] * len(transaction.paths)
            return [ABORT, *self._tell()]
        return self._ask(Commit(transaction.placements(self._arrived_ms), self._delivery_id), self._committed)

    def _committed(self, result: Any) -> list[Effect]:
        count = len(self._open_transaction().paths)
        self._outcomes = [result] * count if isinstance(result, BaseException) else list(result)
        if len(self._outcomes) != count:    # whose they are cannot be told, so that nobody's is a success
            fault = StoreUnavailable(f"{len(self._outcomes)} outcomes for {count} placements")
            self._outcomes = [fault] * count
        return self._tell()

    def _learnt(self, result: object) -> list[Effect]:
        index = self._open_transaction().accepted[self._answered]
        self._outcomes[index] = result
        return self._tell()

    def _tell(self) -> list[Effect]:
        """Answer for every recipient, in the order of RCPT, as far as the outcomes are known."""
        transaction = self._open_transaction()
        effects: list[Effect] = []
        for index in transaction.accepted[self._answered:]:
            outcome = self._outcomes[index]
            if outcome is None:
                effects.append(replies.stored(self._delivery_id))
            elif isinstance(outcome, BaseException):
                effects.append(replies.refusal(outcome))
            else:
                return effects + self._ask(Learn(outcome), self._learnt)
            self._answered += 1
        return effects + self._end_transaction(transaction)

    def _end_transaction(self, transaction: Transaction) -> list[Effect]:
        fates = tuple([(path, outcome if isinstance(outcome, BaseException) else None)
                       for path, outcome in zip(transaction.paths, self._outcomes, strict=True)])
        octets = self._content.octets if self._content is not None else 0
        told = Delivered(self._delivery_id, transaction.sender, octets, fates)
        if self.state is not State.OVER:
            self._clear(State.READY)
        return [told]
