"""Stores that can be made to fail at each step, and a merge of three of them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mailgate.errors import StoreUnavailable
from mailgate.interfaces import IMaildrop
from mailgate.model import Account, Admission, Envelope, Placement
from mailgate.stores.memory import MemoryStore
from mailgate.stores.merging.store import MergedStore, Source
from mailgate.wire.dots import unstuff

DOWN = StoreUnavailable("the disk has gone")


class Breakable:
    """A store whose methods can be made to fail, or to give no answer for now, each by its name."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.faults: dict[str, Exception] = {}
        self.held: dict[str, Deferred[Any]] = {}
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.store, name)
        if not callable(method) or name == "deliver":
            return method

        def call(*args: Any, **options: Any) -> Any:
            self.calls.append(name)
            if name in self.faults:
                return fail(self.faults[name])
            if name in self.held:
                return self.held[name].addCallback(lambda _: method(*args, **options))
            outcome = method(*args, **options)
            return outcome.addCallback(lambda drop: BreakableDrop(drop, self)) if name == "open" else outcome

        return call


@implementer(IMaildrop)
class BreakableDrop:
    """An open maildrop of such a store; its methods are made to fail by `drop.` and their names."""

    def __init__(self, drop: Any, store: Breakable) -> None:
        self.listing = drop.listing
        self._drop = drop
        self._store = store

    def fetch(self, number: int, body_lines: int | None = None) -> Any:
        return self._broken("fetch") or self._drop.fetch(number, body_lines)

    def envelope(self, number: int) -> Any:
        return self._broken("envelope") or self._drop.envelope(number)

    def commit(self, marked: Any) -> Any:
        return self._broken("commit", self._drop.release) or self._drop.commit(marked)

    def release(self) -> Any:
        return self._drop.release()

    def _broken(self, name: str, first: Any = None) -> Any:
        self._store.calls.append(f"drop.{name}")
        fault = self._store.faults.get(f"drop.{name}")
        if fault is None:
            return None
        return fail(fault) if first is None else first().addCallback(lambda _: fail(fault))


class MergeCase(SynchronousTestCase):
    """Stores `main`, `a` and `b`: the accounts are in main's, the mail is in a's and b's."""

    optional = False    # b is

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000_000)
        self.main, self.a, self.b = (Breakable(MemoryStore(clock=self.clock)) for _ in range(3))
        self.merged = self.make()
        self.successResultOf(self.merged.start())
        self.addCleanup(lambda: self.successResultOf(self.merged.stop()))
        self.successResultOf(self.merged.accounts.add([Account("mrose")]))

    def make(self, **options: Any) -> MergedStore:
        parts = [Source("a", self.a), Source("b", self.b, self.optional)]
        return MergedStore(Source("store", self.main), parts, clock=self.clock, **options)

    def put(self, store: Any, content: bytes, name: str = "mrose", **fields: Any) -> Any:
        delivery = store.deliver()
        delivery.write(content)
        envelope = Envelope(b"a@example.org", f"{name}@example.org".encode(), 1)
        return self.successResultOf(delivery.commit([Placement(name, fields.pop("user", None), envelope,
                                                               **fields)]))[0]

    def admission(self) -> Admission:
        account = self.successResultOf(self.main.accounts.get("mrose"))
        return Admission("mrose", account=account.name, version=account.version)

    def login(self) -> Any:
        return self.successResultOf(self.merged.open(self.admission()))

    def texts(self, drop: Any) -> list[bytes]:
        return [unstuff(drop.fetch(number)) for number in range(1, len(drop.listing) + 1)]

    def held(self) -> list[bytes]:
        """Return what a login sees now; it leaves no lease."""
        drop = self.login()
        texts = self.texts(drop)
        self.successResultOf(drop.release())
        return texts

    def assertNoLease(self) -> None:
        """Every store can be opened by others."""
        for store in (self.main, self.a, self.b):
            drop = self.successResultOf(store.store.open(Admission("mrose", judged=True)))
            self.successResultOf(drop.release())

    def fault(self, kind: type[Exception], outcome: Deferred[Any]) -> str:
        return str(self.failureResultOf(outcome, kind).value)
