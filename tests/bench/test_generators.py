"""The load generators against a real mailgate: right replies are counted, wrong ones noticed."""

from __future__ import annotations

import socketserver
import tempfile
import threading
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench.driving import Generators, WrongReply
from bench.gateway import Mailgate
from bench.processes import Tree
from tests.needs import needs

BODY = b"Subject: x\r\nX-Check: 00000000 3\r\n\r\na\r\n"


class Liar(socketserver.StreamRequestHandler):
    """A POP3 server that has one message, of which it tells the digest or the octets wrongly."""

    announced = len(BODY)
    listed = 1

    def handle(self) -> None:
        self.wfile.write(b"+OK\r\n")
        for command in self.rfile:
            reply = {b"STAT": b"+OK 1 40\r\n", b"RETR": b"+OK %d octets\r\n%s.\r\n" % (self.announced, BODY),
                     b"LIST": b"+OK\r\n" + b"1 40\r\n" * self.listed + b".\r\n"}
            self.wfile.write(reply.get(command[:4], b"+OK\r\n"))
            if command.startswith(b"QUIT"):
                return


class GeneratorTests(SynchronousTestCase):
    def setUp(self) -> None:
        needs("gcc")
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.folder = Path(place.name)
        self.generators = Generators(self.folder)

    def test_counts(self) -> None:
        """Sessions, commands, deliveries and digests are counted as asked for."""
        server = Mailgate(self.folder / "mailgate", core=None)
        server.fill({"kind": "accounts", "user": "u%04d", "count": 2},
                    {"kind": "mixed", "user": "u%04d", "users": 2, "messages": 3},
                    {"kind": "large", "users": ["u0000", "u0001"], "octets": 300_000})
        with server:
            tree = server.tree
            run = self.generators.sessions(tree, server.pop3, conns=2, users=2, count=6, script="SULRRRRT",
                                           messages=4)
            self.assertEqual((run["sessions"], run["digests"], run["complete"]), (6, 24, True))
            self.assertGreater(run["cpu_seconds"], 0)
            run = self.generators.commands(tree, server.pop3, conns=2, users=2, count=40, script="NSlu",
                                           messages=4, pipeline=5)
            self.assertEqual((run["commands"], run["complete"]), (40, True))
            run = self.generators.deliveries(tree, server.lmtp, conns=3, users=2, count=7, octets=2000)
            self.assertEqual(run["accepted"], 7)
            run = self.generators.sessions(tree, server.pop3, count=1, conns=1, messages=8,
                                           script="S" + "R" * 8)
            self.assertEqual(run["digests"], 8)

    def lie(self, script: str, **lies: int) -> None:
        handler = type("OneLiar", (Liar,), lies)
        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                self.generators.sessions(Tree(1), server.server_address[1], conns=1, count=1, script=script)
            finally:
                server.shutdown()
                thread.join()

    def test_wrong_digest(self) -> None:
        """A body that is not what it was."""
        self.assertRaises(WrongReply, self.lie, "R")

    def test_wrong_octets(self) -> None:
        """More octets announced than sent."""
        self.assertRaises(WrongReply, self.lie, "R", announced=1000)

    def test_wrong_listing(self) -> None:
        """A listing of more messages than STAT told; and one that is right."""
        self.assertRaises(WrongReply, self.lie, "SL", listed=2)
        self.lie("SL")
