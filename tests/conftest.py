"""Every test runs in a temporary folder of its own: trial's `mktemp` makes its files where one stands.

What Hypothesis draws is seeded here as it is in CI: a run differs from the next by what was changed.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

settings.load_profile("ci")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
