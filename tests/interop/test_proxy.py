"""Real proxies and clients in front of the running service: HAProxy in both versions, curl, raw headers."""

from __future__ import annotations

import contextlib
import poplib
import re
import shutil
import smtplib
import socket
import ssl
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing.certificates import Authority
from tests.interop.house import House
from tests.interop.programs import contents, curl, fetchmail, mda_into
from tests.interop.talk import CLIENT_SECONDS, PASSWORD
from tests.interop.texts import HELLO, large, wire_form
from tests.needs import needs
from tests.proxied import INET6, addresses, binary_header, text_header
from tests.services import wait_for

AUTHORITY = Authority()
REFUSED = b"-ERR encryption is required for this login\r\n"
SECTIONS = """
[[listen]]                      # 2: as by default
protocol = "pop3"
endpoint = "tcp:0:interface=127.0.0.1"
proxy_from = ["127.0.0.0/8"]
[[listen]]                      # 3
protocol = "pop3"
endpoint = "tcp:0:interface=127.0.0.1"
proxy_from = ["127.0.0.0/8"]
plaintext_login = true
[[listen]]                      # 4
protocol = "pop3"
endpoint = "tcp:0:interface=127.0.0.1"
proxy_from = ["127.0.0.0/8"]
proxy_tls = true
[[listen]]                      # 5
protocol = "pop3s"
endpoint = "tcp:0:interface=127.0.0.1"
proxy_from = ["127.0.0.0/8"]
[[listen]]                      # 6
protocol = "lmtp"
endpoint = "tcp:0:interface=127.0.0.1"
proxy_from = ["127.0.0.0/8"]
[[listen]]                      # 7: trusts somebody else
protocol = "pop3"
endpoint = "tcp:0:interface=127.0.0.1"
proxy_from = ["192.0.2.0/24", "unix"]
[tls]
certificate = "{folder}/all.pem"
key = "{folder}/all.pem"
"""

BALANCER = """
global
    maxconn 100
    stats socket {folder}/stats mode 600
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
"""
FRONT = """
listen {name}
    bind fd@{descriptor}{bind}
    unique-id-format %ci:%cp
    option tcp-check
    tcp-check expect string {expect}
    server mailgate 127.0.0.1:{port} {options}
"""


class ProxyHouse(House):
    """A house whose listeners read PROXY headers; for the places of the listeners see SECTIONS."""

    def open(self) -> None:
        """Make a certificate, then the house."""
        self.certificates = Path(tempfile.mkdtemp(prefix="mailgate-proxy-"))
        (self.certificates / "ca.pem").write_bytes(AUTHORITY.pem)
        AUTHORITY.issue("localhost", "127.0.0.1").write(self.certificates, "all.pem", "all.pem")
        self._sections["further"] = SECTIONS.format(folder=self.certificates)
        super().open()

    def close(self) -> None:
        """Remove both."""
        shutil.rmtree(self.certificates)
        super().close()

    def port_of(self, place: int) -> int:
        """Return the port of a listener."""
        return self.service.ports[place][1]

    @property
    def context(self) -> ssl.SSLContext:
        """A client that trusts our authority."""
        return ssl.create_default_context(cafile=str(self.certificates / "ca.pem"))

    def logged(self, words: str) -> None:
        """Wait for a line in the service's log."""
        wait_for(lambda: re.search(words, self.service.log()), f"a log line like {words}")


house = ProxyHouse(limits="connections_per_address = 3\nfailed_logins = 5")
setUpModule, tearDownModule = house.open, house.close


