"""The reference of faults, written out of the one table of kinds."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from mailgate.testing.trouble import (
    content,
    delivery,
    exchanges,
    greetings,
    handshakes,
    listings,
    refusals,
    stories,
    wording,
)
from mailgate.testing.trouble.model import REQUIRED, Kind
from mailgate.testing.trouble.places import FINDERS, place

WIDTH = 118     # of lines

GROUPS: tuple[tuple[str, tuple[Kind, ...]], ...] = (
    ("Refused, or carried out otherwise", refusals.KINDS),
    ("How a reply leaves", delivery.KINDS),
    ("First lines, and how many replies", wording.KINDS),
    ("Octets, lines and messages", content.KINDS),
    ("Sizes, unique-ids and listings", listings.KINDS),
    ("Greeting and timestamp", greetings.KINDS),
    ("Challenges and responses", exchanges.KINDS),
    ("TLS", tuple(handshakes.KINDS)),
    ("Several sessions", stories.KINDS),
)


def expected(reader: Callable[[Any], Any]) -> str:
    """Return what a setting is expected to be, in its reader's own words."""
    try:
        reader(object())
    except ValueError as fault:
        return str(fault).replace(" is expected", "").replace(" are expected", "")
    return "anything"


def as_written(value: Any) -> str:
    """Return a default as TOML has it, as far as it has."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace("\r", "\\r").replace("\n", "\\n") + '"'
    if isinstance(value, tuple):
        return f"[{', '.join(as_written(one) for one in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def reference() -> str:
    """Return the reference as reStructuredText: places, then every kind by its group."""
    return "\n".join([*_places(), *[line for title, kinds in GROUPS for line in _group(title, kinds)]])


def _places() -> Iterator[str]:
    yield from (_title("What a place can be inside of"), "")
    for name, (_, told) in FINDERS.items():
        yield from (f"``{name}``", f"    {told}", "")


def _group(title: str, kinds: tuple[Kind, ...]) -> Iterator[str]:
    yield from (_title(title), "")
    for kind in kinds:
        yield from _kind(kind)


def _kind(kind: Kind) -> Iterator[str]:
    yield f"``{kind.name}``"
    yield _wrapped(re.sub(r"`(\w+)`", r"``\1``", kind.told.replace("*", "\\*")), "    ")
    yield ""
    if kind.commands:
        yield _wrapped(f"Without a command: {', '.join(kind.commands)}.", "    ")
        yield ""
    places = place().keys() if place().keys() <= kind.settings.keys() else ()
    for name, (reader, default) in kind.settings.items():
        if name not in places:
            must = "required" if default is REQUIRED else f"``{as_written(default)}``"
            yield _wrapped(f"* ``{name}`` ({must}): {expected(reader)}", "    ", "      ")
    if places:
        inside = kind.settings["inside"][1]
        unless = f", inside ``{inside}`` unless told" if inside else ""
        yield _wrapped(f"* a place{unless}: ``at``, ``inside``, ``nth``, ``of``", "    ", "      ")
    if kind.settings:
        yield ""


def _title(text: str) -> str:
    return f"{text}\n{'-' * len(text)}"


def _wrapped(text: str, indent: str, rest: str | None = None) -> str:
    return textwrap.fill(text, WIDTH, initial_indent=indent, break_long_words=False, break_on_hyphens=False,
                         subsequent_indent=indent if rest is None else rest)
