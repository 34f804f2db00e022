"""MD5 from a state that was kept (RFC 1321): hashlib begins only at the beginning.

For CRAM-MD5's contexts and nothing else; a challenge costs two blocks, about 0.1 ms each.
"""

from __future__ import annotations

import math
import struct

INITIAL_STATE = struct.pack("<4I", 0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)

_MASK = 0xFFFFFFFF
_SINES = [int(abs(math.sin(step + 1)) * 2 ** 32) & _MASK for step in range(64)]
_SHIFTS = [turn for turns in ((7, 12, 17, 22), (5, 9, 14, 20), (4, 11, 16, 23), (6, 10, 15, 21))
           for turn in turns * 4]


def padded(message: bytes, before: int) -> bytes:
    """Return a message with its padding; `before` octets, whole blocks, are in the state already."""
    octets = before + len(message)
    return message + b"\x80" + bytes((55 - octets) % 64) + struct.pack("<Q", octets * 8 & (2 ** 64 - 1))


def compressed(state: bytes, blocks: bytes) -> bytes:
    """Return the state after whole blocks of 64 octets; of a padded message, that is the digest."""
    words = struct.unpack("<4I", state)
    for start in range(0, len(blocks), 64):
        words = _block(words, struct.unpack_from("<16I", blocks, start))
    return struct.pack("<4I", *words)


def _block(state: tuple[int, ...], words: tuple[int, ...]) -> tuple[int, ...]:
    a, b, c, d = state
    for step in range(64):
        if step < 16:
            mixed, index = b & c | ~b & d, step
        elif step < 32:
            mixed, index = d & b | ~d & c, 5 * step + 1
        elif step < 48:
            mixed, index = b ^ c ^ d, 3 * step + 5
        else:
            mixed, index = c ^ (b | ~d), 7 * step
        turned = a + mixed + _SINES[step] + words[index % 16] & _MASK
        shift = _SHIFTS[step]
        a, d, c, b = d, c, b, b + (turned << shift | turned >> 32 - shift) & _MASK
    return tuple(one + two & _MASK for one, two in zip(state, (a, b, c, d), strict=True))
