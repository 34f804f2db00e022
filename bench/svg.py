"""Line charts as SVG, written without a library: axes may be logarithmic, lines have marks and a legend."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from bench.figures import shown

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 80, 20, 40, 60       # of the frame
COLOURS = ("#1f5fa8", "#c0392b", "#2e8b57", "#8e44ad", "#b8860b", "#444444")
FONT = 'font-family="sans-serif" font-size="12"'

Points = Sequence[tuple[float, float]]


class Axis:
    """Values to places between `low` and `high` pixels. A logarithmic one needs values above 0."""

    def __init__(self, values: Sequence[float], low: float, high: float, logarithmic: bool) -> None:
        self.logarithmic = logarithmic
        self._low, self._high = low, high
        if logarithmic:
            self._from = math.floor(math.log10(min(values)) + 1e-9)
            self._to = max(math.ceil(math.log10(max(values)) - 1e-9), self._from + 1)
        else:
            step = nice_step(max(values) / 5)
            self._from, self._step = 0.0, step
            self._to = step * max(1, math.ceil(max(values) / step - 1e-9))

    def place(self, value: float) -> float:
        """Return where a value lies, in pixels."""
        at = math.log10(value) if self.logarithmic else value
        return self._low + (at - self._from) / (self._to - self._from) * (self._high - self._low)

    def marks(self) -> list[float]:
        """Return the values that the axis names."""
        if self.logarithmic:
            return [10.0 ** power for power in range(int(self._from), int(self._to) + 1)]
        return [self._step * number for number in range(round(self._to / self._step) + 1)]


def nice_step(least: float) -> float:
    """Return 1, 2 or 5 times a power of ten, not below a number above 0; 1 for 0."""
    if least <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * times for times in (1, 2, 5, 10) if power * times >= least * (1 - 1e-9))


def chart(title: str, x_title: str, y_title: str, series: Mapping[str, Points], *, log_x: bool = True,
          log_y: bool = False) -> str:
    """Return a chart of named lines as an SVG document. Raises: ValueError without any point."""
    points = [point for line in series.values() for point in line]
    if not points:
        raise ValueError("nothing to draw")
    across = Axis([x for x, _ in points], LEFT, WIDTH - RIGHT, log_x)
    up = Axis([y for _, y in points], HEIGHT - BOTTOM, TOP, log_y)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {FONT}>',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
             _text(WIDTH / 2, 20, title, "middle", 'font-weight="bold"'),
             _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, x_title, "middle"),
             _text(16, HEIGHT / 2, y_title, "middle", f'transform="rotate(-90 16 {HEIGHT / 2:.0f})"')]
    parts += _grid(across, up)
    for number, (name, line) in enumerate(series.items()):
        parts += _line(name, line, across, up, number)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _grid(across: Axis, up: Axis) -> list[str]:
    parts = []
    for value in across.marks():
        x = across.place(value)
        parts += [f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#dddddd"/>',
                  _text(x, HEIGHT - BOTTOM + 18, shown(value), "middle")]
    for value in up.marks():
        y = up.place(value)
        parts += [f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#dddddd"/>',
                  _text(LEFT - 8, y + 4, shown(value), "end")]
    return parts


def _line(name: str, line: Points, across: Axis, up: Axis, number: int) -> list[str]:
    colour = COLOURS[number % len(COLOURS)]
    places = [(across.place(x), up.place(y)) for x, y in line]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    parts = [f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>'] if places else []
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
    y = TOP + 14 + 18 * number
    parts += [f'<path d="M{LEFT + 10} {y - 4}h20" stroke="{colour}" stroke-width="2"/>',
              _text(LEFT + 36, y, name, "start")]
    return parts


def _text(x: float, y: float, words: str, anchor: str, further: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {further}>{escape(words)}</text>'
