"""The blocks of Python in a page of the manual, run as files of tests."""

from __future__ import annotations

import gc
import re
import textwrap

import pytest

_BLOCK = re.compile(r"^\.\. code-block:: python\n\n((?:    .*\n|\n)+)", re.MULTILINE)


def run_blocks(pytester: pytest.Pytester, *pages: str, least: int) -> None:
    """Run every block of the pages as a file of its own; all tests pass, and no warning is given.

    Raises: AssertionError, also for fewer blocks than `least`.
    """
    blocks = [textwrap.dedent(block) for page in pages for block in _BLOCK.findall(page)]
    assert len(blocks) >= least, blocks
    gc.collect()        # with garbage of other tests goes what it warns of, which would be an error here
    pytester.makepyfile(**{f"test_block_{number}": block for number, block in enumerate(blocks)})
    done = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--strict-markers", "-W", "error")
    done.assert_outcomes(passed=sum(block.count("def test_") for block in blocks))
