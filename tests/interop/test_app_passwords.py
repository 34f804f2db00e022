"""App passwords, addresses and adopted maildrops: the real command beside the real service, by poplib."""

from __future__ import annotations

import poplib
import re

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.house import House
from tests.interop.talk import PASSWORD
from tests.interop.texts import HELLO
from tests.services import HOSTNAME

SETTINGS = """\
[[checker]]
kind = "store"
[[checker]]
kind = "passwd-file"
path = "users"
"""
house = House(accounts=4, hosts={"xyz": ("one", "two")}, further=SETTINGS)
setUpModule, tearDownModule = house.open, house.close


@house.furnished
def furnish() -> None:
    (house.folder / "users").write_text("alice:{PLAIN}hers\n")


class ServiceCase(SynchronousTestCase):
    def command(self, *arguments: str, stdin: bytes = b"") -> str:
        return house.site.succeed("account", *arguments, stdin=stdin).decode()

    def opens(self, name: str, password: str) -> int:
        """Log in and out; return how many messages there are."""
        with house.login(name, password) as client:
            return client.stat()[0]

    def refused(self, name: str, password: str) -> None:
        """See a login refused, and as what."""
        self.assertRaisesRegex(poplib.error_proto, r"-ERR \[AUTH\]", house.login, name, password)


class AppPasswordTests(ServiceCase):
    def test_two_devices(self) -> None:
        """Both log in; one is revoked and logs in no more, remembered or not; the other does."""
        name = house.account()
        house.lmtp(HELLO, name)
        phone, tablet = (self.command("password", "add", name, one).strip() for one in ("phone", "tablet"))
        self.command("password", "add", name, "old laptop", "--password-stdin", stdin=b"chosen\n")
        for password in (phone, phone, phone.upper(), tablet, "chosen", PASSWORD):
            self.assertEqual(self.opens(name, password), 1)
        lines = [line.split("\t") for line in self.command("password", "list", name).splitlines()]
        self.assertEqual([line[0] for line in lines], ["old laptop", "phone", "tablet"])
        self.assertEqual([line[3] for line in lines], ["ARGON2ID", "SSHA512", "SSHA512"])
        for line in lines:
            self.assertRegex(line[2], r"\A20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ 127\.0\.0\.1\Z")
        told = re.findall(rf"login of {name}: app password '(.*)', from 127\.0\.0\.1", house.service.log())
        self.assertEqual(told, ["phone", "phone", "phone", "tablet", "old laptop"])
        self.command("password", "revoke", name, "phone")
        self.refused(name, phone)
        for password in (tablet, "chosen", PASSWORD):
            self.assertEqual(self.opens(name, password), 1)
        again = self.command("password", "add", name, "phone").strip()
        self.refused(name, phone)
        self.assertEqual(self.opens(name, again), 1)
        self.assertNotIn(again, house.service.log())

    def test_nothing_but_app_passwords(self) -> None:
        """The own password is gone; disabling holds for the rest too."""
        name = house.account()
        phone = self.command("password", "add", name, "phone").strip()
        self.command("passwd", name, "--none")
        self.refused(name, PASSWORD)
        self.assertEqual(self.opens(f"{name}@{HOSTNAME}", phone), 0)
        self.command("disable", name)
        self.refused(name, phone)
        self.command("enable", name)
        self.assertEqual(self.opens(name, phone), 0)

    def test_sdps_host(self) -> None:
        """Opens every view, as the host's own passwords do."""
        house.lmtp(HELLO, f"fred@xyz.{HOSTNAME}")
        router = self.command("password", "add", "xyz", "router").strip()
        for login, messages in (("fred@xyz", 1), ("sam+xyz", 0), ("xyz", 1)):
            self.assertEqual(self.opens(login, router), messages)


class ChangeTests(ServiceCase):
    def test_address(self) -> None:
        """Mail and logins by a new address, and none once it is gone, remembered or not."""
        name = house.account()
        self.command("address", "add", name, "rose@example.net")
        house.lmtp(HELLO, "rose@example.net")
        self.assertEqual(self.opens("Rose@example.net", PASSWORD), 1)
        self.command("address", "remove", name, "rose@example.net")
        self.refused("Rose@example.net", PASSWORD)
        self.assertRaises(AssertionError, house.lmtp, HELLO, "rose@example.net")
        self.assertEqual(self.opens(name, PASSWORD), 1)

    def test_adopted_maildrop(self) -> None:
        """A user of the passwd-file becomes an account: mail and unique-ids stay, his password does not."""
        house.lmtp(HELLO, "alice")
        with house.login("alice", "hers") as client:
            before = client.unique_ids()
        refused = house.site.command("account", "add", "alice", "--password-stdin", stdin=b"new\n")
        self.assertEqual(refused.returncode, 65)
        self.command("add", "alice", "--adopt", "--password-stdin", stdin=b"new\n")
        with house.login("alice", "new") as client:
            self.assertEqual((client.unique_ids(), len(before)), (before, 1))
        self.refused("alice", "hers")
