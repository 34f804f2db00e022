"""Writing a message into a Maildir: whole and durable before its name is in `new`."""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress

from mailgate.interfaces import IBlobReader
from mailgate.stores.spools.maildir_files import Box, unique_name
from mailgate.stores.spools.places import Directory

FILE_MODE = 0o600
PIECE_OCTETS = 65536

_LINE_END = re.compile(rb"(?<!\r)\r\n")     # behind a bare CR it stays, to come out as it went in
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS})


def write_message(box: Box, content: IBlobReader, flags: str, arrived_ms: int) -> bytes:
    """Write a message with LF line ends; return its base name. Raises: OSError.

    `arrived_ms` becomes the file's time, which other programs show. With flags it goes to `cur`.
    """
    tmp = box.root.inner("tmp")
    name = unique_name().decode()
    try:
        octets, wire_octets = _write(tmp, name, content, arrived_ms)
        base = f"{unique_name().decode()},S={octets},W={wire_octets}"
        folder, final = (box.cur, f"{base}:2,{flags}") if flags else (box.new, base)
        _move(tmp, name, folder, final)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=tmp.descriptor)
        raise
    folder.sync()
    box.count(octets, 1)
    return base.encode()


def copy_message(box: Box, source: int, flags: str) -> bytes:
    """Write a copy of an open file as it is; return its base name. Raises: OSError."""
    tmp = box.root.inner("tmp")
    name = unique_name().decode()
    file = tmp.create(name, FILE_MODE)
    try:
        octets = 0
        while piece := os.read(source, PIECE_OCTETS):
            octets += _write_all(file, piece)
        modified = os.fstat(source).st_mtime_ns
        os.utime(file, ns=(modified, modified))
        os.fsync(file)
        base = f"{unique_name().decode()},S={octets}"
        _move(tmp, name, box.cur, f"{base}:2,{flags}")
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=tmp.descriptor)
        raise
    finally:
        os.close(file)
    box.cur.sync()
    box.count(octets, 1)
    return base.encode()


def _write(tmp: Directory, name: str, content: IBlobReader, arrived_ms: int) -> tuple[int, int]:
    """Write a file and sync it; return its octets, and those with CRLF line ends."""
    file = tmp.create(name, FILE_MODE)
    try:
        offset = octets = 0
        held = b""
        while piece := content.read(offset, PIECE_OCTETS):
            offset += len(piece)
            text = held + piece
            end = len(text.rstrip(b"\r"))       # line ends may be cut by the end of a piece
            text, held = text[:end], text[end:]
            octets += _write_all(file, _LINE_END.sub(b"\n", text))
        octets += _write_all(file, held)
        os.utime(file, ns=(arrived_ms * 1_000_000, arrived_ms * 1_000_000))
        os.fsync(file)
        return octets, offset
    finally:
        os.close(file)


def _write_all(file: int, data: bytes) -> int:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest):]
    return len(data)


def _move(tmp: Directory, name: str, folder: Directory, final: str) -> None:
    """Give a file its name in the folder, over no other; rename it where there are no links."""
    try:
        os.link(name, final, src_dir_fd=tmp.descriptor, dst_dir_fd=folder.descriptor, follow_symlinks=False)
    except OSError as fault:
        if fault.errno not in _NO_LINKS:
            raise
        os.rename(name, final, src_dir_fd=tmp.descriptor, dst_dir_fd=folder.descriptor)
    else:
        os.unlink(name, dir_fd=tmp.descriptor)
