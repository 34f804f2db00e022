"""AUTH with PLAIN (RFC 5034, RFC 4616, RFC 1734 section 3, RFC 3206)."""

from __future__ import annotations

import base64

from mailgate.testing.transcript import escape
from tests.pop3.staging import GREETING, ConversationCase, Server, with_limits

GOOD = "AG1yb3NlAHNlY3JldA=="       # NUL mrose NUL secret
WRONG = "AG1yb3NlAHdyb25n"          # NUL mrose NUL wrong


def coded(octets: bytes) -> str:
    """Return octets in base64."""
    return base64.b64encode(octets).decode("ascii")


class ExchangeTests(ConversationCase):
    def script(self, script: str, **how: object) -> None:
        self.converse(GREETING + script, login=False, **how)

    def test_initial_response(self) -> None:
        """`AUTH PLAIN ir` in one line; success is TRANSACTION (RFC 5034 section 4)."""
        self.script(f"""
            C: AUTH PLAIN {GOOD}
            S: +OK *
            C: STAT
            S: +OK 1 120
            """, sizes=[120])

    def test_empty_challenge(self) -> None:
        """Without an initial response the server sends an empty challenge: plus and space (section 4)."""
        self.script(f"""
            C: AUTH PLAIN
            S: +\\x20
            C: {GOOD}
            S: +OK *
            C: STAT
            S: +OK 0 0
            """)

    def test_vector_of_the_standard(self) -> None:
        """The example of RFC 5034 section 6: test, test, authorized as test."""
        self.script("""
            C: AUTH PLAIN dGVzdAB0ZXN0AHRlc3Q=
            S: +OK *
            """, passwords={b"test": [b"test"]})

    def test_mechanism_in_any_case(self) -> None:
        """Keyword and mechanism name are case-insensitive (section 5)."""
        self.script(f"""
            C: auth plain {GOOD}
            S: +OK *
            """)
        self.script(f"""
            C: Auth pLaIn
            S: +\\x20
            C: {GOOD}
            S: +OK *
            """)

    def test_unsupported_mechanism(self) -> None:
        """`-ERR`, and the state is as before (section 4)."""
        self.script(f"""
            C: AUTH X-UNKNOWN
            S: -ERR *
            C: AUTH CRAM-MD5
            S: -ERR *
            C: AUTH GSSAPI YII=
            S: -ERR *
            C: AUTH PL\\x00AIN
            S: -ERR *
            C: AUTH \\xff
            S: -ERR *
            C: AUTH PLAIN {GOOD}
            S: +OK *
            """)

    def test_empty_initial_response(self) -> None:
        """`=` is a response that is present and empty: no challenge, and PLAIN cannot use it (section 4)."""
        self.script(f"""
            C: AUTH PLAIN =
            S: -ERR *
            C: AUTH PLAIN {GOOD}
            S: +OK *
            """)

    def test_empty_response_line(self) -> None:
        """An empty line is an empty response, not an empty command (section 6)."""
        self.script(f"""
            C: AUTH PLAIN
            S: +\\x20
            C:
            S: -ERR *
            C: AUTH PLAIN {GOOD}
            S: +OK *
            """)

    def test_cancel(self) -> None:
        """`*` alone cancels: `-ERR`, back to AUTHORIZATION (section 4)."""
        self.script(f"""
            C: AUTH PLAIN
            S: +\\x20
            C: *
            S: -ERR *
            C: STAT
            S: -ERR *
            C: AUTH PLAIN
            S: +\\x20
            C: {GOOD}
            S: +OK *
            """)

    def test_bad_base64(self) -> None:
        """Foreign characters, `=` inside, wrong length: rejected, not skipped (section 4)."""
        bad = ("AG1yb3NlAHNlY3JldA", "AG1yb3NlAHNlY3JldA=", "AG1yb3NlAHNlY3JldA===", "=AAA", "AAA=BBB",
               "AAA=", "AG1yb3Nl!AHNlY3JldA==", "AG1yb3Nl AHNlY3JldA==", "AG1yb3NlAHNlY3JldA==AAAA", "A",
               "==", "====", "AG1yb3NlAHNlY3JldA==\\x00", "AG1yb3NlAHNlY3J\\xe9dA==", "AG1yb3NlAHNl-3JldA==",
               "**")
        for response in bad:
            self.script(f"""
                C: AUTH PLAIN
                S: +\\x20
                C: {response}
                S: -ERR *
                C: AUTH PLAIN {response}
                S: -ERR *
                C: STAT
                S: -ERR *
                C: AUTH PLAIN {GOOD}
                S: +OK *
                """, policy=with_limits(failed_logins=100))

    def test_response_is_no_command(self) -> None:
        """The line after a challenge is a response: QUIT there quits nothing (section 4)."""
        self.script(f"""
            C: AUTH PLAIN
            S: +\\x20
            C: QUIT
            S: -ERR *
            C: AUTH PLAIN
            S: +\\x20
            C: USER mrose
            S: -ERR *
            C: AUTH PLAIN {GOOD}
            S: +OK *
            """)

    def test_failure_is_as_if_auth_had_not_been_sent(self) -> None:
        """After a failure AUTH, USER and QUIT work (section 4); the failure carries `[AUTH]` (RFC 3206)."""
        self.script(f"""
            C: AUTH PLAIN {WRONG}
            S: -ERR [AUTH] *
            C: STAT
            S: -ERR *
            C: AUTH PLAIN
            S: +\\x20
            C: {WRONG}
            S: -ERR [AUTH] *
            C: USER mrose
            S: +OK *
            C: PASS secret
            S: +OK *
            """)
        self.script(f"""
            C: AUTH PLAIN {WRONG}
            S: -ERR [AUTH] *
            C: QUIT
            S: +OK *
            S: (closed)
            """)

    def test_only_in_authorization(self) -> None:
        """A second AUTH after success is refused (section 4)."""
        self.script(f"""
            C: AUTH PLAIN {GOOD}
            S: +OK *
            C: AUTH PLAIN {GOOD}
            S: -ERR *
            C: AUTH PLAIN
            S: -ERR *
            C: STAT
            S: +OK 0 0
            """)

    def test_user_before_auth_is_forgotten(self) -> None:
        """AUTH between USER and PASS: PASS is not directly after USER any more (RFC 1939 section 7)."""
        self.script(f"""
            C: USER mrose
            S: +OK *
            C: AUTH PLAIN {WRONG}
            S: -ERR [AUTH] *
            C: PASS secret
            S: -ERR *
            """)

    def test_blanks_after_the_keyword(self) -> None:
        """The older grammar allowed several blanks and tabs after AUTH (RFC 1734 section 3)."""
        self.script(f"""
            C: AUTH   PLAIN
            S: +\\x20
            C: {GOOD}
            S: +OK *
            """)
        self.script(f"""
            C: AUTH\\tPLAIN
            S: +\\x20
            C: {GOOD}
            S: +OK *
            """)

    def test_blanks_are_space_and_tab(self) -> None:
        """Other octets that some languages call white space separate nothing and end nothing."""
        for octet in ("\\r", "\\x0b", "\\x0c", "\\x1c", "\\x85", "\\xa0", "\\x00"):
            self.script(f"""
                C: AUTH{octet}PLAIN {GOOD}
                S: -ERR *
                C: AUTH PLAIN{octet}{GOOD}
                S: -ERR *
                C: AUTH PLAIN {GOOD}{octet}
                S: -ERR *
                C: STAT
                S: -ERR *
                """, policy=with_limits(failed_logins=100))

    def test_surplus_arguments(self) -> None:
        """One mechanism and one initial response, no more (section 5)."""
        self.script(f"""
            C: AUTH PLAIN {GOOD} {GOOD}
            S: -ERR *
            C: STAT
            S: -ERR *
            """)

    def test_bare_auth_lists_mechanisms(self) -> None:
        """`AUTH` alone lists mechanisms, one a line (pre-standard discovery, Outlook and Netscape use it)."""
        self.script("""
            C: AUTH
            S: +OK *
            S: PLAIN
            S: .
            C: auth\\x20
            S: +OK *
            S: PLAIN
            S: .
            """)

    def test_bare_lf_after_a_challenge(self) -> None:
        """A response may end in a bare LF as a command may."""
        self.script(f"""
            C: AUTH PLAIN\\n\\c
            S: +\\x20
            C: {GOOD}\\n\\c
            S: +OK *
            """)

    def test_pipelined_exchange(self) -> None:
        """The line after AUTH is its response also when all comes in one segment (RFC 2449 section 6.6)."""
        self.script(f"""
            C: AUTH PLAIN
            C: {WRONG}
            C: AUTH PLAIN
            C: {GOOD}
            C: STAT
            C: QUIT
            S: +\\x20
            S: -ERR [AUTH] *
            S: +\\x20
            S: +OK *
            S: +OK 1 120
            S: +OK *
            S: (closed)
            """, sizes=[120])

    def test_asynchronous_check(self) -> None:
        """What follows an AUTH whose checker takes its time waits for it."""
        self.script(f"""
            C: AUTH PLAIN {GOOD}
            C: STAT
            S: (nothing)
            E: the checker answers
            S: +OK *
            S: +OK 1 120
            """, sizes=[120], prepare=lambda server: server.users.checking.shut(),
            events=lambda server: {"the checker answers": server.users.checking.open})


