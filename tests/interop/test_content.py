"""What is fetched is what was delivered, by each of the three ways in, and is as long as LIST says."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import corpus
from tests.interop.house import House
from tests.interop.texts import HELLO, TEXTS, large, taken_apart, wire_form

FIVE_MEGABYTES = 5_000_000

house = House()
setUpModule, tearDownModule = house.open, house.close


def without_return_path(text: bytes) -> bytes:
    """Return a text in CRLF form as a delivery that adds a Return-Path of its own stores it."""
    return re.sub(rb"\AReturn-Path:[^\r]*\r\n", b"", wire_form(text))


class ContentCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.name = house.account()

    def assert_sizes(self) -> list[bytes]:
        """LIST, LIST n, STAT and the octets that RETR sends have to agree; return the contents."""
        with house.login(self.name) as client:
            sizes = client.sizes()
            contents = [client.content(number) for number in range(1, len(sizes) + 1)]
            self.assertEqual(sizes, [len(content) for content in contents])
            self.assertEqual(client.stat(), (len(sizes), sum(sizes)))
        return contents


class LmtpTests(ContentCase):
    def test_every_text(self) -> None:
        """By LMTP: preamble, the Received line of this delivery, the message in CRLF form."""
        texts = [*TEXTS.values(), large(FIVE_MEGABYTES)]
        for text in texts:
            house.lmtp(text, self.name, sender="Some.Body@example.net")
        address = f"{self.name}@mail.example.org".encode()
        for fetched, text in zip(self.assert_sizes(), texts, strict=True):
            sender, recipient, received, rest = taken_apart(fetched)
            self.assertEqual((sender, recipient), (b"Some.Body@example.net", address))
            self.assertRegex(received, rb"(?s)from relay\.example\.org \(\[127\.0\.0\.1\]\)\s+"
                                       rb"by mail\.example\.org with LMTP id \S+\s+for <%b>; .* \+0000\r\n\Z"
                             % re.escape(address))
            self.assertEqual(rest, without_return_path(text))

    def test_many_recipients(self) -> None:
        """One delivery to several: each has a preamble of its own, and none is told of the others."""
        others = [self.name, house.account(), house.account()]
        house.lmtp(TEXTS["8-bit"], *others, sender="")
        for name in others:
            (fetched,) = house.octets(name).values()
            sender, recipient, received, rest = taken_apart(fetched)
            self.assertEqual((sender, recipient), (b"", f"{name}@mail.example.org".encode()))
            self.assertEqual(received.count(b"@"), 0, received)
            self.assertEqual(rest, wire_form(TEXTS["8-bit"]))


class CommandTests(ContentCase):
    def test_texts(self) -> None:
        """By `mailgate deliver`, which takes LF line ends and what no SMTP client could send."""
        texts = [*(TEXTS[name] for name in ("bare LF", "dots", "8-bit", "no body", "own Return-Path")), b"",
                 corpus.MESSAGES["all octets"], corpus.MESSAGES["bare CR"], corpus.MESSAGES["NUL"],
                 large(FIVE_MEGABYTES).replace(b"\r\n", b"\n")]
        for text in texts:
            house.site.deliver(text, f"{self.name}@mail.example.org", sender="local@example.org")
        for fetched, text in zip(self.assert_sizes(), texts, strict=True):
            sender, recipient, received, rest = taken_apart(fetched)
            self.assertEqual((sender, recipient),
                             (b"local@example.org", f"{self.name}@mail.example.org".encode()))
            self.assertIn(b"with local id", received)
            self.assertEqual(rest, without_return_path(text))


class ImportTests(ContentCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp()).absolute()
        self.texts = [*TEXTS.values(), corpus.MESSAGES["all octets"], large(FIVE_MEGABYTES)]

    def assert_imported(self, texts: list[bytes], sender: bytes = b"") -> None:
        fetched = self.assert_sizes()
        self.assertEqual(len(fetched), len(texts))
        for found, text in zip(fetched, texts, strict=True):
            own = wire_form(text)
            if own.startswith(b"Return-Path:"):
                self.assertEqual(found, own)
            else:
                address = f"{self.name}@mail.example.org".encode()
                front = b"Return-Path: <%b>\r\nDelivered-To: %b\r\n" % (sender, address)
                self.assertEqual(found, front + own)

    def test_maildir(self) -> None:
        """By `mailgate import` of a Maildir: as it is, behind a preamble where there is none; only once."""
        for name in ("cur", "new", "tmp"):
            (self.folder / name).mkdir(parents=True)
        for number, text in enumerate(self.texts):
            (self.folder / "new" / f"{1000000000 + number}.M{number}P1.host").write_bytes(text)
        for _ in range(2):
            house.site.succeed("import", self.name, str(self.folder))
            self.assert_imported(self.texts)

    def test_mbox(self) -> None:
        """By `mailgate import` of an mbox: the From lines are gone, and tell the sender and nothing else."""
        texts = [HELLO.replace(b"\r\n", b"\n"), b"Subject: quoted\n\n>From me\nFrom: x\n",
                 large(200_000).replace(b"\r\n", b"\n")]
        self.folder.write_bytes(b"".join(
            b"From joe@example.net Sat Jan  3 01:05:34 1998\n%b\n" % text for text in texts))
        house.site.succeed("import", self.name, str(self.folder))
        self.assert_imported(texts, sender=b"joe@example.net")


class TopTests(ContentCase):
    def test_prefixes(self) -> None:
        """TOP n is the header, the empty line and n lines; asked for more than there are, the whole."""
        for name in ("dots", "no body", "only header", "no header", "no final line end", "64 KiB"):
            house.lmtp(TEXTS[name], self.name)
        with house.login(self.name) as client:
            for number in range(1, len(client.sizes()) + 1):
                whole = client.content(number)
                head, blank, body = whole.partition(b"\r\n\r\n")
                lines = body.splitlines(keepends=True)
                for count in (0, 1, 2, 4095, 4096, 99_999_999):
                    found = b"".join(line + b"\r\n" for line in client.top(number, count)[1])
                    expected = head + blank + b"".join(lines[:count]) if blank else whole
                    self.assertEqual(found, expected, (number, count))
