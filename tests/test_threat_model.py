"""The threat model names tests that there are."""

from __future__ import annotations

import ast
import re

from twisted.trial.unittest import SynchronousTestCase

from tests.running import ROOT

_NAMED = re.compile(r"``(tests/[\w/]+(?:\.py)?)(?:::(\w+))?``")


class ThreatModelTests(SynchronousTestCase):
    def test_every_test_is_there(self) -> None:
        """Files, folders, and classes in them."""
        named = _NAMED.findall((ROOT / "docs" / "threat-model.rst").read_text("utf-8"))
        self.assertGreater(len(named), 60)
        for path, name in named:
            self.assertTrue((ROOT / path).exists(), path)
            if name:
                tree = ast.parse((ROOT / path).read_text("utf-8"))
                classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
                self.assertIn(name, classes, path)
