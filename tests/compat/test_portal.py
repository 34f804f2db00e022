"""mailgate.compat.portal: a configuration file as a portal, opened with its first login."""

from __future__ import annotations

import poplib
import tempfile
from pathlib import Path
from typing import Any

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, DeferredList
from twisted.internet.protocol import ServerFactory
from twisted.internet.threads import deferToThread
from twisted.mail import pop3
from twisted.mail.interfaces import IMailboxPOP3
from twisted.trial.unittest import TestCase

from mailgate import compat
from mailgate.errors import ConfigurationError, MaildropInUse, StoreUnavailable
from mailgate.interfaces import IMaildrop
from mailgate.model import Account, Envelope, Placement

CONFIGURATION = """\
hostname = "mail.example.org"
[store]
metadata = "sqlite:{folder}mail.db"
[limits]
failure_delay_seconds = 0
[[listen]]
protocol = "pop3"
endpoint = "tcp:1110:interface=127.0.0.1"
"""
MROSE = UsernamePassword(b"mrose", b"secret")


class PortalTests(TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def portal(self, folder: str = "") -> Any:
        file = self.folder / "mailgate.toml"
        file.write_text(CONFIGURATION.format(folder=folder))
        portal = compat.portal(file, reactor=reactor)
        self.addCleanup(portal.stop)
        return portal

    async def filled(self) -> Any:
        """Return a portal over a store with an account and two messages."""
        portal = self.portal()
        await portal.start()
        await portal.store.accounts.add([Account("mrose", verifiers=("{PLAIN}secret",))])
        for message in (b"Subject: one\r\n\r\n.\r\n", b"Subject: two\r\n\r\n" + b".x\r\n" * 60_000):
            delivery = portal.store.deliver()
            delivery.write(message)
            placement = Placement("mrose", None, Envelope(b"", b"mrose@mail.example.org", 0))
            self.assertEqual(await delivery.commit([placement]), [None])
        return portal

    async def test_both_interfaces(self) -> None:
        portal = await self.filled()
        interface, mailbox, logout = await portal.login(MROSE, None, IMailboxPOP3)
        self.assertIs(interface, IMailboxPOP3)
        self.assertEqual(mailbox.listMessages(), [19, 16 + 4 * 60_000])
        await self.assertFailure(portal.login(MROSE, None, IMaildrop), MaildropInUse)
        await logout()
        interface, maildrop, logout = await portal.login(MROSE, None, IMaildrop)
        self.assertIs(interface, IMaildrop)
        self.assertEqual(len(maildrop.listing), 2)
        await logout()

    async def test_refusals(self) -> None:
        portal = await self.filled()
        for credentials in (UsernamePassword(b"mrose", b"wrong"), UsernamePassword(b"nobody", b"secret")):
            await self.assertFailure(portal.login(credentials, None, IMailboxPOP3), UnauthorizedLogin)

    async def test_checkers_of_the_application(self) -> None:
        portal = self.portal()
        portal.checkers.clear()
        portal.registerChecker(InMemoryUsernamePasswordDatabaseDontUse(rose=b"other"))
        _, mailbox, logout = await portal.login(UsernamePassword(b"rose", b"other"), None, IMailboxPOP3)
        self.assertEqual(mailbox.listMessages(), [])
        await logout()

    async def test_the_first_login_opens_the_store(self) -> None:
        """Not the making of the portal: a server may fork after that."""
        portal = self.portal()
        self.assertFalse((self.folder / "mail.db").exists())
        both = [portal.login(MROSE, None, IMailboxPOP3) for _ in range(2)]
        both[0].cancel()        # one of two clients goes; the other's login goes on
        ended = await DeferredList(both, consumeErrors=True)
        self.assertTrue((self.folder / "mail.db").exists())
        self.assertTrue(ended[0][1].check(CancelledError))
        self.assertTrue(ended[1][1].check(UnauthorizedLogin))

    async def test_a_store_that_does_not_open_is_tried_again(self) -> None:
        portal = self.portal(folder="elsewhere/")
        await self.assertFailure(portal.login(MROSE, None, IMailboxPOP3), StoreUnavailable)
        (self.folder / "elsewhere").mkdir()
        await self.assertFailure(portal.login(MROSE, None, IMailboxPOP3), StoreUnavailable)
        await (await self.filled()).stop()
        (self.folder / "mail.db").rename(self.folder / "elsewhere" / "mail.db")     # its disk is mounted
        _, _, logout = await portal.login(MROSE, None, IMailboxPOP3)
        await logout()

    async def test_stopping(self) -> None:
        portal = await self.filled()
        await portal.login(MROSE, None, IMailboxPOP3)
        await portal.stop()
        await portal.stop()
        await self.assertFailure(portal.login(MROSE, None, IMailboxPOP3), StoreUnavailable)
        again = self.portal()
        _, _, logout = await again.login(MROSE, None, IMailboxPOP3)     # no lease was left
        await logout()

    async def test_stopping_while_it_opens(self) -> None:
        portal = self.portal()
        opening = portal.login(MROSE, None, IMailboxPOP3)
        await portal.stop()
        await self.assertFailure(opening, StoreUnavailable)

    async def test_the_reactors_end_stops_it(self) -> None:
        portal = await self.filled()
        events = [event for event, *_ in reactor._eventTriggers["shutdown"].during]
        stop = next(event for event in reversed(events) if "ConfiguredPortal" in event.__qualname__)
        await portal.login(MROSE, None, IMailboxPOP3)
        await stop()
        await self.assertFailure(portal.login(MROSE, None, IMailboxPOP3), StoreUnavailable)

    def test_mistakes_are_told_at_once(self) -> None:
        file = self.folder / "mailgate.toml"
        file.write_text("hostname = 7\n")
        self.assertRaises(ConfigurationError, compat.portal, file, reactor=reactor)

    async def fetch(self, protocol: Any, portal: Any) -> None:
        """Read and delete by poplib, over a socket, through a protocol class."""
        factory = ServerFactory()
        factory.noisy = False       # type: ignore[assignment]
        factory.protocol = protocol

        def build(address: Any) -> Any:
            server = ServerFactory.buildProtocol(factory, address)
            server.portal = portal          # type: ignore[union-attr]
            return server

        factory.buildProtocol = build       # type: ignore[method-assign]
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)

        def client() -> list[Any]:
            pop = poplib.POP3("127.0.0.1", port.getHost().port, timeout=30)
            pop.user("mrose")
            pop.pass_("secret")
            seen = [pop.stat(), pop.retr(1)[1], len(pop.retr(2)[1]), pop.top(2, 1)[1]]
            pop.dele(2)
            pop.quit()
            return seen

        stat, first, lines, top = await deferToThread(client)
        self.assertEqual((stat, first, lines, top), (
            (2, 35 + 4 * 60_000), [b"Subject: one", b"", b"."], 60_002, [b"Subject: two", b"", b".x"]))
        self.assertEqual([listed.octets for listed in await portal.store.scan("mrose")], [19])

    async def test_under_our_class(self) -> None:
        await self.fetch(compat.POP3, await self.filled())

    async def test_under_twisteds_class(self) -> None:
        class Stock(pop3.POP3):
            timeOut = None      # type: ignore[assignment]

        await self.fetch(Stock, await self.filled())


