"""The console of a running service: off unless asked for, read-only, for who has the token."""

from __future__ import annotations

import contextlib
import http.client
import json
import poplib
import re
import socket
import stat
from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase

from mailgate.assembly.console import read_token
from mailgate.config import parse
from mailgate.errors import ConfigurationError
from mailgate.net.lmtp import LMTPProtocol
from mailgate.net.pop3_protocol import POP3Protocol
from mailgate.pop3.session import Session
from mailgate.service import MailgateService
from tests.browser import DESKTOP, PHONE, BrowserTestCase, problems_of, stop_browser, tabbed
from tests.services import Service, Site

CONSOLE = """
[console]
endpoint = "tcp:0:interface=127.0.0.1"
names = ["mail.example.net"]
"""
BASE = b"""
hostname = "mail.example.org"
[[listen]]
protocol = "pop3"
endpoint = "tcp:110"
"""


class SettingTests(SynchronousTestCase):
    def problems(self, text: bytes) -> list[str]:
        fault = self.assertRaises(ConfigurationError, parse, BASE + text, folder=Path("/etc/mailgate"))
        return fault.problems

    def test_off(self) -> None:
        """Without the section nothing of it is there: the connections are the ones that are always served."""
        config = parse(BASE.replace(b"tcp:110", b"tcp:0"), folder=Path(self.mktemp()))
        service = MailgateService(config, reactor=reactor)
        self.assertIsNone(config.console)
        self.assertEqual([one.protocol for one in service.listeners], ["pop3"])
        factory = service.listeners[0].factory
        self.assertIs(factory.connection, POP3Protocol)
        self.assertIs(factory.table.conversation, Session)
        self.assertEqual(LMTPProtocol.conversation.__module__, "mailgate.lmtp.session")

    def test_settings(self) -> None:
        """On loopback unless told; the token beside the database; what does not go together is told."""
        config = parse(BASE + b"[console]\n", folder=Path("/etc/mailgate"))
        self.assertEqual((config.console.endpoint, config.console_token_path),
                         ("tcp:8110:interface=127.0.0.1", Path("/etc/mailgate/console.token")))
        self.assertEqual(self.problems(b'[console]\nendpoint = "tcp:110"\n'),
                         ["console.endpoint: listen[0] has the same address"])
        told = self.problems(b'[console]\n[store]\nmetadata = "postgresql:///mail"\nbodies = "s3://b"\n')
        self.assertIn("console.token_file: is missing", "\n".join(told))
        fault = self.assertRaises(ConfigurationError, parse, b"workers = 2\n" + BASE + b"[console]\n",
                                  folder=Path("/etc/mailgate"))
        self.assertIn("console: does not go with `workers`", fault.problems[0])

    def test_token(self) -> None:
        """One is made, for the owner alone, and read again; what others can read, or guess, is refused."""
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        path = folder / "console.token"
        token = read_token(path)
        self.assertGreaterEqual(len(token), 40)
        self.assertEqual((read_token(path), stat.S_IMODE(path.stat().st_mode)), (token, 0o600))
        path.chmod(0o640)
        self.assertIn("chmod 600", str(self.assertRaises(ConfigurationError, read_token, path)))
        path.chmod(0o600)
        path.write_text("short\n")
        self.assertIn("holds no token", str(self.assertRaises(ConfigurationError, read_token, path)))
        missing = folder / "no-such-folder" / "console.token"
        self.assertIn("cannot be made", str(self.assertRaises(ConfigurationError, read_token, missing)))


_running: list[tuple[Site, Service]] = []      # one for the module, until a test ends it


