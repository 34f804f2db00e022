"""AUTH with SCRAM over POP3 (RFC 5034, 5802, 7677): steps, cancel, disorder, and who gets which answer."""

from __future__ import annotations

import base64
from dataclasses import replace

from twisted.internet.defer import Deferred

from mailgate.auth.keeping import verifiers_for
from mailgate.auth.sasl import Facts
from mailgate.errors import StoreUnavailable
from mailgate.model import Account
from tests.auth.sasl.test_scram import Client
from tests.pop3.sasl_house import (
    FAR_AWAY,
    KEPT,
    USER,
    SaslCase,
    SaslHouse,
    coded,
    offering,
)
from tests.pop3.staging import with_limits

DISABLED = Account("gone", verifiers=KEPT, addresses=("gone@example.org",), disabled=True)
HASH_ONLY = Account("plain", verifiers=verifiers_for([b"pencil"]), addresses=("plain@example.org",))
ACCOUNTS = (USER, DISABLED, HASH_ONLY)
HOST = Account("xyz", sdps=True, verifiers=verifiers_for([b"one", b"two"], ("scram",)),
               domains=("xyz.example.org",))
INSIDE_TLS = Facts(bindings={b"tls-exporter": b"exported"})


def server_first(client: Client, mechanism: str = "SCRAM-SHA-256", **house: object) -> bytes:
    """Ask a server for its salt; the random source gives the same nonce each time."""
    peer = SaslHouse(accounts=house.pop("accounts", ACCOUNTS), **house).connect()
    peer.received.clear()
    peer.say(f"AUTH {mechanism} {coded(client.first)}\r\n".encode())
    return base64.b64decode(bytes(peer.received).removeprefix(b"+ ").strip())


