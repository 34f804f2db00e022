"""What is said by clients that send mail, as the harness's records of deliveries have it."""

from __future__ import annotations

import smtplib
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailgate.errors import NoSuchAccount
from mailgate.testing import MemoryServer, Server
from mailgate.testing.harness.deliveries import LINE_OCTETS, UNANSWERED_OCTETS, Conversation, Dots
from mailgate.testing.harness.records import Records, SessionRecord
from mailgate.testing.showing import show
from tests.testing.api.base import ApiCase

MESSAGE = b"Subject: one\r\n\r\nPASS the salt\r\n..\r\n.\r\n"
TO = "mrose@mail.example.org"


def told(record: SessionRecord) -> str:
    """Return a transcript without its title and times."""
    return "\n".join(line[9:] for line in show(record).splitlines()[1:])


class DeliveryCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = MemoryServer(protocols=["pop3", "lmtp", "smtp"])
        self.addCleanup(self.server.stop)
        for name in ("mrose", "bob"):
            self.server.account(name, "secret")

    def delivery(self) -> SessionRecord:
        record, = self.server.deliveries
        return record

    def replies(self) -> list[tuple[str, str, bool]]:
        return [(one.verb, " ".join(line[:3].decode() for line in one.reply.split(b"\r\n")), one.succeeded)
                for one in self.delivery().commands]


