"""A configured merge: what is built, checked and kept house of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailgate.assembly.store import make_store
from mailgate.compat import portal
from mailgate.config import load
from mailgate.config.stores import only
from mailgate.model import Account, Admission, Envelope, Placement
from tests.services import Site

MERGE = """
hostname = "mail.example.org"
[store]
merge = ["a", "b"]
deliver_to = "b"
[[listen]]
protocol = "pop3"
endpoint = "tcp:0:interface=127.0.0.1"
[stores.a]
metadata = "sqlite:a.db"
bodies = "file:a"
[stores.b]
metadata = "sqlite:b.db"
bodies = "file:b"
optional = true
"""


class MergeTests(TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.file = self.folder / "mailgate.toml"
        self.file.write_text(MERGE)

    async def opened(self, config: Any) -> Any:
        store = make_store(config, reactor, create=True)
        await store.start()
        self.addCleanup(store.stop)
        return store

    async def put(self, store: Any, content: bytes) -> None:
        delivery = store.deliver()
        delivery.write(content)
        envelope = Envelope(b"", b"mrose@example.org", 1)
        self.assertEqual(await delivery.commit([Placement("mrose", None, envelope, account=True)]), [None])

    async def test_built_from_its_sections(self) -> None:
        """Accounts in [store], mail in both others, new mail in the one that is to take it."""
        config = load(self.file)
        merged = await self.opened(config)
        await merged.accounts.add([Account("mrose")])
        await self.put(merged, b"new\r\n")
        part = await self.opened(only(config, "b"))
        self.assertEqual(len(await part.scan("mrose")), 1)
        main = await self.opened(only(config, "store"))
        self.assertEqual([one.name for one in await main.accounts.list()], ["mrose"])
        self.assertEqual(await main.scan("mrose"), [])
        account = await merged.accounts.get("mrose")
        session = await merged.open(Admission("mrose", account="mrose", version=account.version))
        self.assertTrue(session.listing.unique_id(0).startswith(b"b:"))
        await session.release()
        self.assertEqual(sorted(path.name for path in self.folder.glob("*.db")), ["a.db", "b.db", "mail.db"])

    async def test_for_embedding(self) -> None:
        """`compat.portal` gives the maildrops of the merge as well."""
        opened = portal(str(self.file))
        await opened.start()
        self.assertEqual(sorted(path.name for path in self.folder.glob("*.db")), ["a.db", "b.db", "mail.db"])
        await opened.stop()


class CheckTests(SynchronousTestCase):
    def test_every_part_is_looked_at(self) -> None:
        """What is wrong with one is told under its section's name; what is optional too."""
        folder = Path(self.mktemp()).absolute()
        site = Site(folder, accounts={"mrose": "secret"})
        site.file.write_text(MERGE.replace("sqlite:b.db", "sqlite:away/b.db"))
        ran = site.command("check")
        said = ran.stderr.decode().splitlines()
        self.assertEqual(ran.returncode, os.EX_CONFIG, ran)
        self.assertEqual(len(said), 1, said)
        self.assertIn(f"stores.b.metadata: there is no {folder}/away/b.db", said[0])
        site.file.write_text(MERGE)
        ran = site.command("check")
        self.assertEqual(ran.returncode, 0, ran)
        self.assertIn("a.db: not there yet", ran.stdout.decode())
        self.assertFalse((folder / "a.db").exists(), "a check makes nothing")
        site.deliver(b"Subject: x\n\nhello\n", "mrose@mail.example.org")
        self.assertEqual(site.command("check").returncode, 0)
        self.assertEqual(len(site.succeed("maildrop", "list", "mrose").splitlines()), 1)
