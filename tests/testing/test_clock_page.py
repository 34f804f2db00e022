"""The examples of the manual's pages on time and on Twisted are tests that pass."""

from __future__ import annotations

import re

import pytest
from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing import memory, server, showing
from mailgate.testing.kdc import Realm
from tests.running import ROOT
from tests.testing.blocks import run_blocks

LOADED = memory, server, showing        # a run in this process forgets what it has loaded; this stays
PAGES = {name: (ROOT / "docs" / "testing" / f"{name}.rst").read_text(encoding="utf-8")
         for name in ("clock", "twisted")}

pytest_plugins = ["pytester"]


class PageTests(SynchronousTestCase):
    @pytest.fixture(autouse=True)
    def _pytester(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester

    def test_examples(self) -> None:
        """Every block of code is a file of tests, and all of them pass."""
        run_blocks(self.pytester, *PAGES.values(), least=6)

    def test_names(self) -> None:
        """What a server in memory and a realm have is told of."""
        shared = set(vars(server.Face))
        for kind, page in ((memory.MemoryServer, "twisted"), (Realm, "clock")):
            names = [name for name in vars(kind) if not name.startswith("_") and name not in shared]
            self.assertEqual([name for name in names if not re.search(rf"\b{name}\b", PAGES[page])], [])
