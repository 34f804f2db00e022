"""AUTH with LOGIN, CRAM-MD5 and EXTERNAL, and APOP, over POP3 (RFC 5034, 2195, 4422, 1939 section 7)."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import Portal
from twisted.internet.task import Clock

from mailgate.auth.keeping import verifiers_for
from mailgate.auth.sasl import DigestClaim, Facts
from mailgate.auth.sasl.digests import read_apop
from mailgate.errors import BadArguments
from mailgate.model import Account
from mailgate.net.pop3 import POP3Factory
from mailgate.testing.peers import Peer
from tests.pop3.maildrops import Realm
from tests.pop3.sasl_house import FAR_AWAY, USER, SaslCase, SaslHouse, coded, octets_like, offering
from tests.pop3.staging import QUICK

STAMP = "<000102030405060708090a0b0c0d0e0f@mail.example.org>"
CONTEXTS = Account("user", verifiers=verifiers_for([b"pencil"], ("cram",)), addresses=("user@example.org",))
BLANKS = Account("xyz", sdps=True, verifiers=verifiers_for([b"pencil"], ("apop",)),
                 domains=("xyz.example.org",))
HASH_ONLY = Account("user", verifiers=verifiers_for([b"pencil"]), addresses=("user@example.org",))
DISABLED = replace(USER, disabled=True)


class LoginTests(SaslCase):
    policy = offering("LOGIN")

    def test_two_questions(self) -> None:
        self.converse(f"""
            C: AUTH LOGIN
            S: + VXNlcm5hbWU6
            C: {coded(b"user")}
            S: + UGFzc3dvcmQ6
            C: {coded(b"pencil")}
            S: +OK *
            C: STAT
            S: +OK 0 0
            """, policy=self.policy)

    def test_name_at_once(self) -> None:
        self.converse(f"""
            C: AUTH LOGIN {coded(b"user")}
            S: + UGFzc3dvcmQ6
            C: {coded(b"pencil")}
            S: +OK *
            """, policy=self.policy)

    def test_cancel_and_malformed(self) -> None:
        self.converse(f"""
            C: AUTH LOGIN
            S: + VXNlcm5hbWU6
            C: *
            S: -ERR *
            C: AUTH LOGIN {coded(b"user")}
            S: + UGFzc3dvcmQ6
            C: *
            S: -ERR *
            C: AUTH LOGIN =
            S: -ERR malformed*
            C: AUTH LOGIN {coded(b"user")}
            S: + UGFzc3dvcmQ6
            C:
            S: -ERR malformed*
            C: AUTH LOGIN {coded(b"us" + bytes(1) + b"er")}
            S: -ERR malformed*
            C: AUTH LOGIN {coded(b"user")}
            S: + UGFzc3dvcmQ6
            C: pencil!
            S: -ERR malformed*
            C: AUTH LOGIN {coded(b"user")}
            S: + UGFzc3dvcmQ6
            C: {coded(b"wrong")}
            S: -ERR [AUTH] login refused
            """, policy=self.policy)

    def test_not_in_clear(self) -> None:
        """Refused before the name is asked for."""
        self.converse("""
            C: AUTH LOGIN
            S: -ERR encryption*
            """, policy=self.policy, address=FAR_AWAY)

    def test_not_unasked(self) -> None:
        self.converse("""
            C: AUTH LOGIN
            S: -ERR *
            """)


def cram(name: bytes, password: bytes = b"pencil", stamp: str = STAMP) -> str:
    digest = hmac.new(password, stamp.encode(), "md5").hexdigest()
    return coded(name + b" " + digest.encode())


class CramTests(SaslCase):
    policy = offering("CRAM-MD5")

    def play(self, script: str, **house: object) -> None:
        self.converse(script, **{"policy": self.policy, **house})

    def test_vector(self) -> None:
        """The example of RFC 2195 section 2, against the password and against contexts of it."""
        from mailgate.auth.answers import digest_matches
        from mailgate.auth.credentials import DigestLogin

        for digest, good in ((b"b913a602c7eda7a495b4e6e7334d3890", True),
                             (b"b913a602c7eda7a495b4e6e7334d3891", False)):
            login = DigestLogin(DigestClaim(
                "CRAM-MD5", b"tim", b"<1896.697170952@postoffice.reston.mci.net>", digest))
            for kinds in (("apop",), ("cram",)):
                matches = digest_matches(login, verifiers_for([b"tanstaaftanstaaf"], kinds))
                self.assertEqual(matches, [good])

    def test_with_password_and_with_contexts(self) -> None:
        """The challenge is a msg-id; upper-case digits are taken too."""
        for account in (USER, CONTEXTS):
            self.play(f"""
                C: AUTH CRAM-MD5
                S: + {coded(STAMP.encode())}
                C: {cram(b"user")}
                S: +OK *
                """, accounts=(account,), address=FAR_AWAY)

    def test_names_with_blanks(self) -> None:
        """Split at the last blank."""
        self.play(f"""
            C: AUTH CRAM-MD5
            S: + *
            C: {cram(b"john doe@xyz")}
            S: +OK *
            """, accounts=(BLANKS,))

    def test_refused(self) -> None:
        """Wrong password, unknown name, disabled account, nothing kept: the same words."""
        for account, name, password in ((USER, b"user", b"wrong"), (USER, b"nobody", b"pencil"),
                                        (DISABLED, b"user", b"pencil"), (HASH_ONLY, b"user", b"pencil")):
            self.play(f"""
                C: AUTH CRAM-MD5
                S: + *
                C: {cram(name, password)}
                S: -ERR [AUTH] login refused
                """, accounts=(account,))

    def test_initial_response(self) -> None:
        """The server begins: an initial response is an error, an empty one as well."""
        self.play(f"""
            C: AUTH CRAM-MD5 {cram(b"user")}
            S: -ERR malformed*
            C: AUTH CRAM-MD5 =
            S: -ERR malformed*
            C: STAT
            S: -ERR *
            """)

    def test_cancel_and_malformed(self) -> None:
        script = "".join(f"C: AUTH CRAM-MD5\nS: + *\nC: {line}\nS: -ERR *\n" for line in (
            "*", "", "dXNlcg==", coded(b" " + b"0" * 32), coded(b"user " + b"0" * 31),
            coded(b"user " + b"0" * 33),
            coded(b"user  "), coded(b"user " + b"g" * 32), "user"))
        self.play(script + "C: STAT\nS: -ERR *\n")

    def test_announced(self) -> None:
        self.assertEqual(self.mechanisms(policy=self.policy, address=FAR_AWAY), ["CRAM-MD5"])
        self.assertNotIn("CRAM-MD5", self.mechanisms() or [])

    def test_checker_of_another_application(self) -> None:
        """Any IUsernameHashedPassword checker serves; one that takes clear passwords alone does not."""
        checker = InMemoryUsernamePasswordDatabaseDontUse(user=b"pencil")
        factory = POP3Factory(
            Portal(Realm([]), [checker]), policy=self.policy, random=octets_like, clock=Clock())
        peer = Peer(factory)
        peer.say(f"AUTH CRAM-MD5\r\n{cram(b'user')}\r\n".encode())
        self.assertIn(b"\r\n+OK maildrop", bytes(peer.received))
        self.assertIn(b"CRAM-MD5", factory.mechanisms)
        checker.credentialInterfaces = checker.credentialInterfaces[:1]
        self.assertNotIn(b"CRAM-MD5",
                         POP3Factory(Portal(Realm([]), [checker]), policy=self.policy).mechanisms)

    def test_checker_that_comes_later(self) -> None:
        """A portal may be given its checkers when the factory is there already."""
        portal = Portal(Realm([]))
        factory = POP3Factory(portal, policy=offering("CRAM-MD5", "PLAIN"))
        self.assertEqual(list(factory.mechanisms), [])
        portal.registerChecker(InMemoryUsernamePasswordDatabaseDontUse(user=b"pencil"))
        self.assertEqual(list(factory.mechanisms), [b"CRAM-MD5", b"PLAIN"])


def apop(name: str, password: bytes = b"pencil", stamp: str = STAMP) -> str:
    return f"APOP {name} {hashlib.md5(stamp.encode() + password).hexdigest()}"


class ApopTests(SaslCase):
    policy = replace(QUICK, apop=True, hostname=b"mail.example.org")

    def play(self, script: str, **house: object) -> None:
        self.converse(script, greeting=f"+OK mailgate ready {STAMP}", **{"policy": self.policy, **house})

    def test_vector(self) -> None:
        """The example of RFC 1939 section 7."""
        from mailgate.auth.credentials import DigestLogin

        claim = read_apop(b"mrose c4c9334bac560ecc979e58001b3e22fb", b"<1896.697170952@dbc.mtview.ca.us>")
        self.assertTrue(DigestLogin(claim).checkPassword(b"tanstaaf"))
        self.assertFalse(DigestLogin(claim).checkPassword(b"tanstaaf "))

    def test_login(self) -> None:
        """In any case of letters, in clear from anywhere: no password crosses the wire."""
        for line in (apop("user"), apop("user").replace("APOP", "apop"),
                     apop("user")[:10] + apop("user")[10:].upper()):
            self.play(f"""
                C: {line}
                S: +OK *
                C: STAT
                S: +OK 0 0
                """, address=FAR_AWAY)

    def test_name_with_blanks(self) -> None:
        self.play(f"""
            C: {apop("john doe@xyz")}
            S: +OK *
            """, accounts=(BLANKS,))

    def test_refused(self) -> None:
        """The same words for all; the state is AUTHORIZATION, and the next try may be good."""
        for account, line in ((USER, apop("user", b"wrong")), (USER, apop("nobody")),
                              (DISABLED, apop("user")),
                              (HASH_ONLY, apop("user")), (CONTEXTS, apop("user")),
                              (USER, apop("user", stamp="<other@mail.example.org>"))):
            self.play(f"""
                C: {line}
                S: -ERR [AUTH] login refused
                C: STAT
                S: -ERR *
                """, accounts=(account,))
        self.play(f"""
            C: {apop("user", b"wrong")}
            S: -ERR [AUTH] *
            C: {apop("user")}
            S: +OK *
            """)

    def test_malformed(self) -> None:
        for rest in (b"", b"user", b"user 1234", b" " + b"0" * 32, b"user " + b"g" * 32):
            self.assertRaises(BadArguments, read_apop, rest, b"<x@y>")
        self.play("""
            C: APOP
            S: -ERR *
            C: APOP user
            S: -ERR *
            C: APOP user 1234
            S: -ERR *
            """)

    def test_between_user_and_pass(self) -> None:
        self.play(f"""
            C: USER user
            S: +OK *
            C: {apop("user", b"wrong")}
            S: -ERR [AUTH] *
            C: PASS pencil
            S: -ERR *
            """)

    def test_off_by_default(self) -> None:
        """No timestamp, no command."""
        self.converse(f"""
            C: {apop("user")}
            S: -ERR command refused
            """, greeting="+OK mailgate ready")

    def test_fresh_for_each_greeting(self) -> None:
        factory = SaslHouse(policy=self.policy).factory
        factory.random = __import__("secrets").token_bytes
        stamps = {bytes(Peer(factory).received) for _ in range(5)}
        self.assertEqual(len(stamps), 5)

    def test_not_without_a_checker_for_it(self) -> None:
        checker = InMemoryUsernamePasswordDatabaseDontUse(user=b"pencil")
        checker.credentialInterfaces = checker.credentialInterfaces[:1]
        factory = POP3Factory(Portal(Realm([]), [checker]), policy=self.policy, clock=Clock())
        self.assertNotIn(b"<", bytes(Peer(factory).received))


class ExternalTests(SaslCase):
    facts = Facts(identities=(b"user", b"user@example.org"))

    def test_certificates_own_name(self) -> None:
        """An empty response means the first name that the certificate stands for."""
        for way in ("AUTH EXTERNAL =", "AUTH EXTERNAL\nS: +\\x20\nC: "):
            self.converse(f"C: {way}\nS: +OK *\nC: STAT\nS: +OK 0 0\n", facts=self.facts, address=FAR_AWAY)

    def test_chosen_name(self) -> None:
        self.converse(f"""
            C: AUTH EXTERNAL {coded(b"other")}
            S: -ERR [AUTH] login refused
            C: AUTH EXTERNAL {coded(b"user@example.org")}
            S: +OK *
            """, facts=self.facts)

    def test_refused(self) -> None:
        """The certificate proves a name, not an account: unknown and disabled ones stay out."""
        for accounts in ((DISABLED,), ()):
            self.converse("""
                C: AUTH EXTERNAL =
                S: -ERR [AUTH] login refused
                """, facts=self.facts, accounts=accounts)

    def test_cancel_and_malformed(self) -> None:
        self.converse(f"""
            C: AUTH EXTERNAL
            S: +\\x20
            C: *
            S: -ERR *
            C: AUTH EXTERNAL {coded(b"us" + bytes(1) + b"er")}
            S: -ERR malformed*
            C: AUTH EXTERNAL {coded(bytes([255]))}
            S: -ERR malformed*
            """, facts=self.facts)

    def test_only_with_a_certificate(self) -> None:
        self.assertIn("EXTERNAL", self.mechanisms(facts=self.facts) or [])
        self.assertNotIn("EXTERNAL", self.mechanisms() or [])
        self.converse("""
            C: AUTH EXTERNAL =
            S: -ERR *
            """)
