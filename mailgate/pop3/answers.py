"""What a POP3 server's replies say, read by a client: status, response codes, listings, capabilities.

Strict where a misreading could do harm, tolerant where servers are known to be careless: words after
the numbers, blanks before them, a listing's lines out of order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from mailgate.errors import StoreUnavailable
from mailgate.wire.shown import quoted, shown

_CODE = re.compile(rb"\[([!-Z\\^-~]+)\]")                           # RFC 2449 section 8
_TIMESTAMP = re.compile(rb"<[\x21-\x3b=\x3f-\x7e]+@[\x21-\x3b=\x3f-\x7e]+>")     # RFC 1939 section 7
_NUMBERED = re.compile(rb"[ \t]*(\d{1,10})[ \t]+(.*)", re.DOTALL)
_OCTETS = re.compile(rb"(\d{1,19})(?:[ \t].*)?", re.DOTALL)
_COUNTS = re.compile(rb"[ \t]*(\d{1,10})[ \t]+(\d{1,19})(?:[ \t].*)?", re.DOTALL)
_UNIQUE_ID = re.compile(rb"[\x21-\x7e]{1,70}")                      # RFC 1939 section 7


class ServerFault(StoreUnavailable):
    """The server at the other end broke the protocol, or the connection: nothing more comes from it."""


class Reply(NamedTuple):
    """A status line: +OK or -ERR, and the words behind it."""

    ok: bool
    text: bytes

    @property
    def code(self) -> str:
        """The response code in capitals, such as IN-USE (RFC 2449 section 8, RFC 3206); empty without one."""
        found = _CODE.match(self.text)
        return found[1].decode("ascii").upper() if found else ""

    def __str__(self) -> str:
        return shown(self.text)


def read_status(line: bytes) -> Reply | None:
    """Return what a status line says; None, if it is none (RFC 1939 section 3)."""
    for word, ok in ((b"+OK", True), (b"-ERR", False)):
        if line[:len(word)].upper() == word and line[len(word):len(word) + 1] in (b"", b" ", b"\t"):
            return Reply(ok, line[len(word):].strip())
    return None


def timestamp(greeting: Reply) -> bytes | None:
    """Return what APOP digests with the password, brackets included, if the greeting has one.

    Only what looks like a msg-id counts: a digest over octets of a server's choice helps to break MD5.
    """
    found = _TIMESTAMP.search(greeting.text)
    return found[0] if found and greeting.ok else None


def read_counts(reply: Reply) -> tuple[int, int]:
    """Return messages and octets of the reply to STAT. Raises: ServerFault."""
    found = _COUNTS.fullmatch(reply.text)
    if found is None:
        raise ServerFault(f"the reply to STAT says {quoted(reply.text)}")
    return int(found[1]), int(found[2])


def read_size(line: bytes) -> tuple[int, int]:
    """Return message-number and octets of a line of LIST. Raises: ServerFault."""
    number, rest = _numbered(line, "LIST")
    octets = _OCTETS.fullmatch(rest)
    if octets is None:
        raise ServerFault(f"a line of LIST says {quoted(line)}")
    return number, int(octets[1])


def read_unique_id(line: bytes) -> tuple[int, bytes | None]:
    """Return message-number and unique-id of a line of UIDL; None for one that RFC 1939 does not allow.

    Raises: ServerFault.
    """
    number, unique_id = _numbered(line, "UIDL")
    unique_id = unique_id.rstrip(b" \t")
    return number, unique_id if _UNIQUE_ID.fullmatch(unique_id) else None


def _numbered(line: bytes, verb: str) -> tuple[int, bytes]:
    found = _NUMBERED.fullmatch(line + b" ")    # a unique-id that is missing is an illegal one
    if found is None or int(found[1]) < 1:
        raise ServerFault(f"a line of {verb} says {quoted(line)}")
    return int(found[1]), found[2].removesuffix(b" ")


class Capabilities(NamedTuple):
    """What CAPA announced: arguments by word, both in capitals (RFC 2449 section 5). None: no CAPA there."""

    words: Mapping[bytes, tuple[bytes, ...]] | None

    def has(self, word: bytes) -> bool:
        """Return whether a word was announced."""
        return self.words is not None and word in self.words

    def has_mechanism(self, name: bytes) -> bool:
        """Return whether AUTH has a mechanism (RFC 5034 section 3)."""
        return name in self.arguments(b"SASL")

    def arguments(self, word: bytes) -> tuple[bytes, ...]:
        """Return what a word was announced with; nothing, if it was not."""
        return () if self.words is None else self.words.get(word, ())


NO_CAPABILITIES = Capabilities(None)


def read_capabilities(lines: list[bytes]) -> Capabilities:
    """Return what the lines of CAPA announce; equal words are taken together."""
    words: dict[bytes, tuple[bytes, ...]] = {}
    for line in lines:
        word, *arguments = line.upper().split() or [b""]
        if word:
            words[word] = words.get(word, ()) + tuple(arguments)
    return Capabilities(words)
