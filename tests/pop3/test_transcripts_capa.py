"""CAPA and what it promises (RFC 2449, RFC 3206, RFC 5034 section 3, RFC 8314)."""

from __future__ import annotations

from dataclasses import replace

from mailgate.pop3.policy import Policy
from mailgate.testing.peers import FAR_AWAY, LOOPBACK, Address
from tests.pop3.maildrops import Mail
from tests.pop3.staging import GREETING, QUICK, ConversationCase, Server

DEMON = replace(QUICK, sdps=True)


def capabilities(policy: Policy = QUICK, *, logged_in: bool = False,
                 address: Address = LOOPBACK) -> dict[str, list[str]]:
    """Return what CAPA announces: tag to arguments."""
    server = Server([Mail(b"a\n")], policy=policy)
    peer = server.connect(address)
    if logged_in:
        peer.say(b"USER mrose\r\nPASS secret\r\n")
        assert server.realm.opened
    peer.received.clear()
    peer.say(b"CAPA\r\n")
    status, *lines, end, nothing = bytes(peer.received).split(b"\r\n")
    assert status.startswith(b"+OK ") and end == b"." and nothing == b"", peer.received
    assert all(len(line) + 2 <= 512 and line.isascii() for line in lines), lines
    words = [line.decode().split(" ") for line in lines]
    assert len({tag for tag, *_ in words}) == len(words), "a tag stands twice"
    return {tag: arguments for tag, *arguments in words}


class CapaTests(ConversationCase):
    def test_both_states(self) -> None:
        """CAPA works before and after login, and is multi-line (RFC 2449 section 5)."""
        self.converse(GREETING + """
            C: CAPA
            S: +OK *
            S: (lines)
            S: .
            C: USER mrose
            S: +OK *
            C: PASS secret
            S: +OK *
            C: capa
            S: +OK *
            S: (lines)
            S: .
            C: STAT
            S: +OK 0 0
            """, login=False)

    def test_no_arguments(self) -> None:
        """CAPA takes none (section 5)."""
        self.converse(GREETING + """
            C: CAPA TOP
            S: -ERR *
            """, login=False)

    def test_default_list(self) -> None:
        """Exactly what is true: no tag for what is not there, no STLS without a certificate."""
        found = capabilities()
        found.pop("IMPLEMENTATION", None)
        self.assertEqual(found, {"TOP": [], "UIDL": [], "USER": [], "SASL": ["PLAIN"], "PIPELINING": [],
                                 "RESP-CODES": [], "AUTH-RESP-CODE": []})

    def test_same_list_after_login(self) -> None:
        """Whatever is announced before login is announced after it, SASL too (section 5; RFC 5034)."""
        policy = replace(DEMON, expire=b"NEVER", implementation=b"mailgate", login_delay_seconds=60)
        self.assertEqual(capabilities(policy), capabilities(policy, logged_in=True))

    def test_expire(self) -> None:
        """EXPIRE stands when it is set, with what it was set to (section 6.7)."""
        self.assertEqual(capabilities(replace(QUICK, expire=b"30"))["EXPIRE"], ["30"])
        self.assertEqual(capabilities(replace(QUICK, expire=b"NEVER"))["EXPIRE"], ["NEVER"])
        self.assertNotIn("EXPIRE", capabilities())

    def test_login_delay(self) -> None:
        """LOGIN-DELAY in seconds, when there is one (section 6.5)."""
        self.assertEqual(capabilities(replace(QUICK, login_delay_seconds=900))["LOGIN-DELAY"], ["900"])
        self.assertNotIn("LOGIN-DELAY", capabilities())

    def test_implementation(self) -> None:
        """IMPLEMENTATION holds what was set (section 6.9)."""
        found = capabilities(replace(QUICK, implementation=b"Gate 9"))
        self.assertEqual(found["IMPLEMENTATION"], ["Gate", "9"])

    def test_sdps(self) -> None:
        """A private tag begins with `X-`; it stands only where `*ENV` is spoken (section 9)."""
        self.assertEqual(capabilities(DEMON)["X-SDPS"], [])
        self.assertNotIn("X-SDPS", capabilities())

    def test_plaintext_refused(self) -> None:
        """USER and PLAIN are not announced where they are refused (section 6.2; RFC 5034 section 4)."""
        for found in (capabilities(replace(QUICK, plaintext_login=False)), capabilities(address=FAR_AWAY)):
            self.assertNotIn("USER", found)
            self.assertNotIn("PLAIN", found.get("SASL", []))
            self.assertNotEqual(found.get("SASL"), [])      # a SASL line names at least one mechanism
        self.assertIn("USER", capabilities(replace(QUICK, plaintext_login=True), address=FAR_AWAY))

    def test_bare_auth_agrees(self) -> None:
        """Bare AUTH names the mechanisms that CAPA names: none where plaintext is refused."""
        for address, policy in ((LOOPBACK, QUICK), (FAR_AWAY, QUICK)):
            peer = Server(policy=policy).connect(address)
            peer.received.clear()
            peer.say(b"AUTH\r\n")
            status, *names = bytes(peer.received).splitlines()
            if status.startswith(b"+OK "):
                found = [name.decode() for name in names if name != b"."]
                self.assertEqual(found, capabilities(policy, address=address).get("SASL", []))
            else:
                self.assertNotIn("SASL", capabilities(policy, address=address))

    def test_stls_is_not_there(self) -> None:
        """Without a certificate STLS is neither announced nor accepted (RFC 8314 section 4)."""
        self.assertNotIn("STLS", capabilities())
        self.converse(GREETING + """
            C: STLS
            S: -ERR *
            C: NOOP
            S: -ERR *
            """, login=False)

    def test_capa_does_not_disturb_an_open_session(self) -> None:
        """CAPA in TRANSACTION leaves marks as they are."""
        self.converse("""
            C: DELE 1
            S: +OK *
            C: CAPA
            S: +OK *
            S: (lines)
            S: .
            C: STAT
            S: +OK 1 200
            C: QUIT
            S: +OK *
            S: (closed)
            """, sizes=[120, 200], removed=[1])

    def test_two_factories_share_nothing(self) -> None:
        """Two services in one process keep their own policies."""
        self.assertIn("X-SDPS", capabilities(DEMON))
        self.assertNotIn("X-SDPS", capabilities(QUICK))
        self.assertIn("X-SDPS", capabilities(DEMON))
