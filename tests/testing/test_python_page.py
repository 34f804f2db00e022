"""The examples of the manual's page for Python are tests that pass."""

from __future__ import annotations

import re

import pytest
from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing import server, showing
from mailgate.testing.face import Face
from mailgate.testing.maildrops import Maildrop
from mailgate.testing.pytest_plugin import TO_ARRANGE, TO_START
from tests.running import ROOT
from tests.testing.blocks import run_blocks

LOADED = server, showing        # a run in this process forgets what it has loaded; this stays
PAGE = (ROOT / "docs" / "testing" / "python.rst").read_text(encoding="utf-8")

pytest_plugins = ["pytester"]


class PageTests(SynchronousTestCase):
    @pytest.fixture(autouse=True)
    def _pytester(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester

    def test_examples(self) -> None:
        """Every block of code is a file of tests, and all of them pass."""
        run_blocks(self.pytester, PAGE, least=4)

    def test_names(self) -> None:
        """What a server and a maildrop have is told of, and so is what the marker takes."""
        known = [name for kind in (Face, Maildrop, server.Server) for name in vars(kind)
                 if not name.startswith("_")]
        apart = {"address", "hostname", "mark", "report", "name", "unique_ids", "lose_leases"}
        missing = [name for name in known if name not in apart and not re.search(rf"\b{name}\b", PAGE)]
        self.assertEqual(missing, [])
        self.assertEqual([name for name in (*TO_START, *TO_ARRANGE) if f"``{name}``" not in PAGE], [])
