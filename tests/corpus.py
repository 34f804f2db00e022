"""Messages that framing gets wrong: kept apart, since reading, sizes and TOP all use them."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

MESSAGES = {
    "empty": b"",
    "one line end": b"\n",
    "blank line only": b"\r\n",
    "no body": b"Subject: x\r\n\r\n",
    "only header": b"Subject: x\r\nTo: y\r\n",
    "only header, no line end": b"Subject: x",
    "no header": b"\r\nbody\r\n",
    "lone dots": b"Subject: x\r\n\r\n.\r\n..\r\n...\r\n.\r\n",
    "lone dot at the end": b"Subject: x\r\n\r\n.",
    "dots in the header": b".Subject: x\r\n.\r\n\r\n.",
    "a dot": b".",
    "dots behind bare LF": b"a: b\n\n.\n..\n.c\n",
    "dots behind bare CR": b"a: b\r\n\r\nx\r.\ry\r.",
    "bare CR": b"a: b\r\n\r\na\rb\r\r\n\rc\r\n\r\r\n",
    "bare CR at the end": b"a: b\r\n\r\nx\r",
    "only CR": b"\r",
    "CR LF mixed": b"a: b\n\r\nc\r\nd\ne\r\n\r\n\n\n",
    "NUL": b"a: b\r\n\r\n\0\r\n.\0\r\n",
    "8-bit": b"Subject: \xc3\xa4\xff\r\n\r\n" + bytes(range(128, 256)) * 3,
    "all octets": b"a: b\r\n\r\n" + bytes(range(256)) * 4,
    "blank lines": b"\r\n\r\n\r\n\r\n",
    "one line of 100,000 octets": b"a: b\r\n\r\n" + b"x" * 100_000,
    "head of 70,000 octets": b"".join(b"X-%d: %s\r\n" % (n, b"y" * 60) for n in range(1000)) + b"\r\nz\r\n",
    "64 KiB exactly": b"a: b\r\n\r\n" + b"0123456789abcd\r\n" * 4095 + b"012345\r\n",
    "64 KiB and one": b"a: b\r\n\r\n" + b"0123456789abcd\r\n" * 4095 + b"0123456\r\n",
}


def dots_at_edges(shift: int, *, stuffed: bool, first: int = 9, last: int = 18) -> bytes:
    """Return a message in which lines that begin with a dot stand at every 2^k octets plus `shift`.

    With `stuffed` the places are those of the wire form, where every such line is one octet longer.
    """
    text = bytearray(b"a: b\r\n\r\n")
    for dots, power in enumerate(range(first, last + 1)):
        place = 2 ** power + shift - (dots if stuffed else 0)
        text += b"x" * (place - 2 - len(text)) + b"\r\n."
        text += b"\r\n" if power % 2 else b"text"    # a lone dot, or a line that begins with one
    return bytes(text)


def edge_messages(first: int = 9, last: int = 18) -> Iterator[bytes]:
    """Yield messages with dots, CR and LF on each side of every edge of a power of two."""
    for stuffed in (False, True):
        for shift in range(-2, 4):
            yield dots_at_edges(shift, stuffed=stuffed, first=first, last=last)


def random_message(random: Random, most: int = 400) -> bytes:
    """Return a message of the octets that matter, in any order."""
    alphabet = [b"\r", b"\n", b"\r\n", b".", b"\r\n.", b"a", b"bc", b":", b" ", b"\0", b"\xff", b"\r\n\r\n"]
    return b"".join(random.choice(alphabet) for _ in range(random.randrange(most)))


def random_pieces(random: Random, message: bytes, longest: int | None = None) -> list[bytes]:
    """Return a message cut at random places; empty pieces among them."""
    pieces, at = [], 0
    longest = longest or random.choice([1, 2, 7, 100, 1000, 10_000, 100_000])
    longest = max(longest, len(message) // 400)     # an adapter may take a thread's hop for each
    while at < len(message):
        octets = random.randint(0 if random.random() < 0.1 else 1, longest)
        pieces.append(message[at:at + octets])
        at += octets
    return pieces
