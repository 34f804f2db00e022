"""SDPS: `*ENV`, two passwords, and the forms of USER as far as the conversation knows them."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailgate.errors import StoreUnavailable
from tests.pop3.maildrops import Mail
from tests.pop3.staging import GREETING, QUICK, ConversationCase, Server

# the harness plays these tests on its own connection, too: examples are not drawn by chance, nor kept
ALSO_ELSEWHERE = (HealthCheck.differing_executors, HealthCheck.too_slow)

DEMON = replace(QUICK, sdps=True)
MAIL = Mail(b"Return-Path: <sender@example.org>\nSubject: x\n\nhello\n")
BOUNCE = Mail(b"Return-Path: <>\nSubject: y\n\nsorry\n", sender=b"", recipient=b"Jim@xyz.demon.co.uk")


class EnvelopeTests(ConversationCase):
    def script(self, script: str, **how: object) -> None:
        self.converse(script, mails=[MAIL, BOUNCE], policy=DEMON, **how)

    def test_four_lines(self) -> None:
        """Domain, user, sender, recipient: exactly four data lines, no angle brackets (sections 4.1, 4.2)."""
        self.script("""
            C: *ENV 1
            S: +OK *
            S: xyz.demon.co.uk
            S: fred
            S: sender@example.org
            S: fred@xyz.demon.co.uk
            S: .
            """)

    def test_null_sender(self) -> None:
        """The null sender is an empty third line, and there are still four (S7)."""
        self.script("""
            C: *ENV 2
            S: +OK *
            S: xyz.demon.co.uk
            S: Jim
            S:
            S: Jim@xyz.demon.co.uk
            S: .
            """)

    def test_keyword_in_any_case(self) -> None:
        """`*env` works (S6)."""
        self.script("""
            C: *env 1
            S: +OK *
            S: (lines)
            S: .
            C: *Env 2
            S: +OK *
            S: (lines)
            S: .
            """)

    def test_refused_numbers(self) -> None:
        """No argument, 0, a number past the end, a word, a marked message, too many: `-ERR` (S5)."""
        self.script("".join(f"""
            C: *ENV{argument}
            S: -ERR *
            """ for argument in ("", " ", " 0", " 99999", " x", " 3", " -1", " 1 1", "1")) + """
            C: DELE 1
            S: +OK *
            C: *ENV 1
            S: -ERR *
            C: RSET
            S: +OK *
            C: *ENV 1
            S: +OK *
            S: (lines)
            S: .
            """)

    def test_before_login(self) -> None:
        """`*ENV` belongs to TRANSACTION (S5)."""
        self.converse(GREETING + """
            C: *ENV 1
            S: -ERR *
            """, login=False, policy=DEMON)

    def test_only_where_sdps_is_spoken(self) -> None:
        """Without SDPS `*ENV` is an unknown command."""
        self.converse("""
            C: *ENV 1
            S: -ERR *
            """, mails=[MAIL])

    def test_fetchmail_order(self) -> None:
        """`*ENV n` directly before each `RETR n` or `TOP n 99999999`, pipelined or not (section 5.1)."""
        self.script(f"""
            C: STAT
            C: *ENV 1
            C: RETR 1
            C: *ENV 2
            C: TOP 2 99999999
            C: DELE 1
            C: QUIT
            S: +OK 2 {MAIL.octets + BOUNCE.octets}
            S: +OK *
            S: xyz.demon.co.uk
            S: fred
            S: sender@example.org
            S: fred@xyz.demon.co.uk
            S: .
            S: +OK *
            S: Return-Path: <sender@example.org>
            S: Subject: x
            S:
            S: hello
            S: .
            S: +OK *
            S: xyz.demon.co.uk
            S: Jim
            S:
            S: Jim@xyz.demon.co.uk
            S: .
            S: +OK *
            S: Return-Path: <>
            S: Subject: y
            S:
            S: sorry
            S: .
            S: +OK *
            S: +OK *
            S: (closed)
            """, removed=[1])

    def test_size_counts_return_path(self) -> None:
        """The size in LIST is what RETR sends unstuffed, the first line included (S8)."""
        server = Server([MAIL], policy=DEMON)
        peer = server.log_in()
        peer.say(b"LIST 1\r\n")
        size = int(bytes(peer.received).split(b" ")[2])
        peer.received.clear()
        peer.say(b"RETR 1\r\n")
        _, body = bytes(peer.received).split(b"\r\n", 1)
        self.assertEqual(len(body.removesuffix(b".\r\n")), size)
        self.assertTrue(body.startswith(b"Return-Path: <sender@example.org>\r\n"))

    def test_asynchronous_envelope(self) -> None:
        """Commands behind an `*ENV` that waits for the store wait too."""
        self.script("""
            C: *ENV 1
            C: NOOP
            S: (nothing)
            E: the envelope comes
            S: +OK *
            S: (lines)
            S: fred@xyz.demon.co.uk
            S: .
            S: +OK *
            """, prepare_drop=lambda drop: drop.enveloping.shut(),
            events=lambda server: {"the envelope comes": lambda: server.drop.enveloping.open()})

    def test_store_fails(self) -> None:
        """A store that cannot say: `-ERR [SYS/TEMP]`."""
        self.script("""
            E: the store breaks
            C: *ENV 1
            S: -ERR [SYS/TEMP] *
            C: NOOP
            S: +OK *
            """, events=lambda server: {"the store breaks": lambda: setattr(
                server.drop.enveloping, "fault", StoreUnavailable("down"))})
        self.flushLoggedErrors()

    def test_does_not_count_for_last(self) -> None:
        """`*ENV` is no access (section 4.1)."""
        self.converse("""
            C: *ENV 2
            S: +OK *
            S: (lines)
            S: .
            C: LAST
            S: +OK 0
            """, mails=[MAIL, BOUNCE], policy=replace(DEMON, last=True))

    def test_recipient_with_several_ats(self) -> None:
        """A quoted local part may hold an @; the domain is what follows the last."""
        self.converse("""
            C: *ENV 1
            S: +OK *
            S: xyz.demon.co.uk
            S: "a@b"
            S: sender@example.org
            S: "a@b"@xyz.demon.co.uk
            S: .
            """, mails=[Mail(b"a\n", recipient=b'"a@b"@xyz.demon.co.uk')], policy=DEMON)

    @settings(deadline=None, max_examples=150, derandomize=True, suppress_health_check=ALSO_ELSEWHERE)
    @given(st.binary(max_size=40) | st.sampled_from([b".", b"..", b".a@b", b"a@.b", b"a\r\n.\r\nb@c"]),
           st.binary(max_size=40) | st.sampled_from([b".", b".a@b", b"a@.b", b"fred", b"", b"@", b"a@"]))
    def test_four_lines_whatever_the_envelope(self, sender: bytes, recipient: bytes) -> None:
        """No envelope makes the reply longer, shorter or end early: others count its lines (section 4.4)."""
        server = Server([Mail(b"a\n", sender=sender, recipient=recipient)], policy=DEMON)
        peer = server.log_in()
        peer.say(b"*ENV 1\r\nNOOP\r\n")
        status, *lines = bytes(peer.received).split(b"\r\n")
        self.assertTrue(status.startswith(b"+OK "), status)
        self.assertEqual(len(lines), 7, lines)
        self.assertEqual((lines[4], lines[6]), (b".", b""))
        self.assertTrue(lines[5].startswith(b"+OK "))
        for line in lines[:4]:
            self.assertNotIn(b"\n", line)
            self.assertNotEqual(line, b".")
            self.assertNotRegex(line, rb"\A\.[^.]")


class LoginTests(ConversationCase):
    def test_two_passwords(self) -> None:
        """Either of the host's two passwords opens it; spaces belong to them (S1, S4)."""
        for password in ("slot one", "slot two"):
            self.converse(GREETING + f"""
                C: USER xyz
                S: +OK *
                C: PASS slot\\x20
                S: -ERR [AUTH] *
                C: USER xyz
                S: +OK *
                C: PASS {password}
                S: +OK *
                """, login=False, policy=DEMON)

    def test_forms_of_the_name_reach_the_checker(self) -> None:
        """`user@host`, `user+host` and any case reach the portal as they were said (S2)."""
        for name in (b"fred@xyz", b"fred+xyz", b"FRED@XYZ", b"fred@xyz.demon.co.uk", b"a@b@c", b"xyz"):
            server = Server(policy=DEMON)
            peer = server.connect()
            peer.say(b"USER " + name + b"\r\nPASS secret\r\n")
            self.assertEqual(server.users.attempts, [name])
