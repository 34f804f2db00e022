"""GSS-API tokens of a real KDC's tickets, judged by libgssapi: what is taken, and what is not."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults, inlineCallbacks
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailgate.auth import gssapi, libgssapi, libkrb5
from mailgate.auth.gssapi import LOOK_SECONDS, TicketAcceptor, TicketService
from mailgate.auth.kerberos import ServiceKey
from mailgate.auth.libgssapi import Accepted
from mailgate.auth.sasl import Accepting, AcceptQuestion, Unproven, UnwrapQuestion
from mailgate.errors import StoreUnavailable, TooBusy
from mailgate.principals import Principal
from tests.gss_client import BOUND_TO, DCE_STYLE, INTEGRITY, MUTUAL, GssClient, GssFault
from tests.kerberos import Realm

ROOT = Path(__file__).parent.parent.parent
SERVICE = "pop/localhost@TEST.EXAMPLE"
ALICE = Principal(("alice",), "TEST.EXAMPLE")
OFFER = b"\1\0\0\0"
BRIEF_SECONDS = 2
KERBEROS = bytes.fromhex("2a864886f712010202")      # 1.2.840.113554.1.2.2
SPNEGO = bytes.fromhex("2b0601050502")              # 1.3.6.1.5.5.2

_open = contextlib.ExitStack()
home: Realm
keytab: Path
cache: Path
brief: tuple[float, bytes]      # a token, and the time from which its ticket is over


def setUpModule() -> None:
    """Start a KDC with one user, and three services of which one is ours and another is in our keytab too."""
    global home, keytab, cache, brief
    import tempfile

    folder = Path(_open.enter_context(tempfile.TemporaryDirectory()))
    home = Realm(folder / "home")
    _open.callback(home.stop)
    home.add("alice", "brief", "pop/localhost", "imap/localhost", "pop/other")
    keytab = home.keytab("pop/localhost", "imap/localhost")
    cache = home.log_in("alice")
    home._kadmin(f'modify_principal -maxlife "{BRIEF_SECONDS} seconds" brief')
    brief = made_in_time()


def tearDownModule() -> None:
    _open.close()


def made_in_time() -> tuple[float, bytes]:
    """Return a token by a ticket that lasts for two seconds; another try, if making it takes longer.

    The KDC may have read its clock at any time until the token was there.
    """
    with home.environment():
        for _ in range(99):
            with contextlib.suppress(GssFault):
                token = GssClient(home.log_in("brief"), SERVICE).token()
                return time.time() + BRIEF_SECONDS + 2, token
        raise AssertionError("this machine is too slow for a ticket that is soon over")


def client(server: str = SERVICE, **how: Any) -> GssClient:
    """Return a client of alice's."""
    return GssClient(cache, server, **how)


def accepting(token: bytes, context: Any = None, binding: bytes | None = None) -> AcceptQuestion:
    return AcceptQuestion(token, context, binding, OFFER)


def der(tag: int, *contents: bytes) -> bytes:
    """Return an element of DER."""
    content = b"".join(contents)
    length = len(content).to_bytes(2, "big")
    return bytes([tag, 0x82]) + length + content


class GssCase(SynchronousTestCase):
    def setUp(self) -> None:
        stack = contextlib.ExitStack()
        stack.enter_context(home.environment())
        self.addCleanup(stack.close)

    def service(self, path: str | Path = "", name: str = SERVICE) -> TicketService:
        return TicketService(ServiceKey(str(path or keytab), name))

    def judged(self, token: bytes, **how: Any) -> Any:
        return self.service().answer(accepting(token, **how))

    def refused(self, token: bytes, **how: Any) -> str:
        """Return why a token proves nothing."""
        answer = self.judged(token, **how)
        self.assertIsInstance(answer, Unproven)
        reason: str = answer.reason
        return reason


