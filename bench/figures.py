"""Figures: medians with their spread, and how they are kept and shown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Figure(NamedTuple):
    """What several measurements of one thing came to."""

    median: float
    least: float
    most: float


def figure(values: Iterable[float]) -> Figure:
    """Return the median with the least and the most. Raises: ValueError, if there is no value."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    return Figure(statistics.median(ordered), ordered[0], ordered[-1])


def shown(value: float) -> str:
    """Return a number with three digits that count, never as a power of ten."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - _magnitude(value))}f}"


def _magnitude(value: float) -> int:
    """Return the place of the first digit: 0 for 1 to 9, 1 for 10 to 99, -1 for 0.1 to 0.9."""
    return int(f"{abs(value):e}".partition("e")[2])


def cell(one: dict[str, float]) -> str:
    """Return a figure as a table shows it: median (least to most)."""
    median, least, most = (shown(one[key]) for key in ("median", "least", "most"))
    return median if least == most else f"{median} ({least} to {most})"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], widths: Sequence[int] = ()) -> str:
    """Return a list-table of reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1"]
    if widths:
        lines.append(f"   :widths: {' '.join(map(str, widths))}")
    lines.append("")
    for row in (heads, *rows):
        for number, cell in enumerate(row):
            lines.append(f"   {' ' if number else '*'} -{' ' if cell else ''}{cell}")
    return "\n".join(lines) + "\n"


def keep(folder: Path, name: str, results: dict[str, Any], text: str) -> None:
    """Write results as NAME.json, and the table made of them as NAME.inc, which the manual includes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / f"{name}.inc").write_text(text, encoding="utf-8")
