"""Stores that fail, portals and maildrops of other makes, and what may be logged (RFC 3206)."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace

from twisted.cred.error import LoginDenied, LoginFailed, UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.task import Clock
from twisted.logger import LogEvent, eventAsText, globalLogPublisher
from zope.interface import implementer

from mailgate.errors import LoginRefused, MaildropInUse, NoSuchMessage, StoreUnavailable
from mailgate.net.pop3 import POP3Factory
from mailgate.pop3.policy import Policy
from mailgate.testing.peers import Peer
from tests.pop3.maildrops import PASSWORDS, Mail, Maildrop, Realm, Users
from tests.pop3.staging import AT_ONCE, QUICK, ConversationCase, Server


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
