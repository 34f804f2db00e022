"""What sockets do that transports in memory do not: half-closed ends, tiny segments, unix sockets."""

from __future__ import annotations

import poplib
import smtplib
import socket
import struct
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.house import House
from tests.interop.measures import Costs
from tests.interop.talk import CLIENT_SECONDS, PASSWORD, Raw
from tests.interop.texts import HELLO, TEXTS, large, taken_apart
from tests.services import wait_for

UNIX_LISTENERS = """\
[[listen]]
protocol = "lmtp"
endpoint = "unix:lmtp.sock"
[[listen]]
protocol = "pop3"
endpoint = "unix:pop3.sock"
[[listen]]
protocol = "pop3"
endpoint = "tcp6:0:interface=\\\\:\\\\:1"
"""

house = House(further=UNIX_LISTENERS)
setUpModule, tearDownModule = house.open, house.close


class SocketCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.name = house.account()
        house.lmtp(HELLO, self.name)

    def talk(self) -> Raw:
        client = house.talk()
        self.addCleanup(client.close)
        return client


class SegmentTests(SocketCase):
    def test_one_octet_at_a_time(self) -> None:
        """A session in segments of one octet is a session."""
        client = self.talk()
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        for octet in f"USER {self.name}\r\nPASS {PASSWORD}\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n".encode():
            client.socket.send(bytes([octet]))
        self.assertEqual([client.line()[:3] for _ in range(3)], [b"+OK"] * 3)
        self.assertEqual(client.lines()[-1], b"Hello.")
        self.assertEqual([client.line()[:3] for _ in range(3)], [b"+OK", b"+OK", b""])
        self.assertEqual(house.held(self.name), 0)

    def test_everything_in_one_segment(self) -> None:
        """So is one whose commands all come before the first answer."""
        house.lmtp(large(1_000_000), self.name)
        client = self.talk()
        client.say("CAPA", f"USER {self.name}", f"PASS {PASSWORD}", "STAT", "RETR 2", "RETR 1", "TOP 2 1",
                   "DELE 1", "*ENV 2", "QUIT", "NOOP", "NOOP")
        self.assertEqual(client.line()[:3], b"+OK")
        client.lines()
        self.assertEqual([client.line()[:3] for _ in range(4)], [b"+OK"] * 4)
        self.assertGreater(sum(map(len, client.lines())), 900_000)
        client.line()
        self.assertEqual(client.lines()[-1], b"Hello.")
        client.line()
        client.lines()
        self.assertEqual([client.line()[:3] for _ in range(2)], [b"+OK"] * 2)
        self.assertEqual(len(client.lines()), 4)
        self.assertEqual([client.line()[:3], client.line()], [b"+OK", b""])
        self.assertEqual(house.held(self.name), 1)

    def test_small_replies_are_not_delayed(self) -> None:
        """Small messages, one by one, take no 40 ms each, as Nagle's algorithm could make them.

        It would every one, but for the first few of a connection; a busy machine delays some.
        """
        for _ in range(40):
            house.lmtp(HELLO, self.name)
        seconds = []
        with house.login(self.name) as client:
            for number in range(1, 41):
                begun = time.perf_counter()
                client.retr(number)
                seconds.append(time.perf_counter() - begun)
        self.assertLess(sorted(seconds[20:])[4], 0.02, seconds)


