"""What is kept of a password for mechanisms with a challenge: families of verifiers beside the hashes.

SCRAM keys (RFC 5802) cost who steals them a search, as hashes do. The contexts of CRAM-MD5 hide the
password but are as good as it for CRAM-MD5. Both are written as Dovecot writes them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
from typing import NamedTuple

from mailgate.auth.md5 import INITIAL_STATE, compressed, padded
from mailgate.auth.saslprep import prepared_octets
from mailgate.model import ScramKeys

SCRAM_ITERATIONS = 15_000           # RFC 7677 section 4; about 6 ms
LEAST_SCRAM_ITERATIONS = 4096       # RFC 5802 section 5.1: clients refuse less
MOST_SCRAM_ITERATIONS = 10_000_000
SCRAM_SALT_OCTETS = 16
MD5_BLOCK_OCTETS = 64


class ScramForm(NamedTuple):
    """A SCRAM verifier, read."""

    iterations: int
    salt: bytes
    keys: ScramKeys


class ScramFamily:
    """`iterations,salt,StoredKey,ServerKey`, the last three in base64."""

    _FORM = re.compile(rb"([1-9][0-9]{0,8}),([A-Za-z0-9+/]+={0,2}),([A-Za-z0-9+/]+={0,2}),"
                       rb"([A-Za-z0-9+/]+={0,2})")

    def __init__(self, algorithm: str) -> None:
        self._algorithm = algorithm
        self.octets = hashlib.new(algorithm, usedforsecurity=False).digest_size

    def read(self, stored: bytes) -> ScramForm:
        """Return a stored form's parts. Raises: ValueError."""
        found = self._FORM.fullmatch(stored)
        if found is None:
            raise ValueError("not of the form iterations,salt,StoredKey,ServerKey")
        iterations = int(found[1])
        salt, stored_key, server_key = (base64.b64decode(found[part], validate=True) for part in (2, 3, 4))
        if not LEAST_SCRAM_ITERATIONS <= iterations <= MOST_SCRAM_ITERATIONS:
            raise ValueError(f"iterations are {LEAST_SCRAM_ITERATIONS} to {MOST_SCRAM_ITERATIONS}")
        if len(stored_key) != self.octets or len(server_key) != self.octets:
            raise ValueError(f"keys have {self.octets} octets")
        return ScramForm(iterations, salt, ScramKeys(stored_key, server_key))

    def check(self, stored: bytes) -> None:
        self.read(stored)

    def verify(self, stored: bytes, password: bytes) -> bool:
        iterations, salt, keys = self.read(stored)
        return hmac.compare_digest(self._keys(password, salt, iterations).stored, keys.stored)

    def make(self, password: bytes) -> bytes:
        return self.make_salted(password, os.urandom(SCRAM_SALT_OCTETS))

    def make_salted(self, password: bytes, salt: bytes, iterations: int = SCRAM_ITERATIONS) -> bytes:
        """Return the stored form under a given salt: passwords of one account share theirs."""
        keys = self._keys(password, salt, iterations)
        return b"%d,%b" % (iterations, b",".join(map(base64.b64encode, (salt, *keys))))

    def _keys(self, password: bytes, salt: bytes, iterations: int) -> ScramKeys:
        salted = hashlib.pbkdf2_hmac(self._algorithm, prepared_octets(password), salt, iterations)
        client = hmac.digest(salted, b"Client Key", self._algorithm)
        return ScramKeys(hashlib.new(self._algorithm, client, usedforsecurity=False).digest(),
                         hmac.digest(salted, b"Server Key", self._algorithm))


class CramContexts(NamedTuple):
    """The states of MD5 behind the two keyed blocks of HMAC (RFC 2104 section 4)."""

    outer: bytes
    inner: bytes

    def hexdigest(self, message: bytes) -> bytes:
        """Return HMAC-MD5 of a message, in lower-case hexadecimal."""
        digest = compressed(self.inner, padded(message, MD5_BLOCK_OCTETS))
        return compressed(self.outer, padded(digest, MD5_BLOCK_OCTETS)).hex().encode("ascii")


class CramFamily:
    """The outer and the inner context of HMAC-MD5: 32 octets."""

    def read(self, stored: bytes) -> CramContexts:
        """Return a stored form's parts. Raises: ValueError."""
        if len(stored) != 32:
            raise ValueError(f"{len(stored)} octets where two contexts have 32")
        return CramContexts(stored[:16], stored[16:])

    def check(self, stored: bytes) -> None:
        self.read(stored)

    def verify(self, stored: bytes, password: bytes) -> bool:
        return hmac.compare_digest(self.make(password), stored)

    def make(self, password: bytes) -> bytes:
        key = password if len(password) <= MD5_BLOCK_OCTETS else hashlib.md5(
            password, usedforsecurity=False).digest()
        block = key.ljust(MD5_BLOCK_OCTETS, b"\0")
        return b"".join(compressed(INITIAL_STATE, bytes(octet ^ pad for octet in block))
                        for pad in (0x5C, 0x36))


SCRAM_SHA_1 = ScramFamily("sha1")
SCRAM_SHA_256 = ScramFamily("sha256")
CRAM_MD5 = CramFamily()
