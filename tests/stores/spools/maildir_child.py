"""A process that is killed while its session ends: `python -m ... FOLDER MAILDROP POINT`, one of POINTS.

It marks every second message; all messages are read before.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import react

from mailgate.model import Admission
from mailgate.stores.spools import maildir_files
from mailgate.stores.sql.spools import SqlTenure
from tests.stores.contract_base import StoreHooks
from tests.stores.spools.maildir_hooks import MaildirHooks

POINTS = ("before the decision", "before the first file", "before the second file", "before it is told")


class _Hooks(MaildirHooks, StoreHooks):
    """What makes the store."""


def _die(*args: object) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def _arrange(point: str) -> None:
    """Let this process be killed at a point."""
    if point == POINTS[0]:
        SqlTenure.decide = _die     # type: ignore[method-assign]
    elif point == POINTS[3]:
        SqlTenure.carried_out = _die        # type: ignore[method-assign]
    else:
        left = [POINTS.index(point)]
        unlink = os.unlink

        def counted(*args: Any, **options: Any) -> None:
            left[0] -= 1
            if not left[0]:
                _die()
            unlink(*args, **options)

        maildir_files.os.unlink = counted       # type: ignore[attr-defined]


async def _session(folder: str, maildrop: str, point: str) -> None:
    hooks = _Hooks()
    store = hooks.new_store(folder)
    await store.start()
    session = await store.open(Admission(maildrop))
    for number in range(len(session.listing)):
        await maybeDeferred(session.fetch, number + 1)
    _arrange(point)
    await session.commit(range(1, len(session.listing) + 1, 2))


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(_session(*sys.argv[1:])))
