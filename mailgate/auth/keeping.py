"""What is kept of new passwords: a hash, and by choice what mechanisms with a challenge need."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

from mailgate.auth.invented import FAMILIES
from mailgate.auth.kept import SCRAM_SALT_OCTETS
from mailgate.auth.schemes import DEFAULT_SCHEME, hash_password, scheme_of

KINDS = ("scram", "cram", "apop")


def verifiers_for(passwords: Sequence[bytes], kinds: Collection[str] = ()) -> tuple[str, ...]:
    """Return verifiers of an account's passwords.

    "scram": keys for SCRAM, all passwords under one salt, since an exchange can name only one. "cram":
    contexts for CRAM-MD5. "apop": the password itself, in the hash's place; it serves CRAM-MD5 too.
    Raises: ValueError, for an empty password.
    """
    recoverable = "apop" in kinds
    made = [hash_password(one, "PLAIN" if recoverable else DEFAULT_SCHEME) for one in passwords]
    if "scram" in kinds:
        for scheme, family in FAMILIES.items():
            salt = os.urandom(SCRAM_SALT_OCTETS)
            made += [f"{{{scheme}}}{family.make_salted(one, salt).decode('ascii')}" for one in passwords]
    if "cram" in kinds and not recoverable:
        made += [hash_password(one, "CRAM-MD5") for one in passwords]
    return tuple(made)


def kinds_of(verifiers: Sequence[str]) -> set[str]:
    """Return what is kept beside hashes; a password in clear is no choice that outlives itself."""
    schemes = set(map(scheme_of, verifiers))
    kinds = {"scram"} if schemes & set(FAMILIES) else set()
    return kinds | ({"cram"} if "CRAM-MD5" in schemes else set())
