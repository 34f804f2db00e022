"""Subclasses written for twisted.mail.pop3.POP3, on top of mailgate.compat.POP3."""

from __future__ import annotations

import base64
import hmac
from hashlib import md5
from typing import Any

from twisted.cred.credentials import CramMD5Credentials
from twisted.cred.error import LoginDenied, UnauthorizedLogin
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import ISSLTransport
from twisted.mail._cred import LOGINCredentials, PLAINCredentials
from twisted.mail.interfaces import IMailboxPOP3, IServerFactoryPOP3
from twisted.mail.pop3 import POP3Error
from zope.interface import alsoProvides, directlyProvides, implementer

from mailgate.compat import POP3
from tests.compat.staging import LOGIN, StandInCase
from tests.net.mailboxes import BLUE, GREEN, DeferredMailbox, ListMailbox


class Hooks(StandInCase):
    """Methods and attributes that subclasses override or use."""

    def test_a_constructor_of_its_own(self) -> None:
        class Own(POP3):
            def __init__(self) -> None:
                self.greeted = False

        peer = self.log_in(ListMailbox([GREEN]), Own)
        self.assertEqual(self.said(peer, b"STAT\r\n"), [b"+OK 1 32"])

    def test_a_magic_of_its_own(self) -> None:
        class Own(POP3):
            magic = b"<fixed@localhost>"

        self.serve(ListMailbox([GREEN]), Own)
        self.assertEqual(self.server.magic, b"<fixed@localhost>")
        self.serve(ListMailbox([GREEN]))
        self.assertRegex(self.server.magic, rb"\A<[!-~]+@[!-~]+>\Z")

    def test_apop(self) -> None:
        peer = self.serve(ListMailbox([GREEN]))
        digest = md5(self.server.magic + b"secret").hexdigest().encode()
        answers = self.said(peer, b"APOP mrose %b\r\nAPOP mrose %b\r\n" % (b"0" * 32, digest))
        self.assertEqual(answers, [b"-ERR Authentication failed", b"+OK Authentication succeeded"])
        peer.say(b"QUIT\r\n")
        self.gone()

    def test_authentication_of_its_own(self) -> None:
        logouts = []

        class Own(POP3):
            def authenticateUserPASS(self, user: bytes, password: bytes) -> Any:
                if password == b"denied":
                    return fail(LoginDenied())
                if password != b"open":
                    raise UnauthorizedLogin
                return succeed((IMailboxPOP3, ListMailbox([GREEN]), lambda: logouts.append(user)))

            authenticateUserAPOP = authenticateUserPASS

        peer = self.serve(None, Own)
        self.assertEqual(self.said(peer, b"USER me\r\nPASS no\r\nAPOP me no\r\nUSER me\r\nPASS denied\r\n"), [
            b"+OK USER accepted, send PASS", b"-ERR Authentication failed", b"-ERR Authentication failed",
            b"+OK USER accepted, send PASS", b"-ERR Access denied"])
        self.assertEqual(self.said(peer, b"APOP me open\r\nSTAT\r\nQUIT\r\n"),
                         [b"+OK Authentication succeeded", b"+OK 1 32", b"+OK "])
        self.assertEqual(logouts, [b"me"])

    def test_another_interface_is_no_mailbox(self) -> None:
        logouts = []

        class Own(POP3):
            def authenticateUserPASS(self, user: bytes, password: bytes) -> Any:
                return IServerFactoryPOP3, object(), lambda: logouts.append(user)

        peer = self.serve(None, Own)
        self.assertEqual(self.said(peer, LOGIN + b"STAT\r\n")[1:], [
            b"-ERR Authentication failed",
            b"-ERR bad protocol or server: POP3Error: not authenticated yet: cannot do STAT"])
        self.assertEqual(logouts, [b"mrose"])

    def test_commands_of_its_own(self) -> None:
        held: Deferred[None] = Deferred()

        class Own(POP3):
            AUTH_CMDS = [*POP3.AUTH_CMDS, b"XHELLO"]

            def do_XHELLO(self, name: bytes = b"you") -> None:
                self.successResponse(b"hello " + name)

            def do_XSLOW(self) -> Any:
                return held.addCallback(lambda _: self.successResponse("at last"))

            def do_XLONG(self) -> None:
                self._longOperation(succeed(None).addCallback(lambda _: self.successResponse(17)))

            def do_XBAD(self) -> None:
                raise POP3Error("not", b"today")

            def do_XBUG(self) -> None:
                raise KeyError("/secret")

            def do_XTORN(self) -> None:
                self.successResponse()
                raise KeyError("too late")

        peer = self.serve(ListMailbox([GREEN]), Own)
        self.assertEqual(self.said(peer, b"xhello\r\nXHELLO me\r\n"), [b"+OK hello you", b"+OK hello me"])
        peer.say(LOGIN)
        self.assertEqual(self.said(peer, b"XSLOW\r\nNOOP\r\n"), [])
        held.callback(None)
        peer.settle()
        self.assertEqual(bytes(peer.received), b"+OK at last\r\n+OK \r\n")
        self.assertEqual(self.said(peer, b"XLONG\r\nXBAD\r\nXBUG\r\n"), [
            b"+OK 17", b"-ERR bad protocol or server: POP3Error: not: today",
            b"-ERR [SYS/TEMP] try again later"])
        self.assertEqual(self.said(peer, b"XTORN\r\nNOOP\r\n"), [])
        self.assertTrue(peer.closed)            # a second answer would be taken for that of NOOP
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 2)
        self.gone()

    def test_a_command_changed(self) -> None:
        class Own(POP3):
            def do_RETR(self, i: bytes) -> Any:
                self.seen = i
                return POP3.do_RETR(self, i)

            def do_DELE(self, i: bytes) -> None:
                POP3.do_DELE(self, i)           # its Deferred is not passed on

        mailbox = DeferredMailbox(ListMailbox([BLUE]), held=["deleteMessage"])
        peer = self.log_in(mailbox, Own)
        self.assertEqual(len(self.said(peer, b"RETR 1\r\n")), 5)
        self.assertEqual(self.server.seen, b"1")
        self.assertEqual(self.said(peer, b"DELE 1\r\nSTAT\r\n"), [])
        mailbox.let_go()
        peer.settle()
        self.assertEqual(bytes(peer.received), b"+OK \r\n+OK 0 0\r\n")

    def test_lines_seen_first(self) -> None:
        seen = []

        class Own(POP3):
            def lineReceived(self, line: bytes) -> None:
                seen.append(line)
                POP3.lineReceived(self, line)

        held: Deferred[None] = Deferred()
        peer = self.serve(ListMailbox([GREEN]), Own)
        self.realm.held = held
        peer.say(LOGIN + b"STAT\r\n")
        self.assertEqual(len(seen), 2)          # and STAT only once the login is answered
        held.callback(None)
        peer.settle()
        self.assertEqual(seen[2:], [b"STAT"])

    def test_pass_written_as_in_twisted(self) -> None:
        """It starts the login, and returns nothing by which the answer could be awaited."""
        class Own(POP3):
            def do_PASS(self, password: bytes, *words: bytes) -> None:
                user, self._userIs = self._userIs, None
                login = maybeDeferred(self.authenticateUserPASS, user, password)
                login.addCallbacks(self._cbMailbox, self._ebMailbox, callbackArgs=(user,))
                login.addErrback(self._ebUnexpected)

        peer = self.serve(ListMailbox([GREEN]), Own)
        held = self.realm.held = Deferred()
        peer.say(LOGIN + b"STAT\r\nQUIT\r\n")
        held.callback(None)
        peer.settle()
        self.assertEqual(bytes(peer.received).split(b"\r\n")[1:],
                         [b"+OK Authentication succeeded", b"+OK 1 32", b"+OK ", b""])
        self.gone()

    def test_a_mailbox_kept_by_the_subclass(self) -> None:
        """A _cbMailbox of its own, and a client that has gone meanwhile."""
        class Own(POP3):
            def _cbMailbox(self, result: Any, user: bytes) -> None:
                _, self.mbox, self._onLogout = result
                self.successResponse("welcome")

        peer = self.serve(ListMailbox([GREEN]), Own)
        held = self.realm.held = Deferred()
        peer.say(LOGIN)
        peer.vanish()
        held.callback(None)
        self.gone()

    def test_quit_of_its_own(self) -> None:
        class Own(POP3):
            def do_QUIT(self) -> None:
                self.mbox.sync()
                self.successResponse("see you")
                self.transport.loseConnection()

        mailbox = ListMailbox([GREEN])
        peer = self.log_in(mailbox, Own)
        self.assertEqual(self.said(peer, b"DELE 1\r\nQUIT\r\nNOOP\r\n"), [b"+OK ", b"+OK see you"])
        self.assertEqual(mailbox.calls, [("delete", 0), "sync"])
        self.gone()

    def test_files_in_another_form(self) -> None:
        class Own(POP3):
            def transformChunk(self, chunk: bytes) -> bytes:
                return chunk                    # its files are in wire form

        peer = self.log_in(ListMailbox([b"A: b\r\n\r\n..x\r\nlast"]), Own)
        self.assertEqual(self.said(peer, b"RETR 1\r\n")[1:], [b"A: b", b"", b"..x", b"last", b"."])
        self.assertEqual(self.said(peer, b"TOP 1 1\r\n")[1:], [b"A: b", b"", b"..x", b"."])

    def test_a_producer_of_its_own(self) -> None:
        """Between our answers the transport is free for it."""
        class Own(POP3):
            def do_XSEND(self) -> None:
                self.transport.registerProducer(self, True)
                self.successResponse()
                self.transport.unregisterProducer()

            def pauseProducing(self) -> None:
                pass

        peer = self.log_in(ListMailbox([GREEN]), Own)
        self.assertEqual(self.said(peer, b"XSEND\r\nRETR 1\r\nXSEND\r\n")[0], b"+OK ")
        self.assertFalse(peer.closed)

    def test_long_lines_ended_by_the_subclass(self) -> None:
        class Own(POP3):
            MAX_LENGTH = 100

            def lineLengthExceeded(self, line: bytes) -> None:
                self.transport.loseConnection()

        peer = self.serve(ListMailbox([GREEN]), Own)
        self.said(peer, b"x" * 101 + b"\r\nNOOP\r\n")
        self.assertTrue(peer.closed)

    def test_a_timeout_of_its_own(self) -> None:
        class Own(POP3):
            timeOut = 10

        peer = self.log_in(ListMailbox([GREEN]), Own)
        peer.advance(9)
        self.assertEqual(self.said(peer, b"NOOP\r\n"), [b"+OK "])
        peer.advance(11)
        self.assertTrue(peer.closed)


