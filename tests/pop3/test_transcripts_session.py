"""Sessions and states: greeting, opening, ending (RFC 1939 sections 4, 6, 8)."""

from __future__ import annotations

from collections.abc import Callable

from mailgate.errors import (
    LeaseLost,
    LoginRefused,
    LoginTooSoon,
    MaildropInUse,
    StoreFull,
    StoreUnavailable,
    TooBusy,
)
from mailgate.interfaces import IMaildrop
from mailgate.pop3.policy import Policy
from tests.pop3.maildrops import Mail
from tests.pop3.staging import GREETING, ConversationCase, Server


def realm_says(fault: Exception) -> Callable[[Server], None]:
    """Return what makes every login of a server end in a fault, the credentials being right."""
    def prepare(server: Server) -> None:
        server.realm.opening.fault = fault
    return prepare


class GreetingTests(ConversationCase):
    def test_greeting(self) -> None:
        """One line, `+OK`, and the state is AUTHORIZATION (RFC 1939 section 4)."""
        self.converse("""
            S: +OK mailgate ready
            C: STAT
            S: -ERR *
            """, login=False)

    def test_configured_greeting(self) -> None:
        """The greeting's words are a setting: SDPS hosts need `demon.` in it for fetchmail's own mode."""
        self.converse("""
            S: +OK pop3.mail.demon.net POP3 server ready
            """, login=False, policy=Policy(greeting=b"pop3.mail.demon.net POP3 server ready"))

    def test_no_timestamp(self) -> None:
        """Without APOP the greeting holds no `<...>`: clients would try APOP first (section 7)."""
        peer = Server().connect()
        self.assertNotIn(b"<", peer.received)
        peer.say(b"APOP mrose c4c9334bac560ecc979e58001b3e22fb\r\n")
        self.assertIn(b"\r\n-ERR ", peer.received)


class OpeningTests(ConversationCase):
    def test_maildrop_is_asked_for(self) -> None:
        """The portal is asked once, for IMaildrop first, with the name as the client gave it."""
        server = Server()
        server.log_in()
        self.assertEqual(len(server.realm.asked), 1)
        avatar_id, mind, *interfaces = server.realm.asked[0]
        self.assertEqual((avatar_id, mind, interfaces[0]), (b"mrose", None, IMaildrop))
        self.assertEqual(len(interfaces), 2)

    def test_locked_maildrop(self) -> None:
        """The lock is refused with `[IN-USE]`; another login may follow (RFC 2449 section 8.1.2)."""
        self.converse(GREETING + """
            C: USER mrose
            S: +OK *
            C: PASS secret
            S: -ERR [IN-USE] *
            C: STAT
            S: -ERR *
            E: the lock is free
            C: USER mrose
            S: +OK *
            C: PASS secret
            S: +OK *
            C: STAT
            S: +OK 1 120
            """, sizes=[120], login=False, prepare=realm_says(MaildropInUse("another session")),
            events=lambda server: {
                "the lock is free": lambda: setattr(server.realm.opening, "fault", None)})

    def test_wrong_password_is_never_in_use(self) -> None:
        """`[IN-USE]` tells that the credentials were right; a wrong password must not learn it."""
        self.converse(GREETING + """
            C: USER mrose
            S: +OK *
            C: PASS wrong
            S: -ERR [AUTH] *
            """, login=False, prepare=realm_says(MaildropInUse("another session")))

    def test_login_too_soon(self) -> None:
        """The login delay is refused with `[LOGIN-DELAY]` (RFC 2449 section 8.1.1)."""
        self.converse(GREETING + """
            C: USER mrose
            S: +OK *
            C: PASS secret
            S: -ERR [LOGIN-DELAY] *
            C: AUTH PLAIN AG1yb3NlAHNlY3JldA==
            S: -ERR [LOGIN-DELAY] *
            """, login=False, prepare=realm_says(LoginTooSoon("60 seconds")))

    def test_store_down_at_login(self) -> None:
        """A back-end failure is `[SYS/TEMP]`, never `[AUTH]`: clients would ask for a password (RFC 3206)."""
        for fault in (StoreUnavailable("down"), StoreFull("full"), TooBusy("queue")):
            self.converse(GREETING + """
                C: USER mrose
                S: +OK *
                C: PASS secret
                S: -ERR [SYS/TEMP] *
                C: AUTH PLAIN AG1yb3NlAHNlY3JldA==
                S: -ERR [SYS/TEMP] *
                """, login=False, prepare=realm_says(fault))
            self.flushLoggedErrors()

    def test_bug_at_login_answers_as_an_outage(self) -> None:
        """An exception that nobody raises on purpose is `[SYS/TEMP]` without its text, and is logged."""
        self.converse(GREETING + """
            C: USER mrose
            S: +OK *
            C: PASS secret
            S: -ERR [SYS/TEMP] *
            """, login=False, prepare=realm_says(ZeroDivisionError("secret detail")))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 5)

    def test_refusal_by_the_realm(self) -> None:
        """A realm may refuse what a checker let pass: a credential failure like any other."""
        self.converse(GREETING + """
            C: USER mrose
            S: +OK *
            C: PASS secret
            S: -ERR [AUTH] *
            """, login=False, prepare=realm_says(LoginRefused("disabled meanwhile")))

    def test_numbers_are_fixed_at_opening(self) -> None:
        """Messages are numbered 1..n, none marked; a marked one keeps its number (sections 4, 5)."""
        self.converse("""
            C: DELE 1
            S: +OK *
            C: LIST
            S: +OK *
            S: 2 200
            S: 3 300
            S: .
            C: RETR 3
            S: +OK *
            S: (lines)
            S: .
            C: DELE 2
            S: +OK *
            C: STAT
            S: +OK 1 300
            C: LIST 3
            S: +OK 3 300
            """, sizes=[120, 200, 300], removed=[])


