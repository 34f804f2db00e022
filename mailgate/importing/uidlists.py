"""The files in which POP3 servers keep what they know of a Maildir's unique-ids.

Dovecot's `dovecot-uidlist` (versions 1 and 3) and Courier's `courierpop3dsizelist` (2 and 3). Lines
that cannot be read are passed over: their messages get fresh ids, as the old server would give.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mailgate.importing.source import BadSource, legal_unique_id

DOVECOT_LIST = "dovecot-uidlist"
COURIER_LIST = "courierpop3dsizelist"

_DOVECOT_HEADER = re.compile(r"3 (?:.* )?V(\d+)(?: |$)|1 (\d+) \d+$")
_DOVECOT_ENTRY = re.compile(r"(\d+) (?:((?:[A-Z][^ ]* )*):)?(.+)")
_COURIER_HEADER = re.compile(r"/[23] \d+ \d+$")
_COURIER_ENTRY = re.compile(r"(.+) \d+ (\d+):(\d+)(?::\d+)?$")


class KnownId(NamedTuple):
    """What a server knew of one file."""

    order: int                  # its place among the known ones
    unique_id: bytes | None     # None: known, but not as POP3 may show it


def read_known_ids(maildir: Path) -> dict[str, KnownId]:
    """Return what is known, by base name. Of two servers' lists the one written last counts.

    Raises: BadSource, if a list is there and cannot be read.
    """
    known: dict[str, KnownId] = {}
    lists = [(maildir / DOVECOT_LIST, _dovecot), (maildir / COURIER_LIST, _courier)]
    present = [(path.stat().st_mtime, path, read) for path, read in lists if path.is_file()]
    for _, path, read in sorted(present, key=lambda one: one[0]):
        try:
            lines = path.read_text("utf-8", "surrogateescape").splitlines()
        except OSError as fault:
            raise BadSource(f"{path}: {fault.strerror}") from fault
        known.update(read(lines))
    return known


def _dovecot(lines: list[str]) -> Iterator[tuple[str, KnownId]]:
    """Give base name and id: the one kept in field P, else Dovecot's default of UID and UIDVALIDITY."""
    header = _DOVECOT_HEADER.match(lines[0]) if lines else None
    if header is None:
        return
    uid_validity = int(header[1] or header[2])
    for line in lines[1:]:
        if entry := _DOVECOT_ENTRY.fullmatch(line):
            uid, extensions, name = int(entry[1]), (entry[2] or "").split(), entry[3]
            kept = {field[0]: field[1:] for field in extensions}
            order = int(kept["O"]) if kept.get("O", "").isdecimal() else uid
            text = kept.get("P") or f"{uid:08x}{uid_validity:08x}"
            yield name.partition(":")[0], KnownId(order, _as_unique_id(text))


def _courier(lines: list[str]) -> Iterator[tuple[str, KnownId]]:
    """Give base name and id: `UID<uid>-<uidvalidity>`; from older versions UID alone or the base name."""
    if not lines or not _COURIER_HEADER.match(lines[0]):
        return
    for order, line in enumerate(lines[1:]):
        if entry := _COURIER_ENTRY.fullmatch(line):
            base = entry[1].rpartition("/")[2].partition(":")[0]
            uid, uid_validity = int(entry[2]), int(entry[3])
            text = f"UID{uid}-{uid_validity}" if uid_validity else f"UID{uid}" if uid else _quoted(base)
            yield base, KnownId(order, _as_unique_id(text))


def _as_unique_id(text: str) -> bytes | None:
    return legal_unique_id(text.encode("utf-8", "surrogateescape"))


def _quoted(base: str) -> str:
    """Return a name as old Courier showed it: what a unique-id cannot hold, and `+`, as +XX."""
    octets = base.encode("utf-8", "surrogateescape")
    plain = frozenset(range(0x21, 0x7F)) - frozenset(b"+'\"")
    return "".join(chr(one) if one in plain else f"+{one:02X}" for one in octets)
