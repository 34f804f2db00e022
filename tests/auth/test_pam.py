"""PAM as a checker: real processes, real modules, service files of our own."""

from __future__ import annotations

import ctypes
import errno
import getpass
import io
import os
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from mailgate.auth import pam_child, pam_children
from mailgate.auth.credentials import NamedLogin, PasswordLogin, Refused
from mailgate.auth.pam import MAX_PASSWORD_OCTETS, PamChecker, remote_host, user_name
from mailgate.auth.pam_child import Refusal, Rule, Transaction, Unavailable, User, find_user
from mailgate.auth.pam_children import Children, Settings
from mailgate.auth.remembered import RememberedSuccess
from mailgate.errors import LoginRefused, StoreUnavailable, TooBusy
from mailgate.interfaces import IUserLookup
from tests.auth.staging import Busy
from tests.needs import unavailable

ME = getpass.getuser()
WHILE_HELD = "while test -e hold; do sleep 0.01; done"     # it ends with the folder at the latest
JUDGE = """\
auth [success=1 default=ignore] pam_exec.so quiet expose_authtok {folder}/judge.sh
auth requisite pam_deny.so
auth required pam_permit.so
account [success=1 default=ignore] pam_exec.so quiet {folder}/account.sh
account requisite pam_deny.so
account required pam_permit.so
"""


