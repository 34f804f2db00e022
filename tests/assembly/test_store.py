"""When a missing database is made anew, and when it is an outage."""

from __future__ import annotations

from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from mailgate.assembly.store import make_store
from mailgate.config import Config, parse
from mailgate.errors import StoreUnavailable

CONFIGURATION = """
hostname = "mail.example.org"
[store]
metadata = "sqlite:{metadata}"
bodies = "file:{bodies}"
[[listen]]
protocol = "pop3"
endpoint = "tcp:0:interface=127.0.0.1"
"""


class MissingDatabaseTests(TestCase):
    """A service is started, and there is no database."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    def configured(self, metadata: str, bodies: str = "bodies") -> Config:
        return parse(CONFIGURATION.format(metadata=metadata, bodies=bodies).encode(), folder=self.folder)

    async def opens(self, config: Config, *, create: bool = False) -> None:
        store = make_store(config, reactor, create=create)
        await store.start()
        await store.stop()

    async def test_beside_the_configuration(self) -> None:
        """It is made, whichever way its path is written."""
        for metadata in ("mail.db", "./mail.db", f"{self.folder}/other.db"):
            await self.opens(self.configured(metadata))
        self.assertTrue((self.folder / "mail.db").exists() and (self.folder / "other.db").exists())

    async def test_in_a_folder_of_its_own(self) -> None:
        """A disk that is not mounted leaves an empty folder: no empty store is made in it."""
        (self.folder / "data").mkdir()
        for metadata in ("data/mail.db", f"{self.folder}/data/mail.db"):
            fault = await self.assertFailure(self.opening(metadata), StoreUnavailable)
            self.assertIn(f"there is no {self.folder}/data/mail.db", str(fault))
            self.assertIn("mounted", str(fault))
        self.assertEqual(list((self.folder / "data").iterdir()), [])

    async def test_behind_a_link(self) -> None:
        """What leads to another folder is of another folder."""
        (self.folder / "data").mkdir()
        (self.folder / "mail.db").symlink_to("data/mail.db")
        await self.assertFailure(self.opening("mail.db"), StoreUnavailable)
        self.assertEqual(list((self.folder / "data").iterdir()), [])

    async def test_a_command_makes_it(self) -> None:
        """`init` and `account add` ask for it; the service then opens it."""
        (self.folder / "data").mkdir()
        config = self.configured("data/mail.db", "data/bodies")
        await self.opens(config, create=True)
        await self.opens(config)

    def opening(self, metadata: str) -> Deferred[None]:
        return Deferred.fromCoroutine(self.opens(self.configured(metadata)))
