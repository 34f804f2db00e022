"""The families of password hashes behind the `{SCHEME}` words: how each is read, compared and made.

Every family answers `check` (is this a stored form I can work with?), `verify` and `make`. Stored
forms are octets: text for the families that have a notation of their own, digest and salt for the
bare digests. All of it blocks, for as long as the hash takes.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from mailgate.auth import libcrypt

BCRYPT_OCTETS = 72          # bcrypt reads no further
SALT_OCTETS = 16
CRYPT_ROUNDS = 5000         # what crypt(3) and Dovecot make; pure Python here, about 3 ms
BCRYPT_COST = 10            # about 60 ms
ARGON2_KIB, ARGON2_PASSES = 19_456, 2   # 19 MiB and one lane: about 25 ms, and little memory a thread
PBKDF2_ROUNDS = 100_000     # HMAC-SHA1

# A stored hash may ask for more work than new ones get, but no login may hold up all others for long.
MOST_CRYPT_ROUNDS = 5_000_000
MOST_BCRYPT_COST = 16
MOST_ARGON2_KIB = 1 << 20
MOST_ARGON2_KIB_PASSES = 4 << 20
MOST_PBKDF2_ROUNDS = 10_000_000


_loading = threading.Lock()
_loaded: dict[str, Any] = {}    # passlib's hashers by name


def load() -> Mapping[str, Any]:
    """Return passlib's hashers by name.

    They take 50 ms to load, which who needs none of them does not pay. `HashPool.start` calls this, so that
    no login waits for it.
    """
    if not _loaded:
        with _loading:      # first use may come from several threads at once
            if not _loaded:
                _loaded.update(_load())
    return _loaded


def _load() -> dict[str, Any]:
    from passlib import hash as known  # type: ignore[import-untyped]

    known.argon2.set_backend("argon2_cffi")
    known.bcrypt.set_backend("bcrypt")
    names = ("argon2", "bcrypt", "des_crypt", "md5_crypt", "sha256_crypt", "sha512_crypt")
    return {name: getattr(known, name) for name in names}


class Family(Protocol):
    """One way of turning passwords into something to keep."""

    def check(self, stored: bytes) -> None:
        """Raise ValueError unless `verify` can work with this stored form."""

    def verify(self, stored: bytes, password: bytes) -> bool:
        """Return whether the password matches; `stored` has passed `check`."""

    def make(self, password: bytes) -> bytes:
        """Return a fresh stored form. Raises: ValueError for a password this family cannot keep."""


class Plain:
    """The password itself."""

    def check(self, stored: bytes) -> None:
        if not stored:
            raise ValueError("an empty password")

    def verify(self, stored: bytes, password: bytes) -> bool:
        return hmac.compare_digest(stored, password)

    def make(self, password: bytes) -> bytes:
        return password


class Digest(NamedTuple):
    """A bare digest of the password, or of password and salt, with the salt behind the digest."""

    algorithm: str
    salted: bool
    weak: bool = False      # understood, never made

    @property
    def octets(self) -> int:
        """Length of the digest."""
        return hashlib.new(self.algorithm, usedforsecurity=False).digest_size

    def check(self, stored: bytes) -> None:
        size = self.octets
        if len(stored) < size or (len(stored) > size) is not self.salted:
            raise ValueError(f"{len(stored)} octets where the digest has {size}"
                             + (" and is followed by its salt" if self.salted else ""))

    def verify(self, stored: bytes, password: bytes) -> bool:
        digest, salt = stored[:self.octets], stored[self.octets:]
        return hmac.compare_digest(digest, self._digest(password, salt))

    def make(self, password: bytes) -> bytes:
        if self.weak:
            raise ValueError("too weak for new passwords")
        salt = os.urandom(SALT_OCTETS) if self.salted else b""
        return self._digest(password, salt) + salt

    def _digest(self, password: bytes, salt: bytes) -> bytes:
        return hashlib.new(self.algorithm, password + salt, usedforsecurity=False).digest()


class Pbkdf2:
    """Dovecot's form of PBKDF2 with HMAC-SHA1: `$1$salt$rounds$hex of 20 octets`."""

    _FORM = re.compile(rb"\$1\$([^$]{1,512})\$([1-9][0-9]{0,8})\$([0-9A-Fa-f]{40})")

    def check(self, stored: bytes) -> None:
        form = self._FORM.fullmatch(stored)
        if form is None:
            raise ValueError("not of the form $1$salt$rounds$hex")
        if int(form[2]) > MOST_PBKDF2_ROUNDS:
            raise ValueError(f"more than {MOST_PBKDF2_ROUNDS} rounds")

    def verify(self, stored: bytes, password: bytes) -> bool:
        form = self._FORM.fullmatch(stored)
        assert form is not None, "checked before"
        made = hashlib.pbkdf2_hmac("sha1", password, form[1], int(form[2]))
        return hmac.compare_digest(made, bytes.fromhex(form[3].decode("ascii")))

    def make(self, password: bytes) -> bytes:
        salt = os.urandom(SALT_OCTETS // 2).hex().encode("ascii")
        made = hashlib.pbkdf2_hmac("sha1", password, salt, PBKDF2_ROUNDS)
        return b"$1$%b$%d$%b" % (salt, PBKDF2_ROUNDS, made.hex().encode("ascii"))


class Modular:
    """A hash in the modular form of crypt(3), computed by a class of passlib's."""

    def __init__(self, name: str, prefixes: Sequence[str] = ("",), *, new: Mapping[str, Any] | None = None,
                 fits: Callable[[Any], bool] = lambda parsed: True, most_octets: int | None = None) -> None:
        self._name = name               # of the class
        self._new = new                 # the costs of new passwords; None: never made
        self._prefixes = tuple(prefixes)
        self._fits = fits               # whether a parsed hash costs what a login may
        self._most_octets = most_octets

    @property
    def _hasher(self) -> Any:
        return load()[self._name]

    def check(self, stored: bytes) -> None:
        try:
            text = stored.decode("ascii")
            parsed = self._hasher.from_string(text) if text.startswith(self._prefixes) else None
        except (ValueError, TypeError):     # a salt that is no base64; passlib's words could show the hash
            raise ValueError("the hash is malformed") from None
        if parsed is None:
            raise ValueError("the hash does not begin with " + " or ".join(self._prefixes))
        if not parsed.checksum:
            raise ValueError("the hash is cut off")
        if not self._fits(parsed):
            raise ValueError("the hash is of an unknown version or costs more than a login may")

    def verify(self, stored: bytes, password: bytes) -> bool:
        try:
            # What made the hash read no further either.
            return bool(self._hasher.verify(password[:self._most_octets], stored.decode("ascii")))
        except ValueError:      # a NUL or thousands of octets: no such password was ever stored
            return False

    def make(self, password: bytes) -> bytes:
        if self._new is None:
            raise ValueError("too weak for new passwords")
        if self._most_octets is not None and len(password) > self._most_octets:
            raise ValueError(f"a password of more than {self._most_octets} octets would be cut")
        made: str = self._hasher.using(**self._new).hash(password)
        return made.encode("ascii")


class SystemCrypt:
    """A hash that only the system's crypt(3) knows."""

    _FORM = re.compile(rb"\$(?:y|gy|7)\$[./A-Za-z0-9$]{30,400}")

    def check(self, stored: bytes) -> None:
        if not self._FORM.fullmatch(stored):
            raise ValueError("not a hash that this scheme knows")
        if not libcrypt.available():
            raise ValueError("this system has no crypt(3) for it")

    def verify(self, stored: bytes, password: bytes) -> bool:
        made = libcrypt.crypt(password, stored)
        return made is not None and hmac.compare_digest(made, stored)

    def make(self, password: bytes) -> bytes:
        raise ValueError("never made here")


class Crypt:
    """CRYPT: whatever crypt(3) may have written, told apart by what it begins with."""

    def __init__(self, by_prefix: Sequence[tuple[bytes, Family]], otherwise: Family, new: Family) -> None:
        self._by_prefix = by_prefix
        self._otherwise = otherwise     # the oldest form has no prefix
        self._new = new

    def _family(self, stored: bytes) -> Family:
        for prefix, family in self._by_prefix:
            if stored.startswith(prefix):
                return family
        if stored.startswith(b"$"):
            raise ValueError("an unknown kind of crypt(3) hash")
        return self._otherwise

    def check(self, stored: bytes) -> None:
        self._family(stored).check(stored)

    def verify(self, stored: bytes, password: bytes) -> bool:
        return self._family(stored).verify(stored, password)

    def make(self, password: bytes) -> bytes:
        return self._new.make(password)


def _argon2_fits(parsed: Any) -> bool:
    return (parsed.version in (0x10, 0x13) and len(parsed.checksum) >= SALT_OCTETS
            and parsed.memory_cost <= MOST_ARGON2_KIB
            and parsed.memory_cost * parsed.rounds <= MOST_ARGON2_KIB_PASSES)


def _argon2(kind: str) -> Modular:
    new = {"type": kind, "memory_cost": ARGON2_KIB, "time_cost": ARGON2_PASSES, "parallelism": 1}
    return Modular("argon2", ("$argon2id$", "$argon2i$"), new=new, fits=_argon2_fits)


def _sha_crypt(name: str, prefix: str) -> Modular:
    return Modular(name, (prefix,), new={"rounds": CRYPT_ROUNDS},
                   fits=lambda parsed: parsed.rounds <= MOST_CRYPT_ROUNDS)


PLAIN = Plain()
PBKDF2 = Pbkdf2()
ARGON2ID = _argon2("ID")
ARGON2I = _argon2("I")
SHA256_CRYPT = _sha_crypt("sha256_crypt", "$5$")
SHA512_CRYPT = _sha_crypt("sha512_crypt", "$6$")
BLF_CRYPT = Modular("bcrypt", ("$2y$", "$2b$", "$2a$"), new={"rounds": BCRYPT_COST, "ident": "2y"},
                    fits=lambda parsed: parsed.rounds <= MOST_BCRYPT_COST, most_octets=BCRYPT_OCTETS)
MD5_CRYPT = Modular("md5_crypt", ("$1$",))
DES_CRYPT = Modular("des_crypt")
SYSTEM_CRYPT = SystemCrypt()
CRYPT = Crypt([(b"$6$", SHA512_CRYPT), (b"$5$", SHA256_CRYPT), (b"$2", BLF_CRYPT), (b"$1$", MD5_CRYPT),
               (b"$argon2", ARGON2ID), (b"$y$", SYSTEM_CRYPT), (b"$gy$", SYSTEM_CRYPT),
               (b"$7$", SYSTEM_CRYPT)], otherwise=DES_CRYPT, new=SHA512_CRYPT)