class ScramTests(SaslCase):
    def play(self, script: str, **house: object) -> None:
        self.converse(script, **{"accounts": ACCOUNTS, **house})

    def exchange(self, client: Client | None = None, mechanism: str = "SCRAM-SHA-256",
                 **house: object) -> dict:
        """Return the parts of a whole exchange, for a script."""
        client = client or Client()
        first = server_first(client, mechanism, **house)
        final = client.final(first)
        return {"first": coded(client.first), "challenge": coded(first), "final": coded(final),
                "signature": coded(client.expected)}

    def test_whole(self) -> None:
        """The signature is a challenge, its answer an empty line, and then comes +OK (section 4)."""
        for mechanism, algorithm in (("SCRAM-SHA-256", "sha256"), ("SCRAM-SHA-1", "sha1")):
            parts = self.exchange(Client(algorithm=algorithm), mechanism)
            self.play("""
                C: AUTH {mechanism} {first}
                S: + {challenge}
                C: {final}
                S: + {signature}
                C:
                S: +OK *
                C: STAT
                S: +OK 0 0
                """.format(mechanism=mechanism, **parts))

    def test_without_initial_response(self) -> None:
        self.play("""
            C: AUTH scram-sha-256
            S: +\\x20
            C: {first}
            S: + {challenge}
            C: {final}
            S: + {signature}
            C:
            S: +OK *
            """.format(**self.exchange()))

    def test_cancel_at_each_step(self) -> None:
        """`*` ends the exchange wherever it stands, and another one works."""
        parts = self.exchange()
        self.play("""
            C: AUTH SCRAM-SHA-256
            S: +\\x20
            C: *
            S: -ERR *
            C: AUTH SCRAM-SHA-256 {first}
            S: + {challenge}
            C: *
            S: -ERR *
            C: AUTH SCRAM-SHA-256 {first}
            S: + {challenge}
            C: {final}
            S: + {signature}
            C: *
            S: -ERR *
            C: STAT
            S: -ERR *
            C: AUTH SCRAM-SHA-256 {first}
            S: + {challenge}
            C: {final}
            S: + {signature}
            C:
            S: +OK *
            """.format(**parts))

    def test_disorder(self) -> None:
        """The final message first, the first one twice, an early empty line, base64 that is none."""
        parts = self.exchange()
        for lines in (["{final}"], ["{first}", "{first}"], ["{first}", ""], ["="], ["{first}", "!!!!"],
                      ["{first}", "{final}", "{final}"], ["QUIT"]):
            script = "C: AUTH SCRAM-SHA-256\nS: +\\x20\n"
            challenges = iter(("S: + {challenge}\n", "S: + {signature}\n"))
            for line in lines[:-1]:
                script += f"C: {line}\n{next(challenges)}"
            script += f"C: {lines[-1]}\nS: -ERR malformed*\nC: STAT\nS: -ERR *\nC: QUIT\nS: +OK *\n"
            script += "S: (closed)\n"
            self.play(script.format(**parts))

    def test_empty_initial_response(self) -> None:
        self.play("""
            C: AUTH SCRAM-SHA-256 =
            S: -ERR malformed*
            """)

    def test_wrong_password(self) -> None:
        """Only at the proof; the words are those of any refused login."""
        client = Client(b"pen")
        parts = self.exchange(client)
        self.play("""
            C: AUTH SCRAM-SHA-256 {first}
            S: + {challenge}
            C: {final}
            S: -ERR [AUTH] login refused
            """.format(**parts))

    def test_unknown_disabled_and_unprepared(self) -> None:
        """They all get a salt, and are refused at the proof in the same words."""
        for name in (b"nobody", b"gone", b"plain", b"GONE"):
            parts = self.exchange(Client(name=name))
            self.play("""
                C: AUTH SCRAM-SHA-256 {first}
                S: + {challenge}
                C: {final}
                S: -ERR [AUTH] login refused
                """.format(**parts))

    def test_invented_salts_are_steady(self) -> None:
        """The same name gets the same salt and count each time, another name another, the server's own
        secret decides; they look as real ones do."""
        house = SaslHouse(accounts=ACCOUNTS)

        def salt(name: bytes, mechanism: str = "SCRAM-SHA-256", house: SaslHouse = house) -> bytes:
            peer = house.connect()
            peer.received.clear()
            peer.say(f"AUTH {mechanism} {coded(Client(name=name).first)}\r\n".encode())
            return base64.b64decode(bytes(peer.received)[2:]).split(b",", 1)[1]

        self.assertEqual(salt(b"nobody"), salt(b"nobody"))
        self.assertEqual(salt(b"nobody"), salt(b"NoBody"))
        self.assertNotEqual(salt(b"nobody"), salt(b"somebody"))
        self.assertNotEqual(salt(b"nobody"),
                            salt(b"nobody", house=SaslHouse(accounts=ACCOUNTS, secret=b"another")))
        self.assertEqual(len(salt(b"nobody")), len(salt(b"user")))
        self.assertEqual(salt(b"nobody").split(b",")[1], salt(b"user").split(b",")[1])

    def test_refusals_leave_at_the_fixed_time(self) -> None:
        """A wrong proof is answered when a wrong password is."""
        for name in (b"user", b"nobody", b"gone"):
            house = SaslHouse(accounts=ACCOUNTS, policy=with_limits(failure_delay_seconds=2.0))
            peer = house.connect()
            peer.received.clear()
            client = Client(b"wrong", name=name)
            peer.say(f"AUTH SCRAM-SHA-256 {coded(client.first)}\r\n".encode())
            final = client.final(base64.b64decode(bytes(peer.received)[2:]))
            peer.received.clear()
            peer.say(coded(final).encode() + b"\r\n")
            house.clock.advance(1.99)
            self.assertEqual(bytes(peer.received), b"")
            house.clock.advance(0.01)
            peer.settle()
            self.assertEqual(bytes(peer.received), b"-ERR [AUTH] login refused\r\n")

    def test_failed_logins_are_counted(self) -> None:
        parts = self.exchange(Client(b"pen"))
        attempt = "C: AUTH SCRAM-SHA-256 {first}\nS: + {challenge}\nC: {final}\nS: -ERR [AUTH] *\n"
        self.play((attempt * 3 + "S: (closed)\n").format(**parts))

    def test_both_passwords_of_a_host(self) -> None:
        """Two passwords, one salt: each of them opens a user's view."""
        for password in (b"one", b"two"):
            parts = self.exchange(Client(password, name=b"mail@xyz"), accounts=(HOST,))
            self.play("""
                C: AUTH SCRAM-SHA-256 {first}
                S: + {challenge}
                C: {final}
                S: + {signature}
                C:
                S: +OK *
                """.format(**parts), accounts=(HOST,))

    def test_change_during_the_exchange(self) -> None:
        """The admission carries the version of the account that the keys were read from."""
        house = SaslHouse(accounts=ACCOUNTS)
        answer = self.successResultOf(house.checker.scram_secret("SCRAM-SHA-256", b"user"))
        assert answer is not None
        version = answer.vouch.avatar_id.version
        self.successResultOf(house.store.accounts.set_verifiers("user", KEPT))
        after = self.successResultOf(house.checker.scram_secret("SCRAM-SHA-256", b"user"))
        assert after is not None
        self.assertLess(version, after.vouch.avatar_id.version)

    def test_needs_no_protection(self) -> None:
        """From far away, in clear: no password crosses the wire."""
        parts = self.exchange()
        self.play("""
            C: AUTH SCRAM-SHA-256 {first}
            S: + {challenge}
            C: {final}
            S: + {signature}
            C:
            S: +OK *
            """.format(**parts), address=FAR_AWAY)


class VanishingTests(SaslCase):
    def test_while_the_store_is_asked(self) -> None:
        """Whoever goes between two steps leaves nothing; a fault of the store is an outage."""
        for fault in (None, StoreUnavailable("away")):
            for goes in (True, False):
                house = SaslHouse()
                pending: Deferred[object] = Deferred()
                self.patch(house.checker, "scram_secret", lambda scheme, name, pending=pending: pending)
                peer = house.connect()
                peer.received.clear()
                peer.say(f"AUTH SCRAM-SHA-256 {coded(Client().first)}\r\nQUIT\r\n".encode())
                self.assertEqual(bytes(peer.received), b"")
                if goes:
                    peer.vanish()
                if fault is None:
                    pending.callback(None)
                else:
                    pending.errback(fault)
                peer.settle()
                said = b"" if goes else b"+ " if fault is None else b"-ERR [SYS/TEMP] "
                self.assertTrue(bytes(peer.received).startswith(said), peer.received)
                if not goes and fault is not None:      # the next line is a command again
                    self.assertIn(b"\r\n+OK goodbye\r\n", bytes(peer.received))
                elif not goes:
                    peer.vanish()
                self.check(house)


