"""The service inside one process: who waits for whom, and what faults lead to."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

from twisted.application.service import IServiceMaker
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.plugin import IPlugin, getPlugins
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailgate import service as service_module
from mailgate import tap
from mailgate.config import Config, parse
from mailgate.errors import StoreUnavailable
from mailgate.model import Admission, Envelope, Placement
from mailgate.service import CannotListen, MailgateService
from mailgate.stores.memory import MemoryStore

LEAST = """
hostname = "mail.example.org"
[[listen]]
protocol = "pop3"
endpoint = "tcp:0:interface=127.0.0.1"
"""


def read(text: str = LEAST) -> Config:
    return parse(text.encode(), folder=Path("/nowhere"))


class SlowStore(MemoryStore):
    """A store whose start the test holds; it notes what was asked of it."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock=clock)
        self.starting: Deferred[None] = Deferred()
        self.asked: list[str] = []

    def start(self) -> Deferred[None]:
        self.asked.append("start")
        return self.starting.addCallback(lambda _: MemoryStore.start(self))

    def stop(self) -> Deferred[None]:
        self.asked.append("stop")
        return super().stop()

    def expire(self, retention_seconds: int) -> Deferred[int]:
        self.asked.append("expire")
        return super().expire(retention_seconds)

    def sweep(self, grace_seconds: int) -> Deferred[int]:
        self.asked.append("sweep")
        return super().sweep(grace_seconds)


class Listening(Protocol):
    def __init__(self) -> None:
        self.said = b""
        self.begun: Deferred[bytes] = Deferred()
        self.ended: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.said += data
        if not self.begun.called:
            self.begun.callback(self.said)

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.callback(self.said)


class WaitingTests(TestCase):
    """With real sockets: when clients are served."""

    def make(self, text: str = LEAST) -> tuple[MailgateService, SlowStore]:
        store = SlowStore(reactor)
        self.patch(service_module, "make_store", lambda config, reactor: store)
        return MailgateService(read(text), reactor=reactor), store

    async def connect(self, service: MailgateService) -> Listening:
        port = service.listeners[0].port.getHost().port
        client: Listening = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), Listening())
        return client

    async def test_nobody_is_served_before_the_store(self) -> None:
        """Who comes early waits, is greeted once the store is open, and is told when all ends."""
        service, store = self.make()
        self.assertEqual(store.asked, [])
        service.privilegedStartService()
        self.assertEqual(store.asked, [], "bound, and no more")
        service.startService()
        client = await self.connect(service)
        pause: Deferred[None] = Deferred()
        reactor.callLater(0.05, pause.callback, None)       # time for a greeting that must not come
        await pause
        self.assertEqual(client.said, b"")
        store.starting.callback(None)
        self.assertTrue((await client.begun).startswith(b"+OK "))
        await service.stopService()
        await client.ended
        self.assertEqual(store.asked, ["start", "sweep", "stop"])

    async def test_stopped_while_starting(self) -> None:
        """An end that comes before the beginning was over ends it in order."""
        service, store = self.make()
        service.startService()
        stopping = service.stopService()
        store.starting.callback(None)
        await stopping
        self.assertEqual(store.asked, ["start", "stop"])
        self.assertIsNone(service.listeners[0].port)

    async def test_address_taken(self) -> None:
        """One address that cannot be had gives back the others."""
        service, store = self.make()
        store.starting.callback(None)
        service.startService()
        taken = service.listeners[0].port.getHost().port
        other = MailgateService(read(LEAST + f"""
            [[listen]]
            protocol = "lmtp"
            endpoint = "tcp:{taken}:interface=127.0.0.1"
        """), reactor=reactor)
        with self.assertRaisesRegex(CannotListen, r"listen\[1\]\.endpoint: .*in use"):
            other.privilegedStartService()
        self.assertEqual([listener.port for listener in other.listeners], [None, None])
        await other.stopService()
        await service.stopService()

    async def test_two_in_one_process(self) -> None:
        """Two services share nothing: one ends, the other serves on."""
        first, first_store = self.make()
        second, second_store = self.make()
        for service, store in ((first, first_store), (second, second_store)):
            store.starting.callback(None)
            service.startService()
        await first.stopService()
        client = await self.connect(second)
        self.assertTrue((await client.begun).startswith(b"+OK "))
        await second.stopService()
        await client.ended


