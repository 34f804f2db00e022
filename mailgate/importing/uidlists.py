"""The files in which POP3 servers keep what they know of a Maildir's unique-ids.

Dovecot's `dovecot-uidlist` (versions 1 and 3) and Courier's `courierpop3dsizelist` (2 and 3). Lines
that cannot be read are passed over: their messages get fresh ids, as the old server would give.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator
from typing import BinaryIO, NamedTuple

from mailgate.importing.entries import Folder
from mailgate.importing.source import BadSource, NotPlain, legal_unique_id

DOVECOT_LIST = "dovecot-uidlist"
COURIER_LIST = "courierpop3dsizelist"
LINE_OCTETS = 8192          # more than a file's name and all that a server says of it

_NUMBER = r"(\d{1,10})"     # UIDs and UIDVALIDITY have 32 bits
_DOVECOT_HEADER = re.compile(rf"3 (?:.* )?V{_NUMBER}(?: .*)?|1 {_NUMBER} \d+", re.ASCII)
_DOVECOT_ENTRY = re.compile(rf"{_NUMBER} (?:((?:[A-Z][^ ]* )*):)?(.+)", re.ASCII)
_COURIER_HEADER = re.compile(r"/[23] \d+ \d+", re.ASCII)
_COURIER_ENTRY = re.compile(rf"(.+) \d+ {_NUMBER}:{_NUMBER}(?::\d+)?", re.ASCII)
_ORDER = re.compile(_NUMBER, re.ASCII)


class KnownId(NamedTuple):
    """What a server knew of one file."""

    order: int                  # its place among the known ones
    unique_id: bytes | None     # None: known, but not as POP3 may show it


def read_known_ids(maildir: Folder, wanted: Container[str]) -> dict[str, KnownId]:
    """Return what is known of the wanted base names. Of two servers' lists the one written last counts.

    Raises: BadSource, if a list is there and cannot be read: all ids would be lost.
    """
    present = [(status.st_mtime_ns, name, read) for name, read in _LISTS.items()
               if (status := maildir.status(name)) is not None]
    known: dict[str, KnownId] = {}
    for _, name, read in sorted(present, key=lambda one: one[0]):
        try:
            with maildir.open(name) as file:
                known.update((base, one) for base, one in read(_lines(file)) if base in wanted)
        except (NotPlain, OSError) as fault:
            words = fault.strerror if isinstance(fault, OSError) else fault
            raise BadSource(f"{maildir.path / name}: {words}") from fault
    return known


def _lines(file: BinaryIO) -> Iterator[str]:
    """Give the lines without their ends; those that are too long are left out."""
    begins = True
    while line := file.readline(LINE_OCTETS):
        ends = line.endswith(b"\n") or len(line) < LINE_OCTETS
        if begins and ends:
            yield line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8", "surrogateescape")
        begins = ends


def _dovecot(lines: Iterator[str]) -> Iterator[tuple[str, KnownId]]:
    """Give base name and id: the one kept in field P, else Dovecot's default of UID and UIDVALIDITY."""
    header = _DOVECOT_HEADER.fullmatch(next(lines, ""))
    if header is None:
        return
    uid_validity = int(header[1] or header[2])
    for line in lines:
        if entry := _DOVECOT_ENTRY.fullmatch(line):
            uid, extensions, name = int(entry[1]), (entry[2] or "").split(" "), entry[3]
            kept = {field[0]: field[1:] for field in extensions if field}
            order = int(kept["O"]) if _ORDER.fullmatch(kept.get("O", "")) else uid
            text = kept.get("P") or f"{uid:08x}{uid_validity:08x}"
            yield name.partition(":")[0], KnownId(order, _as_unique_id(text))


def _courier(lines: Iterator[str]) -> Iterator[tuple[str, KnownId]]:
    """Give base name and id: `UID<uid>-<uidvalidity>`; from older versions UID alone or the base name."""
    if not _COURIER_HEADER.fullmatch(next(lines, "")):
        return
    for order, line in enumerate(lines):
        if entry := _COURIER_ENTRY.fullmatch(line):
            base = entry[1].rpartition("/")[2].partition(":")[0]
            uid, uid_validity = int(entry[2]), int(entry[3])
            text = f"UID{uid}-{uid_validity}" if uid_validity else f"UID{uid}" if uid else _quoted(base)
            yield base, KnownId(order, _as_unique_id(text))


_LISTS: dict[str, Callable[[Iterator[str]], Iterator[tuple[str, KnownId]]]] = {
    DOVECOT_LIST: _dovecot, COURIER_LIST: _courier}


def _as_unique_id(text: str) -> bytes | None:
    return legal_unique_id(text.encode("utf-8", "surrogateescape"))


def _quoted(base: str) -> str:
    """Return a name as old Courier showed it: what a unique-id cannot hold, and `+`, as +XX."""
    octets = base.encode("utf-8", "surrogateescape")
    plain = frozenset(range(0x21, 0x7F)) - frozenset(b"+'\"")
    return "".join(chr(one) if one in plain else f"+{one:02X}" for one in octets)
