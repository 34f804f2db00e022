"""The messages that the suite delivers itself: small, and each difficult in one way.

They are known again by the run's token, which stands in a header field, or in the first line where there is
no header. Whatever does not carry it is foreign mail.
"""

from __future__ import annotations

from typing import NamedTuple

FIELD = b"X-Mailgate-Conformance"
DOT_LINES = 16_500      # in a row: more than 64 KiB once they are stuffed, and than 32 KiB with LF


class Sample(NamedTuple):
    """One message, CRLF at the line ends. `ends` is false where its last line has no end."""

    name: str
    content: bytes
    ends: bool = True

    @property
    def body(self) -> bytes:
        """What stands behind the first empty line; empty if there is none."""
        return split(self.content)[1]


def split(content: bytes) -> tuple[bytes, bytes]:
    """Return header and body of a message; the empty line belongs to neither."""
    if content.startswith(b"\r\n"):
        return b"", content[2:]
    header, empty, body = content.partition(b"\r\n\r\n")
    return (header + b"\r\n", body) if empty else (content, b"")


def mark(token: str, name: str) -> bytes:
    """Return what a message of this run is known by."""
    return f"{token} {name}".encode()


def small(token: str, name: str, *, text: bytes = b"") -> Sample:
    """Return a message with nothing difficult about it."""
    return Sample(name, header(token, name) + b"\r\n" + (text or b"A message to be removed.\r\n"))


def header(token: str, name: str) -> bytes:
    """Return the header of a message of this run, without the empty line."""
    return (b"From: conformance@example.org\r\nTo: conformance@example.org\r\n"
            b"Subject: conformance check: " + name.encode() + b"\r\n"
            b"Message-ID: <" + token.encode() + b"." + name.encode() + b"@conformance.example.org>\r\n"
            + FIELD + b": " + mark(token, name) + b"\r\n")


def samples(token: str) -> list[Sample]:
    """Return all that is delivered at the beginning of a run."""
    def with_body(name: str, body: bytes, *, ends: bool = True) -> Sample:
        return Sample(name, header(token, name) + b"\r\n" + body, ends)

    # Lines of a dot are 2, 3 or 4 octets (LF, CRLF, stuffed), and so are the steps in which they meet the
    # edges of a buffer: what stands between the rows shifts them, until each of their octets was at an edge.
    row = b".\r\n" * DOT_LINES
    every_edge = row + b"x\r\n" + row + b"x\r\n" + row + b"x\r\n" + row + b"xx\r\n" + row
    return [
        with_body("plain", b"Hello.\r\n\r\nThis is the second paragraph.\r\n"),
        with_body("dots", b".\r\n..\r\n...\r\n.leading\r\nnot .leading\r\n\r\n.\r\n\r\nafter the dot\r\n.\r\n"
                          b"+OK\r\n.\r\nQUIT\r\n..end\r\n."b"\r\n"),
        with_body("edges", every_edge),
        with_body("lines", b"".join([b"line %d\r\n" % number for number in range(1, 51)])),
        with_body("long", b"x" * 998 + b"\r\n." + b"y" * 997 + b"\r\nshort\r\n"),
        with_body("overlong", b"z" * 20_000 + b"\r\n." + b"z" * 70_000 + b"\r\nshort\r\n"),
        with_body("eight-bit", bytes(range(0x80, 0x100)) + b"\r\ngr\xc3\xbc\xc3\x9fe\r\n.\xff\xfe\r\n"),
        with_body("blanks", b"\r\n\r\ntrailing blanks  \r\n\tTAB\t\r\n \r\nFrom here on\r\n>From there\r\n"
                            b"\r\n\r\nend\r\n"),
        with_body("empty-body", b""),
        Sample("header-only", header(token, "header-only")),
        Sample("no-header", b"\r\n" + mark(token, "no-header") + b"\r\nnothing before this\r\n"),
        with_body("no-end", b"the last line\r\n.has no end", ends=False),
    ]
