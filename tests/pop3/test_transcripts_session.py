"""Sessions and states, USER and PASS (RFC 1939 sections 3, 4, 6, 7, 8; RFC 8314; RFC 2595 section 2.3)."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace

from twisted.cred.error import LoginDenied, LoginFailed, UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.logger import LogEvent, eventAsText, globalLogPublisher
from zope.interface import implementer

from mailgate.errors import (
    LeaseLost,
    LoginRefused,
    LoginTooSoon,
    MaildropInUse,
    NoSuchMessage,
    StoreFull,
    StoreUnavailable,
    TooBusy,
)
from mailgate.interfaces import IMaildrop
from mailgate.net.pop3 import POP3Factory
from mailgate.pop3.policy import Policy
from mailgate.testing.peers import FAR_AWAY, Peer
from mailgate.testing.transcript import escape
from tests.pop3.maildrops import PASSWORDS, Mail, Maildrop, Realm, Users
from tests.pop3.staging import AT_ONCE, GREETING, QUICK, ConversationCase, Server


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


class StrangerTests(ConversationCase):
    """Portals and maildrops that are not ours: anybody's."""

    def login_with(self, portal: object) -> bytes:
        """Log in through a portal and return the last line that came; nothing may be left."""
        clock = Clock()
        peer = Peer(POP3Factory(portal, policy=QUICK, clock=clock), clock=clock)
        peer.say(b"USER mrose\r\nPASS secret\r\n")
        last = bytes(peer.received).splitlines()[-1]
        peer.say(b"QUIT\r\n")
        self.assertTrue(peer.closed)
        self.assertEqual(clock.getDelayedCalls(), [])
        return last

    def test_avatar_of_another_kind(self) -> None:
        """An avatar that is no maildrop is logged out before the `-ERR` (section 4); the bug is logged."""
        left = []

        @implementer(IRealm)
        class Strange:
            def requestAvatar(self, avatarId: bytes, mind: object, *interfaces: object) -> object:
                return (IRealm, object(), lambda: left.append(avatarId))

        last = self.login_with(Portal(Strange(), [Users(PASSWORDS)]))
        self.assertTrue(last.startswith(b"-ERR [SYS/TEMP] "), last)
        self.assertEqual(left, [b"mrose"])
        self.assertEqual(len(self.flushLoggedErrors()), 1)

    def test_failures_of_other_checkers(self) -> None:
        """What twisted.cred knows as a failed login is `[AUTH]`; anything else is not."""
        for fault, code, logged in ((UnauthorizedLogin(), b"[AUTH]", 0), (LoginFailed(), b"[AUTH]", 0),
                                    (LoginDenied(), b"[AUTH]", 0), (KeyError("x"), b"[SYS/TEMP]", 1)):
            users = Users(PASSWORDS)
            users.checking.fault = fault
            last = self.login_with(Portal(Realm([]), [users]))
            self.assertTrue(last.startswith(b"-ERR " + code), (fault, last))
            self.assertEqual(len(self.flushLoggedErrors()), logged)

    def test_portal_that_raises(self) -> None:
        """A portal that raises where it should return a Deferred answers as an outage, too."""
        class Raising(Portal):
            def login(self, *arguments: object) -> object:
                raise RuntimeError("detail")

        last = self.login_with(Raising(Realm([]), [Users(PASSWORDS)]))
        self.assertTrue(last.startswith(b"-ERR [SYS/TEMP] "), last)
        self.assertNotIn(b"detail", last)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_portal_without_passwords(self) -> None:
        """Where no checker takes passwords, none of the password commands is announced."""
        peer = Peer(POP3Factory(Portal(Realm([]), []), policy=QUICK, clock=Clock()))
        peer.received.clear()
        peer.say(b"CAPA\r\n")
        self.assertNotIn(b"\r\nUSER\r\n", peer.received)
        self.assertNotIn(b"PLAIN", peer.received)
        peer.received.clear()
        peer.say(b"USER mrose\r\nPASS secret\r\nAUTH PLAIN AG1yb3NlAHNlY3JldA==\r\n")
        self.assertEqual([line[:5] for line in bytes(peer.received).splitlines()[-2:]], [b"-ERR "] * 2)
        peer.vanish()

    def test_maildrop_that_raises(self) -> None:
        """Faults that are raised where a Deferred might have failed are answered the same."""
        def raising(fault: Exception) -> Callable[..., object]:
            def call(*arguments: object) -> object:
                raise fault
            return call

        for fault, logged in ((StoreUnavailable("down"), None), (ZeroDivisionError("bug"), 4)):
            def prepare(drop: Maildrop, fault: Exception = fault) -> None:
                drop.fetch = drop.envelope = raising(fault)
                drop.commit = raising(fault)

            server = Server([Mail(b"a\n")], policy=replace(QUICK, sdps=True), prepare=prepare)
            peer = server.log_in()
            peer.say(b"RETR 1\r\nTOP 1 0\r\n*ENV 1\r\nNOOP\r\nQUIT\r\n")
            lines = bytes(peer.received).splitlines()
            self.assertEqual([line[:15] for line in lines if b"ERR" in line], [b"-ERR [SYS/TEMP]"] * 4)
            self.assertEqual(len(lines), 5)
            self.assertTrue(peer.closed)
            self.assertEqual(server.realm.logouts, 1)
            found = self.flushLoggedErrors(ZeroDivisionError)
            self.assertEqual(len(found), logged or 0)
            self.flushLoggedErrors(StoreUnavailable)


