"""The test's own clients: Python's poplib with what it lacks, and a bare connection."""

from __future__ import annotations

import poplib
import socket
from types import TracebackType
from typing import Any, cast

PASSWORD = "secret"         # of every ordinary account in these tests
CLIENT_SECONDS = 30.0       # for one reply


class Session(poplib.POP3):
    """A poplib client that is logged in from its beginning, and ends by QUIT as a context."""

    file: Any

    def __init__(self, port: int, name: str, password: str) -> None:
        super().__init__("127.0.0.1", port, timeout=CLIENT_SECONDS)
        try:
            self.user(name)
            self.pass_(password)
        except poplib.error_proto:
            self.close()
            raise

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None,
                 trace: TracebackType | None) -> None:
        if kind is None and self.file is not None:
            self.quit()
        self.close()

    def unique_ids(self) -> list[bytes]:
        """Return the unique-ids in the order of the messages."""
        return [line.split()[1] for line in self.uidl()[1]]

    def sizes(self) -> list[int]:
        """Return the octets that LIST tells."""
        return [int(line.split()[1]) for line in self.list()[1]]

    def content(self, number: int) -> bytes:
        """Return a message with its line ends, unstuffed, however long its lines are."""
        cast(Any, self)._shortcmd(f"RETR {number}")
        lines = []
        while (line := self.file.readline()) != b".\r\n":
            assert line, "the connection ended in a reply"
            lines.append(line.removeprefix(b"."))
        return b"".join(lines)


class Raw:
    """A connection on which a test says octets as it likes; a context that closes it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=CLIENT_SECONDS)
        self.file = self.socket.makefile("rb")
        self.greeting = self.file.readline()

    def say(self, *commands: str) -> None:
        """Send commands in one segment."""
        self.socket.sendall("".join(f"{command}\r\n" for command in commands).encode())

    def ask(self, command: str) -> bytes:
        """Send a command and return the first line of its reply, without the line end."""
        self.say(command)
        return self.line()

    def line(self) -> bytes:
        """Return the next line without its end, or nothing at the connection's end."""
        return self.file.readline().removesuffix(b"\r\n")

    def lines(self) -> list[bytes]:
        """Return the data lines of a multi-line reply, still stuffed."""
        return list(iter(self.line, b"."))

    def log_in(self, name: str, password: str = PASSWORD) -> bytes:
        """Log in and return the answer."""
        self.say(f"USER {name}", f"PASS {password}")
        self.line()
        return self.line()

    def close(self) -> None:
        """Close the connection, without QUIT."""
        self.file.close()
        self.socket.close()

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
