"""The greeting and its timestamp done wrong (RFC 1939 sections 4 and 7)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from mailgate.testing.trouble import values
from mailgate.testing.trouble.model import GREETING, REQUIRED, Instead, Kind, Occasion

HOSTNAME = b"mail.example.org"
BLOCKS_OCTETS = 128         # two blocks of MD5

BANNERS: Mapping[str, bytes] = {
    "smtp": b"220 mail.example.org ESMTP ready\r\n",
    "imap": b"* OK IMAP4rev1 server ready\r\n",
    "http": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "ssh": b"SSH-2.0-server\r\n",
    "ftp": b"220-FTP server\r\n220 ready\r\n",
}
_PLAIN: Mapping[str, bytes] = {
    "missing": b"",
    "empty": b"+OK\r\n",
    "blank": b"+OK \r\n",
    "lower_case": b"+ok ready\r\n",
    "unended": b"+OK ready\n",
    "lines": b"+OK welcome\r\n+OK ready\r\n",
    "eight_bit": b"+OK bienvenue \xe0 la bo\xeete \xff\r\n",
    "nul": b"+OK \0ready\0\r\n",
    **BANNERS,
}


def _greeting(occasion: Occasion, reply: bytes) -> bytes:
    how = occasion.setting("how")
    if how == "long":
        return b"+OK " + b"x" * max(0, occasion.setting("size") - 6) + b"\r\n"
    return _PLAIN.get(how, reply)


def _refused(occasion: Occasion) -> Instead | None:
    if occasion.setting("how") != "refused":
        return None
    return Instead(b"-ERR [SYS/TEMP] no service at the moment\r\n", then_end=True)


# Timestamps ---------------------------------------------------------------------------------------


def _random_word(occasion: Occasion) -> bytes:
    return occasion.random.randbytes(8).hex().encode()


_STAMPS: Mapping[str, Callable[[bytes], bytes]] = {
    "no_brackets": lambda word: b"%b@%b" % (word, HOSTNAME),
    "unclosed": lambda word: b"<%b@%b" % (word, HOSTNAME),
    "no_at": lambda word: b"<%b.%b>" % (word, HOSTNAME),
    "blanks": lambda word: b"<%b @ %b>" % (word, HOSTNAME),
    "empty": lambda word: b"<>",
    "no_parts": lambda word: b"<@>",
    "two": lambda word: b"<first.%b@%b> <second.%b@%b>" % (word, HOSTNAME, word, HOSTNAME),
    "nested": lambda word: b"<<%b@%b>>" % (word, HOSTNAME),
    "nul": lambda word: b"<%b\0@%b>" % (word, HOSTNAME),
    "eight_bit": lambda word: b"<%b\xff\xe9@%b>" % (word, HOSTNAME),
    "long": lambda word: b"<%b@%b>" % (word * 64, HOSTNAME),
}


def _timestamp(occasion: Occasion, reply: bytes) -> bytes:
    if not reply.startswith(b"+OK"):
        return reply
    how = occasion.setting("how")
    if how == "given":
        stamp: bytes = occasion.setting("value")
    elif how == "attack":
        stamp = _attack(occasion)
    else:
        stamp = _STAMPS[how](_random_word(occasion))
    occasion.around.say_timestamp(stamp)
    words = re.sub(rb" <[^<>]*>\r\n\Z", b"\r\n", reply)
    return words[:-2] + b" " + stamp + b"\r\n"


def _attack(occasion: Occasion) -> bytes:
    """Return a timestamp of the shape by which APOP gives passwords away octet by octet (Leurent, FSE 2007).

    The server there sends two that collide in MD5 if so many octets of the password, which fill up their last
    block, are those that it guesses. Colliding blocks are not made here; what a client can tell it by is the
    same: octets that no msg-id may have.
    """
    size: int = BLOCKS_OCTETS - occasion.setting("known") - len(b"<@>" + HOSTNAME)
    return b"<" + bytes(occasion.random.choice(_ODD) for _ in range(size)) + b"@" + HOSTNAME + b">"


_ODD = bytes(octet for octet in range(128, 256))


def _check(settings: Mapping[str, Any]) -> str:
    if re.search(rb"[\r\n]", settings["value"]):
        return "value: one line is expected"
    return ""


KINDS = (
    Kind("greeting", "Greets wrong: not at all (`missing`), with -ERR and an end (`refused`), with +OK alone"
         " (`empty`, `blank`), in `lower_case`, with a bare LF (`unended`), in two `lines`, `long` (so many"
         " octets), in `eight_bit`, with `nul`, or as `smtp`, `imap`, `http`, `ssh` or `ftp` does.",
         {"how": (values.choice(*_PLAIN, "refused", "long"), REQUIRED), "size": (values.whole(6), 100_000)},
         (GREETING,), rework=_greeting, instead=_refused),
    Kind("timestamp", "Ends the greeting with another timestamp: `given` (the same in every session),"
         " malformed (`no_brackets`, `unclosed`, `no_at`, `blanks`, `empty`, `no_parts`, `two`, `nested`,"
         " `nul`, `eight_bit`, `long`), or of the shape by which an `attack` recovers passwords, so many"
         " octets `known`. Where APOP is on, the digest over all of it is the right one; elsewhere APOP is"
         " refused.",
         {"how": (values.choice("given", "attack", *_STAMPS), REQUIRED), "known": (values.whole(1, 32), 1),
          "value": (values.octets, b"<1896.697170952@mail.example.org>")}, (GREETING,), rework=_timestamp,
         check=_check),
)
