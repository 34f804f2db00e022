"""App passwords that are drawn at random: how they look, and how they are found again.

30 letters of 23 are 135 bits. Nobody guesses that, whatever the hash: so theirs is a fast one, salted
and nothing more, and a login that tries them all costs microseconds, where chosen passwords need
ARGON2ID. Groups are for the eye: blanks, hyphens and the case of letters do not count.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence

from mailgate.auth.schemes import hash_password, verify
from mailgate.model import AppPassword

LETTERS = "abcdefghjkmnpqrstuvwxyz"     # no i, l and o: they are taken for one another and for digits
GROUPS, GROUP_LETTERS = 6, 5
SCHEME = "SSHA512"

_PLAIN = re.compile(rb"[%b]{%d}" % (LETTERS.encode("ascii"), GROUPS * GROUP_LETTERS))
_MOST_OCTETS = 3 * GROUPS * GROUP_LETTERS       # however it is typed


def generate(choice: Callable[[str], str] = secrets.choice) -> str:
    """Return a fresh password as it is shown; `choice` draws one letter of a text."""
    groups = ["".join(choice(LETTERS) for _ in range(GROUP_LETTERS)) for _ in range(GROUPS)]
    return "-".join(groups)


def plain_form(password: bytes) -> bytes | None:
    """Return a typed password without what does not count; None if it can be no generated one."""
    if len(password) > _MOST_OCTETS:
        return None
    plain = password.translate(None, b" -").lower()
    return plain if _PLAIN.fullmatch(plain) else None


def verifier_of(password: str) -> str:
    """Return the verifier of a generated password."""
    plain = plain_form(password.encode("ascii"))
    assert plain is not None, "not a generated password"
    return hash_password(plain, SCHEME)


def find_generated(app_passwords: Sequence[AppPassword], password: bytes) -> AppPassword | None:
    """Return the generated one that a typed password is. So quick that it needs no thread."""
    if not app_passwords:
        return None
    plain = plain_form(password)
    if plain is None:
        return None
    return next((one for one in app_passwords if one.generated and verify(one.verifier, plain)), None)