class LogTests(ConversationCase):
    def texts(self, octets: list[bytes], fault: Exception | None = None) -> str:
        """Return all that was logged during a session that says these octets."""
        events: list[str] = []

        def observer(event: LogEvent) -> None:
            events.append(eventAsText(event))
            events.extend(repr(value) for value in event.values() if isinstance(value, (str, bytes)))

        globalLogPublisher.addObserver(observer)
        try:
            server = Server([Mail(b"a\n")])
            server.realm.opening.fault = fault
            peer = server.connect()
            for line in octets:
                peer.say(line + b"\r\n")
            peer.vanish()
        finally:
            globalLogPublisher.removeObserver(observer)
        return "\n".join(events)

    def test_no_secret_in_a_log(self) -> None:
        """Passwords and responses reach no log line, right or wrong, where they belong or not."""
        secret, coded = b"open-sesame", base64.b64encode(b"\0mrose\0open-sesame")
        for fault in (None, StoreUnavailable("down"), MaildropInUse("held"), LoginRefused("no")):
            text = self.texts([b"USER mrose", b"PASS " + secret, b"PASS " + secret, b"AUTH PLAIN " + coded,
                               b"AUTH PLAIN", coded, b"AUTH " + coded, b"AUTH PLAIN " + secret + b"!",
                               b"USER mrose", b"PASS secret", b"PASS " + secret], fault)
            for hidden in ("sesame", coded.decode(), "PASS secret"):
                self.assertNotIn(hidden, text)
            self.flushLoggedErrors()

    def test_nothing_unescaped_in_a_log(self) -> None:
        """Names with control octets make no log lines of their own."""
        text = self.texts([b"USER \x1b[31mred\rforged", b"PASS x", b"\x1b[31mred\r", b"USER mrose",
                           b"PASS secret", b"RETR \x1b", b"\x00\x1b"])
        self.assertNotIn("\x1b", text)
        self.assertNotIn("\r", text)
        self.assertNotIn("\x00", text)


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


class MidSessionFaultTests(ConversationCase):
    def test_store_fails_on_retr(self) -> None:
        """A store that cannot give a message: `-ERR [SYS/TEMP]`; the session lives on (RFC 3206)."""
        self.converse("""
            E: the store breaks
            C: RETR 1
            S: -ERR [SYS/TEMP] *
            C: TOP 1 0
            S: -ERR [SYS/TEMP] *
            C: STAT
            S: +OK 1 120
            E: it is mended
            C: RETR 1
            S: +OK *
            S: (lines)
            S: .
            """, sizes=[120], events=lambda server: {
                "the store breaks": lambda: setattr(server.drop.fetching, "fault", StoreUnavailable("down")),
                "it is mended": lambda: setattr(server.drop.fetching, "fault", None)})
        self.flushLoggedErrors()

    def test_bug_on_retr(self) -> None:
        """A bug on the way to a message answers as an outage, and is logged each time."""
        self.converse("""
            E: the store breaks
            C: RETR 1
            S: -ERR [SYS/TEMP] *
            C: NOOP
            S: +OK *
            """, sizes=[120], events=lambda server: {
                "the store breaks": lambda: setattr(server.drop.fetching, "fault", ZeroDivisionError("x"))})
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 5)

    def test_message_vanished(self) -> None:
        """A message that is gone behind the session's back: `-ERR`, and its number stays (section 5)."""
        self.converse("""
            E: the message vanishes
            C: RETR 1
            S: -ERR *
            C: TOP 1 0
            S: -ERR *
            C: LIST
            S: +OK *
            S: 1 120
            S: 2 200
            S: .
            """, sizes=[120, 200], events=lambda server: {"the message vanishes": lambda: setattr(
                server.drop.fetching, "fault", NoSuchMessage("gone"))})

    def test_stream_that_fails_at_once(self) -> None:
        """A stream that breaks before its first octet leaves no half reply: `-ERR`, or the end."""
        def breaks(drop: Maildrop) -> None:
            drop.stream_fault_at = 0
            drop.stream_fault = StoreUnavailable("at once")

        server = Server([Mail(b"line\n" * 50_000, streamed=True)], prepare=breaks)
        peer = server.log_in()
        peer.say(b"RETR 1\r\n")
        if not peer.closed:
            self.assertRegex(bytes(peer.received), rb"\A-ERR \[SYS/TEMP\] [^\r]+\r\n\Z")
        self.assertNotIn(b"\r\n.\r\n", peer.received)
        peer.vanish()
        self.assertEqual(server.left_behind(), [])
        self.flushLoggedErrors()

    def test_retr_that_fails_half_way(self) -> None:
        """A torn message never gets the terminator: the connection closes, nothing is removed (section 3)."""
        mails = [Mail(b"H: a\n\n" + b"line\n" * 50_000, streamed=True)]

        def breaks(drop: object) -> None:
            drop.stream_fault_at = 131072
            drop.stream_fault = StoreUnavailable("half way")

        for asynchronous in (False, True):
            server = Server(mails, policy=Policy(limits=AT_ONCE), prepare=breaks, asynchronous=asynchronous)
            peer = server.log_in()
            peer.say(b"DELE 1\r\nRSET\r\nRETR 1\r\nNOOP\r\n")
            self.assertTrue(peer.closed)
            self.assertNotIn(b"\r\n.\r\n", peer.received)
            self.assertFalse(peer.received.endswith(b".\r\n"))
            self.assertTrue(peer.received.find(b"H: a\r\n") > 0)
            self.assertEqual(server.left_behind(), [])
            self.assertEqual(server.drop.removed, [])
        self.flushLoggedErrors()
