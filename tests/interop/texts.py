"""What is delivered, and what has to be fetched for it."""

from __future__ import annotations

import re
from random import Random

HELLO = b"Subject: hello\r\nFrom: sender@example.org\r\n\r\nHello.\r\n"

TEXTS = {
    "plain": HELLO,
    "bare LF": b"Subject: LF\n\nfirst\nsecond\n",
    "dots": b"Subject: dots\r\n\r\n.\r\n..\r\n.first\r\n...\r\n.\r\n",
    "8-bit": "Subject: Grüße\r\n\r\nÄÖÜ €\r\n".encode() + bytes(range(128, 256)) + b"\r\n",
    "no body": b"Subject: no body\r\n\r\n",
    "only header": b"Subject: only header\r\n",
    "no header": b"\r\nno header\r\n",
    "no final line end": b"Subject: x\r\n\r\nlast line",
    "lone dot at the end": b"Subject: x\r\n\r\n.",
    "blank lines": b"Subject: x\r\n\r\n\r\n\r\n\r\n",
    "long lines": b"Subject: x\r\n\r\n" + b"x" * 1998 + b"\r\n" + b"." * 998 + b"\r\n",
    "MIME": (b"Subject: parts\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b\"\r\n\r\n"
             b"--b\r\nContent-Type: text/plain\r\n\r\ntext\r\n"
             b"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
             b"AAECAw==\r\n--b--\r\n"),
    "own Return-Path": b"Return-Path: <forged@example.net>\r\nSubject: x\r\n\r\nx\r\n",
    "64 KiB": b"Subject: 64 KiB\r\n\r\n" + b"0123456789abcd\r\n" * 4096,
}

_PUT_IN_FRONT = re.compile(
    rb"Return-Path: <([^>\r\n]*)>\r\nDelivered-To: ([^\r\n]*)\r\n"
    rb"(Received: [^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*)")


def large(octets: int, seed: int = 1) -> bytes:
    """Return a message of about that many octets, of lines of all lengths to 76, many with dots in front."""
    random = Random(seed)
    block = b"".join(b"%b%d %b\r\n" % (b"." * random.randrange(3), number, b"x" * random.randrange(70))
                     for number in range(2000))
    return b"Subject: %d octets\r\n\r\n" % octets + block * (octets // len(block) + 1)


def wire_form(message: bytes) -> bytes:
    """Return a message as it has to be stored: CRLF line ends, the last line ended."""
    message = re.sub(rb"(?<!\r)\n", b"\r\n", message)
    return message if message.endswith(b"\r\n") or not message else message + b"\r\n"


def taken_apart(fetched: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Return the sender of Return-Path, the recipient of Delivered-To, the Received field, and the rest."""
    front = _PUT_IN_FRONT.match(fetched)
    assert front, fetched[:400]
    return front[1], front[2], front[3], fetched[front.end():]
