"""Measure what TLS costs a real mailgate: logins, one large message, idle sessions; and the same in clear.

    .venv/bin/python -m bench tls [--repeat 3]

Server and client have a core each where there are two. Figures are medians; CPU is that of the
server's process, user and system.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import smtplib
import socket
import ssl
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.fill import PASSWORD
from bench.gateway import Mailgate
from bench.processes import free_port
from mailgate.testing.certificates import Authority

USERS, LOGINS = 64, 400
LARGE_OCTETS = 32 << 20
READS = 6
IDLE = 500
TLS = """
[[listen]]
protocol = "pop3s"
endpoint = "tcp:{pop3s}:interface=127.0.0.1:backlog=1000"
[tls]
certificate = "{name}.pem"
key = "{name}.key"
"""


class Client:
    """A connection to the server: in clear, by STLS or inside TLS from the first octet."""

    def __init__(self, port: int, context: ssl.SSLContext | None, how: str,
                 session: ssl.SSLSession | None = None) -> None:
        self.socket: Any = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if how == "stls":
            self.line()
            self.ask(b"STLS")
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost", session=session)
        if how != "stls":
            self.line()

    def line(self) -> bytes:
        said = b""
        while not said.endswith(b"\r\n"):
            piece = self.socket.recv(4096)
            assert piece, "closed"
            said += piece
        assert said.startswith(b"+OK"), said
        return said

    def ask(self, command: bytes) -> bytes:
        self.socket.sendall(command + b"\r\n")
        return self.line()

    def log_in(self, name: str) -> None:
        self.ask(b"USER " + name.encode())
        self.ask(b"PASS " + PASSWORD.encode())

    def read(self, buffer: bytearray) -> int:
        """Fetch message 1; return its octets on the wire."""
        self.socket.sendall(b"RETR 1\r\n")
        taken, last = 0, b""
        while not last.endswith(b"\r\n.\r\n"):
            count = self.socket.recv_into(buffer)
            assert count, "closed"
            taken += count
            last = (last + bytes(buffer[max(0, count - 5):count]))[-5:]
        return taken

    def quit(self) -> None:
        self.ask(b"QUIT")
        self.socket.close()


def measured(server: Mailgate, work: Callable[[], float], repeat: int) -> float:
    """Return the median of `work()` (how much was done) for each CPU second of the server."""
    figures = []
    for _ in range(repeat):
        before = server.tree.cpu_seconds()
        done = work()
        figures.append(done / max(server.tree.cpu_seconds() - before, 0.01))
    return statistics.median(figures)


def logins(port: int, context: ssl.SSLContext | None, how: str, resumed: bool = False) -> Callable[[], float]:
    """Return work: logins with their QUIT, one after the other."""
    def work() -> float:
        session = None
        for number in range(LOGINS):
            client = Client(port, context, how, session if resumed else None)
            client.log_in(f"u{number % USERS:04d}")
            if resumed and session is None:
                session = client.socket.session
            client.quit()
        return LOGINS
    return work


def reads(port: int, context: ssl.SSLContext | None, how: str) -> Callable[[], float]:
    """Return work: one large message, again and again, in megabytes."""
    def work() -> float:
        client, buffer = Client(port, context, how), bytearray(1 << 20)
        client.log_in("large0")
        taken = sum(client.read(buffer) for _ in range(READS))
        client.quit()
        return taken / 1e6
    return work


def idle(server: Mailgate, port: int, context: ssl.SSLContext | None, how: str) -> float:
    """Return the octets that an idle, logged-in session takes. The server must have held none before."""
    def session(number: int) -> Client:
        client = Client(port, context, how)
        client.log_in(f"i{number:04d}")
        return client

    for number in range(IDLE):      # one after the other: what is remembered of accounts is not the sessions'
        session(number).quit()
    before = server.tree.memory_octets()
    clients = [session(number) for number in range(IDLE)]
    after = server.tree.memory_octets()
    for client in clients:
        client.quit()
    return (after - before) / IDLE


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    asked = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {1})
    authority = Authority()
    context = ssl.create_default_context(cadata=authority.pem.decode())
    for kind in ("ec", "rsa2048"):
        with serving(authority, kind) as (server, ports):
            measure(server, {title: (ports[title], *how) for title, how in ways(context).items()}, kind,
                    asked.repeat)
    for title, how in ways(context).items():
        with serving(authority, "ec") as (server, ports):
            figure = idle(server, ports[title], *how)
            print(f"ec       {title:18} {figure:8.0f} octets an idle session", flush=True)


def ways(context: ssl.SSLContext) -> dict[str, tuple[ssl.SSLContext | None, str]]:
    """Return how a client comes in, by title."""
    return {"in clear": (None, ""), "STLS": (context, "stls"), "pop3s": (context, "")}


@contextlib.contextmanager
def serving(authority: Authority, kind: str) -> Iterator[tuple[Mailgate, dict[str, int]]]:
    """Run a server with a certificate of one kind; give it and its ports."""
    with tempfile.TemporaryDirectory(prefix="mailgate-bench-") as name:
        folder, pop3s = Path(name), free_port()
        authority.issue("localhost", key=kind).write(folder, f"{kind}.pem", f"{kind}.key")
        server = Mailgate(folder, limits="connections = 10000\nconnections_per_network = 10000",
                          further=TLS.format(name=kind, pop3s=pop3s))
        server.fill({"kind": "accounts", "user": "u%04d", "count": USERS},
                    {"kind": "accounts", "user": "i%04d", "count": IDLE},
                    {"kind": "accounts", "user": "large%d", "count": 1})
        with server:
            yield server, {"in clear": server.pop3, "STLS": server.pop3, "pop3s": pop3s}


def measure(server: Mailgate, ways: Mapping[str, tuple[int, ssl.SSLContext | None, str]], kind: str,
            repeat: int) -> None:
    """Print the figures of one server."""
    text = b"Subject: large\r\n\r\n" + (b"y" * 76 + b"\r\n") * (LARGE_OCTETS // 78)
    with smtplib.LMTP("127.0.0.1", server.lmtp) as client:
        client.sendmail("a@bench.example", ["large0@bench.example"], text)
    logins(*ways["in clear"])()     # every password is remembered from here on
    for title, way in ways.items():
        figure = 1000 / measured(server, logins(*way), repeat)
        print(f"{kind:8} {title:18} {figure:8.2f} CPU ms a login with QUIT", flush=True)
    figure = 1000 / measured(server, logins(*ways["pop3s"], resumed=True), repeat)
    print(f"{kind:8} {'pop3s, resumed':18} {figure:8.2f} CPU ms a login with QUIT", flush=True)
    if kind == "ec":
        for title, way in ways.items():
            figure = measured(server, reads(*way), repeat)
            print(f"{kind:8} {title:18} {figure:8.0f} MB a CPU second, RETR of {LARGE_OCTETS >> 20} MB",
                  flush=True)


if __name__ == "__main__":
    main()