class EndTests(SocketCase):
    def test_half_closed(self) -> None:
        """A client that sends a whole session and closes its sending side has all its answers."""
        client = self.talk()
        client.say(f"USER {self.name}", f"PASS {PASSWORD}", "RETR 1", "DELE 1", "QUIT")
        client.socket.shutdown(socket.SHUT_WR)
        self.assertEqual([client.line()[:3] for _ in range(3)], [b"+OK"] * 3)
        self.assertEqual(client.lines()[-1], b"Hello.")
        self.assertEqual([client.line()[:3] for _ in range(2)], [b"+OK"] * 2)
        self.assertEqual(house.held(self.name), 0)

    def test_half_closed_without_quit(self) -> None:
        """Without QUIT nothing is removed, and the maildrop is free afterwards."""
        client = self.talk()
        client.say(f"USER {self.name}", f"PASS {PASSWORD}", "DELE 1")
        client.socket.shutdown(socket.SHUT_WR)
        client.file.read()
        with house.login(self.name) as other:
            self.assertEqual(other.stat()[0], 1)

    def test_quit_and_hang_up(self) -> None:
        """A QUIT whose sender does not wait for the answer still removes."""
        client = house.login(self.name)
        client.dele(1)
        client.file.flush()
        client.sock.sendall(b"QUIT\r\n")
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
        client.close()
        wait_for(lambda: house.held(self.name) == 0, "the message to be removed")

    def test_idle_service_is_idle(self) -> None:
        """With a blocked RETR, a half-closed and a waiting client the service takes no processor time."""
        other = house.account()
        house.lmtp(large(20_000_000), other)
        blocked = self.talk()
        blocked.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        blocked.log_in(other)
        blocked.say("RETR 1")
        half = self.talk()
        half.log_in(self.name)
        half.socket.shutdown(socket.SHUT_WR)
        self.talk().ask("AUTH PLAIN")
        blocked.line()
        costs = Costs(house.service.pid)

        def rests() -> bool:        # as soon as all that was said is dealt with
            before = costs.processor_seconds()
            time.sleep(1)
            return costs.processor_seconds() - before < 0.1

        wait_for(rests, "the service to rest")


class UnixSocketTests(SocketCase):
    def test_delivery(self) -> None:
        """LMTP over a unix socket delivers; its Received line names no address."""
        with smtplib.LMTP(str(house.folder / "lmtp.sock"), local_hostname="relay.example.org") as client:
            client.sendmail("a@example.org", f"{self.name}@mail.example.org", TEXTS["dots"])
        found = list(house.octets(self.name).values())
        sender, _, received, text = taken_apart(found[1])
        self.assertEqual((sender, text), (b"a@example.org", TEXTS["dots"]))
        self.assertTrue(received.startswith(b"Received: from relay.example.org\r\n\tby"), received)

    def test_fetching(self) -> None:
        """POP3 over a unix socket takes passwords, as from loopback."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(CLIENT_SECONDS)
            client.connect(str(house.folder / "pop3.sock"))
            client.sendall(f"USER {self.name}\r\nPASS {PASSWORD}\r\nRETR 1\r\nQUIT\r\n".encode())
            answers = b""
            while piece := client.recv(65536):
                answers += piece
        self.assertEqual(answers.count(b"+OK"), 5)
        self.assertIn(b"\r\nHello.\r\n.\r\n", answers)

    def test_ipv6(self) -> None:
        """POP3 over IPv6 does as well."""
        port = [port for protocol, port in house.service.ports if protocol == "pop3"][-1]
        client = poplib.POP3("::1", port, timeout=CLIENT_SECONDS)
        self.addCleanup(client.close)
        client.user(self.name)
        client.pass_(PASSWORD)
        self.assertEqual(client.stat()[0], 1)
        client.quit()


class VanishingSenderTests(SocketCase):
    def test_no_half_message(self) -> None:
        """LMTP clients that vanish in the middle of a message leave no message, no file, no descriptor."""
        text = large(300_000)
        house.lmtp(text, self.name)
        costs = Costs(house.service.pid)
        open_before, bodies_before = costs.settled_descriptors(), self.bodies()
        octets = (f"LHLO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<{self.name}@mail.example.org>\r\n"
                  "DATA\r\n").encode() + text
        for part in range(20):
            with socket.create_connection(("127.0.0.1", house.service.lmtp_port)) as client:
                client.sendall(octets[:len(octets) * part // 20])
                if part % 2:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wait_for(lambda: costs.settled_descriptors() == open_before, "the connections to end")
        wait_for(lambda: self.bodies() == bodies_before, "the half messages to be removed")
        self.assertEqual(house.held(self.name), 2)

    def bodies(self) -> list[Path]:
        """Return the files of large bodies, whole and half."""
        return sorted(path for path in (house.folder / "bodies").rglob("*") if path.is_file())