class TranscriptTests(DeliveryCase):
    def test_smtp(self) -> None:
        """Commands and the message; what looks like a password in it is none, what AUTH brings is one."""
        talker = self.server.talk("smtp")
        for line in (b"HELO me", b"MAIL FROM:<>", b"RCPT TO:<nobody@mail.example.org>", b"DATA",
                     b"RCPT TO:<mrose@mail.example.org>", b"AUTH PLAIN AHUAZ2VoZWlt", b"DATA"):
            talker.say(line + b"\r\n")
        talker.say(MESSAGE)
        talker.say(b"QUIT\r\n")
        stored = self.delivery().commands[-2].reply.decode()
        self.assertEqual(told(self.delivery()), f"""\
S: 220 mail.example.org ESMTP mailgate harness
C: HELO me
S: 250 mail.example.org Hello 127.0.0.1, nice to meet you
C: MAIL FROM:<>
S: 250 2.1.0 sender ok
C: RCPT TO:<nobody@mail.example.org>
S: 550 5.1.1 no such user here
C: DATA
S: 503 5.5.1 bad sequence of commands
C: RCPT TO:<mrose@mail.example.org>
S: 250 2.1.5 recipient ok
C: AUTH PLAIN ********
S: 500 Command not implemented
C: DATA
S: 354 end with a line that is one dot
C: Subject: one
C:
C: PASS the salt
C: ..
C: .
S: {stored}
C: QUIT
S: 221 See you later
* the end: QUIT""")
        self.assertEqual(self.replies(), [
            ("HELO", "250", True), ("MAIL", "250", True), ("RCPT", "550", False), ("DATA", "503", False),
            ("RCPT", "250", True), ("AUTH", "500", False), ("DATA", "250", True), ("QUIT", "221", True)])

    def test_lmtp(self) -> None:
        """Pipelined, a reply for each recipient: each command has its own, whatever came together."""
        talker = self.server.talk("lmtp")
        talker.say(b"LHLO me\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<mrose@mail.example.org>\r\n"
                   b"RCPT TO:<none@mail.example.org>\r\nRCPT TO:<bob@mail.example.org>\r\nDATA\r\n")
        talker.say(MESSAGE[:20])
        talker.say(MESSAGE[20:-1])
        talker.say(MESSAGE[-1:] + b"MAIL FROM:<>\r\nRCPT TO:<bob@mail.example.org>\r\n"
                   b"BDAT 12\r\nSubject: 2\r\nBDAT 8 LAST\r\n\r\nNOOP\r\nNOOP\r\nQUIT\r\n")
        self.assertEqual(self.replies(), [
            ("LHLO", "250", True), ("MAIL", "250", True), ("RCPT", "250", True), ("RCPT", "550", False),
            ("RCPT", "250", True), ("DATA", "250 250", True), ("MAIL", "250", True), ("RCPT", "250", True),
            ("BDAT", "250", True), ("BDAT", "250", True), ("NOOP", "250", True), ("QUIT", "221", True)])
        shown = told(self.delivery())
        self.assertIn("C: BDAT 12\nC: Subject: 2\nS: 250 2.0.0 12 octets taken\n"
                      "C: BDAT 8 LAST\nC:\nC: NOOP\nS: 250", shown)
        self.assertEqual(len(self.server.maildrop("bob")), 2)

    def test_behind_quit(self) -> None:
        """The end is that of the QUIT, also for who says more: nobody answers it."""
        for protocol in ("smtp", "lmtp"):
            self.server.talk(protocol).say(b"NOOP\r\nQUIT\r\nNOOP\r\nNOOP\r\n")
            self.assertEqual(self.server.deliveries[-1].end, "QUIT")

    def test_size_of_a_chunk(self) -> None:
        """It is what the server takes for one, however it is written."""
        talker = self.server.talk("lmtp")
        talker.say(b"LHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<bob@mail.example.org>\r\n"
                   b"BDAT  00000000000000000002  LAST \r\n\r\nNOOP\r\nBDAT 2 LAS\r\n")
        self.assertEqual(self.replies()[3:],
                         [("BDAT", "250", True), ("NOOP", "250", True), ("BDAT", "501", False)])

    def test_long_line(self) -> None:
        """A command is known by its beginning, though that was recorded before the end came."""
        for protocol in ("smtp", "lmtp"):
            talker = self.server.talk(protocol)
            talker.say(b"AUTH PLAIN " + b"x" * (LINE_OCTETS + 1))
            talker.say(b"BDAT 3 LAST\r\nNOOP\r\n")
            record = self.server.deliveries[-1]
            self.assertEqual([(one.verb, one.reply[:3]) for one in record.commands],
                             [("AUTH", b"500"), ("NOOP", b"250")])
            self.assertNotIn("xxx", show(record) + repr(record.commands))
            self.assertNotIn("BDAT", show(record))

    def test_bare_line_ends(self) -> None:
        """A line is what the server takes for one: LMTP ends it with LF, SMTP with CRLF alone."""
        for protocol, verbs in (("smtp", ["NOOP\\nNOOP", "RSET"]), ("lmtp", ["NOOP", "NOOP", "RSET"])):
            self.server.talk(protocol).say(b"NOOP\nNOOP\r\nRSET\r\n")
            record = self.server.deliveries[-1]
            self.assertEqual((record.verbs, record.commands[-1].succeeded), (verbs, True))

    def test_message_without_an_end(self) -> None:
        """The client goes within it: what it had said is there, and the answer is what invited it."""
        talker = self.server.talk("smtp")
        talker.say(b"HELO me\r\nMAIL FROM:<>\r\nRCPT TO:<mrose@mail.example.org>\r\nDATA\r\n")
        talker.say(b"Subject: half")
        talker.transport.loseConnection()      # type: ignore[union-attr]
        self.server.flush()
        self.assertEqual(self.replies()[-1], ("DATA", "354", False))
        self.assertTrue(told(self.delivery()).endswith("C: Subject: half\\c\n* the end: the client hung up"))

    def test_silence(self) -> None:
        """Who says nothing is taken leave of; half a line is recorded all the same."""
        for protocol in ("smtp", "lmtp"):
            self.server.talk(protocol).say(b"NOO")
        self.server.advance(310)
        for record in self.server.deliveries:
            self.assertEqual((told(record).splitlines()[-3:], record.verbs), (
                ["S: 421 4.4.2 idle for too long", "C: NOO\\c", "* the end: closed by the server"], []))

    def test_tls(self) -> None:
        """Where it begins, what it comes to, and whose octets were said inside."""
        for protocol, hello in (("smtp", b"EHLO me\r\n"), ("lmtp", b"LHLO me\r\n")):
            talker = self.server.talk(protocol)
            talker.say(hello)
            talker.say(b"STARTTLS\r\n")
            talker.transport.startTLS(self.server.trusting())       # type: ignore[union-attr]
            self.server.flush()
            talker.say(hello)
            record = self.server.deliveries[-1]
            self.assertEqual((record.verbs, record.tls, record.server_name),
                             ([hello[:4].decode(), "STARTTLS", hello[:4].decode()], True, "localhost"))
            lines = told(record).splitlines()
            at = lines.index("TLS: begin")
            self.assertEqual([lines[at - 2], lines[at + 2]], ["C: STARTTLS", f"C: {hello[:7].decode()}"])
            self.assertEqual(lines[at + 1], f"* inside TLS: {record.tls_details}")
            self.assertEqual([one.tls for one in record.events if one.octets == hello], [False, True])

    def test_no_tls(self) -> None:
        """Octets that are none of TLS's: the record tells why nothing came of it."""
        for protocol in ("smtp", "lmtp"):
            talker = self.server.talk(protocol)
            talker.say((b"LHLO" if protocol == "lmtp" else b"EHLO") + b" me\r\n")
            talker.say(b"STARTTLS\r\n")
            talker.say(b"NOOP\r\n" * 5)
            self.assertIn("no TLS: ", self.server.deliveries[-1].end)


