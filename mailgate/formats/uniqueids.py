"""Which server's unique-ids a mailbox of other programs has, and what they are.

`parse_format` reads the setting; the `Format` it returns serves a Maildir (`maildir_ids`) and an mbox
(`mbox_ids`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from mailgate.formats import courier, digests, dovecot, mboxids
from mailgate.formats.entries import BadSource, Folder, NotPlain
from mailgate.formats.header import first
from mailgate.formats.known import KnownId, legal_unique_id
from mailgate.formats.lines import lines_of
from mailgate.formats.mboxids import MboxIds
from mailgate.formats.templates import Template, parse_template

HeaderOf = Callable[[str], "bytes | None"]      # a base name's header, to the blank line; None: it has gone

MAILDIR, MBOX, CYRUS = "Maildir", "mbox", "folder of Cyrus"
_DEFAULT = parse_template(dovecot.DEFAULT_FORMAT)
_WASHINGTON = parse_template("%08Xv%08Xu")
_CYRUS = {"cyrus": parse_template("%v.%u"), "uidonly": parse_template("%u"), "dovecot": _DEFAULT,
          "courier": parse_template("%v-%u")}
_SHAPE = re.compile(r"(?P<name>[a-z0-9-]+)(?P<options>(?:,[a-z0-9_]+)*)(?::(?P<template>.*))?", re.DOTALL)


class _Server(NamedTuple):
    """A name that the setting may have."""

    keeps: tuple[str, ...]              # what its mail may lie in
    options: tuple[str, ...] = ()


_SERVERS = {
    "auto": _Server((MAILDIR, MBOX, CYRUS)),
    "dovecot": _Server((MAILDIR, MBOX), ("reuse_xuidl", "md5_all")),
    "courier": _Server((MAILDIR,)),
    "cyrus": _Server((CYRUS,), tuple(_CYRUS)),
    "uw": _Server((MBOX,)),
    "x-uidl": _Server((MAILDIR, MBOX)),
    "qpopper": _Server((MBOX,), ("old_style",)),
    "popa3d": _Server((MBOX,)),
}


class Format(NamedTuple):
    """Whose unique-ids are looked for; `auto` takes whatever is there.

    Of `dovecot` the template is its setting `pop3_uidl_format`, `reuse_xuidl` is `pop3_reuse_xuidl = yes`
    and `md5_all` is `mbox_md5 = all`. Of `cyrus` the option is its setting `uidl_format`.
    """

    name: str = "auto"
    options: frozenset[str] = frozenset()
    template: Template = _DEFAULT

    def keeps(self, kind: str) -> bool:
        """Return whether such a server keeps its mail in a Maildir (MAILDIR), an mbox (MBOX), as Cyrus."""
        return kind in _SERVERS[self.name].keeps

    def maildir_ids(self, root: Folder, bases: Collection[str],
                    header_of: HeaderOf = lambda base: None) -> dict[str, KnownId]:
        """Return what is known of these messages of a Maildir, by base name (a file's name without flags).

        Of two servers' lists the one written last counts. `header_of` is asked for headers where the
        format needs them. A message that the old server never saw is there if its id can be told all the
        same: then it has no `order`.
        Raises: BadSource, if a list is there and cannot be read: all ids would be lost.
        """
        known: dict[str, KnownId] = {}
        for name in self._lists(root):
            lines = _read(root, name)
            known.update(_courier(lines, bases) if name == courier.LIST else
                         self._dovecot(lines, bases, header_of))
        for base in bases:
            if base not in known and (unique_id := self._told(base, header_of)) is not None:
                known[base] = KnownId(None, legal_unique_id(unique_id))
        return known

    def mbox_ids(self) -> MboxIds:
        """Return what tells the ids of one mbox's messages, one after the other."""
        if self.name == "auto":
            return mboxids.Auto(_WASHINGTON, _DEFAULT)
        if self.name == "dovecot":
            return mboxids.Counted(self.template, reuse_xuidl="reuse_xuidl" in self.options,
                                   digest_all="md5_all" in self.options)
        if self.name == "uw":
            return mboxids.Counted(_WASHINGTON)
        if self.name == "x-uidl":
            return mboxids.Kept()
        if self.name == "qpopper":
            return mboxids.Qpopper(old_style="old_style" in self.options)
        return mboxids.Digests(digests.popa3d) if self.name == "popa3d" else mboxids.Unknown()

    def cyrus_id(self, uid_validity: int, uid: int, *, old: bool) -> bytes:
        """Return the id of a message of Cyrus's; in `old` folders it is the UID alone."""
        option = "uidonly" if old else next(iter(self.options), "cyrus")
        made = _CYRUS[option].fill({"uidvalidity": b"%d" % uid_validity, "uid": b"%d" % uid})
        assert made is not None
        return made

    def _lists(self, root: Folder) -> list[str]:
        """Return the lists that lie in a Maildir, the one that was written last at the end."""
        wanted = {"auto": (dovecot.LIST, courier.LIST), "dovecot": (dovecot.LIST,),
                  "courier": (courier.LIST,)}.get(self.name, ())
        present = sorted((status.st_mtime_ns, name) for name in wanted
                         if (status := root.status(name)) is not None)
        return [name for _, name in present]

    def _dovecot(self, lines: Iterator[str], bases: Collection[str],
                 header_of: HeaderOf) -> Iterator[tuple[str, KnownId]]:
        for entry in dovecot.read_list(lines, bases):
            unique_id = None if entry.saved is None else dovecot.octets(entry.saved)
            if unique_id is None:
                unique_id = self._reused(entry.base, header_of)
            if unique_id is None:
                unique_id = self.template.fill(entry.values())
            yield entry.base, KnownId(entry.order, unique_id and legal_unique_id(unique_id))

    def _reused(self, base: str, header_of: HeaderOf) -> bytes | None:
        if "reuse_xuidl" not in self.options and self.name != "x-uidl":
            return None
        header = header_of(base)
        return None if header is None else first(header, b"X-UIDL")

    def _told(self, base: str, header_of: HeaderOf) -> bytes | None:
        """Return the id that a server would give to a message that is new to it, where that can be told."""
        if (kept := self._reused(base, header_of)) is not None:
            return kept
        if self.name != "dovecot":
            return None
        return self.template.fill({"filename": dovecot.octets(base), "guid": dovecot.octets(base)})


def parse_format(text: str) -> Format:
    """Read the setting: `NAME[,OPTION...][:TEMPLATE]`. Raises: ValueError, in words for an operator."""
    found = _SHAPE.fullmatch(text)
    if found is None or found["name"] not in _SERVERS:
        raise ValueError(f"no server whose unique-ids are known; there are {', '.join(_SERVERS)}")
    name, options = found["name"], frozenset(found["options"].split(",")[1:])
    known = _SERVERS[name].options
    if strange := sorted(options.difference(known)):
        raise ValueError(f"{strange[0]!r} is no option of {name}; "
                         + (f"there are {', '.join(known)}" if known else "it has none"))
    if name == "cyrus" and len(options) > 1:
        raise ValueError("cyrus has one uidl_format, not several")
    if found["template"] is None:
        return Format(name, options)
    if name != "dovecot":
        raise ValueError(f"{name} has no template; dovecot has one, its pop3_uidl_format")
    return Format(name, options, parse_template(found["template"]))


def _courier(lines: Iterator[str], bases: Collection[str]) -> Iterator[tuple[str, KnownId]]:
    for entry in courier.read_list(lines, bases):
        yield entry.base, KnownId(entry.order, legal_unique_id(entry.unique_id))


def _read(root: Folder, name: str) -> Iterator[str]:
    try:
        with root.open(name) as file:
            yield from lines_of(file)
    except FileNotFoundError:       # replaced by another, or removed, since it was looked at
        return
    except (NotPlain, OSError) as fault:
        words = fault.strerror if isinstance(fault, OSError) else fault
        raise BadSource(f"{root.path / name}: {words}") from fault
