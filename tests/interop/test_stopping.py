"""The service ends while clients are at work: they are told, nothing is lost, no lock is left."""

from __future__ import annotations

import poplib
import signal
from functools import partial
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.talk import PASSWORD, Raw, Session
from tests.interop.texts import HELLO, large
from tests.services import WAIT_SECONDS, Service, Site, wait_for

LEASE_SECONDS = 2
ENDED = -signal.SIGTERM      # twistd ends itself by the signal once all is done


class StoppingCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.site = Site(Path(self.mktemp()), accounts={"ann": PASSWORD, "bob": PASSWORD},
                         hosts={"xyz": ["p"]}, store=f"lease_seconds = {LEASE_SECONDS}")
        self.site.deliver(HELLO, "ann@mail.example.org", "bob@mail.example.org", "fred@xyz.mail.example.org")
        self.service = self.start()

    def start(self) -> Service:
        service = self.site.start()
        self.addCleanup(service.end)
        return service

    def login(self, name: str, password: str = PASSWORD) -> Session:
        session = Session(self.service.pop3_port, name, password)
        self.addCleanup(session.close)
        return session

    def talk(self) -> Raw:
        client = Raw(self.service.pop3_port)
        self.addCleanup(client.close)
        return client

    def assert_all_there(self) -> None:
        """Every maildrop can be opened at once, and holds its message."""
        for name, password in (("ann", PASSWORD), ("bob", PASSWORD), ("xyz", "p")):
            self.assertEqual(self.login(name, password).stat()[0], 1, name)


class SigtermTests(StoppingCase):
    def test_sessions_are_told(self) -> None:
        """SIGTERM: who waits for nothing is told -ERR [SYS/TEMP] and hung up on; nobody is let in."""
        clients = [self.talk() for _ in range(4)]
        clients[1].log_in("ann")
        clients[1].ask("DELE 1")
        clients[2].log_in("fred@xyz", "p")
        clients[2].ask("DELE 1")
        clients[3].ask("AUTH PLAIN")
        self.assertEqual(self.service.stop(), ENDED)
        for client in clients:
            self.assertRegex(client.line(), rb"\A-ERR \[SYS/TEMP\] ")
            self.assertEqual(client.line(), b"")
        self.assertRaises(ConnectionRefusedError, self.talk)
        self.service = self.start()
        self.assert_all_there()

    def test_in_the_middle_of_a_message(self) -> None:
        """A RETR that is half sent is cut, never ended as if it were whole."""
        self.site.deliver(large(20_000_000), "ann@mail.example.org")
        client = self.talk()
        client.log_in("ann")
        self.assertTrue(client.ask("RETR 2").startswith(b"+OK"))
        client.file.read(1000)
        self.assertEqual(self.service.stop(), ENDED)
        try:
            rest = client.file.read()
        except ConnectionResetError:
            rest = b""
        self.assertFalse(rest.endswith(b"\r\n.\r\n"))
        self.service = self.start()
        self.assertEqual(self.login("ann").stat()[0], 2)

    def test_quit_and_sigterm_at_once(self) -> None:
        """A QUIT that meets the end: with +OK the message is gone, without it the message is there."""
        client = self.talk()
        client.log_in("ann")
        client.ask("DELE 1")
        self.service.pause()
        client.say("QUIT")
        self.service.process.send_signal(signal.SIGTERM)
        self.service.resume()
        self.assertEqual(self.service.process.wait(WAIT_SECONDS), ENDED)
        answer = client.line()
        self.service = self.start()
        self.assertEqual(self.login("ann").stat()[0], 0 if answer.startswith(b"+OK") else 1, answer)


class SigkillTests(StoppingCase):
    def test_locks_end_with_the_lease(self) -> None:
        """A service that was killed removes nothing, and its locks end with its lease."""
        for name, password in (("ann", PASSWORD), ("fred@xyz", "p")):
            self.login(name, password).dele(1)
        self.service.kill()
        self.service = self.start()

        def opens(name: str, password: str) -> bool:
            try:
                self.login(name, password).quit()
            except poplib.error_proto as fault:
                self.assertIn("[IN-USE]", str(fault))
                return False
            return True

        for name, password in (("ann", PASSWORD), ("xyz", "p")):
            wait_for(partial(opens, name, password), "the lease to end")
        self.assert_all_there()

    def test_connections_end(self) -> None:
        """The client of a killed service sees the end of the connection, and no reply."""
        session = self.login("ann")
        self.service.kill()
        self.assertRaises((poplib.error_proto, OSError), session.quit)
        self.assertEqual(len(self.site.succeed("maildrop", "list", "ann").splitlines()), 1)