class ListTests(DeliveryCase):
    def test_numbers(self) -> None:
        """Deliveries move no session's number: a fault for the first session meets it."""
        self.server.talk("lmtp")
        self.server.talk("smtp").say(b"QUIT\r\n")
        with self.server.fault("error", command="NOOP", session=1) as fault:
            self.server.talk().say(b"NOOP\r\n")
            self.assertEqual(fault.acted, 1)
        self.assertEqual([[(one.number, one.protocol) for one in listed]
                          for listed in (self.server.deliveries, self.server.sessions)],
                         [[(1, "lmtp"), (2, "smtp")], [(1, "pop3")]])
        self.assertEqual(repr(self.server.deliveries[1]), "<delivery 2, smtp: QUIT; QUIT>")
        titles = [line.partition(",")[0] for line in self.server.transcript().splitlines() if line[:1] == "#"]
        self.assertEqual(titles, ["# session 1", "# delivery 1", "# delivery 2"])

    def test_report(self) -> None:
        """A failing test's report has what was said since the mark, and nothing after a reset."""
        self.server.talk("smtp")
        mark = self.server.mark()
        self.assertEqual(self.server.report(mark), "")
        self.server.talk("lmtp").say(b"NOOP\r\n")
        self.assertTrue(self.server.report(mark).startswith("# delivery 2, lmtp, from "))
        self.server.reset()
        self.assertEqual((self.server.deliveries, self.server.report()), ([], "# no client has connected"))

    def test_a_client(self) -> None:
        """On sockets: what was sent before it is asked for is there, and does not change any more."""
        with Server(protocols=["smtp"]) as server:
            server.account("mrose", "secret")
            with smtplib.SMTP(*server.smtp, timeout=20) as client:
                client.sendmail("a@b.example", [TO], "Subject: one\n\nhello\n")
                before, = server.deliveries
            ended = server.wait_for(lambda: [one for one in server.deliveries if not one.open])
            with self.assertRaisesRegex(AssertionError, "1 clients have brought mail, none has come for it"):
                server.wait_for(lambda: server.sessions, 0)
        verbs = ["EHLO", "MAIL", "RCPT", "DATA"]
        self.assertEqual((before.verbs, before.open), (verbs, True))
        self.assertEqual([(one.verbs, one.end) for one in ended], [([*verbs, "QUIT"], "QUIT")])


