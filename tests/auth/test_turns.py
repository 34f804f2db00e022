"""Turns: whose is next, who gives way, and that the count is right."""

from __future__ import annotations

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.auth.turns import Turns


def plain() -> Turns[str]:
    """Jobs are strings whose first letter is their place."""
    return Turns(lambda job: job[0])


def nested() -> Turns[str]:
    """Places in capitals share the place `!`, and take turns there."""
    def queue_of(place: str) -> deque[str] | Turns[str]:
        return Turns(lambda job: job[0]) if place == "!" else deque()

    return Turns(lambda job: "!" if job[0].isupper() else job[0], queue_of)


class TurnsTests(SynchronousTestCase):
    def fill(self, turns: Turns[str], *jobs: str) -> Turns[str]:
        for job in jobs:
            turns.append(job)
        return turns

    def test_one_place_after_the_other(self) -> None:
        turns = self.fill(plain(), "a1", "a2", "a3", "b1", "c1", "c2")
        self.assertEqual(turns.clear(), ["a1", "b1", "c1", "a2", "c2", "a3"])
        self.assertEqual(len(turns), 0)

    def test_shared_place(self) -> None:
        """Three places that share one have a turn in each round together, and take turns within."""
        turns = self.fill(nested(), "A1", "A2", "B1", "C1", "x1", "x2", "x3", "y1")
        self.assertEqual(turns.clear(), ["A1", "x1", "y1", "B1", "x2", "C1", "x3", "A2"])

    def test_giving_way(self) -> None:
        """The latest of the longest, if that has two more; within a shared place by the same rule."""
        turns = self.fill(nested(), "a1", "a2", "a3", "b1")
        self.assertEqual([turns.give_way(one) for one in ("a4", "b2", "c1", "c1", "c1")],
                         [None, "a3", "a2", None, None])
        turns = self.fill(nested(), "A1", "A2", "A3", "A4", "B1", "x1")
        self.assertEqual([turns.give_way(one) for one in ("A5", "B2", "B2", "x2")], [None, "A4", "A3", "A2"])
        self.assertEqual(sorted(turns.clear()), ["A1", "B1", "x1"])
        self.assertIsNone(turns.give_way("a1"))

    def test_removing(self) -> None:
        """Wherever it is; what is not there is not found."""
        turns = self.fill(nested(), "A1", "B1", "x1", "x2")
        self.assertEqual([turns.remove(one) for one in ("B1", "x1", "x1", "A9", "z1", "A1")],
                         [True, True, False, False, False, True])
        self.assertEqual((len(turns), turns.clear()), (1, ["x2"]))

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.sampled_from(["append", "popleft", "pop", "remove", "give_way"]),
                              st.sampled_from("abABC"), st.integers(0, 3))))
    def test_nothing_is_lost(self, steps: list[tuple[str, str, int]]) -> None:
        """Whatever is done, what is inside is what went in and did not come out; places keep their order."""
        turns, model = nested(), []
        for number, (what, place, which) in enumerate(steps):
            job = f"{place}{number}"
            if what == "append":
                turns.append(job)
                model.append(job)
            elif what in ("pop", "popleft") and model:
                out = getattr(turns, what)()
                if what == "popleft":
                    self.assertEqual(out, next(one for one in model if one[0] == out[0]))
                model.remove(out)
            elif what == "remove" and model:
                out = model.pop(which % len(model))
                self.assertTrue(turns.remove(out))
            elif what == "give_way" and (gone := turns.give_way(job)) is not None:
                model.remove(gone)
            self.assertEqual(len(turns), len(model))
        self.assertEqual(sorted(turns.clear()), sorted(model))
