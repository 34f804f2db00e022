"""One connection to the server under test: blocking, bounded, every octet recorded.

Replies are cut here, strictly as RFC 1939 section 3 has it: a status line, and for some commands lines
up to a line of a dot alone, each ended by CRLF. What a lenient client would pass over is noted in
`Observed`, and judged by checks of its own.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
import time
from collections.abc import Sequence
from typing import NamedTuple

from mailgate.conformance.record import Record, shown

CRLF = b"\r\n"
END = b".\r\n"            # of a multi-line reply, on a line by itself
RECEIVE_OCTETS = 65536
GOODBYE_SECONDS = 2.0       # what a server gets to answer the QUIT after a check
LATE_SECONDS = 10.0         # what has come is taken for so long, on a machine that is busy
STATUS_OCTETS = 512         # a first line with its end (RFC 1939 section 3)
ENDLESS_OCTETS = 1 << 20    # no status line is that long
EXAMPLES = 3


class WireFault(Exception):
    """The conversation cannot go on: in itself a finding, wherever nothing else is expected."""


class Closed(WireFault):
    """The server closed, or reset, the connection."""


class Silent(WireFault):
    """The server said nothing for longer than it may."""


class Flood(WireFault):
    """The server said more than the check takes."""


class OutOfTime(WireFault):
    """The check's own time is over, so that it says nothing about the server."""


class Refused(WireFault):
    """TLS did not come about."""


class Observed:
    """Departures seen on status lines in any check: by kind, some examples each."""

    def __init__(self) -> None:
        self.seen: dict[str, list[str]] = {}
        self.replies = 0
        self.codes: set[bytes] = set()

    def note(self, kind: str, example: bytes) -> None:
        """Keep an example of a departure."""
        examples = self.seen.setdefault(kind, [])
        if len(examples) < EXAMPLES and (words := shown(example, 80)) not in examples:
            examples.append(words)

    def judge(self, line: bytes) -> None:
        """Look at a status line, its end included."""
        self.replies += 1
        if not line.endswith(CRLF):
            self.note("end", line)
        if len(line) > STATUS_OCTETS:
            self.note("length", line)
        text = line.rstrip(CRLF)
        if not re.match(rb"(\+OK|-ERR)( |$)", text):
            self.note("indicator", line)
        elif text in (b"+OK", b"-ERR"):
            self.note("bare", line)
        if re.search(rb"[^ -~]", text):
            self.note("characters", line)
        if begins := re.match(rb"(?:\+OK|-ERR) \[", text):
            code = re.match(rb"\[([^\[\]]+)\]", text[begins.end() - 1:])
            if code:
                self.codes.add(code[1].upper())
            else:
                self.note("code", line)


class Reply(NamedTuple):
    """What was answered to one command."""

    ok: bool
    text: bytes                 # of the status line, behind the indicator
    raw: bytes                  # the status line with its end
    lines: list[bytes]          # of a multi-line reply: without stuffing, ends and the last dot

    @property
    def octets(self) -> int:
        """How many octets the lines are with their ends: the size of a message."""
        return sum(map(len, self.lines)) + 2 * len(self.lines)

    @property
    def content(self) -> bytes:
        """The lines with their ends."""
        return b"".join([line + CRLF for line in self.lines])

    @property
    def code(self) -> bytes:
        """The response code in capitals (RFC 2449 section 8), empty if there is none."""
        found = re.match(rb"\[([^\]]*)\]", self.text)
        return found[1].upper() if found else b""

    def __str__(self) -> str:
        return shown(self.raw.rstrip(CRLF), 120)


class Bounds(NamedTuple):
    """What one check may cost."""

    reply_seconds: float = 15.0
    check_seconds: float = 90.0
    octets: int = 32 << 20      # received in one check
    quiet_seconds: float = 0.4  # how long is waited for what should not come


