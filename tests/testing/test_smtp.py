"""Mail brought into the harness by SMTP: real smtplib, and octets by hand."""

from __future__ import annotations

import contextlib
import smtplib
import socket
from email.message import EmailMessage
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing import Server
from mailgate.testing.memory import MemoryServer

NOW = 1_800_000_000.0       # 2027-01-15, 08:00 UTC
SECONDS = 60.0
MESSAGE = b"Subject: one\r\n\r\nhello\r\n.dot\r\n..\r\n"
SENDER = "a@b.example"

_open = contextlib.ExitStack()
server: Server


def setUpModule() -> None:
    """Start one server, whose clock is held."""
    global server
    server = _open.enter_context(Server(protocols=["pop3", "smtp"], held=True, now=NOW, settings={
        "limits": {"size_octets": 200_000, "recipients": 100}, "store": {"quota_octets": 300_000}}))


def tearDownModule() -> None:
    _open.close()


class SmtpCase(SynchronousTestCase):
    def setUp(self) -> None:
        server.reset()
        self.maildrop = server.account("mrose", "secret")

    def client(self) -> smtplib.SMTP:
        client = smtplib.SMTP(*server.smtp, local_hostname="me.example.com", timeout=SECONDS)
        self.addCleanup(client.close)
        return client

    def refused(self, kind: type[smtplib.SMTPException], *sent: Any, **more: Any) -> Any:
        with self.assertRaises(kind) as caught:
            self.client().sendmail(*sent, **more)
        self.assertEqual(len(self.maildrop), 0)
        return caught.exception


class DeliveryTests(SmtpCase):
    def test_stored(self) -> None:
        """Octet by octet what was sent, behind the lines that a delivery puts in front."""
        self.assertEqual(self.client().sendmail(SENDER, ["mrose@mail.example.org"], MESSAGE), {})
        message, = self.maildrop.messages
        self.assertEqual((message.sender, message.recipient, message.arrived),
                         (SENDER, "mrose@mail.example.org", NOW))
        self.assertEqual(message.content, (
            b"Return-Path: <a@b.example>\r\nDelivered-To: mrose@mail.example.org\r\n"
            b"Received: from me.example.com ([127.0.0.1])\r\n"
            b"\tby mail.example.org with ESMTP id 1A3185C5000-0001\r\n"
            b"\tfor <mrose@mail.example.org>; Fri, 15 Jan 2027 08:00:00 +0000\r\n") + MESSAGE)

    def test_hosts_and_accounts(self) -> None:
        """Several recipients of one message: each gets a copy with his own envelope."""
        shop = server.host("shop", "s")
        to = ["mrose@mail.example.org", "bob@shop.mail.example.org", "eve@shop.mail.example.org"]
        self.client().sendmail("", to, MESSAGE)
        self.assertEqual([one.recipient for one in (*self.maildrop.messages, *shop.messages)], to)
        self.assertEqual({one.sender for one in shop.messages}, {""})
        self.assertNotIn(b"bob@", shop.messages[1].content)

    def test_unknown(self) -> None:
        """Users and domains that there are not; the others of the message get it."""
        refused = self.client().sendmail(SENDER, ["nobody@mail.example.org", "mrose@mail.example.org",
                                                  "x@elsewhere.example"], MESSAGE)
        self.assertEqual({name: code for name, (code, _) in refused.items()},
                         {"nobody@mail.example.org": 550, "x@elsewhere.example": 550})
        self.assertEqual(len(self.maildrop), 1)
        self.maildrop.clear()
        fault = self.refused(smtplib.SMTPRecipientsRefused, SENDER, ["nobody@mail.example.org"], MESSAGE)
        self.assertEqual(next(iter(fault.recipients.values()))[0], 550)

    def test_several_on_one_connection(self) -> None:
        client = self.client()
        for _ in range(3):
            client.sendmail(SENDER, ["mrose@mail.example.org"], MESSAGE)
        client.quit()
        self.assertEqual(len(self.maildrop), 3)

    def test_made_by_python(self) -> None:
        """smtplib's send_message, with an address beyond ASCII: SMTPUTF8 and 8BITMIME."""
        server.account("grüße", "s", addresses=["grüße@mail.example.org"])
        letter = EmailMessage()
        letter["From"], letter["To"], letter["Subject"] = SENDER, "grüße@mail.example.org", "für dich"
        letter.set_content("schön\n", cte="8bit")
        self.client().send_message(letter)
        message, = server.maildrop("grüße").messages
        self.assertEqual(message.recipient, "grüße@mail.example.org")
        self.assertIn("schön".encode(), message.content)
        self.assertIn(b"with UTF8SMTP id", message.content)

    def test_without_header(self) -> None:
        """Nothing is added to what has none, or looks as if it had."""
        self.client().sendmail(SENDER, ["mrose@mail.example.org"], b"hello\r\n")
        self.assertTrue(self.maildrop.messages[0].content.endswith(b"+0000\r\nhello\r\n"))

    def test_large(self) -> None:
        """One long line, and as much as may come."""
        for content in (b"a: b\r\n\r\n" + b"y" * 150_000 + b"\r\n", b"a: b\r\n\r\n" + b"z\r\n" * 30_000):
            self.client().sendmail(SENDER, ["mrose@mail.example.org"], content)
            self.assertTrue(self.maildrop.messages[0].content.endswith(content))
            self.maildrop.clear()


