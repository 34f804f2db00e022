"""What is wrong with a configuration, and where."""

from __future__ import annotations

from typing import NamedTuple, Union

KeyPath = tuple[Union[str, int], ...]       # names and indices (counted from 0), from the root


class Problem(NamedTuple):
    """One finding."""

    where: KeyPath
    words: str


def spelled(where: KeyPath) -> str:
    """Return a key path as it is told: `listen[1].endpoint`."""
    path = ""
    for step in where:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path
