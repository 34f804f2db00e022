"""One store copied into another: all of it, once, however often it is broken off."""

from __future__ import annotations

import contextlib
import io
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from mailgate.cli.copying import Copying
from mailgate.cli.copying_base import Counts, Wishes
from mailgate.errors import StoreUnavailable
from mailgate.interfaces import IMaildropStore
from mailgate.model import Account, Admission, AppPassword, Envelope, Placement
from mailgate.stores.memory import MemoryStore
from mailgate.stores.merging.store import MergedStore, Source
from tests.cli.whole_store import deliver, everything, fill, messages
from tests.stores.sqlite_hooks import SqliteHooks

DOWN = StoreUnavailable("the line is cut")


class CopyCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.source, self.target = self.store(1), self.store(2)

    def store(self, seed: int, **options: Any) -> MemoryStore:
        store = MemoryStore(clock=self.clock, random=Random(seed), **options)
        self.now(store.start())
        return store

    def now(self, work: Any) -> Any:
        """Return what a Deferred or a coroutine gives."""
        return self.successResultOf(work if isinstance(work, Deferred) else Deferred.fromCoroutine(work))

    def copy(self, source: Any = None, target: Any = None, **wishes: Any) -> tuple[Counts, str]:
        """Copy; return what came of it, and what was told."""
        copying = Copying(Wishes(**wishes), seconds=self.clock.seconds)
        told = io.StringIO()
        with contextlib.redirect_stderr(told):
            self.now(copying.work(source or self.source, target or self.target))
        self.assertEqual(len(copying.summary()), 5)
        return copying.counts, told.getvalue()

    def all_of(self, store: Any) -> dict[str, Any]:
        return self.now(everything(store))

    def ids(self, store: Any, name: str = "ann") -> list[bytes]:
        return [one.unique_id for one in self.now(store.scan(name))]

    def put(self, store: Any, content: bytes, name: str = "ann", **fields: Any) -> None:
        envelope = Envelope(b"s@example.net", name.encode(), 8)
        self.now(deliver(store, content, Placement(name, None, envelope, **fields)))


class CompleteTests(CopyCase):
    def test_everything(self) -> None:
        """Accounts with app passwords and their uses; messages with ids, envelopes, users, flags, folders."""
        self.now(fill(self.source))
        wanted = self.all_of(self.source)
        counts, told = self.copy()
        self.assertEqual(self.all_of(self.target), wanted)
        self.assertEqual(told, "")
        self.assertEqual((counts.accounts, counts.added, counts.copied, counts.verified, counts.findings),
                         (4, 4, 19, 19, 0))
        self.assertEqual(self.now(self.target.accounts.server_secret()),
                         self.now(self.source.accounts.server_secret()))
        self.assertEqual(self.all_of(self.source), wanted, "the source is not changed")

    def test_again(self) -> None:
        """What is there is passed over, without a look at its content; new mail is added behind it."""
        self.now(fill(self.source))
        self.copy()
        self.put(self.source, b"new\r\n")
        fetched: list[int] = []
        peek = self.source.peek

        def watched(*args: Any) -> Any:
            drop = peek(*args).result
            return succeed(Watched(drop, lambda number, _: fetched.append(number) or drop.fetch(number)))

        self.patch(self.source, "peek", watched)
        counts, told = self.copy()
        self.assertEqual((counts.copied, counts.passed, counts.added, told), (1, 19, 0, ""))
        self.assertEqual(len(fetched), 1)
        self.patch(self.source, "peek", peek)
        self.assertEqual(self.all_of(self.target), self.all_of(self.source))

    def test_what_was_removed_there_does_not_come_back(self) -> None:
        """The target is in use already: who fetched and removed a message does not get it again."""
        self.now(fill(self.source))
        self.copy()
        session = self.now(self.target.open(Admission("ann", judged=True)))
        self.now(session.commit([1, 2]))
        left = self.ids(self.target)
        counts, told = self.copy()
        self.assertEqual((counts.copied, counts.removed_since, told), (0, 2, ""))
        self.assertEqual(self.ids(self.target), left)

    def test_an_import_that_is_repeated_there(self) -> None:
        """What the source had imported, and lost since, is known at the target: it brings nothing back."""
        self.now(fill(self.source))
        self.copy()
        before = self.ids(self.target)
        for number in (b"1", b"2"):
            self.put(self.target, b"old again\r\n", unique_id=number, identity=b"identity " + number)
        self.assertEqual(self.ids(self.target), before)
        self.put(self.target, b"another\r\n", unique_id=b"2", identity=b"another")
        self.assertNotIn(b"2", self.ids(self.target))

    def test_one_maildrop(self) -> None:
        self.now(fill(self.source))
        counts, _ = self.copy(maildrops=("ANN",))
        self.assertEqual([one.name for one in self.now(self.target.accounts.list())], ["ann"])
        self.assertEqual((counts.copied, counts.maildrops), (len(self.ids(self.source)), 1))
        counts, _ = self.copy(maildrops=("xyz",), accounts="none")
        self.assertEqual(sorted(self.now(self.target.maildrops())), ["ann", "xyz"])
        self.assertEqual(counts.accounts, 0)
        counts, told = self.copy(maildrops=("ann", "nobody"))
        self.assertEqual((counts.findings, told), (1, "mailgate: nobody: FROM has no such maildrop\n"))

    def test_from_a_merge(self) -> None:
        """What clients see of it becomes one store, with the ids that they know."""
        other = self.store(3)
        self.now(fill(self.source))
        self.put(other, b"of the other\r\n", unique_id=b"1", identity=b"identity 1")
        parts = [Source("store", self.source), Source("old", other)]
        merged = MergedStore(parts[0], parts, clock=self.clock)
        self.now(merged.start())
        self.assertEqual(self.copy(merged)[0].findings, 0)
        self.assertEqual(self.ids(self.target), self.ids(merged))
        self.assertEqual(self.ids(self.target)[-1], b"old:1")
        self.now(merged.stop())


