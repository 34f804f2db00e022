"""From tables (TOML, JSON, Python) to faults and scenarios, or to all that is wrong with them.

A problem is told with its place: `fault[1].ocurrence: unknown; did you mean occurrence?`
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from mailgate.errors import ConfigurationError
from mailgate.testing.trouble import values
from mailgate.testing.trouble.kinds import KINDS
from mailgate.testing.trouble.model import GREETING, REQUIRED, RESPONSE, TLS, Fault, Kind, Scenario

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Reader = Callable[[Any], Any]

# Verbs that clients know: of RFC 1939, 2449, 2595, 5034, 6856, 1082, and of servers of old.
VERBS = ("USER", "PASS", "APOP", "AUTH", "CAPA", "STLS", "STAT", "LIST", "UIDL", "RETR", "TOP", "DELE",
         "RSET", "NOOP", "QUIT", "LAST", "RPOP", "UTF8", "LANG", "*ENV")
LIKENESS = 0.7      # from which on a word is one of these misspelt: RTER, not HELP or STARTTLS


def _numbers(value: Any) -> tuple[int, ...]:
    """Read one number from 1 on, or several."""
    found = value if isinstance(value, (list, tuple)) else [value]
    return tuple(values.whole(1)(one) for one in found)


def _probability(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError("a number from 0 to 1 is expected")
    return float(value)


def _command(value: Any) -> str:
    word, blank, rest = values.text(value).partition(" ")
    if word in (GREETING, TLS, RESPONSE):
        return word + blank + rest
    verb = word.upper()
    near = difflib.get_close_matches(verb, VERBS, 1, LIKENESS)
    if near and verb not in VERBS and not verb.startswith("X"):
        raise ValueError(f"{word}: did you mean {near[0]}?")
    return verb + blank + rest


WHEN: Mapping[str, Reader] = {
    "command": _command, "session": _numbers, "occurrence": _numbers, "user": values.text,
    "protocol": values.choice("pop3", "pop3s", "kpop"), "tls": values.switch,
    "probability": _probability, "times": values.whole(1), "name": values.text}


def read_fault(table: Mapping[str, Any], where: str = "fault") -> Fault:
    """Return a fault. Raises: ConfigurationError with every problem."""
    problems: list[str] = []
    fault = _fault(table, where, problems)
    if fault is None:
        raise ConfigurationError(problems)
    return fault


def read_scenario(table: Mapping[str, Any], name: str = "") -> Scenario:
    """Return a scenario. Raises: ConfigurationError with every problem."""
    problems: list[str] = []
    readers: dict[str, Reader] = {
        "name": values.text, "description": values.text, "finds": values.text, "right": values.text,
        "sources": _texts, "messages": _texts, "seed": values.whole(0), "settings": _table}
    known = _read(table, {**readers, "fault": lambda value: value}, "", problems)
    rows = known.pop("fault", [])
    if not isinstance(rows, (list, tuple)):
        problems.append("fault: tables are expected, each beginning with [[fault]]")
        rows = []
    faults = [_fault(row, f"fault[{index}]", problems) for index, row in enumerate(rows)]
    if problems:
        raise ConfigurationError(problems)
    return Scenario(**{"name": name, **known}, faults=tuple(one for one in faults if one is not None))


def parse_scenario(text: str, name: str = "") -> Scenario:
    """Return the scenario that a TOML text writes down. Raises: ConfigurationError with every problem."""
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as fault:
        raise ConfigurationError([f"no TOML that can be read: {fault}"]) from fault
    return read_scenario(table, name)


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise ValueError("a list of texts is expected")
    return tuple(values.text(one) for one in value)


def _table(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("a table is expected")
    return value


def _fault(table: Any, where: str, problems: list[str]) -> Fault | None:
    before = len(problems)
    if isinstance(table, Fault):
        return table
    if not isinstance(table, Mapping):
        problems.append(f"{where}: a table is expected")
        return None
    do = table.get("do")
    kind = KINDS.get(do) if isinstance(do, str) else None
    if kind is None:
        words = "is missing" if do is None else _unknown(str(do), KINDS, "no such kind of fault")
        problems.append(f"{where}.do: {words}")
        return None
    rest = {key: value for key, value in table.items() if key != "do"}
    known = _read(rest, {**WHEN, **{name: row[0] for name, row in kind.settings.items()}}, where, problems)
    problems += [f"{where}.{name}: is missing" for name, (_, default) in kind.settings.items()
                 if default is REQUIRED and name not in rest]
    if len(problems) > before:
        return None
    fault = _made(kind, known)
    problem = kind.check(fault.settings) if kind.check is not None else ""
    if problem:
        problems.append(f"{where}.{problem}")
    return None if problem else fault


def _made(kind: Kind, known: Mapping[str, Any]) -> Fault:
    settings = {name: known.get(name, default) for name, (_, default) in kind.settings.items()}
    when = {key: value for key, value in known.items() if key in WHEN and key not in kind.settings}
    return Fault(kind.name, settings, **when)


def _read(table: Mapping[str, Any], readers: Mapping[str, Reader], where: str,
          problems: list[str]) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for key, value in table.items():
        place = f"{where}.{key}" if where else str(key)
        if key not in readers:
            problems.append(f"{place}: {_unknown(str(key), readers, 'unknown')}")
            continue
        try:
            known[key] = readers[key](value)
        except ValueError as fault:
            problems.append(f"{place}: {fault}")
    return known


def _unknown(word: str, among: Mapping[str, Any], words: str) -> str:
    near = difflib.get_close_matches(word, among, 1)
    return f"{words}; did you mean {near[0]}?" if near else words