class StartTls(StandInCase):
    """A subclass that offers STLS, as applications write it."""

    class protocol(POP3):
        """Pretends to begin TLS."""

        AUTH_CMDS = [*POP3.AUTH_CMDS, b"STLS"]

        def do_STLS(self) -> None:
            """Answer and begin."""
            self.successResponse(b"begin TLS")
            alsoProvides(self.transport, ISSLTransport)

    def test_commands_in_clear_behind_stls(self) -> None:
        peer = self.serve(ListMailbox([GREEN]))
        self.assertEqual(self.said(peer, b"STLS\r\nUSER mrose\r\n"), [])
        self.assertTrue(peer.closed)

    def test_commands_under_tls(self) -> None:
        peer = self.serve(ListMailbox([GREEN]))
        self.assertEqual(self.said(peer, b"STLS\r\n"), [b"+OK begin TLS"])
        self.assertEqual(self.said(peer, LOGIN + b"STAT\r\n")[-1], b"+OK 1 32")
        directlyProvides(peer.transport, [])


class Auth(StandInCase):
    """AUTH with the challengers of a factory."""

    def serve(self, mailbox: Any, *args: Any, **how: Any) -> Any:
        self.factory.challengers = {        # type: ignore[attr-defined]
            b"CRAM-MD5": CramMD5Credentials, b"PLAIN": PLAINCredentials, b"LOGIN": LOGINCredentials}
        return super().serve(mailbox, *args, **how)

    def test_plain(self) -> None:
        claim = base64.b64encode(b"\0mrose\0secret")
        for said in (b"AUTH PLAIN\r\n" + claim + b"\r\n", b"AUTH plain " + claim + b"\r\n"):
            peer = self.serve(ListMailbox([GREEN]))
            self.assertEqual(self.said(peer, said + b"STAT\r\nQUIT\r\n")[-3:],
                             [b"+OK Authentication succeeded", b"+OK 1 32", b"+OK "])
            self.gone()

    def test_many_steps(self) -> None:
        peer = self.serve(ListMailbox([GREEN]))
        answers = self.said(peer, b"AUTH LOGIN\r\n%b\r\n%b\r\nSTAT\r\n" % (
            base64.b64encode(b"mrose"), base64.b64encode(b"secret")))
        self.assertEqual([answers[0][:2], answers[1][:2]], [b"+ ", b"+ "])
        self.assertEqual(answers[2:], [b"+OK Authentication succeeded", b"+OK 1 32"])

    def test_cram_md5(self) -> None:
        peer = self.serve(ListMailbox([GREEN]))
        for password, answer in ((b"wrong", b"-ERR Authentication failed"),
                                 (b"secret", b"+OK Authentication succeeded")):
            challenge = base64.b64decode(self.said(peer, b"AUTH CRAM-MD5\r\n")[0][2:])
            proof = b"mrose " + hmac.new(password, challenge, md5).hexdigest().encode()
            self.assertEqual(self.said(peer, base64.b64encode(proof) + b"\r\n"), [answer])

    def test_exchanges_that_fail(self) -> None:
        peer = self.serve(ListMailbox([GREEN]))
        for said, answer in (
            (b"AUTH XYZ", b"-ERR Unsupported SASL selected"),
            (b"AUTH CRAM-MD5 bXJvc2U=", b"-ERR the server begins with this mechanism"),
            (b"AUTH PLAIN =", b"-ERR Invalid AUTH response"),
            (b"AUTH PLAIN\r\n*", b"-ERR authentication cancelled"),
            (b"AUTH PLAIN\r\nQUIT", b"-ERR Invalid AUTH response"),
            (b"AUTH PLAIN\r\nno base64", b"-ERR Invalid BASE64 encoding"),
            (b"AUTH PLAIN\r\nAA==AA==", b"-ERR Invalid BASE64 encoding"),
            (b"AUTH CRAM-MD5\r\nbXJvc2U=", b"-ERR Invalid AUTH response"),
        ):
            self.assertEqual(self.said(peer, said + b"\r\n")[-1], answer)
        self.assertEqual(self.said(peer, LOGIN)[-1], b"+OK Authentication succeeded")

    def test_there_are_none(self) -> None:
        peer = StandInCase.serve(self, ListMailbox([GREEN]))
        self.assertEqual(self.said(peer, b"AUTH\r\nAUTH PLAIN\r\n"), [b"-ERR AUTH extension unsupported"] * 2)


