"""The sample filter and jail in etc/, by the real fail2ban, over what a real service has logged."""

from __future__ import annotations

import base64
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.house import House
from tests.interop.talk import CLIENT_SECONDS, PASSWORD
from tests.needs import needs
from tests.running import ROOT
from tests.services import wait_for

FILTER = ROOT / "etc/fail2ban/filter.d/mailgate.conf"
JAIL = ROOT / "etc/fail2ban/jail.d/mailgate.conf"
STAMP = "2026-03-01T12:00:00+0000"
FAKE = 'login refused for 192.0.2.66 (pop3, USER) as "x": no such account'
HOSTILE = [
    "192.0.2.66", "x from 192.0.2.66 refused: no", f"{STAMP} [mailgate.login#info] {FAKE}",
    f'" {FAKE}', f'\\" {FAKE}', f"\n{STAMP} [mailgate.login#info] {FAKE}",
    f"\r\n [mailgate.login#info] {FAKE}",
    f"\u2028 [mailgate.login#info] {FAKE}", f"\x00 [mailgate.login#info] {FAKE}", "rhost=192.0.2.66",
    f"\t [mailgate.login#info] {FAKE}", "%(known)s <HOST> ${ip}", "\x85192.0.2.66", "\\", '"', "x" * 200]

house = House(accounts=1)
setUpModule, tearDownModule = house.open, house.close


def say(source: str, *lines: bytes) -> None:
    """Say lines from an address of this machine, each answered before the next."""
    with socket.create_connection(("127.0.0.1", house.port), CLIENT_SECONDS, (source, 0)) as client:
        answers = client.makefile("rb")
        answers.readline()
        for line in lines:
            client.sendall(line + b"\r\n")
            answers.readline()


def found(log: str) -> list[str]:
    """Return the addresses that the filter blames, in the order of the lines."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="") as file:
        file.write(log)
        file.flush()
        ran = subprocess.run([needs("fail2ban-regex"), "-o", "ip", file.name, str(FILTER)],
                             capture_output=True, text=True, check=True, timeout=CLIENT_SECONDS)
    return ran.stdout.split()


class FilterTests(SynchronousTestCase):
    def test_over_a_service(self) -> None:
        """Whatever a name says, the filter blames who said it; and nobody for anything else."""
        own = []
        for number, name in enumerate(HOSTILE):
            source = f"127.0.7.{number + 1}"
            response = base64.b64encode(b"\0" + name.encode() + b"\0wrong")
            if "\0" in name:        # no name for PLAIN
                say(source, b"USER " + name.encode().replace(b"\r\n", b""), b"PASS wrong")
            else:
                say(source, b"AUTH PLAIN " + response)
            own.append(source)
        client_first = base64.b64encode(b"n,,n=user0,r=abcdefgh")
        say("127.0.8.1", b"USER user0", b"PASS wrong")
        say("127.0.8.2", b"AUTH SCRAM-SHA-256 " + client_first)
        say("127.0.8.3", b"AUTH SCRAM-SHA-256 " + client_first, b"*")
        own += ["127.0.8.1", "127.0.8.2", "127.0.8.3"]
        say("127.0.9.1", b"USER user0", b"PASS " + PASSWORD.encode())
        say("127.0.9.2", b"XYZZY " + FAKE.encode(), b"QUIT")
        say("127.0.9.3", b"AUTH PLAIN", b"*")
        say("127.0.9.4", f"USER {FAKE}".encode())
        for source in own:
            wait_for(lambda: f"for {source} (pop3" in house.service.log(), source)      # noqa: B023
        self.assertEqual(sorted(found(house.service.log())), sorted(own))

    def test_forms(self) -> None:
        """As it stands in a log file, as the journal hands it over, and IPv6; no other lines."""
        line = "[mailgate.login#info] login refused for {} (pop3+tls, SCRAM-SHA-256-PLUS) as \"m\": why"
        matching = [f"{STAMP} " + line.format("192.0.2.1"), f"{STAMP} " + line.format("2001:db8::1"),
                    f"{STAMP} mail twistd[812]: {STAMP} " + line.format("192.0.2.3")]
        others = [f"{STAMP} " + line.format(who) for who in ("local", "unknown", "localhost", "example.org")]
        others += [f"{STAMP} [other#info] {FAKE}", f"{STAMP} [-] x\n\t[mailgate.login#info] {FAKE}",
                   f"{STAMP} [mailgate.login#info] {FAKE.replace('refused', 'put off')}"]
        self.assertEqual(found("\n".join([*matching, *others, ""])),
                         ["192.0.2.1", "2001:db8::1", "192.0.2.3"])

    def test_jail(self) -> None:
        """fail2ban takes both files, and would start the jail."""
        folder = Path(tempfile.mkdtemp(prefix="mailgate-fail2ban-"))
        self.addCleanup(shutil.rmtree, folder)
        settings, jail = folder / "fail2ban", JAIL.read_text()
        shutil.copytree("/etc/fail2ban", settings, ignore=shutil.ignore_patterns("jail.d"))
        (settings / "jail.d").mkdir()
        shutil.copy(FILTER, settings / "filter.d")
        log = folder / "twistd.log"
        log.touch()
        self.assertIn("/var/log/mailgate/twistd.log", jail)
        (settings / "jail.d/mailgate.conf").write_text(
            jail.replace("/var/log/mailgate/twistd.log", str(log)))
        client = [needs("fail2ban-client"), "-c", str(settings)]
        for option, said in (("-t", "successful"), ("-d", "['start', 'mailgate']"), ("-d", str(log))):
            ran = subprocess.run([*client, option], capture_output=True, text=True, check=False,
                                 timeout=CLIENT_SECONDS)
            self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
            self.assertIn(said, ran.stdout)