class BindingTests(SaslCase):
    def test_plus(self) -> None:
        """Bound to the channel; both names are announced (section 6)."""
        client = Client(gs2=b"p=tls-exporter,,", binding=b"exported")
        first = server_first(client, "SCRAM-SHA-256-PLUS", facts=INSIDE_TLS)
        final = client.final(first)
        self.converse(f"""
            C: AUTH SCRAM-SHA-256-PLUS {coded(client.first)}
            S: + {coded(first)}
            C: {coded(final)}
            S: + {coded(client.expected)}
            C:
            S: +OK *
            C: STAT
            S: +OK 0 0
            """, facts=INSIDE_TLS)

    def test_good_for_one_exchange(self) -> None:
        """A failed -PLUS closes: the binding must not be used again (RFC 9266 section 4.1)."""
        client = Client(gs2=b"p=tls-exporter,,", binding=b"another's")
        first = server_first(client, "SCRAM-SHA-256-PLUS", facts=INSIDE_TLS)
        self.converse(f"""
            C: AUTH SCRAM-SHA-256-PLUS {coded(client.first)}
            S: + {coded(first)}
            C: {coded(client.final(first))}
            S: -ERR [AUTH] *
            S: (closed)
            """, facts=INSIDE_TLS)
        self.converse("""
            C: AUTH SCRAM-SHA-256-PLUS
            S: +\\x20
            C: *
            S: -ERR *
            S: (closed)
            """, facts=INSIDE_TLS)

    def test_downgrade(self) -> None:
        """`y` where -PLUS is announced is refused as any login is."""
        self.converse(f"""
            C: AUTH SCRAM-SHA-256 {coded(b"y,,n=user,r=abc")}
            S: -ERR [AUTH] *
            """, facts=INSIDE_TLS)

    def test_announced(self) -> None:
        self.assertEqual(self.mechanisms(facts=INSIDE_TLS), [
            "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"])
        self.converse("""
            C: AUTH SCRAM-SHA-256-PLUS
            S: -ERR *
            """)


class AnnouncedTests(SaslCase):
    """Clients take the strongest and try no other: announced is what every user can use."""

    def test_every_account_has_keys(self) -> None:
        self.assertEqual(self.mechanisms(), ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"])
        self.assertEqual(self.mechanisms(address=FAR_AWAY), ["SCRAM-SHA-256", "SCRAM-SHA-1"])

    def test_one_has_none(self) -> None:
        """Not announced; it works all the same for those who have keys."""
        self.assertEqual(self.mechanisms(accounts=ACCOUNTS), ["PLAIN"])
        self.assertEqual(self.mechanisms(accounts=ACCOUNTS, address=FAR_AWAY), None)

    def test_who_cannot_log_in_does_not_count(self) -> None:
        locked = Account("locked", addresses=("locked@example.org",))
        self.assertEqual(self.mechanisms(accounts=(USER, locked, replace(HASH_ONLY, disabled=True))),
                         ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"])

    def test_by_setting(self) -> None:
        """What a setting names is announced regardless, and nothing else is there."""
        self.assertEqual(self.mechanisms(accounts=ACCOUNTS, policy=offering("SCRAM-SHA-256")),
                         ["SCRAM-SHA-256"])
        self.converse("""
            C: AUTH PLAIN AHVzZXIAcGVuY2ls
            S: -ERR *
            C: AUTH SCRAM-SHA-1
            S: -ERR *
            """, policy=offering("SCRAM-SHA-256"))
        self.assertEqual(self.mechanisms(policy=offering()), None)

    def test_follows_a_change(self) -> None:
        """An account that is added without keys is seen within seconds."""
        house = SaslHouse()
        self.assertIn("SCRAM-SHA-256", self.said(house))
        self.successResultOf(house.store.accounts.add([HASH_ONLY]))
        house.clock.advance(5)
        self.assertNotIn("SCRAM-SHA-256", self.said(house))
        self.successResultOf(house.store.accounts.remove("plain"))
        house.clock.advance(5)
        self.assertIn("SCRAM-SHA-256", self.said(house))

    def said(self, house: SaslHouse) -> str:
        peer = house.connect()
        peer.received.clear()
        peer.say(b"CAPA\r\n")
        return bytes(peer.received).decode()

    def test_same_after_the_login(self) -> None:
        """RFC 2449 section 5."""
        house = SaslHouse()
        peer = house.connect()
        before = self.said(house)
        peer.say(b"AUTH PLAIN AHVzZXIAcGVuY2ls\r\n")
        peer.received.clear()
        peer.say(b"CAPA\r\n")
        self.assertEqual(bytes(peer.received).decode(), before)
