"""The holder row of a process whose operations run in several threads at once.

`sql.leases.Holder` may be changed by one operation alone. Most only read it: these run side by side,
with a stand-in that refuses to be changed, and one that would change it is begun anew when it is alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

from mailgate.stores.postgres_transaction import MustBeAlone
from mailgate.stores.sql.leases import Holder


class SeenHolder(Holder):
    """A holder as it is now, for an operation that others run beside."""

    def __init__(self, holder: Holder) -> None:
        self.lease_ms = holder.lease_ms
        self.process = holder.process
        self._id = holder.id

    @property
    def id(self) -> str:
        return self._id

    @id.setter
    def id(self, value: str) -> None:
        raise MustBeAlone


class HolderLock:
    """Many may see the holder at once, or one may change it. Who wants to change it goes first."""

    def __init__(self) -> None:
        self._condition = Condition()
        self._seeing = 0
        self._changing = 0      # those that do or want to

    @contextmanager
    def seeing(self) -> Iterator[None]:
        """Hold the lock beside others."""
        with self._condition:
            self._condition.wait_for(lambda: not self._changing)
            self._seeing += 1
        try:
            yield
        finally:
            with self._condition:
                self._seeing -= 1
                self._condition.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock alone."""
        with self._condition:
            self._changing += 1
            self._condition.wait_for(lambda: not self._seeing and not self._busy)
            self._busy = True
        try:
            yield
        finally:
            with self._condition:
                self._changing -= 1
                self._busy = False
                self._condition.notify_all()

    _busy = False
