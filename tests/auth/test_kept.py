"""Verifiers for mechanisms with a challenge: their forms, and the password checked against them."""

from __future__ import annotations

import hashlib
import hmac
import os

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.auth.keeping import kinds_of, verifiers_for
from mailgate.auth.kept import CRAM_MD5, SCRAM_SHA_256
from mailgate.auth.md5 import INITIAL_STATE, compressed, padded
from mailgate.auth.saslprep import prepared_octets, saslprep
from mailgate.auth.schemes import check_verifier, for_passwords, hash_password, scheme_of, verify

PENCIL = ("{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,"
          "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=")


class ScramVerifierTests(SynchronousTestCase):
    def test_known(self) -> None:
        """The password of RFC 7677's example under its salt and count."""
        made = SCRAM_SHA_256.make_salted(b"pencil", bytes.fromhex("5b6d99689d12358eeca04b141236fa81"), 4096)
        self.assertEqual("{SCRAM-SHA-256}" + made.decode(), PENCIL)
        self.assertTrue(verify(PENCIL, b"pencil"))
        self.assertFalse(verify(PENCIL, b"Pencil"))

    def test_fresh(self) -> None:
        for scheme in ("SCRAM-SHA-256", "SCRAM-SHA-1"):
            one, two = hash_password(b"secret", scheme), hash_password(b"secret", scheme)
            self.assertNotEqual(one, two)
            self.assertTrue(verify(one, b"secret") and verify(two, b"secret"))

    def test_malformed(self) -> None:
        for form in ("", "4096", PENCIL[15:][:-4], PENCIL[15:].replace("4096", "4095"), PENCIL[15:] + ",",
                     PENCIL[15:].replace("4096", "10000001"), PENCIL[15:].replace("4096", "0"),
                     "4096,AAAA,AAAA,AAAA", PENCIL[15:].replace("=", "!"), PENCIL[15:].replace("4096", "-1")):
            self.assertRaises(ValueError, check_verifier, "{SCRAM-SHA-256}" + form)
            self.assertFalse(verify("{SCRAM-SHA-256}" + form, b"pencil"))

    def test_prepared_password(self) -> None:
        """What looks the same is the same to a client that prepares it (RFC 4013 section 3)."""
        verifier = hash_password("I\u00adX \u2168".encode(), "SCRAM-SHA-256")
        self.assertTrue(verify(verifier, b"IX IX"))


class SaslprepTests(SynchronousTestCase):
    def test_examples(self) -> None:
        """RFC 4013 section 3."""
        for text, prepared in (("I\u00adX", "IX"), ("user", "user"), ("USER", "USER"), ("\u00aa", "a"),
                               ("\u2168", "IX"), ("a\u00a0b", "a b"), ("", "")):
            self.assertEqual(saslprep(text), prepared)
        for text in ("\u0007", "\u0627\u0031", "\ue000", "\u0221", "\ufffd"):
            self.assertRaises(ValueError, saslprep, text)
        self.assertEqual(saslprep("\u06271\u0628"), "\u06271\u0628")

    def test_what_cannot_be_prepared_stays(self) -> None:
        for octets in (b"\xff", b"\x07", "\u00ad".encode()):
            self.assertEqual(prepared_octets(octets), octets)


class CramVerifierTests(SynchronousTestCase):
    def test_dovecots_form(self) -> None:
        """As other servers write it."""
        verifier = "{CRAM-MD5}e02d374fde0dc75a17a557039a3a5338c7743304777dccd376f332bee68d2cf6"
        self.assertEqual(hash_password(b"test", "CRAM-MD5"), verifier)
        self.assertTrue(verify(verifier, b"test"))
        self.assertFalse(verify(verifier, b"Test"))
        self.assertRaises(ValueError, check_verifier, "{CRAM-MD5}e02d")

    @settings(deadline=None, max_examples=60)
    @given(st.binary(min_size=1, max_size=130), st.binary(max_size=130))
    def test_is_hmac(self, password: bytes, challenge: bytes) -> None:
        contexts = CRAM_MD5.read(CRAM_MD5.make(password))
        self.assertEqual(contexts.hexdigest(challenge).decode(),
                         hmac.new(password, challenge, "md5").hexdigest())

    def test_md5(self) -> None:
        for size in (0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 128, 1000):
            message = os.urandom(size)
            self.assertEqual(compressed(INITIAL_STATE, padded(message, 0)), hashlib.md5(message).digest())


class KeepingTests(SynchronousTestCase):
    def schemes(self, *kinds: str) -> list[str]:
        return [scheme_of(one) for one in verifiers_for([b"secret"], kinds)]

    def test_only_by_choice(self) -> None:
        """Nothing but a hash, unless asked; the password itself for APOP alone, and then in its place."""
        self.assertEqual(self.schemes(), ["ARGON2ID"])
        self.assertEqual(self.schemes("scram"), ["ARGON2ID", "SCRAM-SHA-256", "SCRAM-SHA-1"])
        self.assertEqual(self.schemes("cram"), ["ARGON2ID", "CRAM-MD5"])
        self.assertEqual(self.schemes("apop", "cram"), ["PLAIN"])
        for kinds in ((), ("scram",), ("cram",), ("scram", "cram")):
            self.assertFalse([one for one in verifiers_for([b"secret"], kinds) if "secret" in one])

    def test_passwords_of_one_account_share_a_salt(self) -> None:
        made = verifiers_for([b"one", b"two"], ("scram",))
        salts = {one.split(",")[1] for one in made if one.startswith("{SCRAM-SHA-256}")}
        self.assertEqual(len(salts), 1)
        self.assertNotEqual(verifiers_for([b"one"], ("scram",))[1].split(",")[1], salts.pop())

    def test_every_one_is_good_for_a_password(self) -> None:
        for verifier in verifiers_for([b"secret"], ("scram", "cram")):
            self.assertTrue(verify(verifier, b"secret"), verifier)
            self.assertFalse(verify(verifier, b"Secret"), verifier)

    def test_derived_ones_cost_a_password_login_nothing(self) -> None:
        made = verifiers_for([b"one", b"two"], ("scram", "cram"))
        self.assertEqual(list(for_passwords(made)), list(made[:2]))
        self.assertEqual(list(for_passwords(made[2:])), list(made[2:]))

    def test_kinds(self) -> None:
        self.assertEqual(kinds_of(verifiers_for([b"x"], ("scram", "cram"))), {"scram", "cram"})
        self.assertEqual(kinds_of(verifiers_for([b"x"], ("apop",))), set())
