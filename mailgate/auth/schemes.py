"""Verifiers: `{SCHEME}hash` in Dovecot's notation, as accounts and passwd-files keep them.

A scheme word is case-insensitive and may end in `.b64`, `.base64` or `.hex`: what follows it is then
so encoded. Everything here blocks; `mailgate.auth.hashing` keeps it off the reactor's thread.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mailgate.auth import hashes, kept
from mailgate.auth.hashes import Digest, Family

DEFAULT_SCHEME = "ARGON2ID"

_VERIFIER = re.compile(r"\{([A-Za-z0-9-]+)(?:\.([A-Za-z0-9]+))?\}(.*)", re.DOTALL)
_SUFFIXES = {"B64": "base64", "BASE64": "base64", "HEX": "hex"}
_CLEAN_TEXT = re.compile(rb"[^\x00-\x1f\x7f:]*")    # what a line of a passwd-file can hold


class Scheme(NamedTuple):
    """One scheme word: its family of hashes, and how octets are written down without a suffix."""

    family: Family
    encoding: str = "text"


_SHA1, _SSHA1 = Digest("sha1", False), Digest("sha1", True)
_MD5 = Digest("md5", False, weak=True)

SCHEMES = {
    "ARGON2ID": Scheme(hashes.ARGON2ID),
    "ARGON2I": Scheme(hashes.ARGON2I),
    "BLF-CRYPT": Scheme(hashes.BLF_CRYPT),
    "SHA512-CRYPT": Scheme(hashes.SHA512_CRYPT),
    "SHA256-CRYPT": Scheme(hashes.SHA256_CRYPT),
    "PBKDF2": Scheme(hashes.PBKDF2),
    "SSHA512": Scheme(Digest("sha512", True), "base64"),
    "SSHA256": Scheme(Digest("sha256", True), "base64"),
    "SSHA": Scheme(_SSHA1, "base64"),
    "SHA512": Scheme(Digest("sha512", False), "base64"),
    "SHA256": Scheme(Digest("sha256", False), "base64"),
    "SHA": Scheme(_SHA1, "base64"),
    "SHA1": Scheme(_SHA1, "base64"),
    "CRYPT": Scheme(hashes.CRYPT),
    "PLAIN": Scheme(hashes.PLAIN),
    "CLEARTEXT": Scheme(hashes.PLAIN),
    "CLEAR": Scheme(hashes.PLAIN),
    # For mechanisms with a challenge; PLAIN logins can be checked against them too.
    "SCRAM-SHA-256": Scheme(kept.SCRAM_SHA_256),
    "SCRAM-SHA-1": Scheme(kept.SCRAM_SHA_1),
    "CRAM-MD5": Scheme(kept.CRAM_MD5, "hex"),
    # Of old user lists; understood, never made.
    "MD5-CRYPT": Scheme(hashes.MD5_CRYPT),
    "MD5": Scheme(hashes.MD5_CRYPT),
    "DES-CRYPT": Scheme(hashes.DES_CRYPT),
    "SMD5": Scheme(Digest("md5", True, weak=True), "base64"),
    "LDAP-MD5": Scheme(_MD5, "base64"),
    "PLAIN-MD5": Scheme(_MD5, "hex"),
}

_PLAIN = ("PLAIN", "CLEARTEXT", "CLEAR")
DERIVED = frozenset({"SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5"})    # kept beside a hash of the same password

# What a user must have one of to log in by a mechanism with a challenge.
SCHEMES_FOR = {
    "SCRAM-SHA-256": ("SCRAM-SHA-256",),
    "SCRAM-SHA-1": ("SCRAM-SHA-1",),
    "CRAM-MD5": ("CRAM-MD5", *_PLAIN),
    "APOP": _PLAIN,
}


def scheme_of(verifier: str) -> str:
    """Return a verifier's scheme word in upper case, without suffix; empty if there is none."""
    found = _VERIFIER.match(verifier)
    return found[1].upper() if found else ""


def for_passwords(verifiers: Sequence[str]) -> Sequence[str]:
    """Return the verifiers to check a password against: the derived ones only where there are no others."""
    return [one for one in verifiers if scheme_of(one) not in DERIVED] or verifiers


def stored_under(schemes: Iterable[str], verifiers: Iterable[str]) -> list[tuple[Family, bytes]]:
    """Return families and stored forms of the verifiers under some schemes; malformed ones are left out."""
    found = []
    for verifier in verifiers:
        if scheme_of(verifier) in schemes:
            try:
                found.append(_read(verifier))
            except ValueError:
                continue
    return found


def check_verifier(verifier: str) -> None:
    """Raise ValueError, saying what is wrong, unless `verify` can work with the verifier.

    Wrong are an unknown scheme, a malformed hash, and one so costly that it would hold up every
    other login. The text of the error holds nothing of the hash.
    """
    _read(verifier)


def verify(verifier: str, password: bytes) -> bool:
    """Return whether the password matches, compared in constant time. A malformed verifier never does."""
    try:
        family, stored = _read(verifier)
    except ValueError:
        return False
    return family.verify(stored, password)


def hash_password(password: bytes, scheme: str = DEFAULT_SCHEME) -> str:
    """Return a fresh verifier for the password.

    Raises: ValueError, if the scheme is unknown or not for new passwords, or if the password is
    empty or one that the scheme cannot keep whole (a NUL, more than 72 octets for BLF-CRYPT).
    """
    word, _, suffix = scheme.upper().partition(".")
    family, encoding = _scheme(word, suffix)
    if not password:
        raise ValueError("an empty password")
    made = family.make(password)
    if encoding == "text" and not _is_text(made):
        word, encoding = f"{word}.B64", "base64"
    elif suffix:
        word = f"{word}.{suffix}"
    return f"{{{word}}}{_encode(made, encoding)}"


def _read(verifier: str) -> tuple[Family, bytes]:
    """Return a verifier's family and its stored form, checked. Raises: ValueError."""
    parts = _VERIFIER.fullmatch(verifier)
    if parts is None:
        raise ValueError("no {SCHEME} in front of the hash")
    family, encoding = _scheme(parts[1].upper(), (parts[2] or "").upper())
    text = parts[3]
    if isinstance(family, Digest) and not parts[2]:
        encoding = _guess(text, family, encoding)
    stored = _decode(text, encoding)
    family.check(stored)
    return family, stored


def _scheme(word: str, suffix: str) -> Scheme:
    try:
        family, encoding = SCHEMES[word]
        return Scheme(family, _SUFFIXES[suffix] if suffix else encoding)
    except KeyError:
        shown = f"{word}.{suffix}" if suffix else word
        raise ValueError(f"unknown scheme {shown[:40]!r}") from None


def _guess(text: str, digest: Digest, otherwise: str) -> str:
    """Return how a digest without a suffix is written: Dovecot, too, tells hex by its length."""
    if digest.salted:
        return otherwise
    return "hex" if len(text) == 2 * digest.octets else "base64"


def _decode(text: str, encoding: str) -> bytes:
    try:
        if encoding == "base64":
            return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        if encoding == "hex":
            return binascii.unhexlify(text)
        return text.encode("utf-8")
    except ValueError:      # its own text could show the hash
        raise ValueError(f"the hash is not {encoding}") from None


def _encode(stored: bytes, encoding: str) -> str:
    if encoding == "base64":
        return base64.b64encode(stored).decode("ascii")
    return stored.hex() if encoding == "hex" else stored.decode("utf-8")


def _is_text(stored: bytes) -> bool:
    if not _CLEAN_TEXT.fullmatch(stored):
        return False
    try:
        stored.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
