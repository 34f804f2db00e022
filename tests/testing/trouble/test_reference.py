"""The manual's reference of faults is that of the table of kinds. Run as a program, this writes it."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing.trouble.kinds import KINDS
from mailgate.testing.trouble.reading import WHEN
from mailgate.testing.trouble.reference import GROUPS, reference

PAGE = Path(__file__).parents[3] / "docs" / "testing" / "faults.rst"
MARK = ".. What follows is written by ``python -m tests.testing.trouble.test_reference``.\n\n"


class ReferenceTests(SynchronousTestCase):
    def test_page(self) -> None:
        _, mark, written = PAGE.read_text().partition(MARK)
        self.assertTrue(mark)
        self.assertEqual(written, reference(), "to be written again: see the mark in the page")

    def test_complete(self) -> None:
        """Every kind is in one group, with one sentence at least; every way to say when is told of."""
        self.assertEqual(sorted(kind.name for _, kinds in GROUPS for kind in kinds), sorted(KINDS))
        for kind in KINDS.values():
            self.assertTrue(kind.told[0].isupper() and kind.told.endswith("."), kind.name)
        head = PAGE.read_text().partition(MARK)[0]
        for when in WHEN:
            self.assertIn(f"\n``{when}``\n", head)


if __name__ == "__main__":
    PAGE.write_text(PAGE.read_text().partition(MARK)[0] + MARK + reference())