class Balancer:
    """A running HAProxy. Each front is a name with a listener's place and the options of its server line."""

    def __init__(self, fronts: dict[str, tuple[int, str]], terminating: frozenset[str] = frozenset()) -> None:
        program = needs("haproxy")
        self.folder = Path(tempfile.mkdtemp(prefix="mailgate-haproxy-"))
        self._sockets = {name: socket.create_server(("127.0.0.1", 0)) for name in fronts}
        text = BALANCER.format(folder=self.folder)
        for name, (place, options) in fronts.items():
            bind = f" ssl crt {house.certificates}/all.pem" if name in terminating else ""
            text += FRONT.format(
                name=name, descriptor=self._sockets[name].fileno(), bind=bind, port=house.port_of(place),
                options=options, expect="220" if house.service.ports[place][0] == "lmtp" else "+OK")
        (self.folder / "haproxy.cfg").write_text(text)
        self.log_file = self.folder / "log"
        with open(self.log_file, "wb") as log:
            self.process = subprocess.Popen(
                [program, "-db", "-f", str(self.folder / "haproxy.cfg")], stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT,
                pass_fds=[one.fileno() for one in self._sockets.values()])
        wait_for(lambda: (self.folder / "stats").exists() or self.process.poll() is not None, "HAProxy")
        assert self.process.poll() is None, self.log_file.read_text()

    def port(self, name: str) -> int:
        return int(self._sockets[name].getsockname()[1])

    def statistics(self) -> str:
        """Return HAProxy's own view of its servers."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(CLIENT_SECONDS)
            client.connect(str(self.folder / "stats"))
            client.sendall(b"show stat\n")
            return b"".join(iter(lambda: client.recv(65536), b"")).decode()

    def end(self) -> None:
        """End it, and remove what is left."""
        self.process.terminate()
        self.process.wait(CLIENT_SECONDS)
        for one in self._sockets.values():
            one.close()
        shutil.rmtree(self.folder)


class HaproxyTests(SynchronousTestCase):
    """Debian's HAProxy, all fronts in one process."""

    balancer: Balancer
    logged_before: int      # characters of the service's log

    @classmethod
    def setUpClass(cls) -> None:
        cls.logged_before = len(house.service.log())
        cls.balancer = Balancer({
            "text": (3, "send-proxy"), "binary": (3, "send-proxy-v2"), "strict": (2, "send-proxy-v2"),
            "through": (5, "send-proxy-v2 proxy-v2-options crc32c,unique-id"),
            "ended": (4, "send-proxy-v2-ssl-cn proxy-v2-options crc32c,ssl,cert-cn,ssl-cipher,unique-id"),
            "clear": (4, "send-proxy-v2-ssl-cn proxy-v2-options crc32c,ssl,cert-cn"),
            "lmtp": (6, "send-proxy"),
            "checked": (3, "send-proxy-v2 check check-send-proxy inter 100ms"),
            "checked-text": (6, "send-proxy check check-send-proxy inter 100ms"),
            "checked-tls": (5, "send-proxy-v2 check check-send-proxy check-ssl verify none inter 100ms"),
        }, frozenset({"ended"}))
        cls.addClassCleanup(cls.balancer.end)

    def client(self, front: str, last: int, context: ssl.SSLContext | None = None) -> poplib.POP3:
        """Return a client from 127.0.0.LAST that was greeted through a front."""
        port = self.balancer.port(front)
        plain = socket.create_connection(("127.0.0.1", port), CLIENT_SECONDS, (f"127.0.0.{last}", 0))

        class Client(poplib.POP3):
            def _create_socket(self, timeout: float) -> Any:
                return plain if context is None else context.wrap_socket(plain, server_hostname="localhost")

        client = Client("127.0.0.1", port)
        self.addCleanup(client.close)
        return client

    def test_both_versions(self) -> None:
        """Mail is fetched whole, and the log tells of the client, not of the proxy."""
        big = large(3_000_000)
        for last, front in ((21, "text"), (22, "binary")):
            name = house.account()
            house.lmtp(big, name)
            house.lmtp(HELLO, name)
            client = self.client(front, last)
            client.user(name)
            client.pass_(PASSWORD)
            got = b"\r\n".join(client.retr(1)[1]) + b"\r\n"
            self.assertTrue(got.endswith(wire_form(big)[-100_000:]))
            client.dele(1)
            client.quit()
            house.logged(rf"session of {name} from 127\.0\.0\.{last}: 1 retrieved, 1 removed, QUIT")
            self.assertEqual(house.held(name), 1)

    def test_nobody_is_local(self) -> None:
        """By the default rule a client on this very machine counts as far away behind a proxy."""
        client = self.client("strict", 1)
        with self.assertRaisesRegex(poplib.error_proto, "encryption is required"):
            client.user(house.account())

    def test_tls_through_it(self) -> None:
        """TLS from the client to the service; the header stands in front of it in clear."""
        name = house.account()
        client = self.client("through", 23, house.context)
        client.user(name)
        client.pass_(PASSWORD)
        client.quit()
        house.logged(rf"session of {name} from 127\.0\.0\.23: .*TLSv1\.3")

    def test_tls_that_ends_there(self) -> None:
        """With proxy_tls a client's TLS at the proxy is enough; without that TLS nothing is."""
        name = house.account()
        client = self.client("ended", 24, house.context)
        self.assertNotIn("STLS", client.capa())
        client.user(name)
        client.pass_(PASSWORD)
        client.quit()
        house.logged(rf"session of {name} from 127\.0\.0\.24: ")
        clear = self.client("clear", 24)
        self.assertIn("STLS", clear.capa())
        with self.assertRaisesRegex(poplib.error_proto, "encryption is required"):
            clear.user(name)

    def test_lmtp(self) -> None:
        """The Received field names the client's address."""
        name = house.account()
        with smtplib.LMTP("127.0.0.1", self.balancer.port("lmtp"), local_hostname="relay.example.org",
                          source_address=("127.0.0.25", 0)) as client:
            client.sendmail("s@example.org", [f"{name}@mail.example.org"], HELLO)
        [content] = house.octets(name).values()
        self.assertIn(b"Received: from relay.example.org ([127.0.0.25])", content)

    def test_health_checks(self) -> None:
        """Checks in both versions, and those inside TLS, find the service well; none leaves a line."""
        def well() -> bool:
            rows = [line.split(",") for line in self.balancer.statistics().splitlines()]
            states = {row[0]: row for row in rows if len(row) > 36 and row[1] == "mailgate"}
            return all(states[name][17] == "UP" and states[name][36] == "L7OK"
                       for name in ("checked", "checked-text", "checked-tls"))

        wait_for(well, "three servers that are up")
        self.assertNotIn("PROXY header from 127.0.0.1 refused", house.service.log()[self.logged_before:])

    def test_fetchmail(self) -> None:
        """A real mail client through it."""
        name, folder = house.account(), Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        house.lmtp(HELLO, name)
        ran = fetchmail(self.balancer.port("binary"), folder / "f", f'user "{name}" password "{PASSWORD}" '
                        f'sslproto "" fetchall {mda_into(folder / "mail")}')
        self.assertEqual(ran.code, 0, ran.everything)
        self.assertEqual(len(contents(folder / "mail")), 1)
        self.assertEqual(house.held(name), 0)


