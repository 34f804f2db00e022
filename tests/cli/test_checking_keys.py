"""`mailgate check` looks at the keys of tokens: in a file, and where an issuer publishes them."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.auth.tokens import Issuer
from tests.cli.base import CONFIGURATION, CommandCase

CHECKER = '[[checker]]\nkind = "oauth"\nkeys = "%s"\nissuer = "i"\naudience = "a"\n'


class Server(ThreadingHTTPServer):
    """In a thread: the command waits in the test's own."""

    content = b""
    asked = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(200 if self.path == "/jwks.json" else 404)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *arguments: Any) -> None:
        """Tests are quiet."""


class KeysTests(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.server = Server(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        Issuer().write(self.folder / "keys.json")

    def configure(self, *keys: str) -> None:
        self.file.write_text(CONFIGURATION + "".join(
            CHECKER % one + f'name = "c{number}"\n' for number, one in enumerate(keys)))

    def test_well(self) -> None:
        self.server.content = (self.folder / "keys.json").read_bytes()
        self.configure(f"{self.url}/jwks.json", "keys.json", f"{self.url}/jwks.json?another")
        self.refused(78, "check")       # the query is part of the address: 404
        self.configure(f"{self.url}/jwks.json", "keys.json")
        self.assertIn("all is well", self.succeed("check"))
        self.assertEqual(self.server.asked, 3)

    def test_faults(self) -> None:
        """Each with its setting, the address or the file, and what is wrong, in words."""
        (self.folder / "broken.json").write_text("{")
        self.server.content = b"<html>"
        self.configure(f"{self.url}/jwks.json", f"{self.url}/else", "http://127.0.0.1:1/", "nothing.json",
                       "broken.json")
        lines = self.refused(78, "check").splitlines()
        for index, words in enumerate((
                f"{self.url}/jwks.json: what comes is no JWK set", f"{self.url}/else: answers 404",
                "http://127.0.0.1:1/: Connection was refused", "nothing.json: [Errno 2]", "broken.json: ")):
            self.assertIn(f"{self.file}: checker[{index}].keys: keys of tokens: ", lines[index])
            self.assertIn(words, lines[index])
        self.assertEqual(len(lines), 5)