class TokenTests(GssCase):
    def test_good_tokens(self) -> None:
        """With and without mutual authentication; what either side has wrapped the other can read."""
        for flags in (MUTUAL | INTEGRITY, INTEGRITY, 0):
            one = client(flags=flags)
            answer = self.judged(one.token())
            self.assertEqual((answer.principal, bool(answer.reply)), (ALICE, bool(flags & MUTUAL)))
            if answer.reply:
                self.assertEqual(one.token(answer.reply), b"")
            self.assertTrue(one.complete)
            self.assertEqual(one.unwrap(answer.sealed), OFFER)
            self.assertEqual(self.service().answer(UnwrapQuestion(one.wrap(b"choice"), answer.context)),
                             b"choice")

    def test_three_legs(self) -> None:
        """A context that stands only with the client's second token."""
        one = client(flags=MUTUAL | DCE_STYLE)
        first = self.judged(one.token())
        self.assertEqual((first.principal, bool(first.reply)), (None, True))
        second = self.judged(one.token(first.reply), context=first.context)
        self.assertEqual((second.principal, second.reply), (ALICE, b""))
        self.assertEqual(one.unwrap(second.sealed), OFFER)

    def test_once(self) -> None:
        token = client().token()
        self.judged(token)
        self.assertEqual(self.refused(token), "Request is a replay")

    def test_another_service(self) -> None:
        """Whatever else the keytab has keys for."""
        for other in ("imap/localhost", "pop/other"):
            self.assertIn("Cannot decrypt ticket", self.refused(client(f"{other}@{home.name}").token()))

    def test_every_cut(self) -> None:
        """A token that is cut anywhere is refused, and costs the whole one nothing; so is a changed one."""
        token = client().token()
        for at in range(len(token)):
            self.refused(token[:at])
        self.assertEqual(self.judged(token).principal, ALICE)
        for at in range(0, len(token), 3):      # what does not matter, such as options, makes a replay of it
            self.refused(token[:at] + bytes([token[at] ^ 0x55]) + token[at + 1:])

    def test_garbage(self) -> None:
        for garbage in (b"x", b"\x60", b"\x60\x84\xff\xff\xff\xff", b"\x6e" * 9, b"NTLMSSP\0" + b"a" * 60,
                        b"\0" * 98_304, b"\x60\x80" * 30_000):
            self.refused(garbage)

    def test_other_mechanisms(self) -> None:
        """SPNEGO is not Kerberos, even with the best of tickets in it."""
        inner = client().token()
        negotiation = der(0xA0, der(0x30, der(0xA0, der(0x30, der(0x06, KERBEROS))),
                                    der(0xA2, der(0x04, inner))))
        self.refused(der(0x60, b"\x06\x06", SPNEGO, negotiation))
        self.assertEqual(self.judged(inner).principal, ALICE)

    def test_bindings(self) -> None:
        """Looked at where both sides have some: who sends none is taken, who sends others is not."""
        ours = BOUND_TO + b"a hash"
        for sent, judged_by, good in ((ours, ours, True), (None, ours, True), (ours, None, True),
                                      (BOUND_TO + b"another hash", ours, False),
                                      (b"tls-unique:a hash", ours, False)):
            token = client(bound=sent).token()
            if good:
                self.assertEqual(self.judged(token, binding=judged_by).principal, ALICE)
            else:
                self.assertIn("channel bindings", self.refused(token, binding=judged_by))

    def test_messages(self) -> None:
        """What is cut, changed, said twice or wrapped for another context is refused."""
        one, two = client(flags=INTEGRITY | 4 | 8), client()
        answer = self.judged(one.token())
        two.token(self.judged(two.token()).reply)
        message = one.wrap(b"choice")
        for broken in (b"", b"x", message[:-1], message[:20] + b"!" + message[21:], two.wrap(b"choice")):
            self.assertIsInstance(self.service().answer(UnwrapQuestion(broken, answer.context)), Unproven)
        for expected in (b"choice", Unproven("The token was a duplicate of an earlier token")):
            self.assertEqual(self.service().answer(UnwrapQuestion(message, answer.context)), expected)

    def test_skewed(self) -> None:
        """A client whose clock is wrong by more than Kerberos allows."""
        made = home.client({"do": "request", "server": SERVICE, "mutual": False, "shift": 1000},
                           KRB5CCNAME=str(cache))
        inner = bytes.fromhex(made["request"])
        self.assertEqual(self.refused(der(0x60, b"\x06\x09", KERBEROS, b"\1\0", inner)),
                         "Clock skew too great")

    def test_names_that_are_none(self) -> None:
        """A client that hides its name, and one whose name cannot be read."""
        for name in ("", "a//b@R", "a@"):
            context = mock.Mock()
            context.accept.return_value = Accepted(b"", name)
            self.refused(b"token", context=context)


