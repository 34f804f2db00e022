"""Faults that a test has switched on, and what it may give for a scenario."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from mailgate.errors import ConfigurationError
from mailgate.testing.harness.core import Harness
from mailgate.testing.maildrops import Call
from mailgate.testing.trouble.model import Fault, Scenario
from mailgate.testing.trouble.reading import parse_scenario, read_scenario


class ActiveFault:
    """A fault that is switched on; as a context manager it is switched off at the end."""

    def __init__(self, call: Call, harness: Harness, fault_id: int, fault: Fault) -> None:
        self._call = call
        self._harness = harness
        self._acted = 0
        self.id = fault_id
        self.fault = fault      # what was asked for, read

    @property
    def on(self) -> bool:
        """Whether it is on yet: nobody has removed it, or put a scenario in its place."""
        return bool(self._call(self._is_on))

    @property
    def acted(self) -> int:
        """How often it has acted, until it was switched off."""
        return int(self._call(self._count))

    def remove(self) -> None:
        """Switch it off. May be called twice."""
        self._call(self._forget)

    def _is_on(self) -> bool:
        return self._harness.trouble.faults().get(self.id) is self.fault

    def _count(self) -> int:
        if self._is_on():
            self._acted = self._harness.trouble.acted(self.id)
        return self._acted

    def _forget(self) -> None:
        if self._is_on():
            self._count()
            self._harness.trouble.remove(self.id)

    def __repr__(self) -> str:
        return f"<fault {self.id}: {self.fault.label}>"

    def __enter__(self) -> ActiveFault:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.remove()


def scenario_of(scenario: Scenario | Mapping[str, Any] | Path | str) -> Scenario:
    """Return the scenario that is meant.

    Raises: ConfigurationError with every problem; LookupError, for a name that there is not; OSError.
    """
    if isinstance(scenario, Scenario):
        return scenario
    if isinstance(scenario, Path):
        return _scenario_in(scenario)
    if isinstance(scenario, str):
        from mailgate.testing import scenarios

        if "=" in scenario:     # as any TOML has that says something
            return parse_scenario(scenario)
        if "/" in scenario or scenario.endswith(".toml"):
            raise LookupError(f"there is no scenario {scenario!r} in the library; a file is given as a Path")
        return scenarios.load(scenario)
    if not isinstance(scenario, Mapping):
        raise TypeError("a scenario is its name, TOML text, a Path, tables or a Scenario,"
                        f" not {type(scenario).__name__}")
    return read_scenario(scenario)


def _scenario_in(file: Path) -> Scenario:
    """Return a file's scenario. Raises: ConfigurationError, behind the file's path; OSError."""
    try:
        return parse_scenario(file.read_bytes().decode(), file.stem)
    except UnicodeDecodeError as fault:
        raise ConfigurationError([f"{file}: not UTF-8"]) from fault
    except ConfigurationError as fault:
        raise ConfigurationError([f"{file}: {problem}" for problem in fault.problems]) from fault
