"""The store of a harness: one in memory that also does what no store should do to its sessions."""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import inf
from typing import Any

from mailgate.errors import NoSuchMessage
from mailgate.model import Admission
from mailgate.names import fold
from mailgate.stores.memory import MemoryStore, OpenMaildrop
from mailgate.stores.memory_data import Message, Rows
from mailgate.wire.dots import unstuff


class Nothing:
    """A delayed call that nobody waits for: there is no lease to be renewed."""

    def cancel(self) -> None:
        """Done."""


class HarnessMaildrop(OpenMaildrop):
    """One session's maildrop, from which messages may vanish."""

    __slots__ = ()

    def vanish(self, number: int) -> None:
        """Remove a message behind the session's back."""
        if 0 < number <= len(self._messages) and not self._has_lost(number):
            self._drop.remove([self._messages[number - 1].serial])

    def commit_blocking(self, marked: Collection[int]) -> None:
        """Remove what is still there."""
        super().commit_blocking([number for number in marked if not self._has_lost(number)])

    def _message(self, number: int) -> Message:
        message = super()._message(number)
        if self._has_lost(number):
            raise NoSuchMessage(number)
        return message

    def _has_lost(self, number: int) -> bool:
        return self._messages[number - 1].serial not in self._drop.messages


class HarnessStore(MemoryStore):
    """A MemoryStore that a test reaches into, whatever sessions are open.

    `told` is called when mail comes, and when it goes otherwise than by a session.

    Leases do not run out here, however far the clock is moved: `lose_leases` has them run out. Messages do
    that have `retention_seconds`: they are looked for every `housekeeping_seconds`, as a service does.
    """

    told: Callable[[], object] = staticmethod(lambda: None)

    def __init__(self, *, retention_seconds: int | None = None, housekeeping_seconds: float = 3600.0,
                 **more: Any) -> None:
        super().__init__(lease_seconds=inf, **more)
        self._retention_seconds = retention_seconds
        self._housekeeping_seconds = housekeeping_seconds

    def _start(self) -> None:
        if self._renewal is None:
            renewal: Any = Nothing() if self._retention_seconds is None else self._clock.callLater(
                self._housekeeping_seconds, self._keep_house)
            self._renewal = renewal

    def _keep_house(self) -> None:
        self._renewal = None
        self._start()
        self._run(self._expire, self._retention_seconds)

    def _place(self, *what: Any) -> Any:
        outcomes = super()._place(*what)
        self.told()
        return outcomes

    def _expire(self, retention_seconds: int) -> int:
        removed = super()._expire(retention_seconds)
        self.told()
        return removed

    def _open(self, admission: Admission) -> Any:
        opened: Any = super()._open(admission)
        return HarnessMaildrop(self, opened._drop, opened._lease)

    def has_maildrop(self, name: str) -> bool:
        """Whether something was put in, or a session opened it."""
        return fold(name) in self._shared.maildrops

    def octets_of(self, maildrop: str) -> dict[bytes, bytes]:
        """Return each message's octets (CRLF line ends, not byte-stuffed) by its unique-id."""
        drop = self._shared.maildrops.get(fold(maildrop), Rows())
        return {one.unique_id: one.preamble + unstuff(one.body.wire) for one in drop.messages.values()}

    def latest_id(self, maildrop: str) -> bytes:
        """Return the unique-id of the message that was put in last. Raises: LookupError."""
        drop = self._shared.maildrops.get(fold(maildrop), Rows())
        if not drop.messages:
            raise LookupError(f"{maildrop} has no messages")
        return next(reversed(drop.messages.values())).unique_id

    def discard(self, maildrop: str, unique_ids: Collection[bytes] | None = None) -> int:
        """Remove messages, or all that there are; return how many. Sessions find them gone."""
        drop = self._shared.maildrops.get(fold(maildrop), Rows())
        serials = [serial for serial, one in drop.messages.items()
                   if unique_ids is None or one.unique_id in unique_ids]
        drop.remove(serials)
        self.told()
        return len(serials)

    @property
    def holder(self) -> int | None:
        """Whom the leases of now belong to."""
        return self._holder

    def lose_leases(self, holder: int | None = None) -> None:
        """Let every lease have run out, as if the process had slept for longer than they last.

        Those of another holder than the one that is given are left alone.
        """
        if self._holder is not None and holder in (None, self._holder):
            self._shared.drop_holder(self._holder)
            self._holder = None
