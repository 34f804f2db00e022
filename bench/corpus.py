"""Messages of a seeded corpus.

Each tells the CRC-32 and the octets of its body, so that it can be checked whatever server it comes from.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator

SEED = 1939
LINE_OCTETS = 78                # of a body line of large messages, its end counted
PIECE_LINES = 840               # about 64 KiB
_TO_LETTERS = bytes(ord("a") + octet % 26 for octet in range(256))


def message(number: int, body: bytes) -> bytes:
    """Return a message with CRLF line ends around a body."""
    return _header(number, zlib.crc32(body), len(body)) + body


def _header(number: int, crc: int, octets: int) -> bytes:
    return (b"Message-ID: <%d@bench.example>\r\nFrom: <a@bench.example>\r\nTo: <b@bench.example>\r\n"
            b"Subject: message %d\r\nX-Check: %08x %d\r\n\r\n" % (number, number, crc, octets))


def mixed(user: int, count: int) -> Iterator[bytes]:
    """Yield the messages of one user: median some 5 KB, one in fifty of 100 KB, with dots to be stuffed."""
    chance = random.Random(SEED * 1_000_003 + user)
    for number in range(count):
        octets = int(chance.lognormvariate(8.6, 1.0)) if chance.random() > 0.02 else 100_000
        yield message(user * count + number, _body(chance, octets))


def small(user: int, count: int) -> Iterator[bytes]:
    """Yield messages of 0.7 to 1.6 KB."""
    chance = random.Random(SEED * 1_000_003 + user)
    for number in range(count):
        yield message(number, _body(chance, chance.randrange(500, 1400)))


def _body(chance: random.Random, octets: int) -> bytes:
    lines: list[bytes] = []
    while octets > 0:
        line = b"." * (chance.random() < 0.1) + _letters(chance, chance.randrange(1, 77))
        lines.append(line + b"\r\n")
        octets -= len(line) + 2
    return b"".join(lines)


def _letters(chance: random.Random, count: int) -> bytes:
    return chance.randbytes(count).translate(_TO_LETTERS)


def large(octets: int) -> Iterator[bytes]:
    """Yield a message of about so many octets in pieces of 64 KiB; none of it is kept."""
    chance = random.Random(SEED)
    piece = b"".join(_letters(chance, LINE_OCTETS - 2) + b"\r\n" for _ in range(PIECE_LINES))
    count, crc = max(1, octets // len(piece)), 0
    if octets < len(piece):
        piece = piece[:max(1, octets // LINE_OCTETS) * LINE_OCTETS]
    for _ in range(count):
        crc = zlib.crc32(piece, crc)
    yield _header(0, crc, count * len(piece))
    for _ in range(count):
        yield piece
