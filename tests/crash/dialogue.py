"""Clients that keep account of what they were told, up to the octet at which a server dies.

They block, on a socket of their own. When the server is gone they raise ConnectionError.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from types import TracebackType
from typing import TypeVar

from tests.services import HOSTNAME, WAIT_SECONDS

PIECE_OCTETS = 65536

D = TypeVar("D", bound="Dialogue")


class Dialogue:
    """A connection over which lines are sent and answers are read."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""
        try:
            self.greet()
        except BaseException:
            self.close()
            raise

    def greet(self) -> None:
        """Read the greeting, and do what else begins a conversation."""
        self.line()

    def __enter__(self: D) -> D:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None,
                 where: TracebackType | None) -> None:
        self.close()

    def send(self, octets: bytes) -> None:
        """Send. Raises: ConnectionError."""
        self._socket.sendall(octets)

    def line(self) -> bytes:
        """Return the next line without its end. Raises: ConnectionError."""
        while b"\r\n" not in self._received:
            piece = self._socket.recv(PIECE_OCTETS)
            if not piece:
                raise ConnectionError("the server has gone")
            self._received += piece
        line, _, self._received = self._received.partition(b"\r\n")
        return line

    def ask(self, command: bytes) -> bytes:
        """Send one command and return the first line of its answer. Raises: ConnectionError."""
        self.send(command + b"\r\n")
        return self.line()

    def close(self) -> None:
        self._socket.close()


class Lmtp(Dialogue):
    """A client that delivers."""

    def greet(self) -> None:
        self._answer()
        self.send(b"LHLO client.example.org\r\n")
        self._answer()

    def prepare(self, sender: str, names: Sequence[str]) -> None:
        """Send the envelope and DATA, for accounts of the test's host."""
        commands = [f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{name}@{HOSTNAME}>" for name in names), "DATA"]
        self.send("".join(f"{command}\r\n" for command in commands).encode())
        answers = [self._answer() for _ in commands]
        assert all(answer[:1] in b"23" for answer in answers), answers

    def send_content(self, content: bytes) -> None:
        """Send a message with CRLF line ends, and what ends it."""
        self.send(re.sub(rb"(?m)^\.", b"..", content) + b".\r\n")

    def verdict(self) -> bytes:
        """Return the next recipient's answer. Raises: ConnectionError."""
        return self._answer()

    def deliver(self, sender: str, names: Sequence[str], content: bytes) -> list[bytes]:
        """Deliver one message; return every recipient's answer. Raises: ConnectionError."""
        self.prepare(sender, names)
        self.send_content(content)
        return [self._answer() for _ in names]

    def _answer(self) -> bytes:
        line = self.line()
        while line[3:4] == b"-":
            line = self.line()
        return line


class Pop3(Dialogue):
    """A client that fetches and removes."""

    def login(self, name: str, password: str = "secret") -> bytes:
        """Log in; return the answer to PASS."""
        self.ask(b"USER " + name.encode())
        return self.ask(b"PASS " + password.encode())

    def enter(self, name: str, password: str = "secret") -> int:
        """Log in, which must be granted; return the number of messages."""
        answer = self.login(name, password)
        assert answer.startswith(b"+OK"), answer
        return self.count()

    def count(self) -> int:
        """Return the number of messages that are not marked."""
        return int(self.ask(b"STAT").split()[1])

    def retrieve(self, number: int) -> bytes:
        """Return a message, its dots unstuffed."""
        return self.text(b"RETR %d" % number)

    def text(self, command: bytes) -> bytes:
        """Return what follows the first line of a command's answer, which must be +OK."""
        answer = self.ask(command)
        assert answer.startswith(b"+OK"), answer
        return self.rest()

    def rest(self) -> bytes:
        """Return what follows the first line of an answer that has more."""
        lines = []
        while (line := self.line()) != b".":
            lines.append(line[1:] if line.startswith(b".") else line)
        return b"".join(line + b"\r\n" for line in lines)

    def mark(self, *numbers: int) -> None:
        """Mark messages as deleted."""
        self.send(b"".join(b"DELE %d\r\n" % number for number in numbers))
        answers = [self.line() for _ in numbers]
        assert all(answer.startswith(b"+OK") for answer in answers), answers
