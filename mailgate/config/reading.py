"""From a TOML file to a `Config`, or to a list of everything that is wrong with it.

One bad setting hides no other: what could not be read is told, its default stands in for it, and
the rest is read and judged all the same. A problem is told as `listen[1].endpoint: words`, counted
from 0.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs

from mailgate.config.checks import contradictions
from mailgate.config.problems import KeyPath, Problem, spelled
from mailgate.config.sections import Config
from mailgate.config.values import BadValue
from mailgate.errors import ConfigurationError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_Section = TypeVar("_Section", bound=attrs.AttrsInstance)

LATER_SETTINGS: frozenset[str] = frozenset()


def load(path: str | Path) -> Config:
    """Read a configuration file. Raises: ConfigurationError with every problem."""
    file = Path(path).absolute()
    try:
        octets = file.read_bytes()
    except OSError as fault:
        raise ConfigurationError([f"cannot be read: {fault.strerror}"]) from fault
    return parse(octets, folder=file.parent)


def parse(octets: bytes, *, folder: Path) -> Config:
    """Read a configuration from TOML text; relative paths start from `folder`.

    Raises: ConfigurationError with every problem.
    """
    try:
        raw = tomllib.loads(octets.decode())
    except UnicodeDecodeError as fault:
        line = octets.count(b"\n", 0, fault.start) + 1
        raise ConfigurationError([f"line {line}: not UTF-8"]) from fault
    except tomllib.TOMLDecodeError as fault:
        raise ConfigurationError([_syntax_problem(str(fault), octets)]) from fault
    except (ValueError, RecursionError) as fault:       # thousands of digits, thousands of brackets
        raise ConfigurationError([f"no TOML that can be read: {type(fault).__name__}"]) from fault
    return read(raw, folder=folder)


def read(raw: Mapping[str, Any], *, folder: Path) -> Config:
    """Read a configuration from tables, as TOML gives them. Raises: ConfigurationError with every problem."""
    problems: list[Problem] = []
    config = attrs.evolve(_section(Config, raw, (), problems), folder=folder)
    told = {problem.where for problem in problems}
    problems += [problem for problem in contradictions(config) if problem.where not in told]
    if problems:
        raise ConfigurationError([f"{spelled(where)}: {words}" for where, words in problems])
    return config


def _syntax_problem(words: str, octets: bytes) -> str:
    """Put the place, which tomllib names at the end, to the front; always with a line."""
    told, _, place = words.rpartition(" (at ")
    if not place.startswith("line "):
        return f"line {octets.count(10) + 1}: {words}"
    return f"{place.removesuffix(')')}: {told}"


def _section(kind: type[_Section], table: Any, where: KeyPath, problems: list[Problem]) -> _Section:
    """Return one section read from its table; what is wrong in it is added to `problems`."""
    if not isinstance(table, dict):
        problems.append(Problem(where, "a table is expected"))
        return kind()
    fields = {one.name: one for one in attrs.fields(kind) if "internal" not in one.metadata}
    known: dict[str, Any] = {}
    for key, value in table.items():
        if key not in fields:
            problems.append(Problem((*where, key), _unknown((*where, key), fields)))
        else:
            known[key] = _value(fields[key], value, (*where, key), problems)
    problems += [Problem((*where, name), "is missing")
                 for name, one in fields.items() if one.metadata.get("required") and name not in table]
    return kind(**{key: value for key, value in known.items() if value is not attrs.NOTHING})


def _value(field: Any, value: Any, where: KeyPath, problems: list[Problem]) -> Any:
    """Return one setting's value, or NOTHING when it could not be read."""
    if table := field.metadata.get("table"):
        return _section(table, value, where, problems)
    if tables := field.metadata.get("tables"):
        if isinstance(value, list):
            return tuple(_section(tables, one, (*where, index), problems) for index, one in enumerate(value))
        problems.append(Problem(where, f"tables are expected, each beginning with [[{field.name}]]"))
        return attrs.NOTHING
    if named := field.metadata.get("named"):
        return _named(named, field.metadata["reader_of_names"], value, where, problems)
    try:
        return field.metadata["reader"](value)
    except BadValue as fault:
        problems.append(Problem(where, str(fault)))
        return attrs.NOTHING


def _named(kind: type[_Section], read_name: Any, table: Any, where: KeyPath,
           problems: list[Problem]) -> dict[str, _Section]:
    """Return the sections of a table whose keys are names that the operator chose."""
    if not isinstance(table, dict):
        problems.append(Problem(where, "a table is expected"))
        return {}
    sections: dict[str, _Section] = {}
    for key, value in table.items():
        section = _section(kind, value, (*where, key), problems)
        try:
            name = read_name(key)
        except BadValue as fault:
            problems.append(Problem((*where, key), str(fault)))
            continue
        if name in sections:
            problems.append(Problem((*where, key), "stands there twice"))
        sections[name] = section
    return sections


def _unknown(where: KeyPath, fields: dict[str, Any]) -> str:
    """Say why a key is refused: it comes with a later version, or nobody knows it."""
    if spelled(tuple(step for step in where if isinstance(step, str))) in LATER_SETTINGS:
        return "not in this version"
    near = difflib.get_close_matches(str(where[-1]), fields, 1)
    return f"unknown setting; did you mean {near[0]}?" if near else "unknown setting"
