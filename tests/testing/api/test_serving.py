"""The API of a Python test's own server: beside it, and gone with it."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import sys
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing import Server
from mailgate.testing.api import site


class ServeTests(SynchronousTestCase):
    def test_beside_a_server(self) -> None:
        """`serve_api` returns URL and token, the same each time; both ways see the same harness."""
        with Server(protocols=("pop3",)) as server:
            url, token = server.serve_api()
            self.assertEqual(server.serve_api(), (url, token))
            server.account("mrose", "secret")
            request = Request(url + "/accounts", headers={"Authorization": f"Bearer {token}"})
            with urlopen(request, timeout=20) as reply:
                self.assertIn(b"mrose", reply.read())
            refused = self.assertRaises(HTTPError, urlopen, url + "/accounts", timeout=20)
            self.assertEqual(refused.code, 401)
            refused.close()

    def test_gone_with_the_server(self) -> None:
        """Once the server has stopped its API is gone, with the connections that stood."""
        with Server(protocols=("pop3",)) as server, Server(protocols=("pop3",)) as other:
            url, token = server.serve_api()
            self.assertNotEqual(token, other.serve_api()[1])
            place = urlsplit(url)
            kept = http.client.HTTPConnection(str(place.hostname), place.port, timeout=60)
            kept.request("GET", f"{place.path}/clock", headers={"Authorization": f"Bearer {token}"})
            self.assertEqual(len(kept.getresponse().read()) > 0, True)
            stream = kept.sock
            assert stream is not None
            server.stop()
            self.assertEqual(stream.recv(1), b"")
            kept.close()
            self.assertRaises(ConnectionRefusedError, urlopen_raw, place.port)
        self.assertRaises(RuntimeError, server.serve_api)

    def test_all_ends(self) -> None:
        """Whatever stands when the server stops ends: half a request, one that waits, one nobody reads."""
        self.patch(site, "FAREWELL_SECONDS", 0.3)
        with Server(protocols=("pop3",)) as server:
            url, token = server.serve_api()
            place = urlsplit(url)
            server.account("mrose").add("Subject: big\n\n" + ("x" * 78 + "\n") * 200_000, unique_id="big")
            session = socket.create_connection(server.pop3, 20)  # is waited for
            self.addCleanup(session.close)
            server.wait_for(lambda: len(server.sessions) == 1)

            def begun(path: str, *more: str, end: str = "\r\n\r\n") -> socket.socket:
                one = socket.socket()
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                self.addCleanup(one.close)
                one.settimeout(60)
                one.connect((place.hostname, place.port))
                one.sendall(("\r\n".join([f"GET {place.path}{path} HTTP/1.1", f"Host: {place.netloc}",
                                          f"Authorization: Bearer {token}", *more]) + end).encode())
                return one

            upgrade = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                       "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
            unread = "/maildrops/mrose/messages/big"
            standing = [begun("/sessions?wait=idle&timeout=60"), begun("/clock", end="\r\n"), begun("/clock"),
                        begun("/events", *upgrade), begun("/accounts", "Content-Length: 9", end="\r\n\r\n{")]
            slow, lazy = begun(unread), begun(unread)
            watcher = standing[3]
            self.assertIn(b"101 Switching", watcher.recv(4096))
            slow.recv(1)
            server.stop()
            for one in standing:
                until_the_end(one)
            until_the_end(slow)
            server._thread.call(deferLater, reactor := server._thread.reactor, site.FAREWELL_SECONDS)
            server._thread.call(deferLater, reactor, 0)     # the cut was asked for before, and is made by now
            self.assertLess(until_the_end(lazy), 15_000_000)
            self.assertEqual(server.problems, [])

    def test_no_global_reactor(self) -> None:
        """Serving the API installs no reactor: the program that is tested may have one of its own."""
        code = ("import sys; from urllib.request import Request, urlopen\n"
                "from mailgate.testing import Server\n"
                "with Server(protocols=('pop3',)) as server:\n"
                "    url, token = server.serve_api()\n"
                "    urlopen(Request(url + '/server', headers={'Authorization': 'Bearer ' + token})).read()\n"
                "print('twisted.internet.reactor' in sys.modules)")
        said = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True,
                              timeout=60, check=False)
        self.assertEqual((said.stdout, said.stderr), ("False\n", ""))


def until_the_end(one: socket.socket) -> int:
    """Read until the connection has ended; return how many octets. Raises: TimeoutError."""
    count = 0
    with contextlib.suppress(ConnectionError):
        while octets := one.recv(1 << 20):
            count += len(octets)
    return count


def urlopen_raw(port: int | None) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/")
    finally:
        connection.close()
