"""The store in memory: the contracts, and what only it promises."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mailgate.errors import LeaseLost, LoginTooSoon, MaildropInUse, NoSuchMessage, StoreUnavailable
from mailgate.interfaces import (
    IAccountStore,
    IFolderStore,
    IMaildrop,
    IMaildropStore,
    IMessageStream,
    IPreparedDelivery,
)
from mailgate.model import Account, Admission, AppPassword, Envelope, Placement
from mailgate.stores.memory import PIECE_OCTETS, MemoryStore
from mailgate.wire.dots import to_wire
from tests.stores.contract_accounts import AccountStoreContract
from tests.stores.contract_app_passwords import AccountChangeContract, AppPasswordContract
from tests.stores.contract_folders import FolderContract
from tests.stores.contract_maildrops import MaildropStoreContract
from tests.stores.contract_moving import MovingContract

START = 1_700_000_000      # the second in which every test begins


@implementer(IReactorTime)
class ProcessClock:
    """A process's own timers over the time that all share: while it sleeps its calls are held back."""

    def __init__(self, time: Clock) -> None:
        self.time = time
        self.asleep = False
        self._held: list[tuple[Callable[..., object], tuple[object, ...]]] = []

    def seconds(self) -> float:
        return self.time.seconds()

    def callLater(self, delay, function, *args):
        return self.time.callLater(delay, self._due, function, args)

    def getDelayedCalls(self):
        return self.time.getDelayedCalls()

    def wake(self) -> None:
        self.asleep, held, self._held = False, self._held, []
        for function, args in held:
            function(*args)

    def _due(self, function, args):
        if self.asleep:
            self._held.append((function, args))
        else:
            function(*args)


class MemoryHooks:
    """Stores in memory, each as a process of its own."""

    def setUp(self) -> None:
        self.time = Clock()
        self.time.rightNow = START
        self.clocks: dict[int, ProcessClock] = {}

    async def make_store(self, *, quota_octets=None):
        clock = ProcessClock(self.time)
        store = MemoryStore(clock=clock, lease_seconds=self.lease_seconds, quota_octets=quota_octets,
                            random=Random(1))
        return await self.started(store, clock)

    async def make_second(self, store):
        clock = ProcessClock(self.time)
        return await self.started(MemoryStore.beside(store, clock=clock), clock)

    async def started(self, store, clock):
        self.clocks[id(store)] = clock
        await store.start()
        self.addCleanup(store.stop)
        return store

    async def expire_holder(self, store) -> None:
        clock = self.clocks[id(store)]
        clock.asleep = True
        self.time.pump([1] * int(self.lease_seconds + 1))
        clock.wake()

    def now_ms(self) -> int:
        return int(self.time.seconds() * 1000)


class MaildropTests(MemoryHooks, MaildropStoreContract, TestCase):
    """The contract of maildrops."""


class FolderTests(MemoryHooks, FolderContract, TestCase):
    """The contract of folders."""


class AccountTests(MemoryHooks, AccountStoreContract, TestCase):
    """The contract of accounts."""


