"""Copies into files that other programs use, and out of them again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from mailgate.assembly.store import make_store
from mailgate.cli.copying import Copying
from mailgate.cli.copying_base import Wishes
from mailgate.cli.verifying import Verifying
from mailgate.config import load
from mailgate.config.stores import only
from mailgate.model import Account, Envelope, Placement
from tests.cli.whole_store import deliver, everything, fill, messages

CONFIGURATION = """
hostname = "mail.example.org"
[[listen]]
protocol = "pop3"
endpoint = "tcp:0:interface=127.0.0.1"
[stores.maildirs]
metadata = "sqlite:maildirs.db"
bodies = "file:maildirs-bodies"
maildrops = "maildir:{folder}/mail/{{name}}"
[stores.mboxes]
metadata = "sqlite:mboxes.db"
bodies = "file:mboxes-bodies"
maildrops = "mbox:{folder}/spool/{{name}}"
[stores.new]
metadata = "sqlite:new.db"
bodies = "file:new-bodies"
"""


class SpoolTests(TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        for name in ("mail", "spool"):
            (self.folder / name).mkdir(parents=True)
        self.file = self.folder / "mailgate.toml"
        self.file.write_text(CONFIGURATION.format(folder=self.folder))

    def store(self, name: str) -> Any:
        store = make_store(only(load(self.file), name), reactor, create=True)
        self.addCleanup(store.stop)
        return store

    async def copied(self, source: Any, target: Any) -> tuple[int, int, int]:
        copying = Copying(Wishes())
        await copying.work(source, target)
        return copying.counts.copied, copying.counts.verified, copying.findings

    async def test_maildirs(self) -> None:
        """There and back, folders and flags included; and a second time there is nothing to do."""
        source, maildirs, new = (self.store(name) for name in ("store", "maildirs", "new"))
        await source.start()
        await fill(source)
        wanted = await everything(source)
        for one, other in ((source, maildirs), (maildirs, new)):
            self.assertEqual(await self.copied(one, other), (19, 19, 0))
            self.assertEqual(await self.copied(one, other), (0, 0, 0))
        self.assertEqual(await everything(new), wanted)
        said: list[str] = []
        await Verifying(["maildirs"], said.append).work(maildirs)
        self.assertEqual(said, [])

    async def test_mboxes(self) -> None:
        """A file a maildrop: its INBOX goes there and back; folders have no place in it."""
        source, mboxes, new = (self.store(name) for name in ("store", "mboxes", "new"))
        await source.start()
        await fill(source)
        wanted = {place: found for place, found in (await everything(source))["mail"].items()
                  if place[1] == "INBOX"}
        self.assertEqual(await self.copied(source, mboxes), (17, 17, 1))
        self.assertEqual(await self.copied(mboxes, new), (17, 17, 0))
        self.assertEqual((await everything(new))["mail"], wanted)
        self.assertEqual(await self.copied(source, mboxes), (0, 0, 1), "the folder is told each time")

    async def test_a_copy_in_another_folder(self) -> None:
        """Other programs copy a file under its own name: both messages are copied, and once."""
        maildirs, new = self.store("maildirs"), self.store("new")
        await maildirs.start()
        await maildirs.accounts.add([Account("ann")])
        await deliver(maildirs, b"one\r\n", Placement("ann", None, Envelope(b"", b"ann", 5)))
        root = self.folder / "mail" / "ann"
        for part in ("cur", "new", "tmp"):
            (root / ".Sent" / part).mkdir(parents=True)
        (file,) = (root / "new").iterdir()
        (root / ".Sent" / "cur" / file.name).write_bytes(b"two\n")
        self.assertEqual(await self.copied(maildirs, new), (2, 2, 0))
        self.assertEqual(await self.copied(maildirs, new), (0, 0, 0))
        inbox, sent = await messages(new, "ann"), await messages(new, "ann", "Sent")
        self.assertEqual([one[-1] for one in inbox + sent], [b"one\r\n", b"two\r\n"])
        self.assertEqual(inbox[0][2], file.name.partition(",")[0].encode())

    async def test_a_disk_that_is_away(self) -> None:
        """An empty mount point has no mail: what was copied before stays where it is."""
        maildirs, new = self.store("maildirs"), self.store("new")
        await maildirs.start()
        await maildirs.accounts.add([Account("ann"), Account("bob")])
        for name in ("ann", "bob"):
            await deliver(maildirs, b"one\r\n", Placement(name, None, Envelope(b"", b"x", 5)))
        self.assertEqual(await self.copied(maildirs, new), (2, 2, 0))
        (self.folder / "mail").rename(self.folder / "away")
        (self.folder / "mail").mkdir()
        for there, pruned, findings in ((False, 0, 1), (True, 1, 0)):
            if there:       # but for one maildrop
                (self.folder / "away" / "ann").rename(self.folder / "mail" / "ann")
            copying = Copying(Wishes(prune=True))
            await copying.work(maildirs, new)
            self.assertEqual((copying.counts.pruned, copying.findings), (pruned, findings))
        self.assertEqual([len(await new.scan(name)) for name in ("ann", "bob")], [1, 0])