class RunningTests(BrowserTestCase):
    """A service in a process of its own."""

    def setUp(self) -> None:
        super().setUp()
        if not _running:
            site = Site(Path(self.mktemp()), accounts={"mrose": "s3cret-word"}, further=CONSOLE)
            site.deliver(b"Subject: Confidential\n\nConfidential\n", "mrose@mail.example.org")
            _running.append((site, site.start()))
        self.site, self.service = _running[0]
        port = re.search(r"console at 127\.0\.0\.1:(\d+)", self.service.log())
        assert port is not None
        self.port = int(port[1])
        self.token = (self.site.folder / "console.token").read_text().strip()

    def ask(self, method: str, path: str, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        self.addCleanup(connection.close)
        connection.request(method, path, headers={
            name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, b"" if answer.status == 101 else answer.read()

    def client(self) -> poplib.POP3:
        client = poplib.POP3("127.0.0.1", self.service.pop3_port, timeout=60)
        self.addCleanup(client.close)
        client.user("mrose")
        client.pass_("s3cret-word")
        return client

    def test_doors(self) -> None:
        """Strangers get nothing, who has the token may look, and nobody can change anything."""
        bearer = f"Bearer {self.token}"
        self.assertNotIn(self.token, self.service.log())
        expected = [
            (200, "GET", "/", {}), (200, "GET", "/", {"Host": f"mail.example.net:{self.port}"}),
            (401, "GET", "/state", {}), (401, "GET", "/maildrops", {}), (401, "GET", "/live", {}),
            (401, "GET", "/state", {"Authorization": "Bearer wrong"}),
            (401, "POST", "/session", {"Authorization": "Bearer wrong"}),
            (421, "GET", "/", {"Host": "rebound.invalid"}),
            (403, "GET", "/state", {"Authorization": bearer, "Origin": "http://127.0.0.1:1"}),
            (403, "GET", "/state", {"Authorization": bearer, "Sec_Fetch_Site": "cross-site"}),
            (405, "POST", "/state", {"Authorization": bearer}),
            (405, "DELETE", "/maildrops", {"Authorization": bearer}),
            (404, "GET", "/static/../console.token", {"Authorization": bearer}),
            (200, "GET", "/state", {"Authorization": bearer})]
        found = [(self.ask(method, path, **headers)[0], method, path, headers)
                 for _, method, path, headers in expected]
        self.assertEqual(found, expected)
        maildrops = json.loads(self.ask("GET", "/maildrops", Authorization=bearer)[1])["maildrops"]
        self.assertEqual([(one["name"], one["messages"]) for one in maildrops], [("mrose", 1)])
        with self.assertRaises((ConnectionError, http.client.HTTPException)):
            self.ask("POST", "/session", Content_Length="1000000", Authorization=bearer)

    def test_who_says_too_much(self) -> None:
        """Who has the token cannot fill the memory either: messages without end, pongs that nobody takes."""
        head = "\r\n".join(["GET /live HTTP/1.1", f"Host: 127.0.0.1:{self.port}", "Upgrade: websocket",
                            f"Authorization: Bearer {self.token}", "Connection: Upgrade", "%s",
                            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "", ""])

        def begun(version: str = "Sec-WebSocket-Version: 13") -> socket.socket:
            one = socket.create_connection(("127.0.0.1", self.port), 60)
            self.addCleanup(one.close)
            one.sendall((head % version).encode())
            self.answer = one.recv(4096)
            return one

        begun("X: 1")
        self.assertIn(b" 400 Bad Request", self.answer)
        looking = begun()
        self.assertIn(b" 101 ", self.answer)
        looking.sendall(b"\x81\x8b\0\0\0\0" + b'{"look": 1}' + b"\x89\x80\0\0\0\0")
        self.assertEqual(looking.recv(2), b"\x8a\x00")
        endless = begun()
        with self.assertRaises(ConnectionError):        # reset, with what was still to be read
            for first in (b"\x01", *[b"\x00"] * 1000):
                endless.sendall(first + b"\xfe\x40\x00\0\0\0\0" + bytes(0x4000))
        looking.sendall(b"\x81\x81\0\0\0\0x" + b"\x89\x80\0\0\0\0")
        with contextlib.suppress(ConnectionError):
            while looking.recv(4096):
                pass
        self.assertNotIn("Traceback", self.service.log())

    def test_page(self) -> None:
        """Signed in by hand, one sees a session while it happens, on a phone too; no secret, no content."""
        page = self.page(f"http://127.0.0.1:{self.port}/")
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=This is not the token")
        self.expect("401")
        page.fill("#token", self.token)
        page.keyboard.press("Enter")
        page.wait_for_selector("text=No sessions")
        client = self.client()
        page.click("#session-1")
        page.wait_for_selector(".transcript >> text=PASS ********")
        client.retr(1)
        page.wait_for_selector(".transcript >> text=RETR 1")
        page.wait_for_selector(".facts >> text=TRANSACTION")
        client.quit()
        page.wait_for_selector(".transcript >> text=the connection has ended")
        shown = page.inner_text("body")
        for secret in ("s3cret-word", "Confidential", self.token):
            self.assertNotIn(secret, shown)
        for size, scheme in ((PHONE, "light"), (DESKTOP, "dark")):
            page.set_viewport_size({"width": size[0], "height": size[1]})
            page.emulate_media(color_scheme=scheme)
            for view in ("#/sessions", "#/sessions/1", "#/maildrops", "#/listeners"):
                page.evaluate("(hash) => { location.hash = hash }", view)
                page.wait_for_timeout(250)
                self.assertEqual(problems_of(page), [], f"{view} {scheme}")
        page.evaluate("() => { location.hash = '#/maildrops' }")
        page.wait_for_selector("#again")
        self.assertIn("again", tabbed(page))
        _running.clear()
        self.addCleanup(self.service.end)
        self.service.stop()
        page.wait_for_selector("#link[data-state=lost]")
        page.context.close()        # it would try again, and complain again
        self.complaints[:] = [one for one in self.complaints if "net::ERR_CONNECTION_" not in one
                              and "net::ERR_EMPTY_RESPONSE" not in one and "WebSocket connection" not in one]



def tearDownModule() -> None:
    stop_browser()
    for _, service in _running:
        service.end()