class Served(TestCase):
    """A folder of services; the one called `judge` asks a script, which counts what it is asked."""

    timeout = 60

    def setUp(self) -> None:
        if not hasattr(ctypes.CDLL(pam_child.SONAME), "pam_start_confdir"):
            unavailable("these tests need Linux-PAM 1.4")
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        self.script("judge", 'echo x >> asked; test "$(tr -d "\\0")" = "right one"')
        self.script("account", "test ! -e expired")
        self.service("judge", JUDGE.format(folder=self.folder))

    def script(self, name: str, line: str) -> None:
        path = self.folder / f"{name}.sh"
        path.write_text(f"#!/bin/sh\ncd {self.folder}\n{line}\n")
        path.chmod(0o755)

    def service(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def settings(self, service: str, **others: Any) -> Settings:
        return Settings(service, 0, folder=str(self.folder), **others)

    def checker(self, service: str, *, processes: int = 2, remembered: Any = None,
                **others: Any) -> PamChecker:
        checker = PamChecker(self.settings(service, **others), processes=processes, reactor=reactor,
                             remembered=remembered)
        self.addCleanup(checker.stop)
        return checker

    @property
    def asked(self) -> int:
        """How many passwords the script has judged."""
        file = self.folder / "asked"
        return len(file.read_text().split()) if file.exists() else 0


def login(password: bytes = b"right one", name: str = ME, peer: str = "192.0.2.1") -> PasswordLogin:
    return PasswordLogin(name.encode(), password, peer)


class Logins(Served):
    async def test_right_and_wrong(self) -> None:
        """The name comes back as octets, folded; a refusal has PAM's own words for the log alone."""
        checker = self.checker("judge")
        verifyObject(IUserLookup, checker)
        self.assertEqual(ME.encode(), await checker.requestAvatarId(login()))
        self.assertEqual(ME.encode(), await checker.requestAvatarId(login(name=ME.upper())))
        refused = await self.assertFailure(checker.requestAvatarId(login(b"wrong one")), LoginRefused)
        assert isinstance(refused, Refused)
        self.assertEqual("login refused", str(refused))
        self.assertIn("authentication: ", refused.reason)

    async def test_account(self) -> None:
        """A right password is not enough: the account has to be good, for a certificate's name as well."""
        checker = self.checker("judge")
        self.assertEqual(ME.encode(), await checker.requestAvatarId(NamedLogin(ME.encode(), "EXTERNAL")))
        (self.folder / "expired").touch()
        for claim in (login(), NamedLogin(ME.encode(), "EXTERNAL")):
            refused = await self.assertFailure(checker.requestAvatarId(claim), Refused)
            self.assertIn("account: ", refused.reason)
        self.assertEqual(1, self.asked)     # a name alone brings no password

    async def test_what_never_reaches_pam(self) -> None:
        """Names that no user has, and passwords that PAM would cut: refused at once."""
        checker = self.checker("judge")
        for name in (b"", b"a\0b", b"a/b", b"a b", b"a\nb", b"\xff", b"-froot", b"+", b"a:b", b"..",
                     b"x" * 400, "a\u202eb".encode()):
            await self.assertFailure(checker.requestAvatarId(PasswordLogin(name, b"right one")), LoginRefused)
        for password in (b"", b"right one\0", b"x" * (MAX_PASSWORD_OCTETS + 1)):
            await self.assertFailure(checker.requestAvatarId(login(password)), LoginRefused)
        self.assertEqual(0, self.asked)
        self.assertIsNone(checker._desks)
        await self.assertFailure(checker.requestAvatarId(login(b"x" * MAX_PASSWORD_OCTETS)), LoginRefused)
        self.assertEqual(1, self.asked)

    async def test_remembered(self) -> None:
        """A password is asked for once; the account each time. A changed file forgets, and so does time."""
        clock = Clock()
        checker = self.checker("judge", remembered=RememberedSuccess(clock))
        for _ in range(3):
            await checker.requestAvatarId(login())
        self.assertEqual(1, self.asked)
        self.service("judge", JUDGE.format(folder=self.folder) + "# changed\n")
        await checker.requestAvatarId(login())
        self.assertEqual(2, self.asked)
        clock.advance(300)
        await checker.requestAvatarId(login())
        self.assertEqual(3, self.asked)
        (self.folder / "expired").touch()
        await self.assertFailure(checker.requestAvatarId(login()), LoginRefused)
        (self.folder / "expired").unlink()
        await checker.requestAvatarId(login())
        self.assertEqual(4, self.asked)     # the refusal has forgotten it

    async def test_who_may(self) -> None:
        """Least uid and groups hold for logins and for mail; a group that is not there is an outage."""
        mine = Settings("judge", os.getuid() + 1, folder=str(self.folder))
        grouped = self.settings("judge", groups=("no-such-group",))
        for rule, expected in ((mine, False), (grouped, None), (self.settings("judge"), True)):
            checker = PamChecker(rule, reactor=reactor)
            self.addCleanup(checker.stop)
            if expected is None:
                await self.assertFailure(checker.knows(ME), StoreUnavailable)
                await self.assertFailure(checker.requestAvatarId(login()), StoreUnavailable)
                continue
            self.assertIs(expected, await checker.knows(ME))
            self.assertIs(False, await checker.knows("no-such-user"))
            self.assertIs(False, await checker.knows("a/b"))
            if not expected:
                await self.assertFailure(checker.requestAvatarId(login()), LoginRefused)
        self.assertEqual(0, self.asked)


class Outages(Served):
    """What is no refusal."""

    async def unavailable(self, service: str, words: str, **others: Any) -> None:
        checker = self.checker(service, **others)
        fault = await self.assertFailure(checker.requestAvatarId(login()), StoreUnavailable)
        self.assertIn(words, str(fault))

    async def test_services(self) -> None:
        """No file, though there is an `other`; a module that is missing, that fails, that has no idea."""
        permit = "auth required pam_permit.so\naccount required pam_permit.so\n"
        self.service("other", permit)
        self.service("nomodule", "auth required pam_no_such_thing.so\n" + permit)
        self.service("failing", "auth required pam_exec.so quiet /bin/false\n" + permit)
        self.service("down", "auth required pam_debug.so auth=authinfo_unavail\n" + permit)
        self.service("include", "@include nowhere\n" + permit)
        await self.unavailable("nofile", "there is no ")
        for service in ("nomodule", "failing", "down", "include"):
            await self.unavailable(service, f"service {service}: ")

    async def test_words_of_modules(self) -> None:
        """Every answer that a module can give is either a refusal or an outage, in both phases."""
        common = ("perm_denied", "auth_err", "user_unknown", "new_authtok_reqd", "acct_expired")
        refusals = {"acct": common, "auth": (
            *common, "cred_insufficient", "maxtries", "cred_expired", "cred_err", "authtok_expired")}
        outages = ("open_err", "symbol_err", "service_err", "system_err", "buf_err", "authinfo_unavail",
                   "conv_err", "abort", "module_unknown", "try_again", "authtok_lock_busy")
        checker = self.checker("says")
        for phase, words in refusals.items():
            for word in (*words, *outages):
                self.service("says", "".join(
                    f"{kind} required pam_debug.so {phase}={word}\n" for kind in ("auth", "account")))
                await self.assertFailure(checker.requestAvatarId(login()),
                                         LoginRefused if word in words else StoreUnavailable)

    async def test_crash(self) -> None:
        """A process that dies costs its own login; the next one is asked of another process."""
        self.script("judge", 'test -e sound || kill -SEGV $PPID')
        checker = self.checker("judge")
        fault = await self.assertFailure(checker.requestAvatarId(login()), StoreUnavailable)
        self.assertIn(f"signal {int(signal.SIGSEGV)}", str(fault))
        (self.folder / "sound").touch()
        self.assertEqual(ME.encode(), await checker.requestAvatarId(login()))

    async def test_killed_while_idle(self) -> None:
        """Nobody notices."""
        checker = self.checker("judge", processes=1)
        await checker.requestAvatarId(login())
        pid, = checker._begun()[0].children.pids
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        self.assertEqual(ME.encode(), await checker.requestAvatarId(login()))
        self.assertNotEqual([pid], checker._begun()[0].children.pids)

    async def test_time_limit(self) -> None:
        """While a module hangs others are served; in the end it is ended."""
        self.script("judge", f'test "$(tr -d "\\0")" = hang || exit 0; {WHILE_HELD}')
        (self.folder / "hold").touch()
        patient = self.checker("judge", seconds=60.0)
        hanging = patient.requestAvatarId(login(b"hang"))
        for _ in range(5):
            await patient.requestAvatarId(login())
        self.assertFalse(hanging.called)
        checker = self.checker("judge", seconds=1.0)
        fault = await self.assertFailure(checker.requestAvatarId(login(b"hang")), StoreUnavailable)
        self.assertIn("no answer within 1 seconds", str(fault))
        self.assertEqual(0, len(checker._begun()[0].children.pids))
        (self.folder / "hold").unlink()
        self.assertEqual(ME.encode(), await hanging)
        self.assertEqual(2, len(patient._begun()[0].children.pids))

    async def test_delay_is_nobodys(self) -> None:
        """pam_faildelay's minute is not waited for: refusals leave at a time of the service's own."""
        self.service("delaying", "auth required pam_faildelay.so delay=60000000\nauth required pam_deny.so\n")
        checker = self.checker("delaying", processes=1, seconds=30.0)
        began = time.monotonic()
        for _ in range(3):
            await self.assertFailure(checker.requestAvatarId(login()), LoginRefused)
        self.assertLess(time.monotonic() - began, 30)

    async def test_queue(self) -> None:
        """Networks take turns for the processes; a full queue is too busy, for mail an outage."""
        self.script("judge", f'{WHILE_HELD}; echo "$PAM_RHOST" >> hosts')
        (self.folder / "hold").touch()
        checker = self.checker("judge", processes=1)
        crowd = [checker.requestAvatarId(login(peer="192.0.2.1")) for _ in range(6)]
        crowd.append(checker.requestAvatarId(login(peer="2001:db8::1")))
        (self.folder / "hold").unlink()
        await gatherResults(crowd)
        hosts = (self.folder / "hosts").read_text().split()
        self.assertEqual("2001:db8::1", hosts[1 if hosts[1] != "192.0.2.1" else 2])
        for desk in checker._begun():
            self.patch(desk._pool, "run", Busy().run)
        await self.assertFailure(checker.requestAvatarId(login()), TooBusy)
        await self.assertFailure(checker.knows(ME), StoreUnavailable)

    async def test_stop(self) -> None:
        """What is under way ends as an outage, and no process is left."""
        self.script("judge", WHILE_HELD)
        (self.folder / "hold").touch()
        checker = self.checker("judge")
        waiting = checker.requestAvatarId(login())
        await checker.knows(ME)
        desks = checker._begun()
        while not any(desk.children._all.difference(desk.children._idle) for desk in desks):
            await pause()
        pids = [pid for desk in desks for pid in desk.children.pids]
        stopped = checker.stop()
        await self.assertFailure(waiting, StoreUnavailable)
        await stopped
        self.assertEqual(2, len(pids))
        for pid in pids:
            self.assertRaises(ProcessLookupError, os.kill, pid, 0)
        self.script("judge", "exit 0")
        self.assertEqual(ME.encode(), await checker.requestAvatarId(login()))

    async def test_renewed(self) -> None:
        """A process answers so many questions; modules leak."""
        self.patch(pam_children, "QUESTIONS", 2)
        checker = self.checker("judge", processes=1)
        pids = set()
        for _ in range(5):
            await checker.knows(ME)
            pids |= set(checker._begun()[1].children.pids)
        self.assertEqual(3, len(pids), "the second answer of each is its last")


async def pause() -> None:
    await deferLater(reactor, 0.01, lambda: None)


class Names(SynchronousTestCase):
    @settings(deadline=None, max_examples=300)
    @given(st.one_of(st.binary(max_size=40), st.text(max_size=40).map(
        lambda text: text.encode("utf-8", "replace"))))
    @example(b"alice")
    @example(b"\x7f")
    def test_user_name(self, username: bytes) -> None:
        """What is left is printable, without blanks, slashes, colons; folded; and no option."""
        name = user_name(username)
        if name is None:
            return
        self.assertTrue(name.decode().isprintable())
        self.assertFalse(set(name) & set(b" /\\:\0\n\t"))
        self.assertNotIn(name[:1], (b"", b"-", b"+"))
        self.assertEqual(name, user_name(name))

    def test_remote_host(self) -> None:
        for peer, host in ((None, b""), ("192.0.2.1", b"192.0.2.1"), ("::ffff:192.0.2.1", b"192.0.2.1"),
                           ("2001:db8::1", b"2001:db8::1"), ("::ffff:0:1", b"::ffff:0:1")):
            self.assertEqual(host, remote_host(peer))


class Rules(SynchronousTestCase):
    """Who may, by the user database."""

    def refusal(self, rule: Rule, user: User | None, name: bytes = b"alice") -> str:
        try:
            rule.judge(name, lambda _: user)
        except Refusal as refusal:
            return str(refusal)
        return ""

    def test_uids(self) -> None:
        rule = Rule(1000)
        for uid, allowed in ((0, False), (999, False), (1000, True), (60001, True), (65534, False),
                             (65535, False), (2_000_000, True)):
            self.assertEqual(allowed, not self.refusal(rule, User("alice", uid, 100)), uid)
        self.assertEqual("", self.refusal(Rule(0), User("alice", 0, 0)))
        self.assertEqual("unknown to the system", self.refusal(rule, None))

    def test_other_names(self) -> None:
        """One user has one maildrop: an alias is no name, capitals of the database are."""
        self.assertEqual("another name of a user", self.refusal(Rule(0), User("bob", 1000, 100)))
        self.assertEqual("", self.refusal(Rule(0), User("Alice", 1000, 100)))

    def test_broken_database(self) -> None:
        """Not to know is no "unknown"; an entry may be long."""
        def failing(code: int) -> Any:
            return lambda *_: code

        self.assertRaises(Unavailable, find_user, b"alice", failing(errno.EIO))
        self.assertRaises(Unavailable, find_user, b"alice", failing(errno.ERANGE))
        self.assertIsNone(find_user(b"alice", failing(errno.ENOENT)))
        self.assertIsNone(find_user(b"no-such-user-of-this-system"))
        me = find_user(ME.encode())
        assert me is not None
        self.assertEqual((ME, os.getuid()), (me.name, me.uid))


class Conversations(SynchronousTestCase):
    """What modules are answered."""

    def converse(self, *styles: int, count: int | None = None) -> tuple[int, list[bytes | None]]:
        transaction = Transaction("x", b"alice", b"secret")
        messages = [pam_child._Message(style, b"?") for style in styles]
        array = (ctypes.POINTER(pam_child._Message) * max(1, len(styles)))(*map(ctypes.pointer, messages))
        responses = ctypes.c_void_p()
        count = len(styles) if count is None else count
        code = transaction._converse(count, array, ctypes.pointer(responses), None)
        if not responses.value:
            return code, []
        made = ctypes.cast(responses, ctypes.POINTER(pam_child._Response))
        return code, [ctypes.string_at(made[index].text) if made[index].text else None
                      for index in range(len(styles))]

    def test_answers(self) -> None:
        """Hidden prompts get the password, shown ones the name, words nothing."""
        self.assertEqual((0, [b"secret", b"alice", None, None, b"secret"]), self.converse(1, 2, 3, 4, 1))

    def test_nonsense(self) -> None:
        for count in (0, -1, 33, 1 << 30):
            self.assertEqual((pam_child.CONVERSATION_ERROR, []), self.converse(1, count=count))

    def test_frames(self) -> None:
        """In any pieces; an end inside is an end."""
        fields = [b"check", b"", b"a" * 500]
        for size in (1, 3, 1000):
            stream = io.BytesIO(pam_child.framed(*fields) * 2 + b"\0\0")
            read = partial(_at_most, stream, size)
            for _ in range(2):
                self.assertEqual(fields, pam_child.read_frame(read))
            self.assertRaises(EOFError, pam_child.read_frame, read)


def _at_most(stream: io.BytesIO, size: int, octets: int) -> bytes:
    return stream.read(min(size, octets))


class NoLibrary(SynchronousTestCase):
    def test_missing(self) -> None:
        """Said in words; nothing else of mailgate needs it."""
        self.patch(pam_child, "SONAME", "libpam.so.none")
        fault = self.assertRaises(Unavailable, Transaction, "x", b"a", b"b")
        self.assertIn("no Linux-PAM is here", str(fault))

    def test_no_process(self) -> None:
        self.patch(sys, "executable", "/nonexistent/python")
        children = Children(Settings("x", 0))
        self.assertRaises(StoreUnavailable, children.ask, "begin")
        children.stop()
        self.assertRaises(StoreUnavailable, children.ask, "begin")
