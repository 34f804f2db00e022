"""Ports that several processes accept from, on real sockets; who is full lets others come first."""

from __future__ import annotations

import errno
import os
import socket
import stat
import tempfile
from pathlib import Path
from shutil import rmtree
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailgate.workers import ports
from mailgate.workers.ports import AFTER_OTHERS_SECONDS, SHORT_SECONDS, SharedEndpoint, SharedPort


class Greeter(Protocol):
    """Says its server's name, and closes."""

    def connectionMade(self) -> None:
        self.transport.write(self.factory.name)
        self.transport.loseConnection()


class Server(Factory):
    protocol = Greeter
    noisy = False

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.began = self.ended = 0

    def startFactory(self) -> None:
        self.began += 1

    def stopFactory(self) -> None:
        self.ended += 1


async def pause(seconds: float = 0.01) -> None:
    await deferLater(reactor, seconds, lambda: None)


class SharedTests(TestCase):
    async def said(self, family: int, address: Any, count: int) -> list[bytes]:
        """Return what `count` clients are told that come at once."""
        clients = [socket.socket(family) for _ in range(count)]
        try:
            for client in clients:
                client.connect(address)
                client.setblocking(False)
            told = []
            for client in clients:
                while True:
                    try:
                        told.append(client.recv(100))
                        break
                    except BlockingIOError:
                        await pause()
            return told
        finally:
            for client in clients:
                client.close()

    async def listen(self, listening: socket.socket, name: bytes,
                     full: list[bytes]) -> tuple[Server, SharedPort]:
        server = Server(name)
        shared = socket.socket(fileno=os.dup(listening.fileno()))
        port = await SharedEndpoint(shared, reactor, lambda: name in full).listen(server)
        self.addCleanup(port.stopListening)
        return server, port

    async def test_tcp(self) -> None:
        """Both accept; one that ceases leaves its clients and all newcomers to the other."""
        with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
            (one, port), (two, other) = [await self.listen(listening, name, []) for name in (b"one", b"two")]
            address = listening.getsockname()
            self.assertEqual((port.getHost().host, port.getHost().port), address)
            self.assertEqual(set(await self.said(socket.AF_INET, address, 40)), {b"one", b"two"})
            port.cease()
            self.assertEqual((one.began, one.ended), (1, 0))
            self.assertEqual(await self.said(socket.AF_INET, address, 20), [b"two"] * 20)
            await port.stopListening()
            self.assertEqual((one.began, one.ended), (1, 1))
            await other.stopListening()
            self.assertEqual(two.ended, 1)
            self.assertEqual(listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN), 1)

    async def test_full(self) -> None:
        """Who is full accepts nobody while others do."""
        full = [b"one"]
        self.patch(ports, "AFTER_OTHERS_SECONDS", 30.0)
        with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
            for name in (b"one", b"two"):
                await self.listen(listening, name, full)
            self.assertEqual(await self.said(socket.AF_INET, listening.getsockname(), 20), [b"two"] * 20)

    async def test_all_are_full(self) -> None:
        """Then everybody is told so, soon."""
        with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
            for name in (b"one", b"two"):
                await self.listen(listening, name, [b"one", b"two"])
            self.assertEqual(len(await self.said(socket.AF_INET, listening.getsockname(), 20)), 20)

    async def test_unix(self) -> None:
        """The socket's mode and its path are left alone."""
        folder = tempfile.mkdtemp()
        self.addCleanup(rmtree, folder)
        path = Path(folder) / "s"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            path.chmod(0o660)
            listening.listen()
            _, port = await self.listen(listening, b"one", [])
            self.assertEqual(port.getHost().name, os.fsencode(path))
            self.assertEqual(await self.said(socket.AF_UNIX, str(path), 3), [b"one"] * 3)
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o660)
            await port.stopListening()
            self.assertTrue(path.exists())


class Watching(Clock):
    """A reactor that watches nothing."""

    def addReader(self, reader: Any) -> None:
        self.reading = True

    def removeReader(self, reader: Any) -> None:
        self.reading = False


class Scarce:
    """A listening socket of a process that has no descriptors left."""

    family = socket.AF_INET

    def __init__(self) -> None:
        self.fault = errno.EMFILE

    def accept(self, *_: Any) -> Any:
        raise OSError(self.fault, os.strerror(self.fault))

    def setblocking(self, flag: bool) -> None:
        pass

    def close(self) -> None:
        pass


class ScarcityTests(SynchronousTestCase):
    def test_no_descriptors(self) -> None:
        """Others accept meanwhile; it tries again after a while, and a port that ceased never."""
        clock, listening = Watching(), Scarce()
        port = SharedPort(listening, Server(b""), clock, lambda: False)      # type: ignore[arg-type]
        self.assertTrue(clock.reading)
        port.doRead()
        self.assertFalse(clock.reading)
        clock.advance(SHORT_SECONDS)
        self.assertTrue(clock.reading)
        listening.fault = errno.ECONNABORTED
        port.doRead()
        self.assertTrue(clock.reading)
        listening.fault = errno.EMFILE
        port.doRead()
        port.cease()
        clock.advance(SHORT_SECONDS + AFTER_OTHERS_SECONDS)
        self.assertFalse(clock.reading)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_last_descriptor(self) -> None:
        """A client takes two for a moment. One that has the last is closed; others wait."""
        clock, listening = Watching(), Scarce()
        port = SharedPort(listening, Server(b""), clock, lambda: False)      # type: ignore[arg-type]
        accepted, client = socket.socketpair()
        self.addCleanup(client.close)
        listening.accept = lambda: (accepted, None)                          # type: ignore[method-assign]
        clock.adoptStreamConnection = Scarce().accept                        # type: ignore[attr-defined]
        with capturedLogs() as logged:
            port.doRead()
        self.assertEqual([event["log_level"] for event in logged], [LogLevel.warn])
        self.assertEqual(client.recv(1), b"")
        self.assertFalse(clock.reading)
        clock.advance(SHORT_SECONDS)
        self.assertTrue(clock.reading)
        port.cease()
