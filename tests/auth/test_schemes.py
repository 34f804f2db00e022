"""Verifiers: known answers of other programs, malformed ones, and new ones."""

from __future__ import annotations

import base64
import hashlib
import re
from unittest import skipUnless

from cryptography.hazmat.primitives.kdf import argon2 as independent
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.auth import hashes, libcrypt
from mailgate.auth.checkers import DUMMY_VERIFIER
from mailgate.auth.schemes import SCHEMES, check_verifier, hash_password, verify

SECRET = "Grüße secret".encode()

# Made with crypt(3) of libxcrypt, `openssl passwd`, `openssl kdf` and `openssl dgst` for "Grüße secret".
KNOWN_LINES = """\
{CRYPT}$6$saltsalt$ArStPFZsungKZEFIf9z.fyUKfeNA6S.MwjJQDu8YncB3ZE/go5yC7wC/7yv90wkxD2Z41qbUDF4/UPXxshSua0
{SHA512-CRYPT}$6$abcdefgh$f0/DmOZBg5ahSkJ/Mz4/QgIALiHhatLe/3TvSVrla2kLwK0Hi0vFj9Bl49BQAcyRGeLrlg4x7Qa1RkUiOJ0J41
{SHA256-CRYPT}$5$rounds=1000$saltsalt$niVVtPnVjUOM8qTP0KDfzAELvIEj6xsiZLuC7oyrEk9
{SHA256-CRYPT}$5$abcdefgh$GYeKMOEWOd9K/GF.crC0G4.ku/B3i2hSnr3lWHm5098
{CRYPT}$5$abcdefgh$GYeKMOEWOd9K/GF.crC0G4.ku/B3i2hSnr3lWHm5098
{BLF-CRYPT}$2b$05$abcdefghijklmnopqrstuuFGKfal47AT08PmdajEPfITMgzI1p3XW
{blf-crypt}$2y$05$abcdefghijklmnopqrstuuFGKfal47AT08PmdajEPfITMgzI1p3XW
{CRYPT}$2y$05$abcdefghijklmnopqrstuuFGKfal47AT08PmdajEPfITMgzI1p3XW
{MD5-CRYPT}$1$salt1234$F.zEn5DprtkBE44pgmq5M.
{CRYPT}$1$salt1234$F.zEn5DprtkBE44pgmq5M.
{DES-CRYPT}abbEVgpWph7eI
{CRYPT}abbEVgpWph7eI
{PBKDF2}$1$0123456789abcdef$5000$53064a5bfe16149a80cf5e0987afc61e67d10d7e
{SSHA}IQgB/EVd3XO1mNt2Cg7oIEkILFdzYWx0
{SSHA256}XHN8MMQ5Ix5w8W8TAZIJ68hdrUjx4xz4a7p+ZC7f+ABzYWx0
{SSHA512}DaFFXJ9eqB/wZl3Vtms9kYHlJQOqxWfK8RB+bhBxWNgpDebLWht5O0UyA19/xBfhV3kGsOqFtCWitzUFjgTMn3NhbHQ=
{SMD5}BKq5WY+dvA2ODzHpw6B9L3NhbHQ=
{SHA}9B7+I/KFnFJP01IaSEmaQXsGPHE=
{SHA1}f41efe23f2859c524fd3521a48499a417b063c71
{SHA.hex}f41efe23f2859c524fd3521a48499a417b063c71
{SHA256}C8d4CtgATa02GHQ+9fUVFkoWbIWdHHCAnBAA6CtGC/s=
{SHA256}0bc7780ad8004dad3618743ef5f515164a166c859d1c70809c1000e82b460bfb
{SHA512}nNgVaEFRTfooY45F7/3FQS7a0Ffa7aDpl3Pmhd00L3CcTR2DKNtV6ufh+0d8WCM8uskdk0WaL9vD1QrswwdJiQ==
{PLAIN-MD5}9d6d343176066b957c00ef1a263c90e6
{LDAP-MD5}nW00MXYGa5V8AO8aJjyQ5g==
{PLAIN}Grüße secret
{CLEAR}Grüße secret
{CLEARTEXT.b64}R3LDvMOfZSBzZWNyZXQ=
{PLAIN.base64}R3LDvMOfZSBzZWNyZXQ=
{plain.HEX}4772c3bcc39f6520736563726574
"""
KNOWN = KNOWN_LINES.splitlines()