class BrokenOffTests(CopyCase):
    def test_at_every_step(self) -> None:
        """Whenever the target goes away: what was copied stays, and the next run does the rest, once."""
        self.now(fill(self.source))
        wanted = self.all_of(self.source)
        breaks, last = 0, 0
        while True:
            target = Frail(self.store(2), after=breaks)
            copying = Deferred.fromCoroutine(Copying(Wishes()).work(self.source, target))
            if not isinstance(getattr(copying.result, "value", None), StoreUnavailable):
                break
            self.failureResultOf(copying, StoreUnavailable)
            self.copy(target=target.store)
            self.assertEqual(self.all_of(target.store), wanted, breaks)
            breaks += 1
            last = target.calls
        self.now(copying)
        self.assertGreater(breaks, 60)
        self.assertGreater(last, 60)

    def test_the_source_goes_away(self) -> None:
        self.now(fill(self.source))
        peek = self.source.peek
        calls: list[str] = []

        def frail(name: str, folder: str) -> Any:
            calls.append(name)
            return fail(DOWN) if len(calls) == 3 else peek(name, folder)

        self.patch(self.source, "peek", frail)
        self.failureResultOf(Deferred.fromCoroutine(Copying(Wishes()).work(self.source, self.target)),
                             StoreUnavailable)
        self.patch(self.source, "peek", peek)
        self.copy()
        self.assertEqual(self.all_of(self.target), self.all_of(self.source))


