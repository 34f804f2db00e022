"""A small POP3 server that keeps to the RFCs, but for the faults it is told to have.

It is written for nothing but being wrong in one way at a time: threads, a list of messages, no limits.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection

from mailgate.conformance.samples import Sample

USER, PASSWORD = b"mrose", b"tanstaaf"
CHUNK_OCTETS = 16384
SLOW_SECONDS = 0.02         # before each status line, of a server that is slow and not wrong
RETR = b"+OK message follows"
CAPA = (b"USER", b"UIDL", b"TOP", b"PIPELINING", b"RESP-CODES")


class Server:
    """Serves from its making until `end`. `faults` are words that stand in the code below."""

    def __init__(self, faults: Collection[str] = (), context: ssl.SSLContext | None = None) -> None:
        self.faults = set(faults)
        self.context = context
        self.messages: list[tuple[str, bytes]] = []
        self.lock = threading.Lock()
        self.unlocks_late = False   # a session is over, and the lock is not free yet
        self._serial = 0
        self.login = 0              # how many there were
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def deliver(self, sample: Sample) -> None:
        """Take a message."""
        self._serial += 1
        content = sample.content if sample.content.endswith(b"\r\n") else sample.content + b"\r\n"
        self.messages.append((f"id{self._serial}", content))

    def stop_listening(self) -> None:
        """Refuse whoever comes from now on."""
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()

    def end(self) -> None:
        """End all sessions."""
        self.stop_listening()
        self._accepting.join()
        for one in self._open:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.append(sock)
            thread = threading.Thread(target=self._serve, args=[sock], daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        session = Session(self, sock)
        try:
            session.serve()
        except (OSError, Gone):
            pass
        finally:
            session.over()


class Gone(Exception):
    """The client has."""


class Session:
    """One connection."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self.server = server
        self.sock = sock
        self.buffer = b""
        self.user = b""
        self.secure = self.inside = self.done = False
        self.shown: list[tuple[str, bytes]] = []
        self.marked: set[int] = set()

    def has(self, fault: str) -> bool:
        return fault in self.server.faults

    def say(self, words: bytes) -> None:
        if self.has("is slow"):
            time.sleep(SLOW_SECONDS)
        if self.has("small letters"):
            words = words.replace(b"+OK", b"+ok", 1)
        self.sock.sendall(words + (b"\n" if self.has("bare LF") else b"\r\n"))

    def many(self, words: bytes, lines: list[bytes]) -> None:
        stuffed = [b"." + line if line.startswith(b".") and not self.has("unstuffed dots") else line
                   for line in lines]
        octets = b"".join([line + b"\r\n" for line in stuffed])
        if self.has("unstuffed at edges"):
            edges = range(CHUNK_OCTETS, len(octets), CHUNK_OCTETS)
            for place in reversed([one for one in edges if octets[one - 2:one + 2] == b"\r\n.."]):
                octets = octets[:place] + octets[place + 1:]
        ends = b"" if self.has("no terminator") and words == RETR else b".\r\n"
        self.sock.sendall(words + b"\r\n" + octets + ends)

    def line(self) -> bytes:
        while b"\n" not in self.buffer:
            data = self.sock.recv(65536)
            if not data:
                raise Gone
            self.buffer += data
            if self.has("dies of long lines") and len(self.buffer) > 5000:
                self.server.stop_listening()
                raise Gone
        line, _, self.buffer = self.buffer.partition(b"\n")
        if self.has("loses what is pipelined"):
            self.buffer = b""
        return line.removesuffix(b"\r")

    def serve(self) -> None:
        self.say(b"+OK ready")
        while not self.done or self.has("goes on behind QUIT"):
            line = self.line()
            verb, _, rest = line.partition(b" ")
            name = verb.upper().decode("latin-1")
            method: Callable[[bytes], None] | None = getattr(self, f"on_{name}", None)
            fits = name in ("QUIT", "CAPA") or (name not in ("USER", "PASS", "STLS")) is self.inside
            if method is None or not fits:
                self.say(b"-ERR no")
            else:
                method(rest)

    def over(self) -> None:
        if self.inside and not self.done:
            if self.has("removes without QUIT"):
                self.remove()
            if self.has("forgets its lock"):
                return self.sock.close()
        if self.inside:
            self.inside = False
            if not self.has("no lock"):
                self.server.lock.release()
        self.sock.close()

    # Commands ------------------------------------------------------------------------------

    def on_USER(self, rest: bytes) -> None:
        self.user = rest
        self.say(b"+OK and?")

    def on_PASS(self, rest: bytes) -> None:
        user, self.user = self.user, b""
        if user != USER or (rest != PASSWORD and not self.has("any password")):
            self.say(b"-ERR wrong")
        elif not self.has("no lock") and not self.server.lock.acquire(blocking=False):
            self.say(b"-ERR [IN-USE] locked" if not self.has("unknown code") else b"-ERR [")
            if self.server.unlocks_late:        # whoever comes next finds it free
                self.server.unlocks_late = False
                self.server.lock.release()
        else:
            self.inside = True
            self.server.login += 1
            self.shown = list(self.server.messages)
            self.say(b"+OK in")

    def on_CAPA(self, rest: bytes) -> None:
        vanished = self.inside and self.has("capabilities vanish")
        words = [word for word in CAPA if word != b"UIDL" or not vanished]
        if self.server.context is not None and not self.secure:
            words.append(b"STLS")
        self.many(b"+OK", words)

    def on_STLS(self, rest: bytes) -> None:
        if self.server.context is None or self.secure or rest:
            return self.say(b"-ERR no")
        self.say(b"+OK begin")
        if not self.has("keeps what came in clear"):
            self.buffer = b""
        if not self.has("keeps the user"):
            self.user = b""
        self.sock = self.server.context.wrap_socket(self.sock, server_side=True)
        self.secure = True

    def on_STAT(self, rest: bytes) -> None:
        there = self.there(hide=not self.has("STAT counts marked"))
        self.say(b"+OK %d %d" % (len(there), sum(self.size(number) for number in there)))

    def on_LIST(self, rest: bytes) -> None:
        self.table(rest, lambda number: b"%d" % self.size(number))

    def on_UIDL(self, rest: bytes) -> None:
        self.table(rest, self.unique_id)

    def on_RETR(self, rest: bytes) -> None:
        number = self.number(rest)
        if number:
            self.many(RETR, self.shown[number - 1][1].split(b"\r\n")[:-1])

    def on_TOP(self, rest: bytes) -> None:
        words = rest.split(b" ")
        if len(words) != 2 or not words[1].isdigit():
            return self.say(b"-ERR how many?")
        number = self.number(words[0])
        if number:
            lines = self.shown[number - 1][1].split(b"\r\n")[:-1]
            head = lines.index(b"") + 1 if b"" in lines else len(lines)
            self.many(b"+OK", lines[:head + int(words[1]) + self.has("TOP sends one too many")])

    def on_DELE(self, rest: bytes) -> None:
        number = self.number(rest)
        if number:
            self.marked.add(number)
            self.say(b"+OK")

    def on_NOOP(self, rest: bytes) -> None:
        self.say(b"+OK")

    def on_RSET(self, rest: bytes) -> None:
        if not self.has("RSET does nothing"):
            self.marked.clear()
        self.say(b"+OK")

    def on_QUIT(self, rest: bytes) -> None:
        if self.inside and not self.has("QUIT removes nothing"):
            self.remove()
        if self.inside and self.has("slow to unlock"):
            self.server.unlocks_late = True
            self.inside = False
        elif self.inside and not self.has("no lock") and not self.has("goes on behind QUIT"):
            self.server.lock.release()
            self.inside = False
        self.done = True
        self.say(b"+OK bye")

    # What there is ---------------------------------------------------------------------------

    def remove(self) -> None:
        gone = {self.shown[number - 1][0] for number in self.marked}
        if self.has("removes one too many") and gone:
            gone.add(self.shown[-1][0])
        self.server.messages[:] = [one for one in self.server.messages if one[0] not in gone]

    def there(self, hide: bool = True) -> list[int]:
        if self.has("shows new mail"):
            self.shown = list(self.server.messages)
        return [number for number in range(1, len(self.shown) + 1) if not hide or number not in self.marked]

    def size(self, number: int) -> int:
        content = self.shown[number - 1][1]
        return len(content) - (content.count(b"\n") if self.has("counts LF") else 0)

    def unique_id(self, number: int) -> bytes:
        own = self.shown[number - 1][0].encode()
        if self.has("unique-ids change"):
            return own + b"-%d" % self.server.login
        return re.sub(rb"\d$", b"", own) if self.has("unique-ids repeat") else own

    def number(self, rest: bytes) -> int:
        if not rest.isdigit():
            self.say(b"-ERR no number")
            return 0
        number = int(rest) % 2**32 if self.has("wraps") else int(rest)
        if self.has("numbers move"):
            there = self.there()
            number = there[number - 1] if 0 < number <= len(there) else 0
        if number not in self.there():
            self.say(b"-ERR no such message")
            return 0
        return number

    def table(self, rest: bytes, tell: Callable[[int], bytes]) -> None:
        there = self.there()
        if not rest:
            named = [(place + 1 if self.has("numbers move") else number, number)
                     for place, number in enumerate(there)]
            return self.many(b"+OK", [b"%d " % shown + tell(number) for shown, number in named])
        number = self.number(rest)
        if number:
            self.say(b"+OK %d " % number + tell(number))
