"""The parts of the manual that are made from files: the list of scenarios, and the table of results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mailgate.testing import samples, scenarios
from mailgate.testing.trouble.model import Fault
from tests.testing.clients.programs import CLIENTS, ROOT
from tests.testing.clients.verdicts import BAD

MANUAL = ROOT / "docs" / "testing"
RESULTS = MANUAL / "clients"
MARK = ".. made by python -m tests.testing.clients --pages; do not write below\n"


def write(folder: Path = MANUAL) -> None:
    """Write both pages anew below their marks."""
    for name, text in made().items():
        page = folder / name
        page.write_text(above(page.read_text(encoding="utf-8")) + text, encoding="utf-8")


def made() -> dict[str, str]:
    """Return what stands below the mark of each page, by its name."""
    return {"scenarios.rst": scenario_list(), "clients.rst": results_table(load_results())}


def above(page: str) -> str:
    """Return a page up to its mark. Raises: ValueError, for one without."""
    return page[:page.index(MARK) + len(MARK)]


# Scenarios ----------------------------------------------------------------------------------------


def scenario_list() -> str:
    """Return a section for every scenario, and one of the samples."""
    return "".join(["\n", *map(_scenario, scenarios.names()), _samples()])


def _scenario(name: str) -> str:
    made = scenarios.load(name)
    rows = [f".. _scenario-{name}:\n\n{name}\n{'-' * len(name)}\n\n{_flat(made.description)}\n\n",
            f"*Finds:* {_flat(made.finds)}\n\n", f"*Right:* {_flat(made.right)}\n\n"]
    if made.faults:
        rows.append("*Faults:* " + "; ".join(map(_fault, made.faults)) + "\n\n")
    else:
        rows.append("*Faults:* none; the messages are what counts.\n\n")
    if made.messages:
        rows.append(f"*Maildrop:* {', '.join(made.messages)}\n\n")
    if made.settings:
        rows.append("*Settings:* " + ", ".join(
            f"``{table}.{key}``" for table, keys in made.settings.items() for key in keys) + "\n\n")
    if made.sources:
        rows.append("*Reported:* " + ", ".join(
            f"`{number} <{address}>`__" for number, address in enumerate(made.sources, 1)) + "\n\n")
    else:
        rows.append("*Reported:* common knowledge; no report is at hand.\n\n")
    return "".join(rows)


def _fault(fault: Fault) -> str:
    return f"``{fault.do}``" + (f" at ``{fault.command}``" if fault.command else "")


def _samples() -> str:
    rows = [f"``{name}``\n   {samples.told(name)}\n" for name in samples.names()]
    return "Samples\n-------\n\n" + "\n".join(rows)


def _flat(text: str) -> str:
    return " ".join(text.split()).replace("*", "\\*").replace("`", "\\`")


# Results ------------------------------------------------------------------------------------------


def load_results() -> dict[str, Any]:
    """Return what was saved, by client."""
    return {file.stem: json.loads(file.read_text(encoding="utf-8"))
            for file in sorted(RESULTS.glob("*.json"))}


def save_results(client: str, runs: Iterable[Mapping[str, Any]]) -> None:
    """Keep a client's runs, without what it printed, beside those of other scenarios."""
    known = set(scenarios.names())
    rows = {row["scenario"]: row for row in load_results().get(client, {"runs": []})["runs"]
            if row["scenario"] in known}
    rows |= {str(run["scenario"]): {key: value for key, value in run.items() if key != "output"}
             for run in runs}
    RESULTS.mkdir(parents=True, exist_ok=True)
    about = {"client": client, "version": CLIENTS[client].version(), "told": CLIENTS[client].told}
    lines = ",\n  ".join(json.dumps(rows[name]) for name in sorted(rows))
    text = json.dumps(about)[:-1] + f', "runs": [\n  {lines}]}}'
    (RESULTS / f"{client}.json").write_text(text + "\n", encoding="utf-8")


def results_table(results: Mapping[str, Any]) -> str:
    """Return the clients, a table of scenarios by clients, and every bad finding with its command."""
    clients = [name for name in CLIENTS if name in results]
    verdicts = {(run["client"], run["scenario"]): run for name in clients for run in results[name]["runs"]}
    rows = ["\nThe clients\n-----------\n\n"]
    rows += [f"``{name}``\n   {results[name]['version']}: {results[name]['told']}.\n\n" for name in clients]
    rows += ["Results\n-------\n\n.. list-table::\n   :header-rows: 1\n   :stub-columns: 1\n\n",
             "   * - Scenario\n"]
    rows += [f"     - {name}\n" for name in clients]
    for scenario in sorted({scenario for _, scenario in verdicts}):
        rows.append(f"   * - :ref:`{scenario} <scenario-{scenario}>`\n")
        rows += [f"     - {_cell(verdicts.get((name, scenario)))}\n" for name in clients]
    rows.append("\nWhat went wrong\n---------------\n\n")
    for name in clients:
        found = [run for run in results[name]["runs"] if set(run["verdict"]) & set(BAD)]
        rows.append(f"{name}\n{'~' * len(name)}\n\n" + "".join(map(_finding, found))
                    + ("" if found else "Nothing.\n") + "\n")
    return "".join(rows)


def _cell(run: Mapping[str, Any] | None) -> str:
    if run is None:
        return "–"
    words = ", ".join(run["verdict"])
    return f"**{words}**" if set(run["verdict"]) & set(BAD) else words


def _finding(run: Mapping[str, Any]) -> str:
    notes = "; ".join(f"{word}: {', '.join(names)}" for word, names in run["notes"].items()
                      if word != "strange")
    return (f"* ``{run['scenario']}``: {', '.join(run['verdict'])}" + (f" ({notes})" if notes else "")
            + f". After each poll {', '.join(map(str, run['stored_after']))} messages were stored of"
              f" {run['messages']}; {run['removed']} were removed by the client, {run['left']} are left."
              f" Exit codes {', '.join(str(poll['code']) for poll in run['polls'])}."
              f" Repeat: ``python -m tests.testing.clients --client {run['client']} {run['scenario']}``\n")
