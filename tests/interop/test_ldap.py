"""A directory's users in a real service: real clients log in, and mail comes to their addresses."""

from __future__ import annotations

import os
import poplib
import smtplib
import subprocess
import time
from pathlib import Path
from typing import Any
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from mailgate.assembly.directory import ldap_faults
from mailgate.config import load
from mailgate.testing.certificates import Authority
from tests.directory import PEOPLE, READER, SUFFIX, Slapd, person
from tests.needs import needs
from tests.services import HOSTNAME, WAIT_SECONDS, Service, Site

ENTRIES = (person("alice", "secret", more=f"mail: alice@{HOSTNAME}\nmail: a.liddell@example.org\n")
           + person("mrose", "another") + person("twin", "x", rdn="cn=1") + person("twin", "x", rdn="cn=2"))
CHECKERS = """
[[checker]]
kind = "ldap"
name = "directory"
urls = ["{url}"]
starttls = true
ca_file = "{ca}"
search_base = "{base}"
search_filter = "(&(objectClass=inetOrgPerson)(uid={{user}}))"
mail_filter = "(|(uid={{user}})(mail={{login}}))"
maildrop_attribute = "uid"
bind_dn = "{reader}"
bind_password_file = "{secret}"
connect_seconds = {patience}
answer_seconds = {patience}
timeout_seconds = 50
[[checker]]
kind = "store"
"""
SLAPD: Any = None


def setUpModule() -> None:
    global SLAPD
    try:
        SLAPD = Slapd(ENTRIES)
    except SkipTest as missing:
        SLAPD = missing


def tearDownModule() -> None:
    if isinstance(SLAPD, Slapd):
        SLAPD.remove()


def checkers(**changes: str) -> str:
    return CHECKERS.format(**{"url": SLAPD.ldap, "ca": SLAPD.ca_file, "base": PEOPLE, "reader": READER,
                              "secret": SLAPD.password_file, "patience": "20.0", **changes})


class Case(SynchronousTestCase):
    def site(self, further: str) -> Site:
        if isinstance(SLAPD, SkipTest):
            raise SLAPD
        return Site(Path(self.mktemp()), accounts={"mrose": "secret", "carol": "rose"}, further=further)


class ServiceCase(Case):
    patience = 20.0             # with the directory, in seconds

    def setUp(self) -> None:
        self.start(self.site(checkers(patience=str(self.patience)) if isinstance(SLAPD, Slapd) else ""))

    def start(self, site: Site) -> None:
        self.house = site
        self.service: Service = site.start()
        self.addCleanup(self.service.end)

    def login(self, name: str, password: str) -> int | str:
        return self.service.messages_seen(name, password)

    def recipient(self, *addresses: str) -> list[int]:
        with smtplib.LMTP("127.0.0.1", self.service.lmtp_port, timeout=WAIT_SECONDS) as client:
            client.ehlo_or_helo_if_needed()
            client.mail("sender@example.org")
            return [client.rcpt(address)[0] for address in addresses]


class ServiceTests(ServiceCase):
    def test_mail_and_logins(self) -> None:
        """Mail to any address of an entry goes to its maildrop, by LMTP and the command."""
        with smtplib.LMTP("127.0.0.1", self.service.lmtp_port, timeout=WAIT_SECONDS) as client:
            client.sendmail(
                "sender@example.org", ["a.liddell@example.org"], b"Subject: one\r\n\r\nby LMTP\r\n")
        self.house.deliver(b"Subject: two\n\nby the command\n", f"alice@{HOSTNAME}")
        curl = subprocess.run(
            [needs("curl"), "-s", "--user", "Alice:secret", f"pop3://127.0.0.1:{self.service.pop3_port}/1"],
            capture_output=True, timeout=WAIT_SECONDS, check=True)
        self.assertIn(b"by LMTP", curl.stdout)
        self.assertEqual(self.login(f"alice@{HOSTNAME}", "secret"), 2)
        for name, password in (("alice", "wrong"), ("nobody", "secret"), ("twin", "x"), ("*", "secret"),
                               ("alice)(uid=*", "secret")):
            self.assertIn("[AUTH] login refused", str(self.login(name, password)))
        self.assertEqual(
            self.recipient(f"alice@{HOSTNAME}", f"nobody@{HOSTNAME}", "twin", "a.liddell@example.net",
                           f"carol@{HOSTNAME}"), [250, 550, 451, 550, 250])

    def test_no_password_of_a_directory_opens_an_account(self) -> None:
        self.assertIn("[AUTH]", str(self.login("mrose", "another")))
        self.assertEqual(self.login("mrose", "secret"), 0)
        self.assertIn("'mrose' is an account's; another checker vouched for it", self.service.log())

    def test_ends_while_it_waits(self) -> None:
        """A service that is told to end does not wait for a directory that stands still."""
        SLAPD.pause()
        try:
            client = poplib.POP3("127.0.0.1", self.service.pop3_port, timeout=WAIT_SECONDS)
            client.user("alice")
            client.sock.sendall(b"PASS secret\r\n")     # type: ignore[attr-defined]
            self.assertEqual(self.service.stop(), -15)
            client.close()
        finally:
            SLAPD.resume()


