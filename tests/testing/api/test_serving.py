"""The API of a Python test's own server: beside it, and gone with it."""

from __future__ import annotations

import http.client
import subprocess
import sys
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing import Server


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
            kept = http.client.HTTPConnection(str(place.hostname), place.port, timeout=20)
            kept.request("GET", f"{place.path}/clock", headers={"Authorization": f"Bearer {token}"})
            self.assertEqual(len(kept.getresponse().read()) > 0, True)
            stream = kept.sock
            assert stream is not None
            server.stop()
            self.assertEqual(stream.recv(1), b"")
            kept.close()
            self.assertRaises(ConnectionRefusedError, urlopen_raw, place.port)
        self.assertRaises(RuntimeError, server.serve_api)

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


def urlopen_raw(port: int | None) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/")
    finally:
        connection.close()