class BoundsTests(SynchronousTestCase):
    """What no server of ours lets come to pass, told to the record itself."""

    def setUp(self) -> None:
        self.talk = Conversation(Records(lambda: 0.0, called="delivery"), "lmtp", replies_each=True,
                                 line_end=b"\n")

    def test_without_end(self) -> None:
        """A line that does not end, octets behind a command that has no answer: recorded, not kept."""
        self.talk.hear(b"x" * (LINE_OCTETS + 1))
        self.assertEqual(self.talk.record.octets_heard, LINE_OCTETS + 1)
        self.talk.hear(b"\r\n" + b"NOOP\r\n" * (UNANSWERED_OCTETS // 6 + 2))
        self.assertGreater(self.talk.record.octets_heard, UNANSWERED_OCTETS)
        self.assertEqual(len(self.talk.record.commands), 1)

    def test_large(self) -> None:
        """A message has a quarter of the room: what is answered to it is in the record."""
        records = Records(lambda: 0.0, kept_octets=4000)
        talk = Conversation(records, "lmtp", replies_each=True, line_end=b"\n")
        for octets, reply in ((b"MAIL FROM:<>\r\n", b"250 ok\r\n"), (b"RCPT TO:<a>\r\n", b"250 ok\r\n"),
                              (b"DATA\r\n", b"354 go\r\n"), (b"x" * 9000 + b"\r\n.\r\n", b"250 stored\r\n")):
            talk.hear(octets)
            talk.say(reply)
        talk.end("QUIT")
        self.assertEqual(talk.record.events[-1].octets, b"250 stored\r\n")
        self.assertEqual((talk.record.octets_kept, talk.record.octets_left_out), (1012, 8062))

    def test_dots(self) -> None:
        """The end of a message is found however it is cut, and nowhere else."""
        for octets, length in ((b".\r\nQUIT", 3), (b"a\r\n.\r\n.\r\n", 6),
                               (b"a\n.\r\n\r\n..\r\n.\n\r\n.\r\nx", 18)):
            for size in (1, 2, 3, 5, 100):
                dots, taken = Dots(), 0
                while not dots.ended:
                    taken += dots.take(octets[taken:taken + size])
                self.assertEqual(taken, length, (octets, size))


class NobodyTests(DeliveryCase):
    def test_nobody(self) -> None:
        """A maildrop that nobody has is no empty one; SDPS hosts' and empty ones are there."""
        nobody = self.server.maildrop("mrsoe")
        for ask in (lambda: nobody.messages, lambda: nobody.unique_ids, lambda: len(nobody), nobody.clear,
                    lambda: nobody.remove("1")):
            with self.assertRaisesRegex(NoSuchAccount, "mrsoe; there are bob, mrose"):
                ask()
        self.assertEqual(self.server.host("shop", "s").messages, [])
        self.assertEqual(self.server.maildrop("BOB").messages, [])


class ApiTests(ApiCase):
    def sent(self) -> None:
        self.server.account("mrose", "secret")
        with smtplib.LMTP(*self.server.lmtp, timeout=20) as client:
            client.sendmail("a@b.example", [TO], "Subject: one\n\nhello\n")

    def test_deliveries(self) -> None:
        """The same as of sessions, at paths of their own; sessions know nothing of them."""
        self.sent()
        found = self.ask(200, "GET", "/deliveries?wait=idle&least=1").json
        self.assertEqual([found["count"], found["open"], found["deliveries"][0]["protocol"],
                          found["deliveries"][0]["verbs"]],
                         [1, 0, "lmtp", ["LHLO", "MAIL", "RCPT", "DATA", "QUIT"]])
        one: dict[str, Any] = self.ask(200, "GET", "/deliveries/latest?wait=ended").json
        self.assertEqual([one, one["end"]], [found["deliveries"][0], "QUIT"])
        events = self.ask(200, "GET", "/deliveries/1/events?limit=2").json
        self.assertEqual([events["events"][1]["shown"][:5], events["more"]], ["lhlo ", True])
        text = self.ask(200, "GET", "/deliveries/1/transcript").octets
        self.assertIn(b"C: Subject: one\n", text)
        self.assertEqual(self.ask(200, "GET", "/sessions").json["count"], 0)
        self.assertEqual(self.ask(404, "GET", "/deliveries/2").json["detail"], "there is no delivery 2")

    def test_nobody(self) -> None:
        """A maildrop that nobody has is not found, and the answer names it."""
        self.server.account("mrose", "secret")
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/1"), ("DELETE", "/1")):
            detail = self.ask(404, method, f"/maildrops/mrsoe/messages{path}").json["detail"]
            self.assertEqual(detail, "there is no such account: mrsoe; there are mrose")