class EndingTests(ConversationCase):
    def test_quit_before_login(self) -> None:
        """QUIT in AUTHORIZATION: `+OK`, closed, no UPDATE (section 4)."""
        self.converse(GREETING + """
            C: QUIT
            S: +OK *
            S: (closed)
            """, login=False)
        self.converse(GREETING + """
            C: USER mrose
            S: +OK *
            C: QUIT
            S: +OK *
            S: (closed)
            """, login=False)

    def test_quit_removes_exactly_the_marked(self) -> None:
        """QUIT removes the marked messages and no other, then closes (section 6)."""
        self.converse("""
            C: DELE 3
            S: +OK *
            C: DELE 1
            S: +OK *
            C: QUIT
            S: +OK *
            S: (closed)
            """, sizes=[120, 200, 300], removed=[1, 3])

    def test_quit_without_marks(self) -> None:
        """QUIT with nothing marked removes nothing and gives up the lease."""
        self.converse("""
            C: QUIT
            S: +OK *
            S: (closed)
            """, sizes=[120], removed=[])

    def test_reply_to_quit_waits_for_the_commit(self) -> None:
        """`+OK` only after the removal is durable (section 6)."""
        self.converse("""
            C: DELE 1
            S: +OK *
            C: QUIT
            S: (nothing)
            T: 5
            S: (nothing)
            E: the removal is durable
            S: +OK *
            S: (closed)
            """, sizes=[120], prepare_drop=lambda drop: drop.committing.shut(),
            events=lambda server: {"the removal is durable": lambda: server.drop.committing.open()},
            removed=[1])

    def test_failed_removal(self) -> None:
        """A failed removal is never acknowledged; lock released and closed all the same (section 6)."""
        for fault in (StoreUnavailable("down"), LeaseLost("taken over"), StoreFull("no space")):
            def break_it(server: Server, fault: Exception = fault) -> Callable[[], object]:
                return lambda: setattr(server.drop.committing, "fault", fault)

            self.converse("""
                C: DELE 1
                S: +OK *
                E: the store breaks
                C: QUIT
                S: -ERR [SYS/TEMP] *
                S: (closed)
                """, sizes=[120], removed=[],
                events=lambda server: {"the store breaks": break_it(server)})
            self.flushLoggedErrors()

    def test_bug_in_removal(self) -> None:
        """A bug in the store answers as an outage, logged, without its text."""
        self.converse("""
            C: DELE 1
            S: +OK *
            E: the store breaks
            C: QUIT
            S: -ERR [SYS/TEMP] *
            S: (closed)
            """, sizes=[120], removed=[], events=lambda server: {"the store breaks": lambda: setattr(
                server.drop.committing, "fault", ZeroDivisionError("detail"))})
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 5)

    def test_any_other_end_removes_nothing(self) -> None:
        """A connection that ends without QUIT removes nothing (section 6)."""
        self.converse("""
            C: DELE 1
            S: +OK *
            """, sizes=[120], removed=[])

    def test_quit_that_is_refused_for_its_argument(self) -> None:
        """`QUIT now` is a syntax error and ends nothing (section 3)."""
        self.converse("""
            C: DELE 1
            S: +OK *
            C: QUIT now
            S: -ERR *
            C: NOOP
            S: +OK *
            """, sizes=[120], removed=[])

    def test_shutdown_tells_or_closes(self) -> None:
        """A server that stops tells its sessions or closes between replies, removing nothing (section 6)."""
        server = Server([Mail(b"a\n")])
        idle, waiting, fresh = server.log_in(), server.log_in(), server.connect()
        idle.say(b"DELE 1\r\n")
        idle.received.clear()
        server.drop.fetching.shut()
        waiting.say(b"RETR 1\r\n")
        fresh.received.clear()
        done = server.factory.shutdown()
        for peer in (idle, waiting, fresh):
            peer.settle()
        server.drop.fetching.open()
        for _ in range(60):
            for peer in (idle, waiting, fresh):
                peer.advance(1)
        for peer in (idle, waiting, fresh):
            self.assertTrue(peer.closed)
            self.assertRegex(bytes(peer.received), rb"\A((\+OK [^\r]*\r\na\r\n\.\r\n)?"
                                                   rb"-ERR \[SYS/TEMP\] [^\r]*\r\n)?\Z")
        self.assertIsNone(self.successResultOf(done))
        self.assertEqual(server.left_behind(), [])
        self.assertEqual([drop.removed for drop in server.realm.opened], [[], []])

    def test_shutdown_without_sessions(self) -> None:
        """With nobody connected the factory has shut down at once, and may be asked again."""
        server = Server()
        self.assertIsNone(self.successResultOf(server.factory.shutdown()))
        self.assertIsNone(self.successResultOf(server.factory.shutdown()))
