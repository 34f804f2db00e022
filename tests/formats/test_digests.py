"""Digests of headers. Debian's servers are asked themselves in tests/peers; qpopper it has no more."""

from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.formats import digests

HEADER = (b"Date: 1\nMessage-Id:  <2@x>  \nReceived: from x\n\tby y\n  id 3\nReceived: second\n"
          b"Date: below\nDelivered-To: me\nX-Delivery-ID: 7\nSubject: two\n  folded\n")
FROM = b"From a@example.org Mon Jan  1 00:00:00 2024\n"


def md5(octets: bytes) -> str:
    return hashlib.md5(octets).hexdigest()


class DigestTests(SynchronousTestCase):
    def test_dovecot(self) -> None:
        """Of lines after the colon and one space, without their ends; folded ones as they are."""
        self.assertEqual(digests.dovecot_few(HEADER).decode(),
                         md5(b"1" b" <2@x>  " b"from x" b"\tby y" b"  id 3" b"me" b"7"))
        all_of = b"A:x\r\nno field\nX-UID: 7\n folded\nX-Keywords: \nB : y\n"
        self.assertEqual(digests.dovecot_all(all_of).decode(), md5(b"x" b"no field" b"y"))
        self.assertEqual(digests.dovecot_few(b"").decode(), md5(b""))

    def test_popa3d(self) -> None:
        """Of whole lines; as popa3d answered."""
        for header, expected in ((b"Subject: none\n", "d98c1dd404b2008f"),
                                 (b"Message-ID: x\n", "b73ae10a92627582"),
                                 (b"Date: x\n", "705418d22efbeb67"), (b"Received: x\n", "012ae349b6558ee8"),
                                 (b"Delivered-To: x\n", "e2405e32a94c4eca"),
                                 (b"X-Delivery-ID: x\n", "c17c76daa7f3809e")):
            self.assertEqual(digests.popa3d(header).decode(), expected)
        self.assertEqual(digests.popa3d(b"Date : x\n"), digests.popa3d(b""))

    def test_qpopper(self) -> None:
        """Of From line, four fields' first lines, and in the newer style the From line once more."""
        lines = (b"Date: 1\nMessage-Id:  <2@x>  \nReceived: from x\nReceived: second\nDate: below\n"
                 b"Subject: two\n")
        self.assertEqual(digests.qpopper(FROM, HEADER, old_style=True).decode(), md5(FROM + lines))
        octets = hashlib.md5(FROM + lines + FROM).digest()
        shown = digests.qpopper(FROM, HEADER, old_style=False)
        self.assertEqual(len(shown), 20)
        for place in range(4):
            number = sum(octet * 16 ** power for octet, power
                         in zip(octets[4 * place:4 * place + 4], (3, 2, 1, 0), strict=True))
            part = shown[5 * place:5 * place + 5].replace(b"~", b".")
            self.assertEqual(sum((one - 0x21) * 80 ** power for power, one in enumerate(part)), number)

    @settings(deadline=None)
    @given(st.lists(st.sampled_from([b"Date: x", b"\n", b"\r\n", b"\r", b" ", b":", b"\xff", b"Received:"]),
                    max_size=20).map(b"".join))
    def test_anything(self, header: bytes) -> None:
        """No octet of a header is lost between its fields; every digest is one that POP3 can show."""
        self.assertEqual(b"".join(line for field in digests.fields(header) for line in field.lines), header)
        for one in (digests.dovecot_few(header), digests.dovecot_all(header), digests.popa3d(header),
                    digests.qpopper(FROM, header, old_style=False)):
            self.assertRegex(one, rb"^[\x21-\x7e]{16,32}$")
