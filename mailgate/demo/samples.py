"""Messages to play with: each of a kind that some POP client or server once got wrong."""

from __future__ import annotations

import base64
import random
from typing import NamedTuple

LARGE_OCTETS = 3 << 20
LINE_OCTETS = 57        # what makes a base64 line of 76

HEADER = """\
From: {sender}
To: {to}
Subject: {subject}
Date: Sat, 01 Aug 1998 12:00:00 +0100
Message-ID: <{number}.demo@example.org>
MIME-Version: 1.0
"""

WELCOME = """\
Content-Type: text/plain; charset=us-ascii

This message lies in a maildrop of mailgate. Fetch it, delete it, break the
connection in between: what you did not QUIT is still there next time.
"""

ACCENTS = """\
Content-Type: text/plain; charset={charset}
Content-Transfer-Encoding: 8bit

Grüße aus dem Auenland: Brötchen, Käse, ein Krug Bier für zwölf Zwerge.
Un café crème, s'il vous plaît.
"""

MULTIPART = """\
Content-Type: multipart/mixed; boundary="=_second_breakfast"

This is a message in MIME format.
--=_second_breakfast
Content-Type: multipart/alternative; boundary="=_either"

--=_either
Content-Type: text/plain; charset=us-ascii

The menu is attached.
--=_either
Content-Type: text/html; charset=us-ascii

<p>The <em>menu</em> is attached.</p>
--=_either--

--=_second_breakfast
Content-Type: text/csv; name="menu.csv"
Content-Disposition: attachment; filename="menu.csv"
Content-Transfer-Encoding: base64

bWVhbCxob3VyCmJyZWFrZmFzdCw3CnNlY29uZCBicmVha2Zhc3QsOQplbGV2ZW5zZXMsMTEK

--=_second_breakfast--
"""

DOTS = """\
Content-Type: text/plain; charset=us-ascii

Lines that begin with dots are stuffed on the wire and must come out whole:
.
..
.hidden
. . .
The line of one dot above is content, not the end.
"""

REPORT = """\
Content-Type: text/plain; charset=us-ascii
Auto-Submitted: auto-replied

This is the mail system of example.org. Your message to
<gollum@example.org> could not be delivered: no such hobbit.
"""

NOTICE = """\
Content-Type: text/plain; charset=us-ascii

One message, two local parts of one host: each user sees a copy with an
envelope of its own. Ask for it by *ENV.
"""


class Sample(NamedTuple):
    """One message: its key (which never changes), envelope and content."""

    key: str
    sender: str             # empty: the null sender
    recipients: tuple[str, ...]     # whole addresses
    content: bytes


def samples(ordinary: str, host: str) -> list[Sample]:
    """Return all samples, for an ordinary account's address and an SDPS host's domain."""
    sender = "sender@example.org"
    fred, sam = f"fred@{host}", f"sam@{host}"
    return [
        _sample(1, sender, [ordinary], "Welcome", WELCOME),
        _sample(2, sender, [ordinary], "Menu", MULTIPART),
        _sample(3, sender, [ordinary], "Accents in UTF-8", ACCENTS.replace("{charset}", "utf-8")),
        _sample(4, sender, [ordinary], "Accents in Latin-1", ACCENTS.replace("{charset}", "iso-8859-1"),
                encoding="iso-8859-1"),
        _sample(5, sender, [ordinary], "Dots", DOTS),
        _sample(6, "", [ordinary], "Undelivered mail", REPORT, author="MAILER-DAEMON@example.org"),
        _sample(7, sender, [ordinary], "Large", _large()),
        _sample(8, sender, [fred, sam], "For two", NOTICE),
        _sample(9, "gandalf@example.org", [fred], "Dots", DOTS, author="gandalf@example.org"),
        _sample(10, "", [sam], "Undelivered mail", REPORT, author="MAILER-DAEMON@example.org"),
    ]


def _sample(number: int, sender: str, recipients: list[str], subject: str, body: str, *,
            author: str = "sender@example.org", encoding: str = "utf-8") -> Sample:
    header = HEADER.format(sender=author, to=", ".join(recipients), subject=subject, number=number)
    return Sample(f"demo-{number}", sender, tuple(recipients), (header + body).encode(encoding))


def _large() -> str:
    """Return an attachment of some megabytes; the same octets every time."""
    octets = random.Random(1896).randbytes(LARGE_OCTETS // 4 * 3)
    lines = [base64.b64encode(octets[at:at + LINE_OCTETS]).decode()
             for at in range(0, len(octets), LINE_OCTETS)]
    return ("Content-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n"
            'Content-Disposition: attachment; filename="large.bin"\n\n' + "\n".join(lines) + "\n")
