"""A merge of stores: QUIT, start, deliveries, accounts and upkeep, and what happens when a part fails."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail

from mailgate.errors import (
    AccountConflict,
    FolderConflict,
    LeaseLost,
    NoSuchAccount,
    NoSuchFolder,
    NoSuchMessage,
    NoSuchRecipient,
    PartlyRemoved,
    StoreUnavailable,
)
from mailgate.model import Account, Envelope, Placement
from mailgate.stores.merging.parts import RETRY_SECONDS, START_SECONDS
from mailgate.stores.threads import STOP_SECONDS
from mailgate.wire.dots import unstuff
from tests.stores.breakable import DOWN, BreakableDrop, MergeCase


class QuitTests(MergeCase):
    def setUp(self) -> None:
        super().setUp()
        for number, store in enumerate((self.a, self.a, self.b, self.b), 1):
            self.put(store, b"%d\r\n" % number)

    def test_every_part_commits(self) -> None:
        self.successResultOf(self.login().commit([1, 4]))
        self.assertEqual(self.held(), [b"2\r\n", b"3\r\n"])
        self.assertNoLease()

    def test_only_where_something_is_marked(self) -> None:
        """A part that fails does not matter to a QUIT that wants nothing of it."""
        self.a.faults["drop.commit"] = DOWN
        self.successResultOf(self.login().commit([3]))
        self.assertEqual(self.held(), [b"1\r\n", b"2\r\n", b"4\r\n"])
        self.successResultOf(self.login().commit([]))
        self.assertNoLease()

    def test_the_first_fails(self) -> None:
        """Then nothing is removed anywhere: all or none, as in one store."""
        for fault in (DOWN, LeaseLost("too late")):
            self.a.faults["drop.commit"] = fault
            self.fault(type(fault), self.login().commit([1, 3]))
            self.assertEqual(len(self.held()), 4)
            self.assertNoLease()

    def test_a_later_one_fails(self) -> None:
        """What was removed is removed; the answer says that some are left, the next session which."""
        self.b.faults["drop.commit"] = StoreUnavailable("no route")
        words = self.fault(PartlyRemoved, self.login().commit([1, 3]))
        self.assertEqual(words, "removed in a, not in b: store b: no route")
        self.assertEqual(self.held(), [b"2\r\n", b"3\r\n", b"4\r\n"])
        self.assertNoLease()

    def test_a_bug_in_a_part(self) -> None:
        """What is no fault of ours goes its way, with every lease given up."""
        self.a.faults["drop.commit"] = ZeroDivisionError()
        self.fault(ZeroDivisionError, self.login().commit([1, 3]))
        self.assertNoLease()

    def test_a_number_that_is_none(self) -> None:
        self.fault(NoSuchMessage, self.login().commit([1, 5]))
        self.assertEqual(len(self.held()), 4)
        self.assertNoLease()

    def test_nobody_waits_for_it(self) -> None:
        """Who gives up a QUIT that is under way keeps no part from doing its own."""
        held: Deferred[None] = Deferred()
        commit = BreakableDrop.commit

        def slow(drop: Any, marked: Any) -> Any:
            if drop._store is self.a:
                return held.addCallback(lambda _: commit(drop, marked))
            return commit(drop, marked)

        self.patch(BreakableDrop, "commit", slow)
        ending = self.login().commit([1, 3])
        ending.cancel()
        self.failureResultOf(ending, CancelledError)
        held.callback(None)
        self.assertEqual(self.held(), [b"2\r\n", b"4\r\n"])
        self.assertNoLease()

    def test_twice(self) -> None:
        drop = self.login()
        self.successResultOf(drop.commit([1]))
        self.fault(LeaseLost, drop.commit([2]))
        self.successResultOf(drop.release())
        self.assertEqual(len(self.held()), 3)

    def test_release_removes_nothing(self) -> None:
        drop = self.login()
        for _ in range(2):
            self.successResultOf(drop.release())
        self.assertEqual(len(self.held()), 4)

    def test_a_part_that_goes_down_meanwhile(self) -> None:
        """Its messages cannot be read for now; the others' can."""
        drop = self.login()
        self.b.faults.update({"drop.fetch": DOWN, "drop.envelope": DOWN})
        self.fault(StoreUnavailable, drop.fetch(3))
        self.fault(StoreUnavailable, drop.envelope(4))
        self.assertEqual(unstuff(drop.fetch(2)), b"2\r\n")


