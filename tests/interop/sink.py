"""An SMTP server that keeps what it is given: where fetchmail delivers to, so that envelopes are seen."""

from __future__ import annotations

import re
import socketserver
import threading
from types import TracebackType
from typing import NamedTuple

_PATH = re.compile(rb"\w+ \w+:\s*<(.*?)>", re.IGNORECASE)


class Taken(NamedTuple):
    """One message as it arrived: envelope without angle brackets, content unstuffed."""

    sender: bytes
    recipients: tuple[bytes, ...]
    content: bytes


class Sink(socketserver.ThreadingTCPServer):
    """Takes everything on a port of its own, while open as a context."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.port: int = self.server_address[1]
        self.taken: list[Taken] = []
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Sink:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Conversation(socketserver.StreamRequestHandler):
    server: Sink

    def handle(self) -> None:
        self.wfile.write(b"220 sink ESMTP\r\n")
        sender = b""
        recipients: list[bytes] = []
        for line in self.rfile:
            verb = line[:4].upper()
            if verb == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            if verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                if (content := self._content()) is None:
                    return
                self.server.taken.append(Taken(sender, tuple(recipients), content))
            elif verb == b"EHLO":
                self.wfile.write(b"250-sink\r\n250-8BITMIME\r\n")
            elif found := _PATH.match(line):
                if verb == b"MAIL":
                    sender, recipients = found[1], []
                else:
                    recipients.append(found[1])
            self.wfile.write(b"250 yes\r\n")

    def _content(self) -> bytes | None:
        """Return a message's content, or None where the client hung up before its end: it is not taken."""
        lines = []
        for line in self.rfile:
            if line == b".\r\n":
                return b"".join(lines)
            lines.append(line.removeprefix(b"."))
        return None
