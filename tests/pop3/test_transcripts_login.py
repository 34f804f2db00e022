"""USER and PASS, plaintext and its refusal (RFC 1939 sections 7, 13; RFC 8314; RFC 2595 section 2.3)."""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from mailgate.errors import LoginRefused
from mailgate.testing.peers import FAR_AWAY
from mailgate.testing.transcript import escape
from tests.pop3.staging import GREETING, QUICK, ConversationCase, Server


class UserPassTests(ConversationCase):
    def test_unknown_user_is_not_told(self) -> None:
        """USER is `+OK` for every name, so that names do not leak (sections 7, 13)."""
        self.converse(GREETING + """
            C: USER nobody
            S: +OK *
            C: PASS secret
            S: -ERR [AUTH] *
            """, login=False)

    def test_refusals_are_identical(self) -> None:
        """Unknown user, wrong password and disabled account: the same octets, for USER and for PASS."""
        def replies(name: bytes, password: bytes, fault: Exception | None = None) -> bytes:
            server = Server()
            server.realm.opening.fault = fault
            peer = server.connect()
            peer.say(b"USER " + name + b"\r\nPASS " + password + b"\r\n")
            return bytes(peer.received)

        wrong = replies(b"mrose", b"wrong")
        self.assertRegex(wrong, rb"\r\n-ERR \[AUTH\] [^\r]+\r\n\Z")
        self.assertEqual(replies(b"nobody", b"secret"), wrong)
        self.assertEqual(replies(b"mrose", b"secret", LoginRefused("disabled")), wrong)

    def test_pass_directly_after_user(self) -> None:
        """PASS only directly after a successful USER; what comes between undoes the USER (section 7)."""
        for between in ("NOOP", "STAT", "XYZZY", "AUTH UNKNOWN"):
            self.converse(GREETING + f"""
                C: USER mrose
                S: +OK *
                C: {between}
                S: -ERR *
                C: PASS secret
                S: -ERR *
                C: USER mrose
                S: +OK *
                C: PASS secret
                S: +OK *
                """, login=False)

    def test_pass_without_user(self) -> None:
        """PASS alone is refused and is no login: no code (section 7, RFC 3206)."""
        self.converse(GREETING + """
            C: PASS secret
            S: -ERR *
            C: STAT
            S: -ERR *
            """, login=False)

    def test_failed_pass_needs_a_new_user(self) -> None:
        """After a failed PASS the name is forgotten (section 7)."""
        self.converse(GREETING + """
            C: USER mrose
            S: +OK *
            C: PASS wrong
            S: -ERR [AUTH] *
            C: PASS secret
            S: -ERR *
            C: USER mrose
            S: +OK *
            C: PASS secret
            S: +OK *
            """, login=False)

    def test_second_user_replaces_the_first(self) -> None:
        """USER after USER counts: the last name is the one (section 7)."""
        self.converse(GREETING + """
            C: USER nobody
            S: +OK *
            C: USER mrose
            S: +OK *
            C: PASS secret
            S: +OK *
            """, login=False)

    def test_spaces_belong_to_the_password(self) -> None:
        """Everything after `PASS ` is the password: leading, double and trailing spaces, tabs (section 7)."""
        for right, wrong in ((b" lead", b"lead"), (b"trail ", b"trail"), (b"two  words", b"two words"),
                             (b"  ", b" "), (b" ", b"x"), (b"a\tb", b"a b"), (b"caf\xe9", b"cafe")):
            self.converse(GREETING + f"""
                C: USER mrose
                S: +OK *
                C: PASS {escape(wrong)}
                S: -ERR [AUTH] *
                C: USER mrose
                S: +OK *
                C: PASS {escape(right)}
                S: +OK *
                """, login=False, passwords={b"mrose": [right]})

    def test_user_with_spaces_is_one_argument(self) -> None:
        """The rest of the line is the name (section 7; ipop3d does so)."""
        self.converse(GREETING + """
            C: USER marshall t rose
            S: +OK *
            C: PASS secret
            S: +OK *
            """, login=False, passwords={b"marshall t rose": [b"secret"]})

    def test_missing_name_or_password(self) -> None:
        """USER and PASS need their argument (section 7)."""
        self.converse(GREETING + """
            C: USER
            S: -ERR *
            C: USER\\x20
            S: -ERR *
            C: USER mrose
            S: +OK *
            C: PASS
            S: -ERR *
            """, login=False)

    def test_strange_octets_in_names(self) -> None:
        """NUL, 8-bit octets and invalid UTF-8 in names and passwords get one `-ERR` each."""
        for name, password in ((b"a\x00b", b"secret"), (b"\xff\xfe", b"secret"), (b"mrose", b"a\x00b"),
                               (b"mrose", b"\xff\xc3"), (b"\xc3\xa9", b"x"), (b"a\rb", b"x")):
            server = Server()
            peer = server.connect()
            peer.received.clear()
            peer.say(b"USER " + name + b"\r\n")
            peer.say(b"PASS " + password + b"\r\n")
            peer.say(b"STAT\r\n")
            lines = bytes(peer.received).split(b"\r\n")
            self.assertEqual(len(lines), 4, lines)
            self.assertTrue(lines[1].startswith(b"-ERR ") and lines[2].startswith(b"-ERR "), lines)
            self.assertFalse(peer.closed)
        self.assertEqual(self.flushLoggedErrors(), [])


