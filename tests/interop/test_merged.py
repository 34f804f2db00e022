"""Two stores, one maildrop: a real service and poplib, while a store is away and when it is back."""

from __future__ import annotations

import poplib
from pathlib import Path
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from tests.services import Service, Site, wait_for

PUNT = """
[stores.docklands]
metadata = "sqlite:docklands/mail.db"
bodies = "file:docklands/bodies"
inline_octets = 0
"""
MERGE = 'merge = ["store", "docklands"]'
MESSAGE = b"Subject: %s\n\nfrom %s\n"


class PuntTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Each punt gets its mail by a configuration of its own, as if it were a machine of its own."""
        folder = Path(self.mktemp()).absolute()
        self.other = Site(folder / "docklands", hosts={"xyz": ["quite another"]})
        self.deliver(self.other, b"docklands")
        Site(folder, hosts={"xyz": ["login", "pop3"]})
        self.site = Site(folder, store=MERGE, further=PUNT)
        self.deliver(self.site, b"finchley")

    def deliver(self, site: Site, place: bytes) -> None:
        recipients = [f"{user}@xyz.mail.example.org" for user in ("fred", "jim")]
        site.deliver(MESSAGE % (b"hello", place), *recipients, sender="a@b.example")

    def session(self, service: Service, name: str = "xyz") -> poplib.POP3:
        client = poplib.POP3("127.0.0.1", service.pop3_port, timeout=60)
        client.user(name)
        client.pass_("pop3")
        return client

    def bodies(self, client: poplib.POP3) -> list[bytes]:
        """Return the last line of each message."""
        return [client.retr(number + 1)[1][-1] for number in range(client.stat()[0])]

    def test_one_away_and_back(self) -> None:
        """S12: a login is put off while one is away; then there is one maildrop, for every command."""
        away = self.site.folder / "away"
        (self.site.folder / "docklands").rename(away)
        service = self.site.start()
        self.addCleanup(service.end)
        refused = service.messages_seen("xyz", "pop3")
        self.assertRegex(str(refused), r"^b'-ERR \[SYS/TEMP\] ")
        self.assertIn("store docklands", service.log())
        away.rename(self.site.folder / "docklands")
        wait_for(lambda: "store docklands is open at last" in service.log(), "the store to be back")
        client = self.session(service)
        self.assertEqual(self.bodies(client), [b"from finchley"] * 2 + [b"from docklands"] * 2)
        lines: list[bytes] = cast(Any, client)._longcmd("*ENV 4")[1]
        self.assertEqual(lines[1:], [b"jim", b"a@b.example", b"jim@xyz.mail.example.org"])
        ids = [line.split()[1] for line in client.uidl()[1]]
        self.assertEqual([one.startswith(b"docklands:") for one in ids], [False, False, True, True])
        client.dele(1)
        client.dele(4)
        client.quit()
        self.assertEqual(service.messages_seen("xyz", "pop3"), 2)
        fred = self.session(service, "fred@xyz")
        self.assertEqual([line.split()[1] for line in fred.uidl()[1]], [ids[2]])
        fred.quit()
        jim = self.session(service, "jim+xyz")
        self.assertEqual(self.bodies(jim), [b"from finchley"])
        jim.quit()
        self.site.deliver(MESSAGE % (b"new", b"here"), "fred@xyz.mail.example.org")
        listed = self.site.succeed("maildrop", "list", "xyz").splitlines()
        self.assertEqual([line.split(b"\t")[2] for line in listed][2], ids[2])
        self.assertEqual(len(self.other.succeed("maildrop", "list", "xyz").splitlines()), 1)
        self.assertEqual(service.stop(), -15)