class RefusalTests(SmtpCase):
    def test_too_large(self) -> None:
        """Told by SIZE, or found when it has come: the connection goes on."""
        content = b"a: b\r\n\r\n" + b"x" * 98 + b"\r\n" + b"y\r\n" * 70_000
        self.assertEqual(self.refused(smtplib.SMTPSenderRefused, SENDER, ["mrose@mail.example.org"],
                                      content).smtp_code, 552)
        client = self.client()
        client.helo()
        with self.assertRaises(smtplib.SMTPDataError) as caught:
            client.sendmail(SENDER, ["mrose@mail.example.org"], content)
        self.assertEqual(caught.exception.smtp_code, 552)
        client.sendmail(SENDER, ["mrose@mail.example.org"], MESSAGE)
        message, = self.maildrop.messages
        self.assertIn(b"with SMTP id", message.content)

    def test_no_room(self) -> None:
        """Where one of the recipients has none, nobody gets the message: there is but one reply."""
        shop = server.host("shop", "s")
        shop.add(b"a: b\r\n\r\n" + b"x" * 290_000)
        fault = self.refused(smtplib.SMTPDataError, SENDER, ["mrose@mail.example.org",
                             "bob@shop.mail.example.org"], b"a: b\r\n\r\n" + b"y" * 150_000)
        self.assertEqual((fault.smtp_code, len(shop)), (452, 1))

    def test_malformed(self) -> None:
        """A NUL, and a loop."""
        for content in (b"a: b\r\n\r\n\0\r\n", b"Received: x\r\n" * 120 + b"\r\n"):
            self.assertEqual(self.refused(smtplib.SMTPDataError, SENDER, ["mrose@mail.example.org"],
                                          content).smtp_code // 100, 5)

    def test_non_ascii_without_a_word(self) -> None:
        client = self.client()
        client.ehlo()
        self.assertEqual(client.docmd("MAIL", "FROM:<a@b.example>")[0], 250)
        client.sock.sendall("RCPT TO:<grüße@mail.example.org>\r\n".encode())
        self.assertEqual(client.getreply()[0], 553)

    def test_out_of_order(self) -> None:
        client = self.client()
        client.ehlo()
        said = [client.docmd(*words)[0] for words in (
            ("RCPT", "TO:<mrose@mail.example.org>"), ("DATA",), ("MAIL", "FROM:<a@b.example>"), ("DATA",),
            ("MAIL", "FROM:<a@b.example>"), ("RCPT", "TO:<mrose@mail.example.org>"), ("RSET",), ("DATA",),
            ("MAIL", "TO:<x>"), ("MAIL", "FROM:<a@b.example> FOO=1"), ("BLA",), ("AUTH", "PLAIN"),
            ("STARTLTS",), ("NOOP",), ("VRFY", "mrose"), ("QUIT",))]
        self.assertEqual(said, [503, 503, 250, 503, 503, 250, 250, 503, 501, 555, 500, 500, 500, 250, 252,
                                221])

    def test_half_a_message(self) -> None:
        """A client that goes within it has sent nothing."""
        client = self.client()
        client.ehlo()
        client.mail(SENDER)
        client.rcpt("mrose@mail.example.org")
        client.docmd("DATA")
        client.sock.sendall(MESSAGE)
        client.close()
        server.idle()
        self.assertEqual(len(self.maildrop), 0)

    def test_hidden_end(self) -> None:
        """A dot between bare line ends does not end a message, and nothing behind it is a command."""
        client = self.client()
        client.sendmail(SENDER, ["mrose@mail.example.org"], b"a: b\r\n\r\nx\r\n")
        with socket.create_connection(server.smtp, SECONDS) as raw:
            raw.recv(4096)
            for line in (b"HELO me", b"MAIL FROM:<>", b"RCPT TO:<mrose@mail.example.org>", b"DATA"):
                raw.sendall(line + b"\r\n")
                raw.recv(4096)
            raw.sendall(b"a: b\r\n\r\nx\n.\nMAIL FROM:<evil@x.example>\r\n.\r\nQUIT\r\n")
            said = b""
            while piece := raw.recv(4096):
                said += piece
        self.assertEqual([line[:3] for line in said.splitlines()], [b"250", b"221"])
        self.assertIn(b"MAIL FROM:<evil", self.maildrop.messages[1].content)


class TLSTests(SmtpCase):
    def test_starttls(self) -> None:
        """Offered until it has begun; the client introduces itself anew, and the Received line tells."""
        client = smtplib.SMTP("localhost", server.smtp[1], local_hostname="me.example.com", timeout=SECONDS)
        self.addCleanup(client.close)
        client.ehlo()
        self.assertTrue(client.has_extn("starttls"))
        client.starttls(context=server.ssl_context())
        client.ehlo()
        self.assertFalse(client.has_extn("starttls"))
        self.assertEqual(client.docmd("STARTTLS")[0], 503)
        client.sendmail(SENDER, ["mrose@mail.example.org"], MESSAGE)
        self.assertIn(b"with ESMTPS id", self.maildrop.messages[0].content)

    def test_injected(self) -> None:
        """What comes with STARTTLS in clear is never carried out."""
        with MemoryServer(protocols=["smtp"]) as memory:
            talker = memory.talk("smtp")
            talker.say(b"EHLO me\r\n")
            self.assertEqual(talker.say(b"STARTTLS\r\nNOOP\r\nNOO")[:4], b"220 ")
            assert talker.transport is not None
            before = len(talker.received)
            talker.transport.startTLS(memory.trusting())        # type: ignore[attr-defined]
            self.assertEqual(talker.say(b"RSET\r\n"), b"250 2.0.0 ok\r\n")
            self.assertEqual(talker.received[before:], b"250 2.0.0 ok\r\n")


class SilenceTests(SmtpCase):
    def test_idle(self) -> None:
        """Five minutes of it, and a farewell; a client that does not let go is cut."""
        client = self.client()
        server.clock.advance(310)
        self.assertEqual(client.noop(), (421, b"4.4.2 idle for too long"))

    def test_stopped(self) -> None:
        """A server that stops lets nobody wait."""
        with Server(protocols=["smtp"]) as other:
            client = smtplib.SMTP(*other.smtp, timeout=SECONDS)
        with self.assertRaises((smtplib.SMTPException, OSError)):
            client.docmd("NOOP")
            client.docmd("NOOP")
