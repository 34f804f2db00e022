"""What stands for a maildrop that nobody has heard of, to who only looks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from mailgate.errors import LeaseLost
from mailgate.model import Note, SpoolMessage


class _NoSpool:
    """What a maildrop has whose name no spool can have. As much of an ISpool as is asked."""

    def scan(self, known: Mapping[bytes, bytes]) -> tuple[list[SpoolMessage], Mapping[bytes, bytes]]:
        return [], known

    def learnt(self) -> Mapping[bytes, bytes]:
        return {}


class _NoTenure:
    """What is remembered of a maildrop that is unknown. As much of an ITenure as is asked."""

    known: Mapping[bytes, bytes] = {}
    notes: Mapping[bytes, Note] = {}
    journal = None

    def remember(self, known: Mapping[bytes, bytes]) -> Deferred[bool]:
        return succeed(True)

    def amend(self, known: Mapping[bytes, bytes | None]) -> Deferred[None]:
        return succeed(None)

    def decide(self, journal: bytes, blob_key: str | None) -> Deferred[bool]:
        return fail(LeaseLost("there is no lease"))

    def release(self) -> Deferred[None]:
        return succeed(None)


NO_SPOOL: Any = _NoSpool()
NO_TENURE: Any = _NoTenure()
