"""The manual says what is so: it builds, names what there is, and its examples were carried out."""

from __future__ import annotations

import socket
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests import console
from tests.needs import needs

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


class ExampleTests(SynchronousTestCase):
    def perform(self, page: str) -> None:
        """Carry out a page in a folder of its own, on free ports."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        ports = {told: str(free_port()) for told in ("1110", "2424")}
        shell = console.Shell(folder, console.environment(folder))
        self.addCleanup(shell.close)
        wrong = [f"{page}:{step.line}: $ {step.command}{fault}" for step, fault in console.perform(
            (DOCS / page).read_text(encoding="utf-8"), shell, ports) if fault]
        self.assertEqual(wrong, [], "\n".join(wrong))

    def test_operating(self) -> None:
        """Every command of the operator's page prints what the page says."""
        needs("curl", "fetchmail", "sqlite3")
        self.perform("operating.rst")


def free_port() -> int:
    """Return a port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
