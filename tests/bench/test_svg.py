"""Drawings of the bench: axes, marks, lines, and that what comes out is SVG."""

from __future__ import annotations

import math
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from bench.svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, chart, nice_step

SVG = "{http://www.w3.org/2000/svg}"


class AxisTests(SynchronousTestCase):
    def test_logarithmic(self) -> None:
        """It names the powers of ten around the values, at even distances."""
        axis = Axis([100, 20_000], 0, 300, logarithmic=True)
        self.assertEqual(axis.marks(), [100, 1000, 10_000, 100_000])
        self.assertEqual([round(axis.place(mark)) for mark in axis.marks()], [0, 100, 200, 300])

    def test_one_value(self) -> None:
        """One power of ten alone still has an axis."""
        self.assertEqual(Axis([1], 0, 100, logarithmic=True).marks(), [1, 10])

    def test_linear(self) -> None:
        """It begins at nothing and ends at or above the largest value."""
        self.assertEqual(Axis([3, 9], 0, 100, logarithmic=False).marks(), [0, 2, 4, 6, 8, 10])
        self.assertEqual(Axis([0, 0], 0, 100, logarithmic=False).marks(), [0, 1])

    @settings(deadline=None)
    @given(st.lists(st.floats(1e-6, 1e9), min_size=1), st.booleans())
    def test_inside(self, values: list[float], logarithmic: bool) -> None:
        """No value lies outside the frame."""
        axis = Axis(values, 10, 200, logarithmic)
        self.assertTrue(all(10 - 1e-6 <= axis.place(value) <= 200 + 1e-6 for value in values))

    @settings(deadline=None)
    @given(st.floats(1e-6, 1e9))
    def test_nice_step(self, least: float) -> None:
        """A step is 1, 2 or 5 of some power of ten, and not more than two and a half times what is needed."""
        step = nice_step(least)
        self.assertLessEqual(step / least, 2.5 * (1 + 1e-6))
        self.assertGreaterEqual(step / least, 1 - 1e-6)
        self.assertIn(round(step / 10 ** math.floor(math.log10(step) + 1e-9), 6), (1, 2, 5))


class ChartTests(SynchronousTestCase):
    def test_is_svg(self) -> None:
        """Every point has a mark within the frame, and every word is escaped."""
        drawn = chart("a < b", "x & y", "z", {"one": [(1, 2), (10, 4)], "two": [(1, 1)]})
        root = ElementTree.fromstring(drawn)
        circles = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in root.iter(f"{SVG}circle")]
        self.assertEqual(len(circles), 3)
        self.assertTrue(all(LEFT <= x <= WIDTH - RIGHT and TOP <= y <= HEIGHT - BOTTOM for x, y in circles))
        words = [text.text for text in root.iter(f"{SVG}text")]
        self.assertTrue({"a < b", "x & y", "z", "one", "two"} <= set(words), words)

    def test_nothing(self) -> None:
        """Without a point there is nothing to draw."""
        self.assertRaises(ValueError, chart, "", "", "", {"one": []})
