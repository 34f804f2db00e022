"""A command that root runs works on the store with no more rights than the service's user has.

Whoever may write the store's folder may put links there, or other files in the place of ours: root
would follow them, and could be led to make files anywhere. So root gives its rights up before the
store is opened. What the operator names on the command line is read with root's rights: a user's
mailbox, say, in a process of its own (`importing.forked`).
"""

from __future__ import annotations

import codecs
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from mailgate.config import Config

ROOT = 0


def stand_in(config: Config) -> int | None:
    """Return the user in whose place root has to work on this store; None: with the rights that there are.

    That is the owner of the database's folder. Where this is root's, it is whoever else owns the
    database, the bodies' folder, a link on the way to one of them, or the configuration's folder: he
    says where all of it is.
    """
    if os.geteuid() != ROOT:
        return None
    return next((owner for owner in _owners(config) if owner != ROOT), None)


def owner_of_folder(folder: Path) -> int | None:
    """Return in whose place root has to make something in a folder: the owner of what is there of it."""
    if os.geteuid() != ROOT:
        return None
    nearest = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    owner = nearest.stat().st_uid
    return None if owner == ROOT else owner


def take_on(user: int) -> None:
    """Give root's rights up for a user's, for good: his group, his other groups, himself."""
    _load_first()
    try:
        entry = pwd.getpwuid(user)
    except KeyError:        # of another machine, or of a container's host
        os.setgroups([])
        os.setgid(user)
    else:
        os.initgroups(entry.pw_name, entry.pw_gid)
        os.setgid(entry.pw_gid)
    os.setuid(user)


def _load_first() -> None:
    """Load what the work on a store needs: where Python lies, perhaps only root may read."""
    import_module("twisted.internet.reactor")
    import_module("mailgate.cli.running")
    import_module("mailgate.stores.sqlite_connection").migrations()
    codecs.lookup("ascii")


def user_name(user: int) -> str:
    """Return a user's name, or that it has none."""
    try:
        return f"user {pwd.getpwuid(user).pw_name}"
    except KeyError:
        return f"user id {user}"


def _owners(config: Config) -> Iterator[int]:
    """Give the owners of what leads to the store; of what is not there, nobody."""
    database, bodies = [path and path.absolute() for path in (config.metadata_path, config.bodies_path)]
    for path in (database and database.parent, bodies):
        with suppress(OSError):
            if path is not None:
                yield path.stat().st_uid
    there = [path for path in (database, bodies) if path is not None]
    for path in (*there, *(parent for one in there for parent in one.parents)):
        with suppress(OSError):
            status = path.lstat()
            if path == database or stat.S_ISLNK(status.st_mode):
                yield status.st_uid
    with suppress(OSError):
        yield config.folder.stat().st_uid