class HousekeepingTests(SynchronousTestCase):
    """By a clock: retention and sweep."""

    def make(self, text: str) -> tuple[MailgateService, SlowStore, MemoryReactorClock]:
        memory_reactor = MemoryReactorClock()
        store = SlowStore(memory_reactor)
        store.starting.callback(None)
        self.patch(service_module, "make_store", lambda config, reactor: store)
        service = MailgateService(read(text), reactor=memory_reactor)
        service.startService()
        self.addCleanup(lambda: self.successResultOf(service.stopService()))
        return service, store, memory_reactor

    def test_retention(self) -> None:
        """A message leaves once it is older than the retention, at the next round."""
        _, store, clock = self.make(LEAST + "[store]\nretention_days = 2\nhousekeeping_seconds = 3600\n")
        delivery = store.deliver()
        delivery.write(b"x\n")
        envelope = Envelope(b"", b"a@b", int(clock.seconds() * 1000))
        self.successResultOf(delivery.commit([Placement("mrose", None, envelope)]))
        for _ in range(47):
            clock.advance(3600)
        self.assertEqual(len(self.successResultOf(store.scan("mrose"))), 1)
        clock.advance(3600)
        clock.advance(3600)
        self.assertEqual(self.successResultOf(store.scan("mrose")), [])

    def test_no_retention_at_the_start(self) -> None:
        """A clock that is wrong then may be mended soon: mail is judged by it only with the first round."""
        _, store, clock = self.make(LEAST + "[store]\nretention_days = 2\nhousekeeping_seconds = 3600\n")
        clock.advance(3599)
        self.assertEqual(store.asked, ["start", "sweep"])
        clock.advance(1)
        self.assertEqual(store.asked, ["start", "sweep", "expire", "sweep"])

    def test_none_without_retention(self) -> None:
        """Where nothing is configured nothing expires; bodies are swept all the same."""
        _, store, clock = self.make(LEAST)
        clock.advance(3600)
        self.assertEqual(store.asked, ["start", "sweep", "sweep"])

    def test_faults_do_not_end_it(self) -> None:
        """A round that fails is told in the log, whatever the reason, and the next one comes."""
        _, store, clock = self.make(LEAST)
        for fault in (StoreUnavailable("locked"), ZeroDivisionError()):
            self.patch(store, "sweep", lambda grace, fault=fault: fail(fault))
            clock.advance(3600)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        swept: list[int] = []
        self.patch(store, "sweep", lambda grace: succeed(swept.append(grace) or 3))
        clock.advance(3600)
        self.assertEqual(swept, [86_400])


class FailedStartTests(SynchronousTestCase):
    def test_store(self) -> None:
        """The process ends with the fault's exit code, and says what it was."""
        ends: list[tuple[str, int]] = []
        self.patch(service_module, "end_process", lambda words, code: ends.append((words, code)))
        for fault, code in ((StoreUnavailable("no database"), 75), (ZeroDivisionError("oops"), 75)):
            memory_reactor = MemoryReactorClock()
            store = SlowStore(memory_reactor)
            store.starting.errback(fault)
            self.patch(service_module, "make_store", lambda config, reactor, store=store: store)
            service = MailgateService(read(), reactor=memory_reactor)
            service.startService()
            self.assertEqual(ends.pop(), (f"cannot start: {fault}", code))
            self.assertTrue(memory_reactor.hasStopped or memory_reactor.whenRunningHooks)
            self.successResultOf(service.stopService())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_told_to_end_before(self) -> None:
        """A store that fails when the service ends already: it says so, and ends in order."""
        ends: list[int] = []
        self.patch(service_module, "end_process", lambda words, code: ends.append(code))
        memory_reactor = MemoryReactorClock()
        store = SlowStore(memory_reactor)
        self.patch(service_module, "make_store", lambda config, reactor: store)
        service = MailgateService(read(), reactor=memory_reactor)
        service.startService()
        stopping = service.stopService()
        store.starting.errback(StoreUnavailable("no database"))
        self.successResultOf(stopping)
        self.assertEqual((ends, store.asked), ([75], ["start", "stop"]))
        self.assertFalse(memory_reactor.hasStopped or memory_reactor.whenRunningHooks)


