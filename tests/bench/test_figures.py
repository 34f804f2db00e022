"""Figures of the bench: medians, how numbers are shown, tables, and what is kept."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from bench.figures import cell, figure, keep, shown, table


class FigureTests(SynchronousTestCase):
    def test_median_and_spread(self) -> None:
        """Of several values the middle one counts; the others show how sure it is."""
        self.assertEqual(figure([3.0, 1.0, 2.0]), (2.0, 1.0, 3.0))
        self.assertEqual(figure([4.0, 2.0]), (3.0, 2.0, 4.0))

    def test_nothing(self) -> None:
        """Where nothing was measured there is no figure."""
        self.assertRaises(ValueError, figure, [])

    def test_shown(self) -> None:
        """Three digits count, whatever the size of the number."""
        numbers = {0: "0", 0.0012345: "0.00123", 0.5: "0.500", 1.5: "1.50", 9.999: "10.00", 42.42: "42.4",
                   123456.7: "123,457", -0.25: "-0.250", 1000: "1,000"}
        self.assertEqual({number: shown(number) for number in numbers}, numbers)

    @settings(deadline=None)
    @given(st.floats(1e-9, 1e12))
    def test_shown_is_near(self, number: float) -> None:
        """What is shown is within half a hundredth of what was measured."""
        self.assertLessEqual(abs(float(shown(number).replace(",", "")) - number), number * 0.0051)

    def test_cell(self) -> None:
        """A single value stands alone; several show their spread."""
        self.assertEqual(cell({"median": 2.0, "least": 2.0, "most": 2.0}), "2.00")
        self.assertEqual(cell({"median": 2.0, "least": 1.0, "most": 3.0}), "2.00 (1.00 to 3.00)")

    def test_table(self) -> None:
        """A table is a list-table; an empty cell leaves no space at the line's end."""
        self.assertEqual(table(["a", "b"], [["1", ""]], [2, 3]),
                         ".. list-table::\n   :header-rows: 1\n   :widths: 2 3\n\n"
                         "   * - a\n     - b\n   * - 1\n     -\n")

    def test_keep(self) -> None:
        """Results are kept twice: for programs, and as the manual shows them."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "new"
            keep(folder, "work", {"rows": [1]}, "text\n")
            self.assertEqual(json.loads((folder / "work.json").read_text()), {"rows": [1]})
            self.assertEqual((folder / "work.inc").read_text(), "text\n")
