"""Memory of the service while clients misuse it over real sockets. Run with -s to see the figures."""

from __future__ import annotations

import smtplib
import socket
import threading
import time

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.interop.house import House
from tests.interop.measures import MEGABYTE, Costs, megabytes, tell
from tests.interop.talk import Raw
from tests.interop.texts import HELLO, large
from tests.services import wait_for

pytestmark = pytest.mark.alone

BIG_OCTETS = 100 * MEGABYTE
FLAT_OCTETS = 20 * MEGABYTE         # what one client may cost at most
PROGRESS_SECONDS = 2.0
COMMANDS = 1_000_000
ROOMY_OCTETS = 1 << 20          # of a client's receive buffer

house = House(limits=f"size_octets = 0\nprogress_seconds = {PROGRESS_SECONDS}")
big = house.account()
setUpModule, tearDownModule = house.open, house.close


@house.furnished
def furnish() -> None:
    house.site.deliver(large(BIG_OCTETS), f"{big}@mail.example.org")
    house.lmtp(HELLO, house.account())      # what the service needs once for all is there


class MemoryCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.costs = Costs(house.service.pid)

    def assert_flat(self, what: str) -> None:
        growth = self.costs.peak_growth()
        tell(what, f"{megabytes(growth)} above {megabytes(self.costs.before)}")
        self.assertLess(growth, FLAT_OCTETS)

    def talk(self) -> Raw:
        client = house.talk()
        self.addCleanup(client.close)
        return client


class ReadingTests(MemoryCase):
    def blocked(self) -> Raw:
        """Return a client that has asked for the big message, with little room of its own."""
        client = self.talk()
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        self.assertTrue(client.log_in(big).startswith(b"+OK"))
        self.asked = time.monotonic()
        client.say("RETR 1")
        return client

    def test_client_that_reads_nothing(self) -> None:
        """100 MB that nobody reads: memory is flat, and the client is cut by the progress timer."""
        client = self.blocked()
        wait_for(lambda: not self._has_session(), "the client to be cut")
        seconds = time.monotonic() - self.asked
        tell("a client that reads nothing is cut after", f"{seconds:.1f} s")
        self.assertGreaterEqual(seconds, PROGRESS_SECONDS)
        self.assert_flat("a RETR of 100 MB that nobody reads")
        self.assertRaises(ConnectionResetError, client.file.read)

    def test_client_that_reads_slowly(self) -> None:
        """A client that takes a little all the time is not cut, and has the whole message in the end."""
        client = self.blocked()
        taken, end = 0, b""
        until = time.monotonic() + 2.5 * PROGRESS_SECONDS
        while end != b"\r\n.\r\n":
            slowly = time.monotonic() < until
            piece = client.socket.recv(4096 if slowly else 1 << 20)
            self.assertNotEqual(piece, b"", "the client was cut")
            taken += len(piece)
            end = (end + piece)[-5:]
            time.sleep(0.05 if slowly else 0)
        self.assertGreater(taken, BIG_OCTETS)
        self.assertTrue(client.ask("NOOP").startswith(b"+OK"))
        self.assert_flat("a RETR of 100 MB, slowly and then at full speed")

    def test_commands_behind_a_blocked_message(self) -> None:
        """10^6 NOOPs behind a RETR that is not read: the client has to wait, and all are answered."""
        client = self.blocked()
        sent = threading.Thread(target=client.socket.sendall, args=(b"NOOP\r\n" * COMMANDS,))
        sent.start()
        sent.join(PROGRESS_SECONDS / 2)
        self.assertTrue(sent.is_alive(), "the service took all commands in advance")
        self.assert_flat("10^6 NOOPs behind a blocked RETR of 100 MB, while it is blocked")
        # with a window smaller than a segment of loopback (64 KB) the kernel sends one every 200 ms
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOMY_OCTETS)
        answers = 0
        last = b""
        while not answers:
            piece = client.socket.recv(1 << 20)
            answers = (last + piece).partition(b"\r\n.\r\n")[2].count(b"\n")
            last = piece[-4:]
        while answers < COMMANDS:
            answers += client.socket.recv(1 << 20).count(b"\n")
        sent.join()
        self.assertEqual(answers, COMMANDS)
        self.assert_flat("the same, until all are answered")

    def _has_session(self) -> bool:
        with house.talk() as other:
            return other.log_in(big).startswith(b"-ERR [IN-USE]")


class EndlessLineTests(MemoryCase):
    def say_endlessly(self, client: Raw) -> None:
        piece = b"x" * MEGABYTE
        for _ in range(BIG_OCTETS // len(piece)):
            client.socket.sendall(piece)
        client.socket.sendall(b"\r\n")

    def test_command(self) -> None:
        """100 MB without a line end is one refusal, and the session goes on."""
        client = self.talk()
        self.say_endlessly(client)
        self.assertTrue(client.line().startswith(b"-ERR"))
        self.assertTrue(client.log_in(big).startswith(b"+OK"))
        self.assert_flat("a command line of 100 MB")

    def test_response(self) -> None:
        """So is a response of AUTH."""
        client = self.talk()
        client.ask("AUTH PLAIN")
        self.say_endlessly(client)
        self.assertTrue(client.line().startswith(b"-ERR"))
        self.assertTrue(client.log_in(big).startswith(b"+OK"))
        self.assert_flat("an AUTH response of 100 MB")


class DeliveryTests(MemoryCase):
    def test_large_delivery(self) -> None:
        """A message of 100 MB comes in by LMTP and goes out by RETR without ever being held whole."""
        name = house.account()
        text = large(BIG_OCTETS)
        with smtplib.LMTP("127.0.0.1", house.service.lmtp_port, timeout=60) as client:
            client.sendmail("a@example.org", f"{name}@mail.example.org", text)
        self.assert_flat("a delivery of 100 MB by LMTP")
        (fetched,) = house.octets(name).values()
        self.assertTrue(fetched.endswith(text))
        self.assert_flat("the same, and its RETR")

    def test_line_without_end(self) -> None:
        """An LMTP command of 100 MB is one refusal."""
        with socket.create_connection(("127.0.0.1", house.service.lmtp_port), timeout=30) as client:
            file = client.makefile("rb")
            file.readline()
            for _ in range(100):
                client.sendall(b"x" * MEGABYTE)
            client.sendall(b"\r\nQUIT\r\n")
            self.assertTrue(file.readline().startswith(b"500"))
            self.assertTrue(file.readline().startswith(b"221"))
        self.assert_flat("an LMTP command line of 100 MB")