class FaultTests(GssCase):
    def test_own_faults(self) -> None:
        """They are no refusals, and the token is good once they are mended."""
        token = client().token()
        for service in (self.service("/nonexistent"), self.service(__file__),
                        self.service(name=f"pop/other@{home.name}")):
            fault = self.assertRaises(StoreUnavailable, service.answer, accepting(token))
            self.assertTrue(str(fault).startswith("Kerberos: "), fault)
        with mock.patch.dict(os.environ, KRB5RCACHEDIR="/nonexistent"):
            fault = self.assertRaises(StoreUnavailable, self.service().answer, accepting(token))
        self.assertIn("/nonexistent/", str(fault))
        self.assertEqual(self.judged(token).principal, ALICE)

    def test_words(self) -> None:
        """What is missing where; the keytab's are those of KPOP."""
        self.assertEqual(self.service().faults(), [])
        self.assertEqual(self.service("/nonexistent").faults(), ["/nonexistent: No such file or directory"])
        self.assertEqual(self.service(name=f"pop/other@{home.name}").faults(), [
            f"{keytab} has no key of pop/other@TEST.EXAMPLE; there are keys of "
            "imap/localhost@TEST.EXAMPLE, pop/localhost@TEST.EXAMPLE"])

    def test_no_library(self) -> None:
        """Said as what to install; a token meets an outage."""
        libgssapi.library.cache_clear()
        self.addCleanup(libgssapi.library.cache_clear)
        self.patch(libgssapi, "SONAMES", ("libnothing.so.77",))
        (words,) = self.service().faults()
        self.assertRegex(
            words, r"^Kerberos needs MIT's libgssapi \(Debian: apt-get install libgssapi-krb5-2\): .*77")
        self.assertRaises(StoreUnavailable, self.service().answer, accepting(b"x"))


_LOOP = """
import os, sys
from pathlib import Path
from mailgate.auth.gssapi import TicketService
from mailgate.auth.kerberos import ServiceKey
from mailgate.auth.sasl import Accepting, AcceptQuestion, Unproven, UnwrapQuestion

keytab, service, token = sys.argv[1], sys.argv[2], bytes.fromhex(sys.argv[3])
tickets, replays = TicketService(ServiceKey(keytab, service)), Path(os.environ["KRB5RCACHEDIR"])

def round():
    for file in replays.iterdir():
        file.unlink()                       # so that the token is good again
    good = tickets.answer(AcceptQuestion(token, None, b"a binding", bytes(4)))
    assert isinstance(good, Accepting) and good.principal
    assert isinstance(tickets.answer(UnwrapQuestion(good.sealed, good.context)), Unproven)
    for bad in (token, b"x", token[:-1], token[:300] + b"!" + token[301:]):
        assert isinstance(tickets.answer(AcceptQuestion(bad, None, None, bytes(4))), Unproven)

def held():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE"), len(os.listdir("/proc/self/fd"))

for _ in range(200):
    round()
memory, files = held()
for _ in range(800):
    round()
grown, files_now = held()
print(grown - memory, files_now - files)
"""


class LeakTests(GssCase):
    def test_loop(self) -> None:
        """Contexts, names, credentials and buffers of 4,000 tokens go with their last owner."""
        ran = subprocess.run([sys.executable, "-c", _LOOP, str(keytab), SERVICE, client().token().hex()],
                             capture_output=True, text=True, check=False, cwd=ROOT)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        memory, files = map(int, ran.stdout.split())
        self.assertLess(memory, 300_000)        # 75 octets a token would show
        self.assertEqual(files, 0)


class ThreadTests(TestCase):
    def setUp(self) -> None:
        stack = contextlib.ExitStack()
        stack.enter_context(home.environment())
        self.addCleanup(stack.close)

    @inlineCallbacks
    def test_in_threads(self) -> Any:
        """Many at a time, each once; a context's calls may come from any of them; and then the end."""
        acceptor = TicketAcceptor(TicketService(ServiceKey(str(keytab), SERVICE)), reactor)
        yield acceptor.look()
        self.assertTrue(acceptor.works)
        clients = [client(flags=0) for _ in range(8)]
        tokens = [one.token() for one in clients]
        answers = yield gatherResults([
            acceptor.answer(accepting(token), "192.0.2.1") for token in tokens * 3])
        self.assertEqual(sum(isinstance(one, Accepting) for one in answers), 8)
        good = [next(one for one in answers[at::8] if isinstance(one, Accepting)) for at in range(8)]
        told = yield gatherResults([
            acceptor.answer(UnwrapQuestion(one.wrap(b"%d" % at), good[at].context))
            for at, one in enumerate(clients)])
        self.assertEqual(told, [b"%d" % at for at in range(8)])
        yield acceptor.stop()
        yield self.assertFailure(acceptor.answer(accepting(tokens[0])), TooBusy)


class Pool:
    """Stands in for the threads: calls wait until the test performs them."""

    def __init__(self) -> None:
        self.calls: list[tuple[Deferred[Any], Any, tuple[Any, ...]]] = []

    def run(self, network: str, function: Any, *args: Any) -> Deferred[Any]:
        waiting: Deferred[Any] = Deferred()
        self.calls.append((waiting, function, args))
        return waiting

    def perform(self) -> None:
        waiting, function, args = self.calls.pop(0)
        waiting.callback(function(*args))


