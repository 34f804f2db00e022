"""What an operator reads of a POP3 session: one line each, and nothing of a client unescaped."""

from __future__ import annotations

import base64
from typing import Any

from twisted.logger import eventAsText, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.pop3.maildrops import Mail
from tests.pop3.staging import Server


class SessionLog(SynchronousTestCase):
    """Log lines of `mailgate.net.pop3_protocol`."""

    def setUp(self) -> None:
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self._keep)
        self.addCleanup(globalLogPublisher.removeObserver, self._keep)

    def _keep(self, event: dict[str, Any]) -> None:
        if event.get("log_namespace", "").startswith(("mailgate.net", "mailgate.login")):
            self.lines.append(eventAsText(event, includeTimestamp=False, includeSystem=False))

    def test_a_session(self) -> None:
        """Name, peer, and what was retrieved and removed."""
        peer = Server([Mail(b"H: a\n\nx\n"), Mail(b"H: b\n\nx\n")]).log_in()
        peer.say(b"RETR 1\r\nRETR 2\r\nTOP 1 0\r\nDELE 1\r\nQUIT\r\n")
        self.assertEqual(["session of mrose from 127.0.0.1: 2 retrieved, 1 removed, QUIT"], self.lines)

    def test_a_client_that_vanishes(self) -> None:
        """Marks without a QUIT have removed nothing."""
        peer = Server([Mail(b"H: a\n\nx\n")]).log_in()
        peer.say(b"DELE 1\r\n")
        peer.vanish()
        self.assertEqual(["session of mrose from 127.0.0.1: 0 retrieved, 0 removed, no QUIT"], self.lines)

    def test_a_client_that_does_not_wait_for_its_quit(self) -> None:
        """What QUIT removed is told, whether or not the answer could be sent."""
        server = Server([Mail(b"H: a\n\nx\n")])
        peer = server.log_in()
        server.drop.committing.shut()
        peer.say(b"DELE 1\r\nQUIT\r\n")
        peer.vanish()
        self.assertEqual([], self.lines)
        server.drop.committing.open()
        self.assertEqual(["session of mrose from 127.0.0.1: 0 retrieved, 1 removed, QUIT"], self.lines)

    def test_a_refused_login(self) -> None:
        """One line, short and printable whatever name was sent; never the password."""
        peer = Server().connect()
        hostile = b"\x1b[2J" * 2000
        response = base64.b64encode(b"\0" + hostile + b"\0sesame")
        peer.say(b"AUTH PLAIN " + response + b"\r\n")
        [line] = self.lines
        self.assertTrue(line.startswith('login refused for 127.0.0.1 (pop3, PLAIN) as "\\x1b[2J'), line)
        self.assertTrue(line.isprintable())
        self.assertLess(len(line), 600)
        self.assertNotIn("sesame", line)

    def test_no_login_no_line(self) -> None:
        """Port scanners and health checks fill no log."""
        peer = Server().connect()
        peer.say(b"QUIT\r\n")
        self.assertEqual([], self.lines)
