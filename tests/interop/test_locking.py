"""Locks as clients meet them: one session a maildrop, views of a host together, the host alone."""

from __future__ import annotations

import poplib
import smtplib
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.house import House
from tests.interop.programs import contents, curl, fetchmail, getmail, mda_into, mpop
from tests.interop.talk import PASSWORD, Session
from tests.interop.texts import HELLO

BUSY = 9        # fetchmail's exit code for a maildrop that another session has

LEASE_SECONDS = 3           # a service that stands still for two thirds of it loses its sessions

house = House(hosts={"xyz": ("p", "q")}, store=f"lease_seconds = {LEASE_SECONDS}")
setUpModule, tearDownModule = house.open, house.close


class LockCase(SynchronousTestCase):
    def assert_in_use(self, name: str, password: str = "secret") -> None:
        self.assertRaisesRegex(poplib.error_proto, r"-ERR \[IN-USE\]", house.login, name, password)


class OrdinaryTests(LockCase):
    def setUp(self) -> None:
        self.name = house.account()
        house.lmtp(HELLO, self.name)
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(mode=0o700)

    def test_second_session(self) -> None:
        """A second session is told [IN-USE], in any spelling of the name, until the first ends."""
        with house.login(self.name):
            self.assert_in_use(self.name)
            self.assert_in_use(self.name.upper())
            self.assert_in_use(f"{self.name}@mail.example.org")
        house.login(self.name).quit()

    def test_wrong_password_is_not_told_of_the_lock(self) -> None:
        """Only who knows the password learns that the maildrop is in use."""
        with house.login(self.name):
            self.assertRaisesRegex(poplib.error_proto, r"-ERR \[AUTH\]", house.login, self.name, "wrong")

    def test_refused_session_may_try_again(self) -> None:
        """After [IN-USE] the same connection logs in, once the maildrop is free."""
        first = house.login(self.name)
        with house.talk() as second:
            self.assertTrue(second.log_in(self.name).startswith(b"-ERR [IN-USE]"))
            first.quit()
            self.assertTrue(second.log_in(self.name).startswith(b"+OK"))

    def test_vanished_client(self) -> None:
        """A client that hangs up without a word leaves the maildrop free, and what it marked."""
        first = house.login(self.name)
        first.dele(1)
        first.close()
        with house.login(self.name) as second:
            self.assertEqual(second.stat()[0], 1)

    def test_delivery_does_not_wait(self) -> None:
        """Mail comes in, by LMTP and by the command, while a session is open."""
        with house.login(self.name):
            house.lmtp(HELLO, self.name)
            house.site.deliver(HELLO, f"{self.name}@mail.example.org")
        self.assertEqual(house.held(self.name), 3)

    def test_longer_than_a_lease(self) -> None:
        """A session that says nothing for longer than a lease keeps its lock, and its QUIT removes."""
        with house.login(self.name) as first:
            first.dele(1)
            time.sleep(1.5 * LEASE_SECONDS)
            self.assert_in_use(self.name)
        self.assertEqual(house.held(self.name), 0)

    def test_two_services_on_one_store(self) -> None:
        """Another process on the same store keeps to the lock, takes mail, and serves what the first took."""
        other = house.site.start()
        self.addCleanup(other.end)
        with house.login(self.name) as first:
            self.assertRaisesRegex(poplib.error_proto, r"-ERR \[IN-USE\]",
                                   Session, other.pop3_port, self.name, PASSWORD)
            ids = first.unique_ids()
        with smtplib.LMTP("127.0.0.1", other.lmtp_port) as client:
            client.sendmail("a@example.org", f"{self.name}@mail.example.org", HELLO)
        with Session(other.pop3_port, self.name, PASSWORD) as second:
            self.assert_in_use(self.name)
            self.assertEqual(second.unique_ids()[:1], ids)
            second.dele(1)
        with house.login(self.name) as first:
            self.assertEqual(first.stat()[0], 1)
            self.assertNotIn(ids[0], first.unique_ids())

    def test_what_programs_make_of_it(self) -> None:
        """fetchmail says busy and asks for no other password; no program fetches or removes anything."""
        with house.login(self.name):
            ran = fetchmail(house.port, self.folder, f'user "{self.name}" password "secret" sslproto "" '
                            f'{mda_into(self.folder / "mail")}')
            self.assertEqual(ran.code, BUSY, ran.everything)
            self.assertIn("lock busy", ran.everything.lower())
            self.assertNotIn("Authorization failure", ran.everything)
            self.assertEqual(contents(self.folder / "mail"), [])
            for ran in (curl(house.port, "1", user=self.name, folder=self.folder),
                        mpop(self.folder / "mpop", house.port, self.name),
                        getmail(self.folder / "getmail", house.port,
                                {"type": "SimplePOP3Retriever", "username": self.name})):
                self.assertNotEqual(ran.code, 0)
                self.assertIn("[IN-USE]", ran.everything)
        self.assertEqual(house.held(self.name), 1)


class HostTests(LockCase):
    def setUp(self) -> None:
        house.lmtp(HELLO, "fred@xyz.mail.example.org", "jim@xyz.mail.example.org")

    def test_views_together(self) -> None:
        """Different users of a host are served together; the same user twice is not."""
        with house.login("fred@xyz", "p"), house.login("jim+xyz", "q"), house.login("nobody@xyz", "p"):
            for name in ("fred@xyz", "FRED+xyz.mail.example.org"):
                self.assert_in_use(name, "p")

    def test_host_alone(self) -> None:
        """The host's session excludes every user's, and every user's excludes the host's."""
        with house.login("xyz", "p"):
            for name in ("fred@xyz", "nobody@xyz", "xyz"):
                self.assert_in_use(name, "p")
        with house.login("fred@xyz", "p"):
            self.assert_in_use("xyz", "q")
            self.assert_in_use("xyz.mail.example.org", "q")
        house.login("xyz", "p").quit()

    def test_views_remove_their_own(self) -> None:
        """Two views that quit one after the other remove what each had marked, and nothing else."""
        with house.login("xyz", "p") as host:
            before = host.stat()[0]
        with house.login("fred@xyz", "p") as fred, house.login("jim@xyz", "p") as jim:
            fred.dele(1)
            jim.dele(1)
        with house.login("xyz", "p") as host:
            self.assertEqual(host.stat()[0], before - 2)