class AcceptorTests(SynchronousTestCase):
    """What is decided around the calls, without any."""

    def setUp(self) -> None:
        self.clock, self.pool = Clock(), Pool()
        self.service = mock.Mock()
        with mock.patch.object(gssapi, "HashPool", lambda *_, **__: mock.Mock(run=self.pool.run)):
            self.acceptor = TicketAcceptor(self.service, self.clock, seconds=30)
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def look(self, *faults: str) -> bool:
        """Let time pass, look, and return whether it works."""
        self.service.faults.return_value = list(faults)
        self.clock.advance(LOOK_SECONDS)
        done = self.acceptor.look()
        self.pool.perform()
        self.successResultOf(done)
        return self.acceptor.works

    def test_given_up(self) -> None:
        """A call that hangs is an outage after its time; no delayed call is left by one that does not."""
        hanging = self.acceptor.answer(accepting(b"x"))
        self.clock.advance(29.9)
        self.assertNoResult(hanging)
        self.clock.advance(0.2)
        self.assertIn("30 seconds", str(self.failureResultOf(hanging, StoreUnavailable).value))
        self.pool.calls.clear()
        self.service.answer.return_value = b"plain"
        quick = self.acceptor.answer(accepting(b"x"))
        self.pool.perform()
        self.assertEqual(self.successResultOf(quick), b"plain")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancelled(self) -> None:
        waiting = self.acceptor.answer(accepting(b"x"))
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_look_that_hangs(self) -> None:
        """Nobody waits for it for long: the service starts without."""
        done = self.acceptor.look()
        self.clock.advance(LOOK_SECONDS + 0.1)
        self.successResultOf(done)
        self.assertFalse(self.acceptor.works)
        self.assertIn("no look at the keytab ends within 10 seconds", formatEvent(self.events[0]) or "")
        self.pool.calls.clear()
        self.assertTrue(self.look())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_looks(self) -> None:
        """What is found is told once; it is not looked for again at once."""
        self.assertFalse(self.acceptor.works)
        self.assertFalse(self.look("no keytab"))
        self.assertFalse(self.look("no keytab"))
        self.assertTrue(self.look())
        self.assertTrue(self.look())
        self.successResultOf(self.acceptor.look())
        self.assertEqual(self.pool.calls, [])
        self.assertFalse(self.look("gone"))
        self.assertEqual([formatEvent(event) for event in self.events], [
            "GSSAPI is not offered: no keytab", "GSSAPI is offered again", "GSSAPI is not offered: gone"])


class LoadingTests(SynchronousTestCase):
    def test_nothing_is_loaded_before_it_is_used(self) -> None:
        """Making all the parts opens no library: twistd forks afterwards."""
        code = ("import sys; from twisted.internet import reactor; "
                "from mailgate.auth.gssapi import *; from mailgate.auth.kerberos import ServiceKey; "
                "TicketAcceptor(TicketService(ServiceKey('/k', 'pop/h@R')), reactor); "
                "print('cffi' in sys.modules, 'libgssapi' in open('/proc/self/maps').read())")
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                             cwd=ROOT)
        self.assertEqual(ran.stdout.split(), ["False", "False"])


class LockTests(SynchronousTestCase):
    def test_whatever_is_freed_while_a_type_is_read(self) -> None:
        """No function has to be looked up then: cffi would wait for the lock that it holds itself."""
        for ffi, functions in (libgssapi.library(), libkrb5.library()):
            names, found = list(dir(functions)), []
            looking = threading.Thread(
                target=lambda names=names, functions=functions, found=found: found.extend(
                    getattr(functions, name) for name in names), daemon=True)
            with ffi._lock:
                looking.start()
                looking.join(60)
            self.assertEqual(len(found), len(names))
            self.assertGreater(len(names), 8)


class ExpiryTests(GssCase):
    """Last, because a ticket has to be over by the system's own clock: libgssapi knows no other."""

    def test_expired(self) -> None:
        """Refused, with the least skew that can be set."""
        strict = home.folder / "strict.conf"
        strict.write_text((home.folder / "krb5.conf").read_text().replace(
            "[libdefaults]\n", "[libdefaults]\nclockskew = 1\n"))
        over, token = brief
        time.sleep(max(0.0, over - time.time()))
        with mock.patch.dict(os.environ, KRB5_CONFIG=str(strict)):
            self.assertEqual(self.refused(token), "Ticket expired")
