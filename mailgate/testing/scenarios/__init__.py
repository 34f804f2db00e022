"""A library of servers that misbehaved, each a scenario by name: what it did, what that finds in a client.

    load("lost-before-quit")        # a Scenario, to be made by a harness

Each is a TOML file of this folder, in the form that trouble/reading.py reads.
"""

from __future__ import annotations

import difflib
from importlib.resources import files

from mailgate.testing.trouble.model import Scenario
from mailgate.testing.trouble.reading import parse_scenario

_ENDING = ".toml"


def names() -> list[str]:
    """Return the names of all scenarios, sorted."""
    return sorted(entry.name.removesuffix(_ENDING) for entry in files(__name__).iterdir()
                  if entry.name.endswith(_ENDING))


def text(name: str) -> str:
    """Return a scenario as it is written down. Raises: LookupError, telling what is near."""
    known = names()
    if name not in known:
        near = difflib.get_close_matches(name, known, 3) or [one for one in known if name and name in one][:3]
        hint = f"; is it {' or '.join(near)}?" if near else ""
        raise LookupError(f"there is no scenario {name!r}{hint}")
    return files(__name__).joinpath(name + _ENDING).read_text(encoding="utf-8")


def load(name: str) -> Scenario:
    """Return a scenario. Raises: LookupError, telling what is near."""
    return parse_scenario(text(name), name)
