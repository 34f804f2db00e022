"""In which form stores keep what a placement says: unique-ids, folders, flags."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

from mailgate.errors import FolderConflict, MessageMalformed
from mailgate.model import FLAGS, INBOX, Placement
from mailgate.names import check_folder

_UNIQUE_ID = re.compile(rb"[\x21-\x7e]{1,70}")      # RFC 1939 section 7


def check_unique_id(unique_id: bytes) -> None:
    """Raise MessageMalformed for a unique-id that POP3 cannot carry."""
    if not _UNIQUE_ID.fullmatch(unique_id):
        raise MessageMalformed("a unique-id that POP3 cannot carry")


def find_taken(ids: Mapping[bytes, bytes], known: Collection[bytes]) -> list[bytes]:
    """Return which messages cannot have the new id that is meant for them: another has or had it.

    `ids` are the new ids by present ones of messages that are there, `known` those of the new ones that
    the maildrop has or had for a message. An id is free where the message that has it gets another.
    """
    refused: list[bytes] = []
    given: dict[bytes, bytes] = {}          # present ids by new ones
    for present, new in ids.items():
        if (new in known and new not in ids) or new in given:
            refused.append(present)
        else:
            given[new] = present
    for kept in refused:                    # grows: who keeps its id cannot give it to another
        if kept in given:
            refused.append(given.pop(kept))
    return refused


def parted(ids: Mapping[bytes, bytes], most: int) -> Iterator[dict[bytes, bytes]]:
    """Divide new ids by present ones into parts of at most so many, in each of which all is decided.

    What hangs together stays so, in its order, and makes a larger part where it has to: ids that go
    round, or along a row, or that several want.
    """
    above = {one: one for pair in ids.items() for one in pair}      # on the way to what stands for all

    def head(one: bytes) -> bytes:
        while (upper := above[one]) != one:
            above[one] = one = above[upper]     # a shorter way for the next
        return one

    for present, new in ids.items():
        above[head(present)] = head(new)
    together: dict[bytes, dict[bytes, bytes]] = {}
    for present, new in ids.items():
        together.setdefault(head(present), {})[present] = new
    part: dict[bytes, bytes] = {}
    for some in together.values():
        if part and len(part) + len(some) > most:
            yield part
            part = {}
        part.update(some)
    yield part


def ordered(letters: str) -> str:
    """Return flags in the order of `model.FLAGS`, each once. Raises: ValueError for other letters."""
    unknown = set(letters) - set(FLAGS)
    if unknown:
        raise ValueError(f"no flags: {''.join(sorted(unknown))!r}")
    return "".join(letter for letter in FLAGS if letter in letters)


def changed(flags: str, add: str, remove: str) -> str:
    """Return flags without those to be removed and with those to be added; what is both is there."""
    return ordered("".join(set(flags) - set(remove)) + add)


def as_kept(placement: Placement) -> Placement:
    """Return a placement with its folder and flags as stores keep them.

    Raises: MessageMalformed, for a unique-id that POP3 cannot carry or a flag that is none;
    FolderConflict, if no folder can be called so.
    """
    if placement.unique_id is not None:
        check_unique_id(placement.unique_id)
    try:
        return placement._replace(folder=check_folder(placement.folder), flags=ordered(placement.flags))
    except ValueError as fault:
        raise MessageMalformed(str(fault)) from fault


def renamed(folders: Collection[str], folder: str, name: str) -> list[tuple[str, str]]:
    """Return old and new names of a folder and all below it, in an order in which no two ever meet.

    Raises: FolderConflict, if one of the new names is another folder's or too long, or lies below `folder`.
    """
    inside = f"{folder}/"
    moving = [one for one in folders if one == folder or one.startswith(inside)]
    moving.sort(key=len)        # from the top: what gives up a name has the shorter one
    changes = [(old, check_folder(name + old[len(folder):])) for old in moving]
    taken = {INBOX, *folders}.difference(moving)
    if name == folder or name.startswith(inside) or any(new in taken for _, new in changes):
        raise FolderConflict(f"folder {folder!r} cannot become {name!r}")
    return changes