class ServiceTests(SynchronousTestCase):
    """The service by itself: headers that the test says."""

    def say(self, octets: bytes, place: int = 3) -> bytes:
        """Say octets to a listener and return all that comes until it closes or cuts."""
        got = bytearray()
        with socket.create_connection(("127.0.0.1", house.port_of(place)), CLIENT_SECONDS) as client:
            client.sendall(octets)
            with contextlib.suppress(ConnectionResetError):
                while piece := client.recv(65536):
                    got += piece
        return bytes(got)

    def test_curl(self) -> None:
        """curl says a header of version 1 itself."""
        name, folder = house.account(), Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        house.lmtp(HELLO, name)
        ran = curl(house.port_of(3), "1", "--haproxy-protocol", user=name, folder=folder)
        self.assertEqual(ran.code, 0, ran.told)
        self.assertTrue(ran.out.endswith(wire_form(HELLO)), ran.out)
        house.logged(rf"session of {name} from 127\.0\.0\.1: 1 retrieved")

    def test_failures_are_the_clients(self) -> None:
        """A refused login is logged with the address of the header."""
        said = b"USER nobody\r\nPASS x\r\nQUIT\r\n"
        for header, host in ((text_header("198.51.100.31"), "198.51.100.31"),
                             (binary_header(addresses("2001:db8::32"), family=INET6), "2001:db8::32")):
            self.assertIn(b"-ERR [AUTH] ", self.say(header + said))
            house.logged(rf"{re.escape(host)}\b.* refused|refused.*{re.escape(host)}\b")

    def test_limits_are_the_clients(self) -> None:
        """Three connections of one client, whichever proxy they come by; any number of others."""
        header = text_header("203.0.113.9")
        held = []
        for _ in range(3):
            held.append(socket.create_connection(("127.0.0.1", house.port_of(3)), CLIENT_SECONDS))
            self.addCleanup(held[-1].close)
            held[-1].sendall(header)
            self.assertTrue(held[-1].recv(100).startswith(b"+OK"))
        for place in (2, 3, 4):
            self.assertTrue(self.say(header, place).startswith(b"-ERR [SYS/TEMP]"))
        self.assertEqual(self.say(header, 5), b"")      # nothing can be said before TLS
        for last in range(10, 16):
            self.assertTrue(self.say(text_header(f"203.0.113.{last}") + b"QUIT\r\n").startswith(b"+OK"))

    def test_spoofing(self) -> None:
        """Loopback by the word of a header opens nothing; nor does the word of whoever is not trusted."""
        name = house.account()
        login = f"USER {name}\r\nPASS {PASSWORD}\r\nQUIT\r\n".encode()
        for header in (text_header("127.0.0.1"), text_header("::1", 1, "TCP6", "::1"), b"PROXY UNKNOWN\r\n",
                       binary_header(addresses("127.0.0.1")), binary_header(command=0x20, family=0)):
            self.assertEqual(self.say(header + login, 2).count(REFUSED), 2, header)
        got = self.say(text_header("203.0.113.99") + login, 7)
        self.assertTrue(got.startswith(b"+OK mailgate ready\r\n-ERR command refused\r\n+OK"), got)
        house.logged(rf"session of {name} from 127\.0\.0\.1: ")
        self.assertNotIn("203.0.113.99", house.service.log())

    def test_malformed(self) -> None:
        """Closed without a word and with one line; what the line shows is no line of its own."""
        for octets in (b"PROXY TCP4 1.2.3.4\n\x1b[2Jfaked line\r\n", b"USER mrose\r\nPASS secret\r\n"):
            before = house.service.log().count("PROXY header from 127.0.0.1 refused: ")
            for place in (2, 4, 5, 6):
                self.assertEqual(self.say(octets, place), b"")
            wait_for(lambda before=before: house.service.log().count(
                "PROXY header from 127.0.0.1 refused: ") == before + 4, "four lines")
        self.assertNotIn("faked", house.service.log())
