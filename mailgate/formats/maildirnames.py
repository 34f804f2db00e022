"""Names of folders in a Maildir++.

A folder `a/b` is the directory `.a.b` of its owner's Maildir. What is not ASCII is written in the
modified UTF-7 of RFC 3501 section 5.1.3, as Dovecot and Courier do; so is a dot within a part.
"""

from __future__ import annotations

import binascii
import re

from mailgate.model import INBOX
from mailgate.names import find_folder

_SHIFTED = re.compile(r"&([^-]*)-")
_BASE64 = re.compile(r"[A-Za-z0-9+,]+")
_TO_ENCODE = re.compile(r"[^\x20-\x7e]+|[&./\\]")      # the last ones have a meaning in names of directories


def folder_of(directory: str) -> str | None:
    """Return the folder that a directory's name stands for, or None: no folder can have it.

    A name that is no modified UTF-7 is taken as it stands: Dovecot can be told to write UTF-8.
    """
    if not directory.startswith(".") or len(directory) == 1:
        return None
    parts = directory[1:].split(".")
    found = find_folder("/".join(part if (read := _decode(part)) is None else read for part in parts))
    return None if found == INBOX else found


def directory_of(folder: str) -> str:
    """Return the name of a folder's directory, INBOX's excepted: that is the Maildir itself."""
    return "".join("." + _encode(part) for part in folder.split("/"))


def _encode(part: str) -> str:
    return _TO_ENCODE.sub(lambda found: _shift(found[0]), part)


def _shift(some: str) -> str:
    if some == "&":
        return "&-"
    octets = binascii.b2a_base64(some.encode("utf-16-be"), newline=False)
    return f"&{octets.decode().rstrip('=').replace('/', ',')}-"


def _decode(part: str) -> str | None:
    """Return what a part in modified UTF-7 says, or None if it is none."""
    try:
        said = _SHIFTED.sub(_unshift, part)
    except ValueError:
        return None
    left = _SHIFTED.sub("", part)
    return None if "&" in left or not left.isascii() else said


def _unshift(found: re.Match[str]) -> str:
    if not found[1]:
        return "&"
    if not _BASE64.fullmatch(found[1]):
        raise ValueError(found[1])
    padded = found[1].replace(",", "/") + "=" * (-len(found[1]) % 4)
    return binascii.a2b_base64(padded).decode("utf-16-be")