class Connection:
    """A socket, and what has come that no reply was made of yet."""

    def __init__(self, sock: socket.socket, number: int, record: Record, bounds: Bounds, ends: float,
                 observed: Observed) -> None:
        self._socket = sock
        self._number = number
        self._record = record
        self._bounds = bounds
        self._ends = ends       # time.monotonic() at which the check is over
        self._observed = observed
        self._pending = bytearray()
        self._searched = 0
        self.greeting: Reply | None = None
        self.logged_in = False
        self.gone = False
        self._exchanging = False        # behind AUTH a line may be a challenge

    # Sending ---------------------------------------------------------------------------------

    def send(self, octets: bytes, shown: bytes | None = None) -> None:
        """Send octets as they are. Raises: Closed, Silent."""
        self._record.sent(self._number, octets, shown)
        self._socket.settimeout(self._patience(None))
        try:
            self._socket.sendall(octets)
        except TimeoutError:
            raise Silent("the server does not read what it is sent") from None
        except OSError as fault:
            self.gone = True
            raise Closed(f"the server closed the connection while it was sent something ({fault})") from None

    def say(self, command: str | bytes, *, shown: str | None = None) -> None:
        """Send one command line."""
        octets = (command.encode() if isinstance(command, str) else command) + CRLF
        self._exchanging = self._exchanging or octets[:5].upper() == b"AUTH "
        self.send(octets, None if shown is None else shown.encode() + CRLF)

    def drip(self, octets: bytes, shown: bytes | None = None, pause_seconds: float = 0.0) -> None:
        """Send octets one by one, each in a segment of its own as far as the system lets it."""
        self._record.note(self._number, "in single octets:")
        self._record.sent(self._number, octets, shown)
        for place in range(len(octets)):
            try:
                self._socket.sendall(octets[place:place + 1])
            except OSError as fault:
                raise Closed(f"the server closed the connection ({fault})") from None
            if pause_seconds:
                time.sleep(pause_seconds)

    # Receiving ---------------------------------------------------------------------------------

    def reply(self, *, multi: bool = False, seconds: float | None = None) -> Reply:
        """Take the next reply. With `multi` a good one has lines. Raises: WireFault."""
        raw = self._line(b"\n", seconds, ENDLESS_OCTETS)
        self._judge(raw)
        ok = raw.upper().startswith(b"+OK")
        text = raw.rstrip(CRLF).partition(b" ")[2]
        return Reply(ok, text, raw, self._lines(seconds) if multi and ok else [])

    def challenge(self) -> bytes | Reply:
        """Take a challenge's text, its base64 as it is, or the reply that ended the exchange."""
        raw = self._line(b"\n", None, ENDLESS_OCTETS)
        if raw.startswith((b"+OK", b"-ERR")):
            self._judge(raw)
            return Reply(raw.startswith(b"+OK"), raw.rstrip(CRLF).partition(b" ")[2], raw, [])
        return raw

    def _judge(self, raw: bytes) -> None:
        if self._exchanging and re.match(rb"\+[ \r\n]", raw):
            return      # a challenge is no status line
        self._exchanging = False
        self._observed.judge(raw)

    def ask(self, command: str | bytes, *, multi: bool = False, shown: str | None = None,
            seconds: float | None = None) -> Reply:
        """Send a command and take its reply. Raises: WireFault, naming the command."""
        self.say(command, shown=shown)
        try:
            return self.reply(multi=multi, seconds=seconds)
        except WireFault as fault:
            named = shown or (command if isinstance(command, str) else command.decode("latin-1"))
            raise type(fault)(f"{fault}, after {named[:40]!r}") from None

    def ask_all(self, commands: Sequence[tuple[str, bool]]) -> list[Reply]:
        """Send commands in one segment and take all replies; the flag says which have lines."""
        self.send(b"".join([command.encode() + CRLF for command, _ in commands]))
        return [self.reply(multi=multi) for _, multi in commands]

    def rest(self, seconds: float | None = None, most: int = 1 << 20) -> tuple[bytes, bool]:
        """Return what comes without being asked for, and whether the server then closed the connection.

        What is there is taken, though it was looked for late.
        """
        until = time.monotonic() + (self._bounds.quiet_seconds if seconds is None else seconds)
        while (left := until - time.monotonic()) > -LATE_SECONDS and len(self._pending) < most:
            try:
                self._receive(max(0.0, left))
            except Silent:
                break
            except Closed:
                return self._take(len(self._pending)), True
        return self._take(len(self._pending)), False

    def is_closed(self, seconds: float | None = None) -> bool:
        """Whether the server closes the connection within a time, saying nothing more."""
        said, closed = self.rest(self._bounds.reply_seconds if seconds is None else seconds, 1)
        return closed and not said

    def some(self, octets: int) -> bytes:
        """Return at least as many octets of what comes, uncut. Raises: WireFault."""
        while len(self._pending) < octets:
            self._receive(None)
        return self._take(len(self._pending))

    def _line(self, end: bytes, seconds: float | None, most: int) -> bytes:
        """Return the octets up to an end and with it."""
        while (place := self._pending.find(end, self._searched)) < 0:
            self._searched = max(0, len(self._pending) - len(end) + 1)
            if len(self._pending) > most:
                raise Flood(f"a line without an end: {most} octets")
            self._receive(seconds)
        self._searched = 0
        return self._take(place + len(end))

    def _lines(self, seconds: float | None) -> list[bytes]:
        """Take the lines of a multi-line reply: up to CRLF, a dot, CRLF, and nothing less."""
        try:
            while len(self._pending) < len(END):
                self._receive(seconds)
            if self._pending.startswith(END):
                self._take(len(END))
                return []
            block = self._line(CRLF + END, seconds, self._bounds.octets)[:-len(CRLF + END)]
        except (Closed, Silent) as fault:
            count = self._pending.count(CRLF)
            raise type(fault)(f"no line of a dot ended the reply after {count} lines: {fault}") from None
        return [line[1:] if line.startswith(b".") else line for line in block.split(CRLF)]

    def _take(self, count: int) -> bytes:
        taken = bytes(self._pending[:count])
        del self._pending[:count]
        self._searched = 0
        return taken

    def _receive(self, seconds: float | None) -> None:
        """Wait for more. Raises: Closed, Silent, Flood."""
        patience = self._patience(seconds)
        self._socket.settimeout(patience)
        try:
            data = self._socket.recv(RECEIVE_OCTETS)
        except (TimeoutError, ssl.SSLWantReadError):
            self._patience(0.001)       # out of time is not silence
            raise Silent(f"nothing came for {patience:.1f} s") from None
        except OSError as fault:
            self._end(f"the connection broke: {fault}")
            raise Closed(f"the connection broke ({fault})") from None
        if not data:
            self._end("the server closed the connection")
            raise Closed("the server closed the connection")
        self._record.received(self._number, data)
        self._pending += data
        if self._record.received_octets > self._bounds.octets:
            raise Flood(f"more than {self._bounds.octets} octets came")

    def _end(self, words: str) -> None:
        if not self.gone:
            self._record.note(self._number, words)
        self.gone = True

    def _patience(self, seconds: float | None) -> float:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise OutOfTime(f"the check was not done in {self._bounds.check_seconds:.0f} s")
        return max(0.001, min(left, self._bounds.reply_seconds if seconds is None else seconds))

    # TLS -----------------------------------------------------------------------------------------

    def start_tls(self, context: ssl.SSLContext, name: str) -> None:
        """Shake hands. What came in clear before it is still pending. Raises: Refused."""
        self._socket.settimeout(self._patience(None))
        try:
            self._socket = context.wrap_socket(self._socket, server_hostname=name,
                                               suppress_ragged_eofs=False)
        except (OSError, ValueError) as fault:
            self.gone = True
            self._record.note(self._number, f"no TLS: {fault}")
            raise Refused(f"no TLS: {fault}") from None
        cipher = self._socket.cipher()
        self._record.note(self._number, f"{self._socket.version()}, {cipher[0] if cipher else 'no cipher'}")

    @property
    def tls(self) -> ssl.SSLSocket | None:
        """The TLS side of the socket, if there is one."""
        return self._socket if isinstance(self._socket, ssl.SSLSocket) else None

    @property
    def pending(self) -> bytes:
        """What has come that no reply was made of."""
        return bytes(self._pending)

    # Ends ------------------------------------------------------------------------------------------

    def half_close(self) -> None:
        """Say that nothing more will be sent; go on reading."""
        self._record.note(self._number, "the client closes its half")
        self._socket.shutdown(socket.SHUT_WR)

    def drop(self) -> None:
        """Close without a word."""
        if not self.gone:
            self._record.note(self._number, "the client closes the connection")
        self.gone = True
        self._socket.close()

    def reset(self) -> None:
        """Break the connection: the server receives a TCP reset."""
        self._record.note(self._number, "the client resets the connection")
        self.gone = True
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def leave(self) -> None:
        """End politely, and take back every mark: so that no lock is left behind, and nothing removed."""
        self._observed = Observed()     # what a check left behind is nobody's fault
        try:
            if not self.gone:
                words = ["RSET", "QUIT"] if self.logged_in else ["QUIT"]
                self.rest(0.001)
                for word in words:
                    self.ask(word, seconds=GOODBYE_SECONDS)
                self.rest(GOODBYE_SECONDS)
        except (WireFault, OSError):
            pass
        finally:
            self._socket.close()