class FindingTests(CopyCase):
    def test_other_octets(self) -> None:
        """A target that does not give back what it was given is found out."""
        self.now(fill(self.source))
        peek = self.target.peek

        def spoilt(name: str, folder: str) -> Any:
            drop = peek(name, folder).result
            return succeed(Watched(drop, lambda number, _: b"spoilt\r\n" if (name, number) == ("ann", 3)
                                   else drop.fetch(number)))

        self.patch(self.target, "peek", spoilt)
        counts, told = self.copy()
        self.assertEqual((counts.findings, counts.verified), (1, 18))
        self.assertRegex(told, r"\Amailgate: ann: message \S+: TO holds other octets than FROM\n\Z")
        self.assertEqual(self.copy(verify="none")[0].findings, 0)
        counts, _ = self.copy(verify="all")
        self.assertEqual((counts.passed, counts.findings, counts.verified), (19, 1, 18))

    def test_an_id_that_is_anothers(self) -> None:
        """Two servers gave out the same one: the message is not taken for the other, and it is said."""
        self.now(fill(self.source))
        self.put(self.target, b"quite another message\r\n", unique_id=b"1", identity=b"elsewhere")
        counts, told = self.copy(accounts="none")
        self.assertIn("(1): TO has another message of this unique-id", told)
        self.assertEqual(counts.findings, 1)

    def test_an_id_that_was_anothers(self) -> None:
        self.now(fill(self.source))
        self.now(self.target.note_imported("ann", [(b"1", b"elsewhere")]))
        told = self.copy(accounts="none")[1]
        self.assertIn("message 1: not found in TO: its unique-id was another message's", told)
        self.assertEqual(len(self.ids(self.target)), len(self.ids(self.source)))

    def test_a_message_that_is_refused(self) -> None:
        """It is told, the others are copied."""
        self.now(fill(self.source))
        small = self.store(4, quota_octets=50_000)
        counts, told = self.copy(target=small)
        self.assertEqual(counts.findings, 2)
        self.assertEqual(told.count("not copied: over quota"), 2)
        self.assertEqual(counts.copied, 17)

    def test_a_target_without_folders(self) -> None:
        self.now(fill(self.source))
        counts, told = self.copy(target=InboxOnly(self.target))
        self.assertEqual(told, "mailgate: xyz: folder Sent/2024 not copied: TO has no folders\n")
        self.assertEqual(counts.copied, 17)


class AccountTests(CopyCase):
    def setUp(self) -> None:
        super().setUp()
        self.now(fill(self.source))

    def test_one_that_is_another(self) -> None:
        """It is left as it is, its mail is not mixed with the other's; unless that is wanted."""
        self.now(self.target.accounts.add([Account("ann", verifiers=("{PLAIN}else",))]))
        self.put(self.target, b"of the other ann\r\n")
        counts, told = self.copy()
        self.assertEqual(counts.findings, 2)
        self.assertIn("account ann: TO has another one", told)
        self.assertIn("ann: mail not copied", told)
        self.assertEqual(len(self.ids(self.target)), 1)
        self.assertEqual(self.now(self.target.accounts.get("ann")).verifiers, ("{PLAIN}else",))
        counts, told = self.copy(accounts="update")
        self.assertEqual((counts.added, told), (1, ""))
        self.assertEqual(self.now(self.target.accounts.get("ann")).verifiers, ("{PLAIN}a", "{SHA512-CRYPT}b"))
        self.assertEqual(len(self.ids(self.target)), 1 + len(self.ids(self.source)))

    def test_one_that_changed_meanwhile(self) -> None:
        """A password or an app password since the last run."""
        self.copy()
        self.now(self.source.accounts.revoke_app_passwords("ann", "phone"))
        self.now(self.source.accounts.set_verifiers("xyz", ["{PLAIN}3"]))
        self.assertEqual(self.copy()[0].findings, 4)
        self.assertEqual(self.copy(accounts="update")[0].added, 2)
        self.assertEqual(self.all_of(self.target), self.all_of(self.source))

    def test_a_use_is_no_change(self) -> None:
        self.copy()
        account = self.now(self.target.accounts.get("ann"))
        session = self.now(self.target.open(Admission("ann", None, "ann", account.version,
                                                      app_password="phone")))
        self.now(session.release())
        self.assertEqual(self.copy()[0].findings, 0)

    def test_names_that_collide(self) -> None:
        self.now(self.target.accounts.add([Account("zed", addresses=("ann@example.org",))]))
        told = self.copy()[1]
        self.assertIn("account ann: not copied", told)
        self.assertEqual([one.name for one in self.now(self.target.accounts.list())],
                         ["gone", "new", "xyz", "zed"])
        self.assertEqual(self.ids(self.target), [])

    def test_somebody_elses_maildrop(self) -> None:
        """What is a guest's at the source does not become an account's at the target."""
        self.now(self.target.accounts.add([Account("guest")]))
        told = self.copy()[1]
        self.assertIn("guest: message 1", told)
        self.assertEqual(self.ids(self.target, "guest"), [])

    def test_a_secret_of_its_own(self) -> None:
        """It is said, and is no reason to call the copy a failure."""
        self.now(self.target.accounts.server_secret())
        counts, told = self.copy()
        self.assertEqual(counts.findings, 0)
        self.assertTrue(told.startswith("mailgate: warning: TO has a secret of its own already"))

    def test_app_passwords_are_all_kept(self) -> None:
        """Also more of them than could be added by hand."""
        many = [AppPassword(f"p{number}", "{SSHA512}x", False, number) for number in range(9)]
        self.now(self.source.accounts.restore(self.now(self.source.accounts.get("new")), many))
        self.copy()
        self.assertEqual(len(self.now(self.target.accounts.app_passwords("new"))), 9)


