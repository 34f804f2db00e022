"""SASLprep: one form for passwords that look the same (RFC 4013, a profile of RFC 3454)."""

from __future__ import annotations

import stringprep
import unicodedata

_FORBIDDEN = (
    stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3, stringprep.in_table_c4,
    stringprep.in_table_c5, stringprep.in_table_c6, stringprep.in_table_c7, stringprep.in_table_c8,
    stringprep.in_table_c9)


def saslprep(text: str) -> str:
    """Return the prepared form of a string to store (RFC 4013 section 2).

    Raises: ValueError, for characters that it forbids, mixed directions, or what no table knows yet.
    """
    mapped = "".join(" " if stringprep.in_table_c12(one) else one
                     for one in text if not stringprep.in_table_b1(one))
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    for one in prepared:
        if stringprep.in_table_a1(one) or any(forbids(one) for forbids in _FORBIDDEN):
            raise ValueError("a character that SASLprep forbids")
    if any(map(stringprep.in_table_d1, prepared)):      # right to left, RFC 3454 section 6
        ends = stringprep.in_table_d1(prepared[0]) and stringprep.in_table_d1(prepared[-1])
        if not ends or any(map(stringprep.in_table_d2, prepared)):
            raise ValueError("mixed directions")
    return prepared


def prepared_octets(password: bytes) -> bytes:
    """Return a password as SCRAM clients hash it: prepared where that is possible, else as it is."""
    try:
        return saslprep(password.decode("utf-8")).encode("utf-8") or password
    except ValueError:
        return password
