"""`mailgate check` looks at the keys of tokens: in a file, and where an issuer publishes them."""

from __future__ import annotations

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.auth.tokens import Issuer
from tests.running import CONFIGURATION, mailgate, make_service_folder

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


class KeysTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.folder = Path(self.mktemp()).absolute() / "service"
        self.file = make_service_folder(self.folder)
        Issuer().write(self.folder / "keys.json")

    def configure(self, *keys: str) -> None:
        self.file.write_text(CONFIGURATION + "".join(
            CHECKER % one + f'name = "c{number}"\n' for number, one in enumerate(keys)))

    def check(self, code: int = 0) -> str:
        return mailgate("-c", self.file, "check", code=code)

    def test_well(self) -> None:
        """With a store, and where there is none yet."""
        self.server.content = (self.folder / "keys.json").read_bytes()
        self.configure(f"{self.url}/jwks.json", "keys.json")
        self.assertIn("all is well", self.check())
        for file in self.folder.glob("mail.db*"):
            file.unlink()
        self.assertIn("all is well", self.check())
        self.assertEqual(self.server.asked, 2)

    def test_faults(self) -> None:
        """Each with its setting, the address or the file, and what is wrong, in words."""
        (self.folder / "broken.json").write_text("{")
        self.server.content = b"<html>"
        published = (f"{self.url}/jwks.json", f"{self.url}/else", "http://127.0.0.1:1/")
        said = (f"{self.url}/jwks.json: what comes is no JWK set", f"{self.url}/else: answers 404",
                "http://127.0.0.1:1/: Connection was refused")
        for further, lines in (((), said), (("nothing.json", "broken.json"),
                                            ("nothing.json: [Errno 2]", "broken.json: ", *said))):
            self.configure(*published, *further)
            told = self.check(os.EX_CONFIG).splitlines()
            self.assertEqual(len(told), len(lines))
            for index, line, words in zip([3, 4, 0, 1, 2][-len(lines):], told, lines, strict=True):
                self.assertIn(f"mailgate: {self.file}: checker[{index}].keys: keys of tokens: ", line)
                self.assertIn(words, line)