# The reference implementation's own answers, and Openwall's for bcrypt; RFC 6070 for PBKDF2.
PUBLISHED = [
    (b"password", "{ARGON2ID}$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ"
                  "$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"),
    (b"password", "{ARGON2I}$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ"
                  "$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA"),
    (b"U*U", "{BLF-CRYPT}$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
    (b"password", "{PBKDF2}$1$salt$4096$4b007901b765489abead49d926f721d065a429c1"),
]

FROM_CRYPT_3 = [
    "{CRYPT}$y$j9T$abcdefghijkl$P.IXR2DHhDrjw2fQdONKsgjK6mJPjila1YPOx6JWXGC",
    "{CRYPT}$7$CU..../....2Q9obwLhin8qvQl6sisAO/$B/EMOETuL0DNEMKCHT4Rcc6HAEocL/OREgm3CcOzEHB",
]

MALFORMED = [
    "", "plain", "{", "{}", "{PLAIN}", "{PLAIN", "PLAIN}x", "{NO-SUCH}x", "{SCRAM-SHA-256}x", "{SHA.rot13}x",
    "{SHA}", "{SHA}AAAA", "{SHA}!!!!", "{SHA.hex}f41", "{SHA256}9B7+I/KFnFJP01IaSEmaQXsGPHE=",
    "{SSHA}9B7+I/KFnFJP01IaSEmaQXsGPHE=", "{SHA}IQgB/EVd3XO1mNt2Cg7oIEkILFdzYWx0", "{SHA}ü",
    "{SHA512-CRYPT}$6$salt", "{SHA512-CRYPT}$6$salt$short", "{SHA512-CRYPT}$5$saltsalt$x",
    "{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$FkIoBaD0XmsNYayVMoYwpg$SBDwZvYkFzFXNesFi4JNMqXeccpmK+VL+HYEW0MQu",
    "{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$FkIoBaD0XmsNYayVMoYwpg$SBDwZvYkFzFXNesFi4JNMqXeccpmK+VL$0Quz4",
    "{SHA512-CRYPT}$6$rounds=5000s3cr3t$saltsalt$x", "{SHA256-CRYPT}$5$rounds=" + "9" * 5000 + "$saltsalt$x",
    "{SHA512-CRYPT}abbEVgpWph7eI", "{SHA512-CRYPT}ü", "{CRYPT}", "{CRYPT}secret", "{CRYPT}$9$what",
    "{CRYPT}$y$", "{CRYPT}*", "{CRYPT}!", "{BLF-CRYPT}$2y$05$abc", "{BLF-CRYPT}$2y$05$abcdefghijklmnopqrstuu",
    "{BLF-CRYPT}$2x$05$abcdefghijklmnopqrstuuFGKfal47AT08PmdajEPfITMgzI1p3XW",
    "{ARGON2ID}$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ", "{ARGON2ID}$argon2id$", "{ARGON2ID}x",
    "{ARGON2ID}$argon2d$v=19$m=64,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
    "{ARGON2ID}$argon2id$v=99$m=64,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
    "{ARGON2ID}$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$CTE",
    "{PBKDF2}$1$salt$0$4b007901b765489abead49d926f721d065a429c1", "{PBKDF2}$1$salt$10$4b00", "{PBKDF2}x",
    # Well formed, and a standstill for everybody else:
    "{ARGON2ID}$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
    "{ARGON2ID}$argon2id$v=19$m=64,t=9999999,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
    "{BLF-CRYPT}$2y$31$abcdefghijklmnopqrstuuFGKfal47AT08PmdajEPfITMgzI1p3XW",
    "{SHA256-CRYPT}$5$rounds=900000000$saltsalt$niVVtPnVjUOM8qTP0KDfzAELvIEj6xsiZLuC7oyrEk9",
    "{PBKDF2}$1$salt$900000000$4b007901b765489abead49d926f721d065a429c1",
]


class KnownAnswers(SynchronousTestCase):
    """Hashes made by others."""

    def test_of_other_programs(self) -> None:
        """Each matches its password and no other."""
        for verifier in KNOWN:
            check_verifier(verifier)
            self.assertTrue(verify(verifier, SECRET), verifier)
            for wrong in (b"", SECRET[:7], SECRET.upper(), b"secret"):
                self.assertFalse(verify(verifier, wrong), verifier)

    def test_every_octet_counts(self) -> None:
        """One more or less makes another password; only DES reads no more than eight."""
        for verifier in KNOWN:
            if "abbEVgpWph7eI" not in verifier:
                self.assertFalse(verify(verifier, SECRET + b" "), verifier)
                self.assertFalse(verify(verifier, SECRET[:-1]), verifier)

    def test_published(self) -> None:
        """The reference answers of Argon2, bcrypt and PBKDF2."""
        for password, verifier in PUBLISHED:
            check_verifier(verifier)
            self.assertTrue(verify(verifier, password), verifier)
            self.assertFalse(verify(verifier, password + b"x"), verifier)

    @skipUnless(libcrypt.available() and libcrypt.crypt(b"x", b"$y$j9T$abcdefghijkl$"), "no yescrypt here")
    def test_of_the_system(self) -> None:
        """yescrypt, as Debian's shadow file has it, and scrypt are left to crypt(3)."""
        for verifier in FROM_CRYPT_3:
            check_verifier(verifier)
            self.assertTrue(verify(verifier, SECRET), verifier)
            self.assertFalse(verify(verifier, SECRET + b"x"), verifier)
            self.assertFalse(verify(verifier, SECRET + b"\0x"), verifier)

    def test_without_crypt_3(self) -> None:
        """Where the system has none, such hashes are reported instead of refusing everybody silently."""
        self.patch(libcrypt, "_crypt_r", lambda: None)
        for verifier in FROM_CRYPT_3:
            self.assertIn("no crypt(3)", str(self.assertRaises(ValueError, check_verifier, verifier)))
            self.assertFalse(verify(verifier, SECRET))

    def test_argon2_against_another_implementation(self) -> None:
        """What is made by default is what OpenSSL computes from the same parameters."""
        made = hash_password(SECRET)
        costs = re.fullmatch(r"\{ARGON2ID\}\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$([^$]+)\$([^$]+)", made)
        assert costs is not None
        salt, digest = (base64.b64decode(part + "==") for part in costs.groups()[3:])
        self.assertEqual(digest, independent_argon2(costs, salt, len(digest)))

    def test_ssha_against_hashlib(self) -> None:
        """A new SSHA512 is base64 of SHA-512(password, salt) and the salt."""
        raw = base64.b64decode(hash_password(SECRET, "SSHA512").removeprefix("{SSHA512}"))
        self.assertEqual(hashlib.sha512(SECRET + raw[64:]).digest(), raw[:64])
        self.assertEqual(16, len(raw[64:]))


def independent_argon2(costs: re.Match[str], salt: bytes, length: int) -> bytes:
    """Return Argon2id computed by the `cryptography` package (OpenSSL or Rust)."""
    memory, passes, lanes = map(int, costs.groups()[:3])
    return independent.Argon2id(salt=salt, length=length, iterations=passes, lanes=lanes,
                                memory_cost=memory).derive(SECRET)


class Malformed(SynchronousTestCase):
    """Verifiers that nothing can match."""

    def test_reported_and_refused(self) -> None:
        """`check_verifier` says what is wrong; `verify` never raises and never matches."""
        for verifier in MALFORMED:
            self.assertRaises(ValueError, check_verifier, verifier)
            for password in (b"", b"x", SECRET, b"plain", b"secret"):
                self.assertFalse(verify(verifier, password), verifier)

    def test_reason_shows_no_hash(self) -> None:
        """The text of the error goes to logs: nothing behind the scheme word is in it."""
        for verifier in MALFORMED:
            _, _, stored = verifier.partition("}")
            if len(stored) > 8:
                reason = str(self.assertRaises(ValueError, check_verifier, verifier))
                self.assertNotIn(stored[-8:], reason)

    @settings(deadline=None, max_examples=200)
    @given(st.sampled_from(sorted(SCHEMES)), st.text(max_size=60), st.binary(max_size=20))
    @example("CRYPT", "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA", b"\0")
    @example("PLAIN", "\ud800", b"x")
    def test_anything(self, scheme: str, stored: str, password: bytes) -> None:
        """Whatever stands behind a scheme word: True or False, or a ValueError of the check."""
        verifier = f"{{{scheme}}}{stored}"
        try:
            check_verifier(verifier)
        except ValueError:
            self.assertIs(verify(verifier, password), False)
        else:
            self.assertIn(verify(verifier, password), (True, False))


class NewVerifiers(SynchronousTestCase):
    """`hash_password`."""

    MADE = ["ARGON2ID", "ARGON2I", "BLF-CRYPT", "SHA512-CRYPT", "SHA256-CRYPT", "SSHA", "SSHA256", "SSHA512",
            "SHA", "SHA256", "SHA512", "PBKDF2", "PLAIN", "CLEARTEXT", "CRYPT", "ssha.hex",
            "SHA256-CRYPT.B64"]

    def test_matches_its_password(self) -> None:
        """In every scheme for new passwords; the scheme word is kept."""
        for scheme in self.MADE:
            made = hash_password(SECRET, scheme)
            check_verifier(made)
            self.assertTrue(made.startswith(f"{{{scheme.upper()}}}"), made)
            self.assertTrue(verify(made, SECRET), made)
            self.assertFalse(verify(made, SECRET + b" "), made)

    def test_salted(self) -> None:
        """Two accounts with one password show two hashes."""
        for scheme in set(self.MADE) - {"SHA", "SHA256", "SHA512", "PLAIN", "CLEARTEXT"}:
            self.assertNotEqual(hash_password(SECRET, scheme), hash_password(SECRET, scheme))

    def test_default(self) -> None:
        """ARGON2ID, and what unknown names are checked against costs the same."""
        made = hash_password(b"x")
        costs = r"\{ARGON2ID\}(\$argon2id\$v=\d+\$m=\d+,t=\d+,p=\d+)\$(.{22})\$(.{43})"
        new, dummy = re.fullmatch(costs, made), re.fullmatch(costs, DUMMY_VERIFIER)
        assert new is not None and dummy is not None
        self.assertEqual(new[1], dummy[1])

    def test_refused(self) -> None:
        """No unknown or outdated scheme, no empty password, none that would be kept cut."""
        for password, scheme in [
            (b"x", "ROT13"), (b"x", ""), (b"x", "MD5-CRYPT"), (b"x", "DES-CRYPT"), (b"x", "PLAIN-MD5"),
            (b"x", "SMD5"),
            (b"", "PLAIN"), (b"", "ARGON2ID"), (b"x" * 73, "BLF-CRYPT"), (b"x\0y", "BLF-CRYPT"),
            (b"x\0y", "SHA512-CRYPT"),
        ]:
            self.assertRaises(ValueError, hash_password, password, scheme)

    def test_plain_of_any_octets(self) -> None:
        """What a line cannot hold is written in base64."""
        for password in (b"a:b", b"\xff", b"a\nb", b"\0"):
            made = hash_password(password, "PLAIN")
            self.assertTrue(made.startswith("{PLAIN.B64}"), made)
            self.assertTrue(verify(made, password))
        self.assertEqual("{PLAIN} spaced out ", hash_password(b" spaced out ", "plain"))

    def test_bcrypt_cuts_as_its_maker_did(self) -> None:
        """bcrypt hashes 72 octets; a longer password that was stored elsewhere still matches."""
        long = b"x" * 100
        made = hash_password(long[:hashes.BCRYPT_OCTETS], "BLF-CRYPT")
        self.assertTrue(verify(made, long))
        self.assertFalse(verify(made, long[:71]))

    @settings(deadline=None, max_examples=60)
    @given(st.binary(min_size=1, max_size=80), st.binary(max_size=80),
           st.sampled_from(["SSHA256", "SHA512", "PLAIN", "SSHA512.hex", "CLEARTEXT.b64"]))
    def test_exact_octets(self, password: bytes, other: bytes, scheme: str) -> None:
        """A password matches itself, octet for octet, and nothing else."""
        made = hash_password(password, scheme)
        self.assertTrue(verify(made, password))
        self.assertEqual(password == other, verify(made, other))
