"""Run targets for as long as is wanted.

    python -m tests.fuzz --executions 100000 [--seed 1] [--log FILE] [TARGET...]
    python -m tests.fuzz --input FILE TARGET        one input again
    python -m tests.fuzz --coverage --executions N TARGET     led by coverage (pip install atheris)

Each target gets so many executions. A finding is told with an input that was made as short as it goes, and
its number: `--seed S --first N --executions 1 TARGET` runs it again. Exit code 1 if there was any.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
import traceback
import warnings
from typing import IO

TELL_SECONDS = 60.0
MOST_FINDINGS = 3       # of one target; then it is given up


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    options = _options()
    warnings.simplefilter("ignore")         # of the libraries under the parsers, about their input
    if options.coverage:
        return _led_by_coverage(options)
    from tests.fuzz.running import Finding, run
    from tests.fuzz.table import TARGETS

    names = _known(options.targets, TARGETS)
    if options.input:
        with open(options.input, "rb") as file:
            TARGETS[names[0]].check(file.read())
        return 0
    log: IO[str] = open(options.log, "a", buffering=1) if options.log else sys.stdout     # noqa: SIM115
    print(f"seed {options.seed}, {options.executions} executions of each of {len(names)} targets;"
          f" Python {platform.python_version()} on {platform.machine()}", file=log)
    begun, findings, executions = time.monotonic(), 0, 0
    for name in names:
        outcome = run(name, options.executions, options.seed, first=options.first,
                      most_findings=MOST_FINDINGS,
                      tell=lambda words: print(words, file=log), seconds=time.monotonic)
        executions += outcome.executions
        for finding in outcome.findings:
            findings += 1
            assert isinstance(finding, Finding)
            print(f"FOUND {name} number {finding.number}: {finding.data!r}", file=log)
            traceback.print_exception(finding.fault, file=log)
    print(f"{executions} executions in {time.monotonic() - begun:.0f} s, {findings} findings", file=log)
    return 1 if findings else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all, unless some are named")
    parser.add_argument("--executions", type=int, default=10_000, help="of each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--log", help="append to this file instead of writing to standard output")
    parser.add_argument("--input", help="run the content of a file, through one target")
    parser.add_argument("--coverage", action="store_true", help="let atheris make the inputs")
    return parser.parse_args()


def _known(asked: list[str], targets: object) -> list[str]:
    known = list(targets)      # type: ignore[call-overload]
    strange = [name for name in asked if name not in known]
    if strange:
        raise SystemExit(f"no target {', '.join(strange)}; there are {', '.join(known)}")
    return asked or known


def _led_by_coverage(options: argparse.Namespace) -> int:
    """Let atheris (libFuzzer) choose the inputs: it sees which of our branches they reach."""
    import atheris  # type: ignore[import-not-found]

    with atheris.instrument_imports(include=["mailgate"]):
        from tests.fuzz.table import TARGETS
    if len(options.targets) != 1:
        raise SystemExit("--coverage runs one target")
    target = TARGETS[_known(options.targets, TARGETS)[0]]
    atheris.Setup([sys.argv[0], f"-runs={options.executions}", f"-seed={options.seed}",
                   f"-max_len={target.most_octets}"], target.check)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
