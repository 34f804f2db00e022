"""Remembered successes: what is kept, for how long, and how many."""

from __future__ import annotations

import gc
from itertools import combinations
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailgate.auth.remembered import RememberedSuccess


class Remembering(SynchronousTestCase):
    """RememberedSuccess."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.table: RememberedSuccess[str] = RememberedSuccess(self.clock, seconds=300, limit=3)

    def keep(self, *names: bytes) -> None:
        for name in names:
            self.table.remember(self.table.key("store", name, b"secret"), name.decode())

    def found(self, *names: bytes) -> list[str | None]:
        return [self.table.find(self.table.key("store", name, b"secret")) for name in names]

    def test_for_its_seconds(self) -> None:
        """From the check on, whether it was used or not."""
        self.keep(b"alice")
        self.clock.advance(299)
        self.assertEqual(["alice"], self.found(b"alice"))
        self.clock.advance(1)
        self.assertEqual([None], self.found(b"alice"))
        self.assertEqual(0, len(self.table))

    def test_bounded(self) -> None:
        """The least recently used makes room."""
        self.keep(b"a", b"b", b"c")
        self.found(b"a")
        self.keep(b"d")
        self.assertEqual(["a", None, "c", "d"], self.found(b"a", b"b", b"c", b"d"))
        self.keep(*(b"%d" % number for number in range(100)))
        self.assertEqual(3, len(self.table))

    def test_forget(self) -> None:
        """Forgotten entries are gone; forgetting twice is no error."""
        self.keep(b"a", b"b")
        for _ in range(2):
            self.table.forget(self.table.key("store", b"a", b"secret"))
        self.assertEqual([None, "b"], self.found(b"a", b"b"))

    def test_switched_off(self) -> None:
        """With no seconds or no room, nothing is remembered."""
        for limits in ({"seconds": 0}, {"limit": 0}):
            table: RememberedSuccess[str] = RememberedSuccess(self.clock, **limits)
            table.remember(table.key("store", b"a"), "a")
            self.assertIsNone(table.find(table.key("store", b"a")))

    def test_every_part_counts(self) -> None:
        """Checker, name and password, and where one ends and the next begins."""
        key = self.table.key
        keys = [key("store", b"a", b"bc"), key("store", b"ab", b"c"), key("store", b"abc"),
                key("store", b"a", b"bC"), key("file", b"a", b"bc"), key("store", b"a", b"b", b"c"),
                key("storea", b"bc"), key("store", b"1:a", b"bc"), key("store", b"a", b"", b"bc")]
        for one, other in combinations(keys, 2):
            self.assertNotEqual(one, other)

    def test_another_process_has_another_key(self) -> None:
        """Digests of one table say nothing to who knows those of another."""
        other: RememberedSuccess[str] = RememberedSuccess(self.clock)
        self.assertNotEqual(self.table.key("store", b"a", b"b"), other.key("store", b"a", b"b"))

    def test_holds_no_password(self) -> None:
        """No object that the table reaches contains the password."""
        self.table.remember(self.table.key("store", b"alice", b"open sesame"), "alice")
        seen: dict[int, Any] = {}
        todo: list[Any] = [vars(self.table)["_entries"]]
        while todo:
            one = todo.pop()
            if id(one) not in seen and not isinstance(one, type):
                seen[id(one)] = one
                todo.extend(gc.get_referents(one))
        octets = [one for one in seen.values() if isinstance(one, (bytes, str))]
        self.assertGreaterEqual(len(octets), 2)
        self.assertFalse([one for one in octets if "sesame" in str(one)])