class PruneTests(CopyCase):
    def setUp(self) -> None:
        super().setUp()
        self.now(fill(self.source))
        self.copy()
        self.put(self.target, b"new there\r\n")
        session = self.now(self.source.open(Admission("ann", judged=True)))
        self.gone = [session.listing.unique_id(index) for index in (0, 7)]
        self.now(session.commit([1, 8]))        # one that was delivered, one that was imported

    def test_what_was_removed_at_the_source(self) -> None:
        """It goes, so that no client gets it again; what the target took itself stays."""
        self.assertEqual(self.gone[1], b"1")
        counts, told = self.copy(prune=True)
        self.assertEqual((counts.pruned, told), (2, ""))
        self.assertEqual(self.ids(self.target)[:-1], self.ids(self.source))
        self.assertEqual(self.now(messages(self.target, "ann"))[-1][-1], b"new there\r\n")
        self.assertEqual(self.copy(prune=True)[0].pruned, 0)

    def test_only_when_asked(self) -> None:
        self.copy()
        self.assertTrue(set(self.gone) <= set(self.ids(self.target)))

    def test_while_somebody_is_logged_in(self) -> None:
        session = self.now(self.target.open(Admission("ann", judged=True)))
        told = self.copy(prune=True)[1]
        self.assertIn("2 messages that FROM has no more are left: somebody is logged in", told)
        self.now(session.release())
        self.assertEqual(self.copy(prune=True)[0].pruned, 2)


class SqliteTests(SqliteHooks, TestCase):
    """With threads and files between them."""

    lease_seconds = 60

    async def test_there_and_back(self) -> None:
        """From memory to SQLite, to another with files for bodies, and back: the same as in the beginning."""
        clock = Clock()
        clock.advance(1_700_000_000)
        first, last = MemoryStore(clock=clock, random=Random(1)), MemoryStore(clock=clock, random=Random(2))
        await first.start()
        await last.start()
        await fill(first)
        wanted = await everything(first)
        second = await self.make_store()
        third = await self.make_store(inline_octets=0)
        for source, target in ((first, second), (second, third), (third, last)):
            copying = Copying(Wishes(verify="all"))
            await copying.work(source, target)
            self.assertEqual((copying.counts.copied, copying.counts.verified, copying.findings), (19, 19, 0))
            self.assertEqual(await everything(target), wanted)
            self.assertEqual(await target.check(), [])
        for store in (first, last):
            await store.stop()


class Frail:
    """A target that goes away after so many calls, those of its deliveries counted."""

    def __init__(self, store: MemoryStore, after: int) -> None:
        self.store = store
        self.calls = 0
        self._after = after
        self.accounts: Any = _Calls(store.accounts, self)

    def __getattr__(self, name: str) -> Any:
        if name == "deliver":
            return lambda: _Calls(self.store.deliver(), self)
        found = getattr(self.store, name)
        return _call(found, self) if callable(found) and not name.startswith("_") else found

    @property
    def __provides__(self) -> Any:
        return self.store.__provides__

    def is_away(self) -> bool:
        self.calls += 1
        return self.calls > self._after


class _Calls:
    def __init__(self, inner: Any, frail: Frail) -> None:
        self._inner = inner
        self._frail = frail

    @property
    def __provides__(self) -> Any:
        return self._inner.__provides__

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return found if name in ("write", "abort") else _call(found, self._frail)


def _call(method: Any, frail: Frail) -> Any:
    def call(*args: Any, **options: Any) -> Any:
        return fail(StoreUnavailable("away")) if frail.is_away() else method(*args, **options)

    return call


@implementer(IMaildropStore)
class InboxOnly:
    """A target that knows no folders and no imports."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Watched:
    """What was peeked at, with another `fetch`."""

    def __init__(self, drop: Any, fetch: Any) -> None:
        self.listing = drop.listing
        self.release = drop.release
        self.fetch = fetch

