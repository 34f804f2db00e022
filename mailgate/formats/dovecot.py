"""What Dovecot keeps beside a Maildir: `dovecot-uidlist`, versions 1 and 3.

Lines that cannot be read are passed over: their messages get fresh ids, as Dovecot too would give.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from typing import NamedTuple

LIST = "dovecot-uidlist"
DEFAULT_FORMAT = "%08Xu%08Xv"       # what pop3_uidl_format is, where nothing else is said

_NUMBER = r"(\d{1,10})"     # UIDs and UIDVALIDITY have 32 bits
_HEADER = re.compile(rf"3 (?:.* )?V{_NUMBER}(?: .*)?|1 {_NUMBER} \d+", re.ASCII)
_ENTRY = re.compile(rf"{_NUMBER} (?:((?:[A-Z][^ ]* )*):)?(.+)", re.ASCII)
_ORDER = re.compile(_NUMBER, re.ASCII)
_LARGEST = (1 << 32) - 1        # number; and as a place, behind all that have one


class Entry(NamedTuple):
    """One message of the list."""

    base: str           # its file's name without flags
    uid: int
    uid_validity: int
    order: int          # POP3 shows messages by that
    saved: str | None   # the unique-id that was given once (`pop3_save_uidl`)
    guid: str

    def values(self) -> dict[str, bytes]:
        """Return what the variables of `pop3_uidl_format` are for this message of a Maildir."""
        return {"uid": b"%d" % self.uid, "uidvalidity": b"%d" % self.uid_validity,
                "guid": octets(self.guid), "filename": octets(self.base)}


def read_list(lines: Iterator[str], wanted: Container[str]) -> Iterator[Entry]:
    """Give the entries of a list for the wanted base names; nothing, if it is no list that is known."""
    header = _HEADER.fullmatch(next(lines, ""))
    if header is None:
        return
    uid_validity = int(header[1] or header[2])
    for line in lines:
        if (colon := line.find(" :")) > 0 and line[colon + 2:].partition(":")[0] not in wanted:
            continue        # of a long list seldom more than the newest are wanted
        if found := _ENTRY.fullmatch(line):
            uid, base = int(found[1]), found[3].partition(":")[0]
            if uid > _LARGEST or base not in wanted:
                continue
            kept = {field[0]: field[1:] for field in (found[2] or "").split(" ") if field}
            place = min(int(kept["O"]), _LARGEST) if _ORDER.fullmatch(kept.get("O", "")) else _LARGEST
            saved = (kept["P"] or base) if "P" in kept else None    # an empty one is the file's name
            yield Entry(base, uid, uid_validity, (place << 32) + uid, saved, kept.get("G") or base)


def octets(name: str) -> bytes:
    """Return a name as it was read."""
    return name.encode("utf-8", "surrogateescape")