class StartTests(MergeCase):
    def test_a_part_that_is_down_at_the_start(self) -> None:
        """The service starts; logins are put off until the part is there, which needs no restart."""
        self.b.faults["start"] = StoreUnavailable("no route")
        self.successResultOf(self.merged.stop())
        self.successResultOf(self.merged.start())
        words = self.fault(StoreUnavailable, self.merged.open(self.admission()))
        self.assertEqual(words, "store b: no route")
        self.clock.advance(RETRY_SECONDS)
        self.fault(StoreUnavailable, self.merged.open(self.admission()))
        self.b.faults.clear()
        self.clock.advance(RETRY_SECONDS)
        self.assertEqual(self.held(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [
            call for call in self.clock.getDelayedCalls() if call.func.__name__ == "_renew"])

    def test_the_main_store_is_needed(self) -> None:
        self.main.faults["start"] = DOWN
        self.successResultOf(self.merged.stop())
        self.fault(StoreUnavailable, self.merged.start())
        self.assertFalse("start" in self.a.calls[1:])
        self.main.faults.clear()
        self.successResultOf(self.merged.start())

    def test_a_start_that_failed(self) -> None:
        """Goes on no more: who tries again opens each store once."""
        self.main.faults["start"] = DOWN
        self.successResultOf(self.merged.stop())
        self.fault(StoreUnavailable, self.merged.start())
        self.main.faults.clear()
        for store in (self.main, self.a, self.b):
            store.calls.clear()
        self.clock.advance(RETRY_SECONDS)
        self.assertEqual(self.main.calls, [])
        self.successResultOf(self.merged.start())
        self.clock.advance(RETRY_SECONDS)
        self.assertEqual([one.calls for one in (self.main, self.a, self.b)], [["start"]] * 3)

    def test_a_part_that_does_not_answer_at_the_start(self) -> None:
        """Is not waited for: a disk may hang for hours. As soon as it is there it is part of all."""
        self.successResultOf(self.merged.stop())
        answered = self.b.held["start"] = Deferred()
        starting = self.merged.start()
        self.assertNoResult(starting)
        self.clock.advance(START_SECONDS)
        self.successResultOf(starting)
        self.fault(StoreUnavailable, self.merged.open(self.admission()))
        answered.callback(None)
        self.assertEqual(self.held(), [])
        self.assertNoLease()

    def test_stopped_while_a_part_does_not_answer(self) -> None:
        """A stop is bounded; what opens after it is closed again."""
        self.b.faults["start"] = DOWN
        self.successResultOf(self.merged.stop())
        self.successResultOf(self.merged.start())
        self.b.faults.clear()
        answered = self.b.held["start"] = Deferred()
        self.clock.advance(RETRY_SECONDS)
        stopping = self.merged.stop()
        self.assertNoResult(stopping)
        self.clock.advance(STOP_SECONDS)
        self.successResultOf(stopping)
        self.b.calls.clear()
        answered.callback(None)
        self.assertEqual(self.b.calls, ["stop"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopped_while_it_waits(self) -> None:
        """Nothing is tried any more."""
        self.b.faults["start"] = DOWN
        self.successResultOf(self.merged.stop())
        self.successResultOf(self.merged.start())
        self.successResultOf(self.merged.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])


class DeliveryTests(MergeCase):
    def test_the_first_part_takes_it(self) -> None:
        """Or the one that is said to."""
        self.assertIsNone(self.put(self.merged, b"x\r\n", account=True))
        other = self.make(deliver_to="b")
        self.assertIsNone(self.put(other, b"y\r\n"))
        counts = [len(self.successResultOf(one.scan("mrose"))) for one in (self.main, self.a, self.b)]
        self.assertEqual(counts, [0, 1, 1])

    def test_recipients_are_judged_by_the_main_store(self) -> None:
        """Who is no account's any more, or has become one, gets nothing; the others do."""
        self.successResultOf(self.a.accounts.add([Account("ann")]))     # not asked
        outcomes = [self.put(self.merged, b"x\r\n", name, account=account)
                    for name, account in [("mrose", True), ("mrose", False), ("ann", True), ("ann", False)]]
        self.assertEqual([type(one) for one in outcomes],
                         [type(None), NoSuchRecipient, NoSuchRecipient, type(None)])

    def test_some_of_several(self) -> None:
        for all_or_nothing in (False, True):
            delivery = self.merged.deliver()
            delivery.write(b"x\r\n")
            envelope = Envelope(b"", b"x", 1)
            placements = [Placement(name, None, envelope, account=True) for name in ("ann", "mrose")]
            outcomes = self.successResultOf(delivery.commit(placements, all_or_nothing=all_or_nothing))
            delivery.abort()
            self.assertIsInstance(outcomes[0], NoSuchRecipient)
            self.assertEqual(isinstance(outcomes[1], StoreUnavailable), all_or_nothing)
        self.assertEqual(len(self.held()), 1)

    def test_nobody_can_judge(self) -> None:
        """The accounts cannot be had: nothing is stored, and nothing is left of the message."""
        self.patch(self.main.store.accounts, "get", lambda name: fail(DOWN))
        delivery = self.merged.deliver()
        left: list[bool] = []
        self.patch(delivery, "_inner", Watched(delivery._inner, left))
        delivery.write(b"x\r\n")
        self.fault(StoreUnavailable, delivery.commit([
            Placement("mrose", None, Envelope(b"", b"x", 1), account=True)]))
        self.assertEqual(left, [True])
        self.assertEqual(self.successResultOf(self.a.store.scan("mrose")), [])

    def test_order_is_that_of_the_commits(self) -> None:
        """Also where the accounts take their time to answer."""
        held: Deferred[None] = Deferred()
        answers = [held, None]
        get = self.main.store.accounts.get

        def slow(name: str) -> Any:
            answer = answers.pop(0)
            return get(name) if answer is None else answer.addCallback(lambda _: get(name))

        self.patch(self.main.store.accounts, "get", slow)
        commits = []
        for content in (b"first\r\n", b"second\r\n"):
            delivery = self.merged.deliver()
            delivery.write(content)
            self.successResultOf(delivery.prepare())
            commits.append(delivery.commit([Placement("mrose", None, Envelope(b"", b"x", 1), account=True)]))
        self.assertNoResult(commits[1])
        held.callback(None)
        self.assertEqual([self.successResultOf(one) for one in commits], [[None], [None]])
        self.patch(self.main.store.accounts, "get", get)
        self.assertEqual(self.held(), [b"first\r\n", b"second\r\n"])


class Watched:
    """A delivery that notes when it is aborted."""

    def __init__(self, delivery: Any, aborted: list[bool]) -> None:
        self._delivery = delivery
        self._aborted = aborted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._delivery, name)

    def abort(self) -> None:
        self._aborted.append(True)
        self._delivery.abort()


class AccountTests(MergeCase):
    def test_removing_takes_the_mail_of_all_parts(self) -> None:
        for store in (self.a, self.b):
            self.put(store, b"x\r\n")
        self.successResultOf(self.merged.accounts.remove("MRose"))
        for store in (self.a, self.b):
            self.assertEqual(self.successResultOf(store.maildrops()), [])
        self.fault(NoSuchAccount, self.merged.accounts.get("mrose"))
        self.fault(NoSuchAccount, self.merged.accounts.remove("mrose"))

    def test_a_part_that_is_down_keeps_the_account(self) -> None:
        self.put(self.b, b"x\r\n")
        self.b.faults["remove"] = DOWN
        self.fault(StoreUnavailable, self.merged.accounts.remove("mrose"))
        self.assertEqual(self.successResultOf(self.merged.accounts.get("mrose")).name, "mrose")
        self.b.faults.clear()
        self.successResultOf(self.merged.accounts.remove("mrose"))

    def test_mail_of_somebody_else(self) -> None:
        """A new account does not come by what another store has under its name or address, unless told to."""
        self.put(self.b, b"x\r\n", "ann")
        self.put(self.b, b"x\r\n", "bob@example.org")
        add = self.merged.accounts.add
        self.assertIn("store b", self.fault(AccountConflict, add([Account("Ann")])))
        self.fault(AccountConflict, add([Account("x", addresses=("bob@example.org",))], adopt=True))
        self.fault(AccountConflict, self.merged.accounts.add_received("mrose", "bob@example.org"))
        self.successResultOf(add([Account("Ann")], adopt=True))
        self.successResultOf(self.merged.accounts.add_received("mrose", "rose@example.org"))


class UpkeepTests(MergeCase):
    def test_all_are_looked_after(self) -> None:
        for store in (self.a, self.b):
            self.put(store, b"x\r\n")       # of 1970
        self.assertEqual(self.successResultOf(self.merged.expire(60)), 2)
        self.assertEqual(self.successResultOf(self.merged.sweep(3600)), 0)
        self.assertEqual([one.calls.count("sweep") for one in (self.main, self.a, self.b)], [1, 1, 1])
        self.assertEqual(self.successResultOf(self.merged.check()), [])

    def test_one_that_is_down_keeps_no_other_from_it(self) -> None:
        self.a.faults.update(expire=DOWN, sweep=DOWN, check=StoreUnavailable("no route"))
        self.put(self.b, b"x\r\n")
        self.fault(StoreUnavailable, self.merged.expire(60))
        self.fault(StoreUnavailable, self.merged.sweep(3600))
        self.assertEqual(self.successResultOf(self.b.scan("mrose")), [])
        self.assertEqual(self.successResultOf(self.merged.check()), ["store a: no route"])

    def test_remove(self) -> None:
        for store in (self.a, self.b):
            self.put(store, b"x\r\n", "ann")
        self.successResultOf(self.merged.remove("ann"))
        self.assertEqual(self.successResultOf(self.merged.maildrops()), [])

    def test_mail_that_nobody_sees(self) -> None:
        """What the main store holds while it is none of the merge is a finding."""
        self.put(self.main, b"x\r\n")
        self.assertEqual(self.successResultOf(self.merged.check()), [
            "store: there is mail (for mrose, say) that no login sees: this store is none of the merge"])


class FolderTests(MergeCase):
    def test_over_two_stores(self) -> None:
        """A folder is what all parts have under its name; messages move and are flagged where they are."""
        for store, folder in ((self.a, "Sent"), (self.b, "Sent"), (self.b, "Old")):
            self.put(store, folder.encode() + b"\r\n", unique_id=b"1" + folder.encode(), folder=folder)
        self.assertEqual(self.successResultOf(self.merged.folders("mrose")), ["INBOX", "Old", "Sent"])
        listed = self.successResultOf(self.merged.scan("mrose", "Sent"))
        self.assertEqual([(one.number, one.unique_id) for one in listed], [(1, b"1Sent"), (2, b"b:1Sent")])
        done = self.successResultOf(self.merged.flag("mrose", "Sent", [b"b:1Sent", b"gone"], add="S"))
        self.assertEqual(done, [b"b:1Sent"])
        moved = self.successResultOf(self.merged.move("mrose", "Sent", [b"1Sent", b"b:1Sent"], "Old"))
        self.assertEqual(moved, [b"1Sent", b"b:1Sent"])
        listed = self.successResultOf(self.merged.scan("mrose", "Old"))
        self.assertEqual([(one.unique_id, one.flags) for one in listed],
                         [(b"1Sent", ""), (b"b:1Old", ""), (b"b:1Sent", "S")])
        self.fault(FolderConflict, self.merged.remove_folder("mrose", "Old"))
        self.successResultOf(self.merged.remove_folder("mrose", "Sent"))
        self.fault(NoSuchFolder, self.merged.remove_folder("mrose", "Sent"))
