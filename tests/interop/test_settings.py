"""Settings that change what clients meet: LAST, LOGIN-DELAY, EXPIRE, other checkers, no SDPS."""

from __future__ import annotations

import os
import poplib
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.house import House
from tests.interop.programs import Ran, contents, curl, fetchmail, mda_into
from tests.interop.talk import PASSWORD
from tests.interop.texts import HELLO, TEXTS
from tests.services import Site

BUSY, FETCHED = 9, 0        # fetchmail's exit codes

SECTIONS = """\
[[listen]]
protocol = "pop3"
endpoint = "tcp:0:interface=127.0.0.1"
plaintext_login = false
[[listen]]
protocol = "pop3"
endpoint = "tcp:0:interface=127.0.0.1"
checkers = ["people"]
[[checker]]
kind = "store"
[[checker]]
kind = "passwd-file"
name = "people"
path = "people"
[pop3]
last = true
sdps = false
expire = 30
"""

house = House(store="retention_days = 30", further=SECTIONS)
setUpModule, tearDownModule = house.open, house.close


@house.furnished
def furnish() -> None:
    (house.folder / "people").write_text("joan:{PLAIN}secret:1000:1000::/home/joan::\nuser9:{PLAIN}other\n")


class SettingsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(mode=0o700)

    def poll(self, port: int, name: str) -> Ran:
        """Run fetchmail once; it leaves the mail in the maildrop."""
        return fetchmail(port, self.folder, f'user "{name}" password "{PASSWORD}" is tester here sslproto "" '
                         f'keep {mda_into(self.folder / "mail")}')


class AnnouncedTests(SettingsCase):
    def test_capabilities(self) -> None:
        """CAPA says what is so, and leaves out what is not."""
        client = house.connect()
        self.addCleanup(client.close)
        capabilities = client.capa()
        self.assertEqual(capabilities["EXPIRE"], ["30"])
        self.assertNotIn("X-SDPS", capabilities)

    def test_last(self) -> None:
        """LAST tells the highest number that was fetched; fetchmail goes by its answer."""
        name = house.account()
        house.lmtp(HELLO, name)
        house.lmtp(TEXTS["dots"], name)
        with house.talk() as client:
            client.log_in(name)
            self.assertEqual(client.ask("LAST")[:5], b"+OK 0")
            client.ask("RETR 2")
            client.lines()
            self.assertEqual(client.ask("LAST")[:5], b"+OK 2")
        ran = self.poll(house.port, name)
        self.assertEqual(ran.code, FETCHED, ran.everything)
        self.assertIn("POP3> LAST\nfetchmail: POP3< +OK", ran.everything)
        self.assertEqual(len(contents(self.folder / "mail")), 2)

    def test_no_sdps(self) -> None:
        """Without SDPS *ENV is no command."""
        with house.talk() as client:
            client.log_in(house.account())
            self.assertTrue(client.ask("*ENV 1").startswith(b"-ERR"))

    def test_no_passwords_in_clear(self) -> None:
        """A listener without TLS that takes no passwords offers no way in, and no client sends one."""
        port = house.service.ports[2][1]
        ran = curl(port, "1", user="user0", folder=self.folder)
        self.assertNotEqual(ran.code, 0)
        self.assertNotIn("SASL", ran.told)
        self.assertNotIn("< USER", ran.told)
        self.assertNotIn("> PASS", ran.told)
        self.assertNotIn("> AUTH", ran.told)


class CheckerTests(SettingsCase):
    def test_people_of_a_file(self) -> None:
        """Who stands in a passwd-file logs in, has a maildrop, receives mail and fetches it."""
        house.lmtp(HELLO, "joan")
        ran = curl(house.port, "1", user="joan", folder=self.folder)
        self.assertEqual(ran.code, 0, ran.told)
        self.assertTrue(ran.out.endswith(HELLO))

    def test_checkers_of_a_listener(self) -> None:
        """A listener asks its own checkers only; what the file says of an account's name opens nothing."""
        port = house.service.ports[3][1]
        self.assertEqual(curl(port, "", user="joan", folder=self.folder).code, 0)
        self.assertEqual(curl(port, "", user="user8", folder=self.folder).code, 67)
        self.assertEqual(curl(port, "", user="user9", password="other", folder=self.folder).code, 67)
        self.assertEqual(curl(house.port, "", user="user8", folder=self.folder).code, 0)


class AccountChangeTests(SettingsCase):
    """What the command changes holds at the next login, although the service remembers successes."""

    def setUp(self) -> None:
        super().setUp()
        self.name = house.account()
        house.lmtp(HELLO, self.name)
        house.login(self.name).quit()

    def assert_refused(self, password: str = PASSWORD) -> None:
        self.assertRaisesRegex(poplib.error_proto, r"-ERR \[AUTH\]", house.login, self.name, password)

    def test_password(self) -> None:
        """The old password ends, the new one works; a session that is open goes on."""
        with house.login(self.name) as session:
            house.site.succeed("account", "passwd", self.name, "--password-stdin", stdin=b"new\n")
            session.dele(1)
        self.assert_refused()
        with house.login(self.name, "new") as session:
            self.assertEqual(session.stat()[0], 0)

    def test_disabled_and_enabled(self) -> None:
        """A disabled account is refused, still receives, and opens again when it is enabled."""
        house.site.succeed("account", "disable", self.name)
        self.assert_refused()
        house.lmtp(HELLO, self.name)
        house.site.succeed("account", "enable", self.name)
        with house.login(self.name) as session:
            self.assertEqual(session.stat()[0], 2)

    def test_removed(self) -> None:
        """A removed account is refused, and its mail is too; not while it has a session."""
        with house.login(self.name):
            self.assertEqual(house.site.command("account", "remove", self.name).returncode, os.EX_TEMPFAIL)
        house.site.succeed("account", "remove", self.name)
        self.assert_refused()
        self.assertEqual(house.site.command(
            "deliver", "--from", "", f"{self.name}@mail.example.org", stdin=HELLO).returncode, os.EX_NOUSER)


class LoginDelayTests(SettingsCase):
    def test_fetchmail_waits(self) -> None:
        """A login too soon is told [LOGIN-DELAY]: fetchmail takes it for busy, not for a bad password."""
        site = Site(self.folder / "site", accounts={"ann": PASSWORD},
                    further="[pop3]\nlogin_delay_seconds = 60\n")
        site.deliver(HELLO, "ann@mail.example.org")
        service = site.start()
        self.addCleanup(service.end)
        first = self.poll(service.pop3_port, "ann")
        self.assertEqual(first.code, FETCHED, first.everything)
        self.assertIn("POP3< LOGIN-DELAY 60", first.everything)
        second = self.poll(service.pop3_port, "ann")
        self.assertEqual(second.code, BUSY, second.everything)
        self.assertIn("-ERR [LOGIN-DELAY]", second.everything)
        self.assertNotIn("Authorization failure", second.everything)
