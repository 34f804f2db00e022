"""The core under the stand-in for Twisted's POP3: lines in, one command at a time, replies out.

Everything that a subclass of `twisted.mail.pop3.POP3` sees has its name and habits: no arguments to
the constructor (which subclasses do not call), `state_XXX`, `processCommand`, `do_XXX`, `blocked`,
`_longOperation`. Beneath, a command waits until the one before it is answered.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Coroutine
from functools import lru_cache
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ISSLTransport
from twisted.logger import Logger
from twisted.mail.pop3 import POP3Error
from twisted.protocols.basic import LineOnlyReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure

from mailgate.compat.room import Room
from mailgate.errors import LineTooLong
from mailgate.net.faults import as_fault
from mailgate.wire.faults import answer_for
from mailgate.wire.lines import LineFramer
from mailgate.wire.shown import shown

OUTPUT_TURN_OCTETS = 64 * 1024      # written since the client last took everything: then commands wait
SHOWN_OCTETS = 40                   # of what a client said, in an answer
_LOGIN_VERBS = (b"USER", b"PASS", b"APOP", b"AUTH", b"RPOP")

log = Logger()


class Conversation(LineOnlyReceiver, TimeoutMixin):
    """Reads commands, keeps their order, and answers each once."""

    MAX_LENGTH = 16384              # octets of a line, its end not counted
    backlogOctets = 64 * 1024       # pipelined octets that may wait before reading pauses
    timeOut = 600                   # seconds of silence (RFC 1939 section 3: at least ten minutes)
    AUTH_CMDS = [b"CAPA", b"USER", b"PASS", b"APOP", b"AUTH", b"RPOP", b"QUIT"]

    factory: Any = None
    transport: Any = None
    mbox: Any = None                # the IMailboxPOP3 of the login
    state = "COMMAND"
    blocked: list[bytes] | None = None      # while an answer is pending: lines given to lineReceived

    _framer: LineFramer | None = None
    _queue: deque[bytes] | None = None      # lines that were blocked
    _running = False
    _operations = 0                 # pending ones
    _answered = False               # the present command has its answer, or the begin of one
    _unanswered: Deferred[None] | None = None   # a login whose answer comes from somewhere, some time
    _idleTimeOut: Any = None        # timeOut, while it is off
    _sent = 0                       # octets since the client last took everything
    _room: Room | None = None
    _paused = False                 # reading is
    _secure: bool | None = None     # under TLS
    _closing = False
    _gone = False

    # Lines ------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Take octets. Lines are carried out as far as answers allow."""
        if self._gone or self._closing:
            return
        if self._framer is None:
            self._framer = LineFramer(self.MAX_LENGTH + 2)
        if not self._broken():
            self._framer.feed(data)
            self._run()

    def lineReceived(self, line: bytes) -> None:
        """Give a line to the method of the present state; called once the line before is answered."""
        if self.blocked is not None:
            self.blocked.append(line)           # only a caller other than dataReceived does that
            return
        self.resetTimeout()
        self._answered = False
        getattr(self, "state_" + self.state)(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Answer a line that was longer than MAX_LENGTH and was dropped; `line` is empty."""
        self.failResponse(b"line too long")

    def _run(self) -> None:
        if self._running:
            return
        self._running = True
        try:
            while self._free() and self._nextLine():
                pass
        finally:
            self._running = False
        self._boundBacklog()

    def _free(self) -> bool:
        return (self.blocked is None and self._room is None and not self._gone and not self._closing
                and not getattr(self.transport, "disconnecting", False))

    def _nextLine(self) -> bool:
        if self._broken():
            return False
        self._answered = False
        if self._queue:
            line: bytes | None = self._queue.popleft()
        elif self._framer is None:
            return False
        else:
            self._framer.limit = self.MAX_LENGTH + 2
            try:
                line = self._framer.next_line()
            except LineTooLong:
                self.lineLengthExceeded(b"")
                return True
        if line is None:
            return False
        self.lineReceived(line)
        if self._sent >= OUTPUT_TURN_OCTETS and self._free():
            self._awaitRoom()
        return True

    def _broken(self) -> bool:
        """Notice that a subclass began TLS. Octets that came in clear after STLS end the connection."""
        secure = ISSLTransport.providedBy(self.transport)
        if secure is not self._secure:
            begun, self._secure = self._secure is False, secure
            if begun and self._framer is not None and self._framer.pending:
                self._abort()
                return True
        return False

    def _boundBacklog(self) -> None:
        """Read on only while few pipelined octets wait; what is not read stays with the client."""
        full = self._framer is not None and self._framer.pending > self.backlogOctets
        if full != self._paused and not self._gone and hasattr(self.transport, "pauseProducing"):
            self._paused = full
            if full:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    # Commands ---------------------------------------------------------------------------------

    def state_COMMAND(self, line: bytes) -> None:
        """Carry out a command, and answer whatever it raises."""
        words = line.split(b" ")
        while len(words) > 1 and not words[-1] and words[0].upper() != b"PASS":
            words.pop()                         # blanks at the end belong to a password only
        self._answered = False
        try:
            self.processCommand(*words)
        except Exception:
            self._ebCommand(Failure())

    def processCommand(self, command: bytes, *args: bytes) -> Any:
        """Call `do_` of the command. Raises: POP3Error, and what the method raises.

        A Deferred that comes back holds up the commands behind this one.
        """
        command = command.upper()
        if self.mbox is None and command not in self.AUTH_CMDS:
            raise POP3Error(b"not authenticated yet: cannot do " + _shown(command))
        if self.mbox is not None and command in _LOGIN_VERBS:
            raise POP3Error(b"authenticated already: cannot do " + _shown(command))
        method = getattr(self, "do_" + command.decode("ascii"), None) if command.isalnum() else None
        if method is None:
            raise POP3Error(b"Unknown protocol command: " + _shown(command))
        if not _takes(getattr(method, "__func__", method), len(args) + hasattr(method, "__func__")):
            raise POP3Error(b"wrong number of arguments: cannot do " + _shown(command))
        result = method(*args)
        if isinstance(result, Deferred):
            self._longOperation(result)
        elif (command in (b"PASS", b"APOP") and self.state == "COMMAND" and self.blocked is None
              and not self._answered):
            self._unanswered = Deferred()       # as Twisted's own do_PASS: the login tells nobody
            self._longOperation(self._unanswered)
        return result

    def _longOperation(self, d: Deferred[Any]) -> Deferred[Any]:
        """Hold up commands, and the timeout, until a Deferred has fired; answer its failure."""
        self._block()
        d.addErrback(self._ebCommand)
        return d.addBoth(self._unblock)

    def _operate(self, coroutine: Coroutine[Any, Any, None]) -> Deferred[None]:
        """Do the same with what begins only once commands are held up."""
        self._block()
        return Deferred.fromCoroutine(coroutine).addErrback(self._ebCommand).addBoth(self._unblock)

    def _block(self) -> None:
        if self.blocked is None:
            self.blocked = []
            self._idleTimeOut = self.timeOut
            self.setTimeout(None)
        self._operations += 1

    def _unblock(self, result: Any) -> Any:
        self._operations -= 1
        if not self._operations:
            lines, self.blocked = self.blocked or [], None
            if self._gone:
                self._operationsOver()
                return result
            self.setTimeout(self._idleTimeOut)
            if lines:
                self._queue = deque([*lines, *(self._queue or ())])
            self._run()
        return result

    def _operationsOver(self) -> None:
        """An operation has ended whose client had gone."""

    def _ebCommand(self, failure: Failure) -> None:
        """Answer a failed command. Where a reply had begun, no client could tell: the connection ends."""
        if self._gone or self._answered:
            as_fault(failure)                   # for the log
            if not self._gone:
                self._abort()
            return
        self.failResponse(self._refusal(failure))

    def _refusal(self, failure: Failure) -> bytes:
        """Return the words for a failure; what is neither ours nor POP3's shows nothing of itself."""
        fault = failure.value
        if isinstance(fault, (POP3Error, ValueError, IndexError)):
            said = [arg if isinstance(arg, bytes) else shown(str(arg)).encode() for arg in fault.args]
            return b": ".join([b"bad protocol or server", type(fault).__name__.encode(), *said])
        answer = answer_for(as_fault(failure))
        return answer.pop3 + answer.words

    # Replies ----------------------------------------------------------------------------------

    def successResponse(self, message: Any = "") -> None:
        """Answer +OK and a text."""
        self._say(b"+OK " + _octets(message) + b"\r\n")

    def failResponse(self, message: Any = b"") -> None:
        """Answer -ERR and a text, in one line."""
        self.sendLine(b"-ERR " + b" ".join(_octets(message).split(b"\r\n")))

    def sendLine(self, line: bytes) -> None:
        """Send a line."""
        self._say(line + b"\r\n")

    def _say(self, octets: bytes) -> None:
        """The one way by which our octets leave."""
        self._answered = True
        self._sent += len(octets)
        if not self._gone:
            self.transport.write(octets)
        if self._unanswered is not None:
            unanswered, self._unanswered = self._unanswered, None
            unanswered.callback(None)

    def _awaitRoom(self) -> None:
        """Carry out no more commands until the client has taken the answers."""
        self._room = Room(self.transport)
        self._room.wait().addCallback(self._roomCame)

    def _roomCame(self, _: None) -> None:
        room, self._room = self._room, None
        if room is not None:
            room.leave()
        self._sent = 0
        self._run()

    async def _pour(self, stream: Any) -> None:
        """Send a stream's pieces as the client takes them. Raises: what reading raises."""
        room = self._room = Room(self.transport)
        self.setTimeout(self._idleTimeOut)      # a client that takes nothing is silent too
        try:
            while not self._gone and (piece := await stream.read()):
                self._say(piece)
                self.resetTimeout()
                await room.wait()
        finally:
            self._room = None
            room.leave()
            stream.close()
            self._sent = 0

    # The end ----------------------------------------------------------------------------------

    def timeoutConnection(self) -> None:
        """Cut a client that was silent, or that does not take what it is sent."""
        self._abort()

    def _close(self) -> None:
        """Close once everything is sent; a client that does not take it is cut by the timeout."""
        self._closing = True
        self.transport.loseConnection()

    def _abort(self) -> None:
        self._closing = True
        getattr(self.transport, "abortConnection", self.transport.loseConnection)()

    def connectionLost(self, reason: Any = None) -> None:
        """Stop everything that waits for the client."""
        self._gone = True
        self.setTimeout(None)
        room = self._room
        if room is not None:
            room.stopProducing()


def _octets(message: Any) -> bytes:
    return message if isinstance(message, bytes) else str(message).encode("utf-8")


def _shown(octets: bytes) -> bytes:
    """Return what a client said as an answer may repeat it."""
    return shown(octets[:SHOWN_OCTETS]).encode("ascii", "replace")


@lru_cache(maxsize=256)
def _takes(function: Callable[..., Any], count: int) -> bool:
    """Whether a function can be called with so many arguments."""
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:
        return True         # it has no signature to be read
    return True
