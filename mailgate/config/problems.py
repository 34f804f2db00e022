"""What is wrong with a configuration, and where."""

from __future__ import annotations

import re
from typing import NamedTuple, Union

KeyPath = tuple[Union[str, int], ...]       # names and indices (counted from 0), from the root


class Problem(NamedTuple):
    """One finding."""

    where: KeyPath
    words: str


_BARE = re.compile(r"[A-Za-z0-9_-]+")


def spelled(where: KeyPath) -> str:
    """Return a key path as it is told: `listen[1].endpoint`, `tls.sni."mail.example.org".key`."""
    path = ""
    for step in where:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path += ("." if path else "") + (step if _BARE.fullmatch(step) else f'"{step}"')
    return path