class SignalTests(TestCase):
    async def test_while_it_ends(self) -> None:
        """The first that tells it to end is heeded; then none is, until it has ended."""
        await deferLater(reactor, 0)        # until the reactor runs
        heeded: list[int] = []
        numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
        for number in numbers:
            self.addCleanup(signal.signal, number, signal.signal(number, lambda got, _: heeded.append(got)))
        before = [signal.getsignal(number) for number in numbers]
        store = SlowStore(reactor)
        self.patch(service_module, "make_store", lambda config, reactor: store)
        service = tap.DaemonService(read(), reactor=reactor, in_background=True)
        self.patch(service, "reload", lambda: heeded.append(0))
        service.startService()
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        self.assertEqual(heeded, [signal.SIGTERM])
        stopping = service.stopService()
        for number in numbers:
            self.assertNotIn(signal.getsignal(number), before)      # raised, it might end the tests
            signal.raise_signal(number)
        self.assertEqual(heeded, [signal.SIGTERM])
        await deferLater(reactor, 0)        # for what the signals have left to it
        store.starting.callback(None)
        await stopping
        self.assertEqual(heeded, [signal.SIGTERM])
        self.assertEqual([signal.getsignal(number) for number in numbers], before)


class OptionTests(SynchronousTestCase):
    def parse(self, *arguments: str) -> tap.Options:
        options = tap.Options()
        options.parseOptions(arguments)
        return options

    def test_plugin(self) -> None:
        """twistd finds the service by its name; the plugin knows no more than where to look."""
        makers = [maker for maker in getPlugins(IServiceMaker) if maker.tapname == "mailgate"]
        self.assertEqual(len(makers), 1)
        self.assertTrue(IPlugin.providedBy(makers[0]))
        self.assertIs(makers[0].options, tap.Options)
        self.assertIs(makers[0].makeService, tap.makeService)

    def test_makes_without_opening(self) -> None:
        """twistd forks after makeService: until then there is no database, no thread, no socket."""
        import threading
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        (folder / "mailgate.toml").write_text(LEAST)
        before = set(threading.enumerate())
        service = tap.makeService(self.parse("-c", str(folder / "mailgate.toml")))
        self.assertEqual(set(threading.enumerate()) - before, set())
        self.assertEqual([path.name for path in folder.iterdir()], ["mailgate.toml"])
        self.assertIsNone(service.listeners[0].port)

    def test_bad_configuration(self) -> None:
        """Every problem, and exit code 78."""
        err: list[str] = []
        self.patch(sys, "__stderr__", type("Err", (), {"write": lambda self, text: err.append(text)})())
        with self.assertRaises(SystemExit) as caught:
            tap.makeService(self.parse("-c", self.mktemp()))
        self.assertEqual(caught.exception.code, 78)
        self.assertIn("cannot be read", "".join(err))

    def test_demo_and_file(self) -> None:
        with self.assertRaises(UsageError):
            self.parse("--demo", "-c", "x")

    def test_auth_memory(self) -> None:
        """Twisted's own memory checker is made to compare octets."""
        options = self.parse("--auth", "memory:guest:welcome")
        [checker] = options["credCheckers"]
        self.assertEqual(checker.users, {b"guest": b"welcome"})

    def test_leases_are_given_up(self) -> None:
        """Stopping the service closes its store, with which every lease goes."""
        clock = Clock()
        store = MemoryStore(clock=clock)
        self.patch(service_module, "make_store", lambda config, reactor: store)
        service = MailgateService(read(), reactor=MemoryReactorClock())
        service.startService()
        self.successResultOf(store.open(Admission("mrose")))
        self.successResultOf(service.stopService())
        other = MemoryStore.beside(store)
        self.successResultOf(other.start())
        self.successResultOf(other.open(Admission("mrose")))
        self.successResultOf(other.stop())
