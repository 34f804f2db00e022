"""Targets that are other programs' mailboxes: an mbox, a Maildir, lists of unique-ids, headers."""

from __future__ import annotations

import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mailgate.cli.delivering import _without_from_lines
from mailgate.errors import StoreUnavailable
from mailgate.formats import courier, dovecot
from mailgate.formats.cyrus import BadIndex, read_header, read_records
from mailgate.formats.entries import BadSource, Folder, NotPlain
from mailgate.formats.header import HeaderTap
from mailgate.formats.maildirnames import directory_of, folder_of
from mailgate.formats.uniqueids import Format, parse_format
from mailgate.importing.maildir import Maildir
from mailgate.importing.mbox import Mbox
from mailgate.importing.source import LATEST_MS, Unreadable
from mailgate.model import INBOX
from mailgate.names import check_folder
from tests.fuzz.target import Target, chance, hold, pieces, same

_FOLDER = tempfile.TemporaryDirectory(prefix="mailgate-fuzz-",
                                      dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
HERE = Path(_FOLDER.name)


def read_source(source: Any) -> list[tuple[Any, ...]]:
    """Return all that a source says; every value is one that the store can take."""
    found = []
    for message in source.messages():
        try:
            content = b"".join(message.pieces())
        except (FileNotFoundError, NotPlain, Unreadable):
            continue
        unique_id = message.unique_id
        hold(unique_id is None or re.fullmatch(rb"[\x21-\x7e]{1,70}", unique_id), unique_id)
        hold(isinstance(message.arrived_ms, int) and 0 <= message.arrived_ms <= LATEST_MS, message.arrived_ms)
        hold(isinstance(message.name, str), message.name)
        found.append((content, unique_id, message.sender, message.arrived_ms, message.identity(),
                      message.name))
    # In a Maildir the same content under the same name is the same message, moved while it was listed.
    same(len({one[4] for one in found}), len({(one[0], one[5]) for one in found}), "identities and messages")
    return found


def check_mbox(data: bytes) -> None:
    path = HERE / "mbox"
    path.write_bytes(data)
    try:
        first = read_source(Mbox(path))
    except (BadSource, StoreUnavailable):
        return
    same(read_source(Mbox(path)), first, "read twice")
    hold(sum(len(one[0]) for one in first) <= len(data), "more octets than the file has")
    hold(len(first) <= data.count(b"From "), "more messages than From lines")


def check_maildir(data: bytes) -> None:
    """Each line is a file's name; what follows a NUL in it is the content. The lists come last."""
    folder = HERE / "Maildir"
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("cur", "new"):
        (folder / name).mkdir(parents=True)
    lines = [*data.split(b"\n"), *([b"", b""] if data.count(b"\n") < 2 else [])]
    *lines, of_dovecot, of_courier = lines
    made = 0
    for line in lines[:8]:
        name, _, content = line.partition(b"\0")
        if name and name not in (b".", b"..") and b"/" not in name and len(name) < 255:
            path = os.fsencode(folder / ("cur" if made % 2 else "new")) + b"/" + name
            if not os.path.exists(path):
                with open(path, "wb") as file:
                    file.write(content)
                made += not name.startswith(b".")
    for list_name, text in ((dovecot.LIST, of_dovecot), (courier.LIST, of_courier)):
        if text:
            (folder / list_name).write_bytes(text.replace(b"\1", b"\n"))
    first = read_source(Maildir(folder))
    same(len(first), made, "messages and files")
    same(read_source(Maildir(folder)), first, "read twice")


class Everything:
    """Whatever name is asked for is wanted."""

    def __contains__(self, name: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def check_uid_lists(data: bytes) -> None:
    folder = HERE / "lists"
    folder.mkdir(exist_ok=True)
    for name in (dovecot.LIST, courier.LIST):
        (folder / name).write_bytes(data)
        for base, known in Format().maildir_ids(Folder(folder), Everything()).items():
            hold(":" not in base and isinstance(known.order, int) and known.order < 1 << 64, known)
            hold(known.unique_id is None or re.fullmatch(rb"[\x21-\x7e]{1,70}", known.unique_id), known)
        (folder / name).unlink()


def check_folder_names(data: bytes) -> None:
    """The name of a directory below a Maildir: a folder's, which leads back to one like it, or none."""
    folder = folder_of(os.fsdecode(data))
    if folder is not None:
        same(check_folder(folder), folder, "a folder's name in the form that stores keep")
        hold(folder != INBOX, data)
        directory = directory_of(folder)
        hold(directory.isascii() and "/" not in directory and directory.isprintable(), directory)
        same(folder_of(directory), folder, "a folder and that of its directory")


def check_cyrus_index(data: bytes) -> None:
    file = io.BytesIO(data)
    try:
        header = read_header(file)
        for record in read_records(file, header):
            hold(0 <= record.uid < 1 << 32 and record.arrived_seconds >= 0, record)
    except BadIndex:
        return
    hold(header.records * header.record_octets + header.start <= len(data), "more records than there are")


def check_uid_template(data: bytes) -> None:
    try:
        template = parse_format("dovecot:" + data.decode("latin-1")).template
    except ValueError:
        return
    values = dict.fromkeys(template.names, b"26")
    made = template.fill(values)
    hold(made is not None and len(made) <= 1100 * (len(data) + 1), made)


def check_header_tap(data: bytes) -> None:
    def fields(parts: Iterable[bytes]) -> list[list[bytes]]:
        tap = HeaderTap()
        for part in parts:
            tap.feed(part)
        return [tap.fields(name) for name in ("Return-Path", "X-UIDL", "Subject")]

    whole = fields([data])
    same(fields(pieces(data, chance(data))), whole)
    for values in whole:
        for value in values:
            hold(b"\n" not in value, value)


def check_from_lines(data: bytes) -> None:
    """What `deliver` drops in front of a message."""
    whole = b"".join(_without_from_lines([data]))
    same(b"".join(_without_from_lines(pieces(data, chance(data)))), whole)
    hold(data.endswith(whole), "more than the beginning was dropped")
    hold(not re.match(rb">*From [^\n]*\n", whole), "a From line is left")


FROM = b"From a@example.org Mon Jan  1 00:00:00 2024\n"
MBOXES = (FROM + b"X-UIDL: abc\nSubject: x\n\nhello\n\n" + FROM + b"\n>From x\n\n",
          b"\n\n" + FROM + b"A: b\r\n\r\n",
          b"From MAILER-DAEMON Fri Feb 30 23:59:60 +0100 1999\nX-IMAP: 1\nSubject: FOLDER INTERNAL DATA\n"
          b"\nx\n\n" + FROM)
DOVECOT = (b"3 V1700000000 N5 Gabc\n1 :1700000001.M1P1.h\n2 W10 P0000002a O7 :1700000002.M1P1.h:2,S\n",
           b"1 1700000000 3\n1 1700000001.M1P1.h\n")
CYRUS = (b"\0\0\0\1\0\0\0\0\0\0\0\x11\0\0\0\xa0\0\0\0\x70\0\0\0\2" + bytes(136)
         + b"\0\0\0\1" + bytes(108) + b"\0\0\0\2" + bytes(28) + b"\x80" + bytes(79))
COURIER = (b"/2 3 1700000000\n1700000001.M1P1.h 120 1:1700000000\n", b"/3 1 0\ncur/a+b:2,S 10 0:0:5\n")

TARGETS = {
    "mbox": Target(check_mbox, MBOXES,
                   (FROM, b"\n\nFrom ", b"X-UIDL: ", b"\r\n", b"Mon", b"Feb", b"9999", b"0000",
                    b"Status: R\n")),
    "maildir": Target(check_maildir, (
        b"1700000001.M1P1.h\0A: 1\n1700000002.M9999999P1.h:2,S\0B\n" + DOVECOT[0].replace(b"\n",
                                                                                          b"\1") + b"\n"
        + COURIER[0].replace(b"\n", b"\1"), b"a\0b\nc\0d\n\n", b"9" * 40 + b".M1\0x\n.hidden\0\n\n"),
        (b"\n", b"\0", b":2,S", b".M", b"\1", b"V1", b"P", b"\xff", b"O")),
    "uid-lists": Target(check_uid_lists, (*DOVECOT, *COURIER),
                        (b"V", b"P", b"O", b":", b" ", b"\n", b"/2 ", b"3 ", b"\xff", b"x" * 9000,
                         "٣".encode())),
    "folder-names": Target(check_folder_names, (b".Sent.2023", b".&U,BTFw-.R&-D", b".Jim&AC4-B", b".INBOX.x"),
                           (b".", b"&", b"-", b"&AC8-", b"&AC4-", b"&2D3eAA-", b"INBOX", b"/", b"\xc3\xbc",
                            b"\xff", b"\n")),
    "cyrus-index": Target(check_cyrus_index, (CYRUS, CYRUS[:8] + bytes([0, 0, 0, 20]) + CYRUS[12:]),
                          (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x80", bytes(60))),
    "uid-templates": Target(check_uid_template,
                            (b"%08Xu%08Xv", b"%{uid | hex(8)}%{uidvalidity | hex(8)}", b"%Mf"),
                            (b"%", b"%-5.7", b"XRMHNDETLU", b"| substr(1, 2)", b"999", b"{", b"}", b"f")),
    "header-tap": Target(check_header_tap,
                         (b"Return-Path: <a@b>\r\nX-UIDL: 1\r\n\tx\r\n\r\nSubject: no\r\n", b"\nSubject: x"),
                         (b"\n\n", b"\r\n\r\n", b"\n ", b"Subject:", b"X-UIDL :", b":")),
    "from-lines": Target(check_from_lines, (FROM + b">From x\nA: 1\n\n", b">>From", b"From: a@b\n"),
                         (b"From ", b">", b"\n", FROM)),
}
