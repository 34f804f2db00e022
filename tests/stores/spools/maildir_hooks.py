"""What the tests of Maildirs share: stores over Maildirs of their own, and a look into these."""

from __future__ import annotations

import os
import time
from pathlib import Path

from twisted.internet import reactor

from mailgate.formats.paths import parse_pattern
from mailgate.stores.spools.foldering import MaildirStore
from mailgate.stores.spools.maildir import Habits
from mailgate.stores.spools.places import Places
from tests.stores.sqlite_hooks import SqliteHooks


class MaildirHooks(SqliteHooks):
    """Stores over SQLite and Maildirs; a second store opens the same ones as a process would."""

    habits = Habits()

    def new_store(self, folder: str, *, quota_octets: int | None = None, **options: object) -> MaildirStore:
        metadata = super().new_store(folder, **options)
        os.makedirs(f"{folder}/home", exist_ok=True)
        places = Places(parse_pattern("home/{name}"), Path(folder), "example.org")
        store = MaildirStore(metadata, metadata._database.blobs, places, self.habits, reactor=reactor,
                             quota_octets=quota_octets)
        store.folder = folder
        store._database = metadata._database
        return store

    def maildir(self, store: MaildirStore, name: str) -> Path:
        """Return the Maildir of a maildrop, made if need be."""
        path = Path(store.folder, "home", name)
        for part in ("tmp", "cur", "new"):
            (path / part).mkdir(parents=True, exist_ok=True)
        return path

    def drop(self, store: MaildirStore, name: str, content: bytes, file_name: str | bytes | None = None,
             folder: str = "new") -> Path:
        """Put a message into a Maildir as other programs do; return its file."""
        self.dropped = getattr(self, "dropped", 0) + 1
        if file_name is None:
            file_name = f"{int(time.time())}.M{self.dropped:06}P1.peer"
        path = Path(os.fsdecode(os.path.join(os.fsencode(self.maildir(store, name) / folder),
                                             os.fsencode(file_name))))
        path.write_bytes(content)
        return path

    def files(self, store: MaildirStore, name: str) -> list[str]:
        """Return the files of a Maildir's messages, from the Maildir on."""
        path = self.maildir(store, name)
        return sorted(str(file.relative_to(path)) for folder in ("cur", "new")
                      for file in (path / folder).iterdir())