class OutageTests(ServiceCase):
    patience = 2.0

    def test_outages(self) -> None:
        """Gone, or standing still: users of the store are served, the directory's and their mail wait."""
        self.assertEqual(self.login("alice", "secret"), 0)
        for end, begin in ((SLAPD.stop, SLAPD.start), (SLAPD.pause, SLAPD.resume)):
            end()
            try:
                begun = time.monotonic()
                self.assertEqual(self.login("carol", "rose"), 0)
                self.assertIn("[SYS/TEMP]", str(self.login("alice", "not remembered")))
                self.assertEqual(self.login("alice", "secret"), 0)      # remembered
                self.assertEqual(
                    self.recipient(f"alice@{HOSTNAME}", f"nobody@{HOSTNAME}", f"carol@{HOSTNAME}"),
                    [451, 451, 250])
                self.assertLess(time.monotonic() - begun, WAIT_SECONDS)
            finally:
                begin()
        self.assertIn("no answer in time", self.service.log())
        self.assertEqual(self.service.stop(), -15)


class CheckTests(Case):
    def test_all_is_well(self) -> None:
        self.assertIn(b"all is well", self.site(checkers()).succeed("check"))

    def test_words(self) -> None:
        """What is wrong, with the setting that has to be looked at."""
        site = self.site(checkers(url="ldap://127.0.0.1:1"))
        ran = site.command("check")
        self.assertEqual((ran.returncode, ran.stderr.decode()), (os.EX_CONFIG, (
            f"mailgate: {site.file}: checker[0].urls: ldap://127.0.0.1:1: cannot connect: "
            "Connection refused\n")))
        (site.folder / "strange.pem").write_bytes(Authority().pem)
        (site.folder / "wrong.secret").write_text("wrong\n")
        for changes, setting, words in (
                ({"url": SLAPD.ldap.replace("127.0.0.1", "localhost")}, "urls", "not valid for 'localhost'"),
                ({"url": SLAPD.ldaps.replace("ldaps:", "ldap:")}, "urls", "it has closed the connection"),
                ({"ca": "strange.pem"}, "urls", "TLS: self-signed certificate"),
                ({"ca": "nowhere.pem"}, "ca_file", "nowhere.pem: No such file"),
                ({"secret": "nowhere"}, "bind_password_file", "nowhere: No such file"),
                ({"secret": "wrong.secret"}, "bind_dn", f"{READER}: invalid credentials"),
                ({"base": f"ou=nowhere,{SUFFIX}"}, "search_base", f"ou=nowhere,{SUFFIX}: no such object")):
            site.file.write_text(site.file.read_text().partition("[[checker]]")[0] + checkers(**changes))
            config = load(site.file)
            told, = ldap_faults(config, config.checkers[0])
            self.assertTrue(told.startswith(f".{setting}: "), told)
            self.assertIn(words, told)

    def test_without_a_search(self) -> None:
        """A template has nobody to ask as: the connection is what can be looked at. Every server is."""
        urls = f'"{SLAPD.ldapi}", "ldap://127.0.0.1:1", "ldap://ldap.invalid"'
        site = self.site(f'[[checker]]\nkind = "ldap"\nurls = [{urls}]\nstarttls = false\n'
                         f'user_dn = "uid={{user}},{PEOPLE}"\n')
        told = site.command("check").stderr.decode()
        self.assertIn("warning: checker[0].starttls: ldap://ldap.invalid:389: passwords go there", told)
        self.assertEqual(told.count("cannot connect"), 2, told)