@implementer(IServerFactoryPOP3)
class Announcing:
    """An IServerFactoryPOP3 whose answers are attributes."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def __getattr__(self, name: str) -> Any:
        def ask() -> Any:
            answer = self.answers[name]
            if isinstance(answer, Exception):
                raise answer
            return answer

        if name == "challengers":
            raise AttributeError(name)
        return ask


class Capabilities(StandInCase):
    """What an IServerFactoryPOP3 adds to CAPA."""

    def lines(self, mailbox: Any = None, **answers: Any) -> list[bytes]:
        server = POP3()
        server.factory = Announcing(**{
            "cap_IMPLEMENTATION": NotImplementedError(), "cap_EXPIRE": NotImplementedError(),
            "cap_LOGIN_DELAY": NotImplementedError(), "perUserExpiration": False, "perUserLoginDelay": False,
            **answers})
        server.mbox = mailbox
        return server.listCapabilities()[len(POP3().listCapabilities()):]

    def test_what_is_said(self) -> None:
        self.assertEqual(self.lines(), [])
        self.assertEqual(self.lines(cap_IMPLEMENTATION=b"x 1", cap_EXPIRE=0, cap_LOGIN_DELAY="120"),
                         [b"IMPLEMENTATION x 1", b"EXPIRE 0", b"LOGIN-DELAY 120"])
        self.assertEqual(self.lines(cap_EXPIRE=None), [b"EXPIRE NEVER"])

    def test_what_depends_on_the_user(self) -> None:
        mailbox = ListMailbox([GREEN])
        mailbox.messageExpiration, mailbox.loginDelay = 25, 100     # type: ignore[attr-defined]
        answers = {"cap_EXPIRE": 60, "cap_LOGIN_DELAY": 120,
                   "perUserExpiration": True, "perUserLoginDelay": True}
        self.assertEqual(self.lines(**answers), [b"EXPIRE 60 USER", b"LOGIN-DELAY 120 USER"])
        self.assertEqual(self.lines(mailbox, **answers), [b"EXPIRE 25", b"LOGIN-DELAY 100"])

    def test_a_factory_that_fails(self) -> None:
        self.assertEqual(self.lines(cap_EXPIRE=KeyError("?"), cap_LOGIN_DELAY=1), [b"LOGIN-DELAY 1"])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_capabilities_of_the_subclass(self) -> None:
        class Own(POP3):
            def listCapabilities(self) -> list[bytes]:
                return [*POP3.listCapabilities(self), b"XHELLO"]

        peer = self.serve(ListMailbox([GREEN]), Own)
        self.assertEqual(self.said(peer, b"CAPA\r\n")[-2:], [b"XHELLO", b"."])


