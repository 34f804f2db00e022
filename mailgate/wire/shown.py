"""Octets of a client, as a log line or an error message may show them."""

from __future__ import annotations

SHOWN_CHARACTERS = 200


def shown(octets: bytes | str, limit: int = SHOWN_CHARACTERS) -> str:
    """Return octets as one line of printable text, at most about `limit` characters long.

    UTF-8 is shown as it is; controls, other encodings and invisible characters are escaped, and so
    is the backslash, so that what is shown has one reading.
    """
    more = len(octets) - limit
    if isinstance(octets, bytes):
        octets = octets[:limit].decode("utf-8", "surrogateescape")
    text = octets[:limit]
    if not text.isprintable() or "\\" in text:
        text = "".join([character if character.isprintable() and character != "\\" else _escaped(character)
                        for character in text])
    return text if more <= 0 else f"{text}...({more} more)"


def quoted(octets: bytes | str, limit: int = SHOWN_CHARACTERS) -> str:
    """Return the same between quotes; those within are escaped, so that its end is certain."""
    return '"' + shown(octets, limit).replace('"', '\\"') + '"'


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:    # an octet that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