class PlainTests(ConversationCase):
    """The message of PLAIN (RFC 4616 section 2)."""

    def logs_in(self, message: bytes, passwords: dict[bytes, list[bytes]] | None = None) -> bool:
        """Return whether a PLAIN message opens a maildrop; both ways to send it must agree."""
        outcomes = []
        for octets in (b"AUTH PLAIN " + (base64.b64encode(message) or b"=") + b"\r\n",
                       b"AUTH PLAIN\r\n" + base64.b64encode(message) + b"\r\n"):
            server = Server(passwords=passwords)
            peer = server.connect()
            peer.received.clear()
            peer.say(octets)
            reply = bytes(peer.received).removeprefix(b"+ \r\n")
            self.assertRegex(reply, rb"\A(\+OK |-ERR )[^\r\n]+\r\n\Z")
            outcomes.append(reply.startswith(b"+OK"))
            self.assertEqual(len(server.realm.opened), int(outcomes[-1]))
            peer.say(b"QUIT\r\n")
            self.assertTrue(peer.closed)
            self.assertEqual(server.left_behind(), [])
        self.assertEqual(len(set(outcomes)), 1)
        return outcomes[0]

    def test_authorization_identity(self) -> None:
        """Absent or the same name: accepted. Another name needs a permission that nobody has given."""
        self.assertTrue(self.logs_in(b"\0mrose\0secret"))
        self.assertTrue(self.logs_in(b"mrose\0mrose\0secret"))
        self.assertFalse(self.logs_in(b"xyz\0mrose\0secret"))
        self.assertFalse(self.logs_in(b"nobody\0mrose\0secret"))

    def test_number_of_nuls(self) -> None:
        """Two NULs, no more and no less."""
        for message in (b"", b"\0", b"mrose", b"mrose\0secret", b"\0mrose\0secret\0", b"\0mrose\0\0secret",
                        b"\0\0mrose\0secret"):
            self.assertFalse(self.logs_in(message), message)

    def test_empty_parts(self) -> None:
        """An empty name or an empty password fails, whatever the checker would say."""
        passwords = {b"": [b"secret", b""], b"mrose": [b""]}
        self.assertFalse(self.logs_in(b"\0\0secret", passwords))
        self.assertFalse(self.logs_in(b"\0mrose\0", passwords))
        self.assertFalse(self.logs_in(b"\0\0", passwords))

    def test_octets_of_the_password(self) -> None:
        """Spaces and UTF-8 belong to the password; it is compared as it is."""
        passwords = {b"mrose": [b" p\xc3\xa4ss  word "]}
        self.assertTrue(self.logs_in(b"\0mrose\0 p\xc3\xa4ss  word ", passwords))
        self.assertFalse(self.logs_in(b"\0mrose\0p\xc3\xa4ss  word", passwords))

    def test_invalid_utf8(self) -> None:
        """The message is UTF-8; octets that are not are refused without harm."""
        self.assertFalse(self.logs_in(b"\0\xff\xfe\0secret"))
        self.assertFalse(self.logs_in(b"\0mrose\0\xc3"))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_names_of_255_octets(self) -> None:
        """Each part may have 255 octets: 767 in all, 1024 in base64, more than a command line holds."""
        name, password = b"n" * 255, b"p" * 255
        self.assertTrue(self.logs_in(name + b"\0" + name + b"\0" + password, {name: [password]}))

    def test_line_end_inside(self) -> None:
        """A name with CR and LF in it is just a wrong name: nothing of it reaches a reply."""
        self.assertFalse(self.logs_in(b"\0mrose\r\n+OK\0secret"))


