"""First lines, numbers of lines, and replies that come twice or not at all."""

from __future__ import annotations

from tests.testing.trouble.scene import (
    DELE,
    GREETING,
    LIST,
    NOOP,
    RETR_1,
    STAT,
    FaultCase,
)


class WordingTests(FaultCase):
    def setUp(self) -> None:
        super().setUp()
        self.client = self.log_in()

    def reply(self, line: bytes, do: str, **settings: object) -> bytes:
        """Return the reply that a fault meets; the one before it and the one behind it are as ever."""
        with self.fault(do, command=line.split()[0].decode(), **settings):
            reply = self.said(self.client, b"NOOP\r\n" + line + b"\r\nNOOP" if line != b"NOOP" else line)
        if line == b"NOOP":
            return reply
        self.assertTrue(reply.startswith(NOOP) and reply.endswith(NOOP), reply)
        return reply[len(NOOP):-len(NOOP)]

    def test_status(self) -> None:
        for settings, reply in (({"ok": "+ok"}, b"+ok nothing done\r\n"),
                                ({"ok": " +OK"}, b" +OK nothing done\r\n"),
                                ({"ok": "OK"}, b"OK nothing done\r\n"), ({"text": ""}, b"+OK\r\n"),
                                ({"between": ""}, b"+OKnothing done\r\n"),
                                ({"between": "\t"}, b"+OK\tnothing done\r\n"),
                                ({"between": " ", "text": ""}, b"+OK \r\n"), ({"err": "-err"}, NOOP),
                                ({"text": {"hex": "fffe"}}, b"+OK \xff\xfe\r\n"),
                                ({"text": "fähig"}, b"+OK f\xc3\xa4hig\r\n")):
            self.assertEqual(self.reply(b"NOOP", "status", **settings), reply)
        self.assertEqual(self.reply(b"RETR 9", "status", err="-err"), b"-err no such message\r\n")
        self.assertEqual(self.reply(b"LIST", "status", text="")[:6], b"+OK\r\n1")

    def test_banner(self) -> None:
        self.fault("status", command="greeting", text={"hex": "e4f6fc"})
        self.assertEqual(self.server.talk().received, b"+OK \xe4\xf6\xfc\r\n")
        self.server.clear_faults()
        self.assertEqual(self.server.talk().received, GREETING)

    def test_continued(self) -> None:
        self.assertEqual(self.reply(b"STAT", "continued", text="one\ntwo"), b"+OK-one\r\n+OK-two\r\n" + STAT)
        self.assertEqual(self.reply(b"STAT", "continued", mark=""), b"+OK please wait\r\n" + STAT)
        self.assertEqual(self.reply(b"RETR 9", "continued", text="x")[:8], b"-ERR-x\r\n")

    def test_lines(self) -> None:
        self.assertEqual(self.reply(b"LIST", "lines"), LIST[:LIST.index(b"\n") + 1])
        self.assertEqual(self.reply(b"STAT", "lines", how="many"), b"+OK\r\n" + STAT[4:] + b".\r\n")
        self.assertEqual(self.reply(b"LIST", "lines", how="many"), LIST)
        self.assertEqual(self.reply(b"RETR 9", "lines", how="many"), b"-ERR no such message\r\n")

    def test_echo(self) -> None:
        self.assertEqual(self.reply(b"RETR 1", "echo"), b"RETR 1\r\n" + RETR_1)

    def test_echo_shows_no_secret(self) -> None:
        """What a fault says of a password is masked in what is shown of the session."""
        self.fault("echo", command="PASS")
        client = self.connect()
        self.assertIn(b"PASS secret\r\n", client.say(b"USER mrose\r\nPASS secret\r\n"))
        self.assertNotIn("secret", self.server.transcript())

    def test_repeat(self) -> None:
        self.assertEqual(self.reply(b"STAT", "repeat"), STAT + STAT)
        self.assertEqual(self.reply(b"LIST", "repeat", again=2), LIST * 3)

    def test_swallow(self) -> None:
        """Carried out, and not answered."""
        self.assertEqual(self.reply(b"DELE 1", "swallow"), b"")
        self.assertEqual(self.said(self.client, b"DELE 2"), DELE)
        self.client.say(b"QUIT\r\n")
        self.assertEqual(self.holds(), [])

    def test_long_line(self) -> None:
        """Of exactly so many octets, wherever it stands."""
        reply = self.reply(b"STAT", "long_line", where="status", octets=5000)
        self.assertEqual((len(reply), reply[:len(STAT)]), (5000, STAT[:-2] + b" x"))
        line = b"X-Long: " + b"x" * 990 + b"\r\n"
        self.assertEqual(self.reply(b"RETR 1", "long_line", where="header", octets=1000),
                         RETR_1.replace(b"Subject", line + b"Subject"))
        self.assertEqual(self.reply(b"RETR 1", "long_line", octets=1000),
                         RETR_1.replace(b"hello", b"x" * 998 + b"\r\nhello"))
        self.assertEqual(self.reply(b"STAT", "long_line"), STAT)