class AppPasswordTests(MemoryHooks, AppPasswordContract, TestCase):
    """The contract of accounts: app passwords."""

    async def test_a_use_is_noted_once_a_minute(self) -> None:
        """From one address; from another at once."""
        store = await self.store_with(Account("fred"))
        await store.accounts.add_app_password("fred", AppPassword("phone", "{SSHA512}x", generated=True))
        seen = []
        for seconds in (0, 59, 1, 30):
            self.time.advance(seconds)
            seen.append((await self.used(store, "phone", "192.0.2.1")).last_used_ms // 1000 - START)
        self.assertEqual(seen, [0, 0, 60, 60])
        self.assertEqual((await self.used(store, "phone", "192.0.2.2")).last_used_ms // 1000 - START, 90)


class MovingTests(MemoryHooks, MovingContract, TestCase):
    """The contract of what a move from another store needs."""


class AccountChangeTests(MemoryHooks, AccountChangeContract, TestCase):
    """The contract of accounts: what they answer to, changed."""


class EmbeddingTests(TestCase):
    """With the reactor for a clock, as an application has it."""

    async def test_the_reactor_is_a_clock(self) -> None:
        """Mail of now is younger than an hour; stop leaves the reactor clean."""
        from twisted.internet import reactor

        store = MemoryStore(clock=reactor)
        await store.start()
        self.addCleanup(store.stop)
        for age_seconds in (0, 3601):
            envelope = Envelope(b"", b"a@b", int((reactor.seconds() - age_seconds) * 1000))
            self.assertEqual(await store.deliver().commit([Placement("mrose", None, envelope)]), [None])
        self.assertEqual(await store.expire(3600), 1)
        session = await store.open(Admission("mrose"))
        self.assertEqual(len(session.listing), 1)


class MemoryStoreTests(SynchronousTestCase):
    """Deferreds that have fired, time by the clock, no timer left behind."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = START
        self.store = self.started(MemoryStore(clock=self.clock, random=Random(1)))

    def started(self, store: MemoryStore) -> MemoryStore:
        self.successResultOf(store.start())
        self.addCleanup(store.stop)
        return store

    def put(self, content: bytes, preamble: bytes = b"", store: MemoryStore | None = None) -> None:
        delivery = (store or self.store).deliver()
        self.assertIsNone(delivery.write(content))
        envelope = Envelope(b"a@b", b"c@d", START * 1000)
        self.assertEqual(self.successResultOf(
            delivery.commit([Placement("mrose", None, envelope, preamble)])), [None])

    def open(self, store: MemoryStore | None = None, **fields: object):
        return self.successResultOf((store or self.store).open(Admission("mrose", **fields)))

    def test_interfaces(self) -> None:
        """Store, accounts, maildrop, stream and delivery provide what they say."""
        self.put(b"x" * 70_000)
        session = self.open()
        for interface, thing in [
            (IMaildropStore, self.store), (IFolderStore, self.store), (IAccountStore, self.store.accounts),
            (IMaildrop, session), (IMaildrop, self.successResultOf(self.store.peek("mrose"))),
            (IPreparedDelivery, self.store.deliver()), (IMessageStream, session.fetch(1)),
        ]:
            verifyObject(interface, thing)

    def test_small_messages_are_returned_as_they_are(self) -> None:
        """Up to 64 KiB in wire form, preamble counted, there is no Deferred and no stream."""
        for preamble in (b"", b"a: b\r\n"):
            for octets in (PIECE_OCTETS, PIECE_OCTETS + 1):
                self.put(b"x" * (octets - len(preamble) - 2), preamble)
        session = self.open()
        kinds = [isinstance(session.fetch(number), bytes) for number in (1, 2, 3, 4)]
        self.assertEqual(kinds, [True, False, True, False])
        self.assertIsInstance(session.envelope(1), Envelope)

    def test_top_of_a_large_message_is_small(self) -> None:
        """Its header comes as octets, not as a stream."""
        self.put(b"a: b\r\n\r\n" + b".x\r\n" * 100_000, b"c: d\r\n")
        session = self.open()
        self.assertEqual(session.fetch(1, 0), b"c: d\r\na: b\r\n\r\n")
        self.assertEqual(session.fetch(1, 1), b"c: d\r\na: b\r\n\r\n..x\r\n")

    def test_stream(self) -> None:
        """Pieces of at most 64 KiB, empty at the end and after it; a closed one gives no end."""
        content, preamble = b"a: b\r\n\r\n" + b"0123456789abcd\r\n" * 10_000, b"c: d\r\n"
        self.put(content, preamble)
        stream = self.open().fetch(1)
        pieces = [self.successResultOf(stream.read()) for _ in range(6)]
        self.assertEqual(pieces[-2:], [b"", b""])
        self.assertLessEqual(max(map(len, pieces)), PIECE_OCTETS)
        self.assertEqual(b"".join(pieces), preamble + to_wire(content))
        stream.close()
        stream.close()
        self.failureResultOf(stream.read(), StoreUnavailable)

    def test_listings_are_shared(self) -> None:
        """Two sessions without a change between them have the very same listing."""
        self.put(b"x")
        first = self.open()
        self.successResultOf(first.release())
        second = self.open()
        self.assertIs(second.listing, first.listing)
        self.put(b"y")
        self.successResultOf(second.release())
        self.assertIsNot(self.open().listing, first.listing)

    def test_unknown_numbers(self) -> None:
        """A number that is no message's is a fault, never another message."""
        self.put(b"x")
        session = self.open()
        for number in (0, -1, 2):
            self.failureResultOf(session.fetch(number), NoSuchMessage)
            self.failureResultOf(session.envelope(number), NoSuchMessage)
        self.failureResultOf(session.commit([1, 0]), NoSuchMessage)
        self.assertEqual(len(self.open().listing), 1)

    def test_commit_blocking(self) -> None:
        """It has removed when it returns, and raises what commit fails with."""
        self.put(b"x")
        self.put(b"y")
        session = self.open()
        self.assertIsNone(session.commit_blocking([1]))
        self.assertEqual(len(self.successResultOf(self.store.scan("mrose"))), 1)
        self.assertRaises(LeaseLost, session.commit_blocking, [2])
        self.assertEqual(len(self.open().listing), 1)

    def test_a_commit_that_was_made_is_not_made_again(self) -> None:
        """A second commit of a session removes nothing, nor does one after release."""
        self.put(b"x")
        for end in ("commit", "release"):
            session = self.open()
            self.successResultOf(session.commit([]) if end == "commit" else session.release())
            self.failureResultOf(session.commit([1]), LeaseLost)
        self.assertEqual(len(self.open().listing), 1)

    def test_a_delivery_that_has_ended(self) -> None:
        """It takes no more octets and cannot be committed again."""
        for end in ("abort", "commit"):
            delivery = self.store.deliver()
            delivery.write(b"x")
            if end == "abort":
                delivery.abort()
            else:
                self.successResultOf(delivery.commit([]))
            self.assertIsNone(delivery.write(b"y"))
            self.failureResultOf(delivery.commit([]), StoreUnavailable)

    def test_seeded_unique_ids(self) -> None:
        """The same seed gives the same unique-ids; another or none gives others."""
        def ids(random: Random | None) -> list[bytes]:
            store = self.started(MemoryStore(clock=self.clock, random=random))
            self.put(b"x", store=store)
            self.put(b"y", store=store)
            return [one.unique_id for one in self.successResultOf(store.scan("mrose"))]

        self.assertEqual(ids(Random(5)), ids(Random(5)))
        self.assertEqual(len({tuple(ids(random)) for random in (Random(5), Random(6), None, None)}), 4)

    def test_imported_ids_that_look_like_our_own(self) -> None:
        """An id that an import brought is passed over when its turn comes, and no mail is lost to it."""
        twin = self.started(MemoryStore(clock=self.clock, random=Random(1)))
        for store in (self.store, self.store, self.store, twin):
            self.put(b"x", store=store)
        for one in self.successResultOf(self.store.scan("mrose")):
            imported = Placement("mrose", None, one.envelope, b"", one.unique_id)
            self.assertEqual(self.successResultOf(twin.deliver().commit([imported])), [None])
        self.put(b"y", store=twin)
        self.put(b"z", store=twin)
        self.assertEqual(len({one.unique_id for one in self.successResultOf(twin.scan("mrose"))}), 6)

    def test_a_process_that_wakes_may_log_in_before_it_renews(self) -> None:
        """The new session stands on a new holder, the old one stays dead."""
        clock = ProcessClock(self.clock)
        store = self.started(MemoryStore.beside(self.store, clock=clock))
        self.put(b"x")
        stale = self.successResultOf(store.open(Admission("mrose")))
        clock.asleep = True
        self.clock.pump([1] * 61)
        fresh = self.open(store)
        clock.wake()
        self.failureResultOf(stale.commit([1]), LeaseLost)
        self.failureResultOf(self.store.open(Admission("mrose")), MaildropInUse)
        self.successResultOf(fresh.commit([1]))
        self.assertEqual(self.successResultOf(store.scan("mrose")), [])

    def test_renewed_leases_last(self) -> None:
        """While its process lives a session keeps its maildrop for days."""
        other = self.started(MemoryStore.beside(self.store))
        self.put(b"x")
        session = self.open()
        self.clock.pump([5] * 40_000)
        self.failureResultOf(other.open(Admission("mrose")), MaildropInUse)
        self.successResultOf(session.commit([1]))
        self.assertEqual(self.successResultOf(other.scan("mrose")), [])

    def test_a_lease_ends_with_the_second_in_which_it_expires(self) -> None:
        """A process that sleeps just short of its lease lives on; one that sleeps it out does not."""
        self.put(b"x")
        session = self.open()
        self.clock.advance(59)
        self.clock.advance(59)
        self.successResultOf(session.commit([]))
        session = self.open()
        self.clock.advance(60)
        self.failureResultOf(session.commit([1]), LeaseLost)
        self.assertEqual(len(self.open().listing), 1)

    def test_login_delay_passes(self) -> None:
        """After the delay, counted from the last login, the next one is admitted."""
        for _ in range(3):
            self.successResultOf(self.open(login_delay_seconds=300).release())
            self.clock.pump([10] * 29)
            self.failureResultOf(
                self.store.open(Admission("mrose", login_delay_seconds=300)), LoginTooSoon)
            self.clock.advance(10)

    def test_last_login_is_told_by_the_clock(self) -> None:
        """In milliseconds since 1970."""
        self.successResultOf(self.store.accounts.add([Account("mrose", addresses=("mrose@b.org",))]))
        version = self.successResultOf(self.store.accounts.get("mrose")).version
        self.clock.advance(1.5)
        self.open(account="mrose", version=version)
        self.assertEqual(
            self.successResultOf(self.store.accounts.get("mrose")).last_login_ms, START * 1000 + 1500)

    def test_no_timer_outlives_stop(self) -> None:
        """Stop, also when it comes twice, leaves the clock empty; start opens the same data again."""
        self.put(b"x")
        self.open()
        self.clock.pump([7] * 20)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.successResultOf(self.store.stop())
        self.successResultOf(self.store.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.failureResultOf(self.store.open(Admission("mrose")), StoreUnavailable)
        self.successResultOf(self.store.start())
        self.successResultOf(self.store.start())
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.assertEqual(len(self.open().listing), 1)

    def test_nothing_works_before_start(self) -> None:
        """A store that was not started refuses, and takes no lease."""
        store = MemoryStore.beside(self.store)
        for outcome in (store.open(Admission("mrose")), store.scan("mrose"), store.remove("mrose"),
                        store.expire(1), store.sweep(1), store.check(), store.deliver().commit([])):
            self.failureResultOf(outcome, StoreUnavailable)
        self.open()
