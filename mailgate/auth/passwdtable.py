"""The lines of a passwd-file as a table, also while somebody is writing the file.

Editors and scripts write in place, so that readers meet any part of the file. A user who was in it and
whose line is gone is only believed to be gone when the file has rested: until then nobody can say.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from mailgate.auth.schemes import check_verifier
from mailgate.errors import AccountConflict, StoreUnavailable
from mailgate.names import check_name, fold

SETTLE_SECONDS = 5.0    # without a change, and what the file says is so


class Entry(NamedTuple):
    """One user of the file."""

    name: str               # as the file spells it
    verifier: str | None    # None: cannot log in


class Table(NamedTuple):
    """What the file held when it was read."""

    entries: dict[str, Entry]           # by the name's key
    problems: list[tuple[int, str]]     # lines that were left out: number from 1, and why
    signature: tuple[int, ...]          # of the file that was read
    unsure: frozenset[str] = frozenset()    # keys that may only be missing for the moment
    until: float | None = None          # when to read again without a change, by the file's clock

    def find(self, name: str) -> Entry | None:
        """Return the user of a name, or None. Raises: StoreUnavailable, if that cannot be said now."""
        key = fold(name)
        if key in self.unsure:
            raise StoreUnavailable("passwd-file: a user's line is gone while the file is being written")
        return self.entries.get(key)


class PasswdFile:
    """The file, and its table as long as the file does not change. Calls block; any thread may call.

    `now` gives seconds since 1970, as the file system's times count.
    """

    def __init__(self, path: str, now: Callable[[], float] = time.time) -> None:
        self.path = path
        self._now = now
        self._table: Table | None = None
        self._reading = threading.Lock()

    def unchanged(self) -> Table | None:
        """Return the table, or None when the file must be read (again). Costs one stat.

        Raises: StoreUnavailable, if the file is not there.
        """
        try:
            signature = _signature(os.stat(self.path))
        except OSError as fault:
            raise _unreadable(fault) from fault
        table = self._table
        if table is None or table.signature != signature or self._has_rested(table):
            return None
        return table

    def read(self) -> Table:
        """Return the table of the file as it is now. Raises: StoreUnavailable; the table before is kept."""
        with self._reading:     # many logins may have seen the change; one of them reads
            table = self.unchanged()
            if table is None:
                table = self._table = self._load()
            return table

    def _load(self) -> Table:
        try:
            with open(self.path, "rb") as file:
                status = os.fstat(file.fileno())    # before the octets: a change shows later
                content = file.read()
        except OSError as fault:
            raise _unreadable(fault) from fault
        return self._judge(content, _signature(status), status.st_mtime)

    def _judge(self, content: bytes, signature: tuple[int, ...], changed: float) -> Table:
        """Make the table, doubting what an unfinished file would look like."""
        before = self._table
        known = frozenset() if before is None else before.unsure.union(before.entries)
        rested = self._now() - changed >= SETTLE_SECONDS or (
            before is not None and before.signature == signature and self._has_rested(before))
        whole = content.endswith(b"\n")
        if rested:
            entries, problems = parse(content)
            unsure = frozenset() if whole else known.difference(entries)    # empty, or cut for good
            return Table(entries, problems, signature, unsure)
        body = content[:content.rfind(b"\n") + 1]
        entries, problems = parse(body)
        unsure = known.union(_names_of(content[len(body):])).difference(entries)
        until = min(changed, self._now()) + SETTLE_SECONDS if unsure else None
        return Table(entries, problems, signature, unsure, until)

    def _has_rested(self, table: Table) -> bool:
        return table.until is not None and self._now() >= table.until


def parse(content: bytes) -> tuple[dict[str, Entry], list[tuple[int, str]]]:
    """Return the users of a passwd-file by the keys of their names, and what is wrong with other lines.

    Of two lines for one user the first counts. No reason shows a hash.
    """
    entries: dict[str, Entry] = {}
    problems: list[tuple[int, str]] = []
    for number, line in enumerate(content.split(b"\n"), 1):
        line = line.removesuffix(b"\r")
        if not line.strip() or line.startswith(b"#"):
            continue
        try:
            entry = _entry(line)
            if fold(entry.name) in entries:
                raise ValueError(f"{entry.name!r} has a line already")
            entries[fold(entry.name)] = entry
        except (ValueError, AccountConflict) as wrong:
            problems.append((number, str(wrong)))
    return entries, problems


def _entry(line: bytes) -> Entry:
    try:
        fields = line.decode("utf-8").split(":", 2)
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    if len(fields) < 2:
        raise ValueError("no colon behind the user")
    name, verifier = fields[:2]
    check_name(name, sdps=False)
    if not verifier or verifier[0] in "*!":
        return Entry(name, None)
    if not verifier.startswith("{"):
        verifier = "{CRYPT}" + verifier
    check_verifier(verifier)
    return Entry(name, verifier)


def _names_of(line: bytes) -> frozenset[str]:
    """Return the key of a line that may go on; none, where not even its name has ended."""
    name, colon, _ = line.partition(b":")
    return frozenset({fold(name.decode("utf-8", "replace"))} if colon and name[:1] != b"#" else ())


def _signature(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev)


def _unreadable(fault: OSError) -> StoreUnavailable:
    return StoreUnavailable(f"passwd-file: {fault}")