class RefusalTests(ConversationCase):
    def test_same_refusal_as_pass(self) -> None:
        """Unknown user and wrong password have one answer, by AUTH as by PASS."""
        def last(octets: bytes) -> bytes:
            server = Server()
            peer = server.connect()
            peer.say(octets)
            return bytes(peer.received).splitlines()[-1]

        wrong = last(f"AUTH PLAIN {WRONG}\r\n".encode())
        self.assertTrue(wrong.startswith(b"-ERR [AUTH] "))
        self.assertEqual(last(f"AUTH PLAIN {coded(b'%cnobody%csecret' % (0, 0))}\r\n".encode()), wrong)
        self.assertEqual(last(b"USER mrose\r\nPASS wrong\r\n"), wrong)

    def test_code_on_credentials_alone(self) -> None:
        """Nothing but a credential failure carries `[AUTH]` (RFC 3206 section 6)."""
        server = Server()
        peer = server.connect()
        for octets in (b"AUTH NONE", b"AUTH PLAIN !", b"AUTH PLAIN", b"*", b"PASS x", b"STAT", b"XYZZY",
                       b"USER", b"AUTH PLAIN " + b"A" * 200_000):
            peer.say(octets + b"\r\n")
        self.assertNotIn(b"[AUTH]", peer.received)
        self.assertEqual(peer.received.count(b"\r\n"), 10)

    def test_password_never_shows(self) -> None:
        """No reply repeats what a login held."""
        server = Server()
        peer = server.connect()
        secret = b"sesame-open"
        peer.say(b"USER mrose\r\nPASS " + secret + b"\r\nAUTH PLAIN " + secret + b"\r\nAUTH PLAIN\r\n"
                 + secret + b"\r\nPASS " + secret + b"\r\n" + secret + b"\r\n")
        self.assertNotIn(b"sesame", peer.received)
        self.assertIn("sesame", escape(secret))
