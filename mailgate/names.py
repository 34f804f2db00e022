"""Names as accounts and addresses use them: how they are compared, split and kept apart.

A *key* is a name in the form in which it is compared. Everything an account answers to exactly
(its name, its addresses, an SDPS host's domains) is a key that belongs to one account; what a
login or a recipient may mean is a short list of keys to look up in order.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from mailgate.errors import AccountConflict, BadAddress, FolderConflict
from mailgate.model import INBOX

MAX_NAME_OCTETS = 248   # what fits "USER name" in a line of 255 octets (RFC 2449 section 4)
MAX_LOCAL_OCTETS = 64   # RFC 5321 section 4.5.3.1.1
MAX_DOMAIN_OCTETS = 255  # RFC 5321 section 4.5.3.1.2
MAX_LABEL_OCTETS = 64   # of an app password; what a column of a list has room for
MAX_FOLDER_OCTETS = 255  # of a folder's whole name in UTF-8: any file system has room for it

_NAME = re.compile(r"[^\s\x00-\x20\x7f-\xa0/\\:\ud800-\udfff]+")
_SURROGATE = re.compile(r"[\ud800-\udfff]")    # what is left of octets that were not UTF-8
_HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ASCII_UPPER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


class Candidate(NamedTuple):
    """One reading of a login name: the key that must exist, and the SDPS user of a split."""

    key: str
    user: str | None = None   # None: the whole maildrop; else an SDPS view, and the key must be a host's


def fold(name: str) -> str:
    """Return the key of a name: ASCII letters in lower case, everything else as it is."""
    return name.translate(_ASCII_UPPER)


def login_candidates(login: str) -> tuple[Candidate, ...]:
    """Return the readings of a login name, first choice first.

    An exact key (a name, an address or an SDPS host's domain), then the SDPS split at the last
    `@`, then at the last `+`. A split with an empty half is no reading.
    """
    key = fold(login)
    found = [Candidate(key)]
    for separator in "@+":
        user, mark, host = key.rpartition(separator)
        if mark and user and host:
            found.append(Candidate(host, user))
    return tuple(found)


def split_address(address: str) -> tuple[str, str]:
    """Return local part and domain of an address, both as given; the domain is empty without `@`.

    A quoted local part may hold any `@`. Raises: BadAddress for an empty half or one too long.
    """
    local, mark, domain = address.rpartition("@")
    if not mark:
        local, domain = address, ""
    if not local or (mark and not domain):
        raise BadAddress(f"{address!r} lacks a local part or a domain")
    if _octets(local) > MAX_LOCAL_OCTETS or _octets(domain) > MAX_DOMAIN_OCTETS:
        raise BadAddress(f"{address!r} is too long")
    if _SURROGATE.search(address):
        raise BadAddress(f"{address!r} is not UTF-8")
    return local, domain


def unquoted(local: str) -> str:
    """Return what a quoted local part means: quoting is no part of it (RFC 5321 section 4.1.2)."""
    quoted = _QUOTED.fullmatch(local)
    return _ESCAPE.sub(r"\1", quoted[1]) if quoted else local


def user_of(recipient: bytes) -> str | None:
    """Return the key of a recipient's local part (the SDPS view that shows mail for it), or None."""
    local, mark, domain = recipient.decode("utf-8", "surrogateescape").rpartition("@")
    return fold(unquoted(local if mark else domain)) or None


def check_name(name: str, *, sdps: bool) -> None:
    """Raise AccountConflict unless `name` can be an account's name.

    No blanks, controls, slashes or colons (paths and passwd files use them); an SDPS host's name
    is a host label, so that `user@host` and `user+host` have one reading.
    """
    if _octets(name) > MAX_NAME_OCTETS:
        raise AccountConflict(f"the name is longer than {MAX_NAME_OCTETS} octets")
    if not (_HOST_NAME if sdps else _NAME).fullmatch(name) or name in (".", ".."):
        kind = "an SDPS host" if sdps else "an account"
        raise AccountConflict(f"{name!r} cannot be the name of {kind}")


def check_domain(domain: str) -> None:
    """Raise AccountConflict unless `domain` can be an SDPS host's mail domain."""
    if not _HOST_NAME.fullmatch(domain) or len(domain) > MAX_DOMAIN_OCTETS:
        raise AccountConflict(f"{domain!r} is not a domain")


def check_label(label: str) -> None:
    """Raise AccountConflict unless `label` can tell one app password of an account from the others.

    Printable, at most 64 octets, spaces only inside: it stands in lists and log lines.
    """
    if not label.isprintable() or not label or label != label.strip() or _octets(label) > MAX_LABEL_OCTETS:
        raise AccountConflict(f"{label!r} cannot be a label: 1 to {MAX_LABEL_OCTETS} octets of printable"
                              " text, no blank at either end")


def check_folder(name: str) -> str:
    """Return a folder's name as stores keep it. Raises: FolderConflict, if no folder can be called so.

    Parts divided by `/`, none of them empty, `.` or `..`; no controls and line separators; at most 255
    octets. Two ways to write the same characters are one name (NFC, as RFC 5198 asks for); INBOX as the
    whole name or its first part is written so in any case.
    """
    composed = unicodedata.normalize("NFC", name)
    first, slash, rest = composed.partition("/")
    if fold(first) == fold(INBOX):
        composed = f"{INBOX}{slash}{rest}"
    if _octets(composed) > MAX_FOLDER_OCTETS:
        raise FolderConflict(f"the folder's name is longer than {MAX_FOLDER_OCTETS} octets")
    if _UNPRINTABLE.search(composed) or any(part in ("", ".", "..") for part in composed.split("/")):
        raise FolderConflict(f"{name!r} cannot be the name of a folder")
    return composed


def find_folder(name: str) -> str | None:
    """Return a folder's name as stores keep it, or None if no folder can be called so."""
    try:
        return check_folder(name)
    except FolderConflict:
        return None


def _octets(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))