class PlaintextTests(ConversationCase):
    REFUSED = GREETING + """
        C: USER mrose
        S: -ERR *
        C: USER nobody
        S: -ERR *
        C: PASS secret
        S: -ERR *
        C: AUTH PLAIN AG1yb3NlAHNlY3JldA==
        S: -ERR *
        C: AUTH PLAIN
        S: -ERR *
        C: STAT
        S: -ERR *
    """
    ALLOWED = GREETING + """
        C: USER mrose
        S: +OK *
        C: PASS secret
        S: +OK *
    """
    NEVER = replace(QUICK, plaintext_login=False)
    ALWAYS = replace(QUICK, plaintext_login=True)

    def test_never(self) -> None:
        """All cleartext logins can be refused, at USER already: no password goes (RFC 2595 section 2.3)."""
        self.converse(self.REFUSED, login=False, policy=self.NEVER)

    def test_same_answer_for_good_and_bad(self) -> None:
        """The refusal does not tell good from bad nor known from unknown users (RFC 8314 section 4.1)."""
        server = Server(policy=self.NEVER)
        peer = server.connect()
        peer.received.clear()
        for octets in (b"AG1yb3NlAHNlY3JldA==", b"AG5vYm9keQB4", b"AG1yb3NlAHdyb25n"):
            peer.say(b"AUTH PLAIN " + octets + b"\r\n")
        peer.say(b"USER mrose\r\nUSER nobody\r\n")
        lines = bytes(peer.received).splitlines()
        self.assertEqual(len(set(lines[:3])), 1)
        self.assertEqual(len(set(lines[3:])), 1)
        self.assertEqual(server.users.attempts, [])

    def test_loopback_only(self) -> None:
        """Left out, the setting means: peers on this machine may log in in clear, others may not."""
        here = (IPv4Address("TCP", "127.0.0.1", 1), IPv4Address("TCP", "127.9.8.7", 1),
                IPv6Address("TCP", "::1", 1), IPv6Address("TCP", "::ffff:127.0.0.1", 1),
                UNIXAddress(b"/run/x"))
        for address in here:
            self.converse(self.ALLOWED, login=False, address=address)
        for address in (FAR_AWAY, IPv6Address("TCP", "2001:db8::1", 1), IPv4Address("TCP", "10.0.0.1", 1),
                        IPv6Address("TCP", "::ffff:10.0.0.1", 1)):
            self.converse(self.REFUSED, login=False, address=address)

    def test_always(self) -> None:
        """Where it is allowed, it is allowed from everywhere."""
        self.converse(self.ALLOWED, login=False, address=FAR_AWAY, policy=self.ALWAYS)
