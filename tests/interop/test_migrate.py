"""`mailgate migrate pop3` from real servers; what clients that knew them then fetch here: nothing twice."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing.certificates import Authority
from tests.interop.house import House
from tests.interop.programs import contents, fetchmail, getmail, mda_into
from tests.interop.talk import PASSWORD
from tests.peers import dovecot_service, mail
from tests.peers.dovecot_service import MASTER, MASTER_PASSWORD, DovecotService
from tests.peers.inetd import Inetd, talk
from tests.peers.rooms import PASSWORD as ROOM_PASSWORD
from tests.peers.rooms import USER as ROOM_USER
from tests.peers.servers import popa3d
from tests.services import Site

house = House(accounts=40)
_dovecot: list[DovecotService] = []
setUpModule = house.open


def tearDownModule() -> None:
    house.close()
    for one in _dovecot:
        one.end()


def dovecot() -> DovecotService:
    """Return one Dovecot for all tests."""
    if not _dovecot:
        _dovecot.append(DovecotService())
    return _dovecot[0]


def arrived(number: int, body: str = "body\n", *, at: str = "old") -> bytes:
    """Return a message as a server has it that was `at`, with what deliveries there put in front."""
    return (f"Return-Path: <sender@example.net>\nDelivered-To: peer@{at}.example.org\n"
            f"Received: from mx.example.org by {at}.example.org with LMTP id {number}{at}; "
            f"Sat, 1 Jun 2024 12:00:00 +0000\n").encode() + plain(number, body)


def plain(number: int, body: str = "body\n") -> bytes:
    """Return the same as it came to the site."""
    return (f"Received: from example.net by mx.example.org with ESMTP id {number}; "
            f"Sat, 1 Jun 2024 11:59:00 +0000\n"
            f"Message-ID: <{number}@example.net>\nDate: Sat, 1 Jun 2024 11:58:00 +0000\n"
            f"Subject: message {number}\n\n").encode() + body.encode()


class MigrateCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.name = house.account()
        self.folder = Path(tempfile.mkdtemp(dir=house.folder))

    def migrate(self, *arguments: str, code: int = 0, stdin: str = f"{dovecot_service.PASSWORD}\n",
                password: bool = True) -> str:
        """Run the command; return what it wrote, both on standard output and error."""
        words = ["--password-stdin"] if password else []
        ran = house.site.command("migrate", "pop3", *arguments, *words, stdin=stdin.encode())
        told = ran.stdout.decode() + ran.stderr.decode()
        self.assertEqual(ran.returncode, code, told)
        self.assertNotIn("Traceback", told)
        return told

    def at_dovecot(self, *arguments: str, code: int = 0, **options: str) -> str:
        """Move this test's account from Dovecot by STLS."""
        return self.migrate(f"localhost:{dovecot().port}", self.name, "--ca", dovecot().ca, *arguments,
                            code=code, **options)

    def fill(self, *numbers: int) -> None:
        """Give Dovecot's user mail, as its own delivery would."""
        for number in numbers:
            dovecot().deliver(self.name, f"new/17172432{number:02}.M{number}P7.mx", arrived(number))

    def ids_there(self) -> list[str]:
        return talk(dovecot().port, (self.name, dovecot_service.PASSWORD))

    def ids_here(self) -> list[str]:
        return talk(house.port, (self.name, PASSWORD))


class ClientTests(MigrateCase):
    def test_fetchmail(self) -> None:
        """fetchmail kept five messages at Dovecot; at mailgate it fetches the one that came since."""
        self.fill(1, 2, 3, 4, 5)
        words = mda_into(self.folder / "mail")

        def poll(port: int, password: str) -> int:
            ran = fetchmail(port, self.folder, f'user "{self.name}" password "{password}" is tester here '
                            f'sslproto "" keep {words}', "--uidl")
            self.assertIn(ran.code, (0, 1), ran.everything)
            return len(contents(self.folder / "mail"))

        self.assertEqual(poll(dovecot().port, dovecot_service.PASSWORD), 5)
        for number in (3, 1, 5, 2, 4):
            house.lmtp(plain(number), self.name)
        self.assertIn("taken=5", self.at_dovecot())
        house.lmtp(plain(6), self.name)
        self.assertEqual(poll(house.port, PASSWORD), 6)
        self.assertEqual(poll(house.port, PASSWORD), 6)

    def test_getmail(self) -> None:
        """The same with getmail, whose state is by server; and without the move it fetches all again."""
        self.fill(1, 2, 3)

        def state(port: int) -> Path:
            return self.folder / f"oldmail-127.0.0.1-{port}-{self.name}"

        def run(port: int, password: str) -> str:
            return getmail(self.folder, port, {
                "type": "SimplePOP3Retriever", "username": self.name, "password": password},
                {"read_all": "false", "delete": "false"}).everything

        self.assertIn("3 messages", run(dovecot().port, dovecot_service.PASSWORD))
        for number in (2, 3, 1):
            house.lmtp(plain(number), self.name)
        shutil.copy(state(dovecot().port), state(house.port))
        self.assertRegex(run(house.port, PASSWORD), r"3 messages \(\d+ bytes\) retrieved, 0 skipped")
        self.at_dovecot()
        shutil.copy(state(dovecot().port), state(house.port))
        self.assertIn("0 messages (0 bytes) retrieved, 3 skipped", run(house.port, PASSWORD))


class DovecotTests(MigrateCase):
    def test_imported_maildir(self) -> None:
        """A Maildir that was copied without its list of ids, all kinds of messages in it."""
        for number, message in enumerate(mail.MESSAGES):
            dovecot().deliver(self.name, f"new/{1717243200 + number}.M1P7.mx", message)
        theirs = self.ids_there()
        copied = self.folder / "Maildir"
        shutil.copytree(dovecot().maildir(self.name), copied, ignore=shutil.ignore_patterns("dovecot*"))
        for one in (copied, *copied.rglob("*")):
            os.chown(one, os.geteuid(), os.getegid())
        house.site.succeed("import", self.name, str(copied))
        self.assertNotEqual(sorted(self.ids_here()), sorted(theirs))
        told = self.migrate(
            f"localhost:{dovecot().secure_port}", self.name, "--tls", "implicit", "--ca", dovecot().ca)
        self.assertIn(f"taken={len(theirs)}\t", told)
        self.assertEqual(sorted(self.ids_here()), sorted(theirs))

    def test_every_message(self) -> None:
        """Each id is at the same message as there."""
        self.fill(*range(1, 10))
        for number in (9, 3, 5, 1, 2, 8, 6, 7, 4):
            house.lmtp(plain(number), self.name)
        self.at_dovecot()
        found = {unique_id.decode(): content for unique_id, content in house.octets(self.name).items()}
        self.assertEqual(set(found), set(self.ids_there()))
        for number, unique_id in enumerate(self.ids_there(), 1):
            self.assertIn(f"Subject: message {number}\r\n".encode(), found[unique_id])

    def test_again_and_later(self) -> None:
        """A second run keeps all; mail that comes later gets its id by the next."""
        self.fill(1, 2)
        house.lmtp(plain(1), self.name)
        self.assertIn("\ttaken=1\tcopied=0\tmissing=1\t", self.at_dovecot())
        house.lmtp(plain(2), self.name)
        self.assertIn("\tkept=1\ttaken=1\tcopied=0\tmissing=0\t", self.at_dovecot())
        self.assertIn("\tkept=2\ttaken=0\t", self.at_dovecot())
        self.assertEqual(sorted(self.ids_here()), sorted(self.ids_there()))

    def test_copy(self) -> None:
        """An empty maildrop is filled from there, ids and all; a large message too."""
        self.fill(1, 2)
        large = arrived(3, "a line of text\n.\n" * 200_000)
        dovecot().deliver(self.name, "cur/1717243299.M3P7.mx:2,S", large)
        self.assertIn("copied=3", self.at_dovecot("--copy"))
        self.assertEqual(self.ids_here(), self.ids_there())
        self.assertEqual(list(house.octets(self.name).values())[2], large.replace(b"\n", b"\r\n"))
        self.assertIn("kept=3", self.at_dovecot("--copy"))
        self.assertEqual(len(self.ids_there()), 3)

    def test_removed_since(self) -> None:
        """What had its id here and was removed does not come back, taken or copied."""
        self.fill(1, 2)
        house.lmtp(plain(1), self.name)
        self.at_dovecot("--copy")
        talk(house.port, (self.name, PASSWORD), delete=[1, 2])
        self.at_dovecot("--copy")
        self.assertEqual(self.ids_here(), [])

    def test_nothing_changes_there(self) -> None:
        """Not a message is removed, and by TOP none is seen."""
        self.fill(1, 2)
        before = self.ids_there()
        files = sorted(one.name for one in dovecot().maildir(self.name).glob("*/*.mx*"))
        house.lmtp(plain(1), self.name)
        self.at_dovecot()
        self.assertEqual(self.ids_there(), before)
        self.assertEqual(sorted(one.name for one in dovecot().maildir(self.name).glob("*/*.mx*")), files)

    def test_master_user(self) -> None:
        """A master user's login is another name."""
        self.fill(1)
        house.lmtp(plain(1), self.name)
        self.assertIn("taken=1", self.at_dovecot("--user", f"{self.name}*{MASTER}", stdin=MASTER_PASSWORD))

    def test_wrong_password(self) -> None:
        self.assertIn("login refused", self.at_dovecot(code=77, stdin="wrong\n"))

    def test_open_maildrop(self) -> None:
        """A session here keeps the ids as it has told them."""
        self.fill(1)
        house.lmtp(plain(1), self.name)
        with house.login(self.name):
            self.assertIn("maildrop in use", self.at_dovecot(code=75))
        self.assertIn("taken=1", self.at_dovecot())

    def test_batch(self) -> None:
        """Many accounts by one run; what failed is told, and the next run costs little."""
        names = [self.name, *(house.account() for _ in range(5))]
        for name in names:
            self.name = name
            self.fill(1, 2)
            house.lmtp(plain(2), name)
        lines = [f"{name}\t{name}\t{dovecot_service.PASSWORD}\n" for name in names]
        batch = self.folder / "batch"
        batch.write_text("".join([*lines, "nobody\tnobody\tsesame\n"]))
        where = [f"localhost:{dovecot().port}", "--ca", dovecot().ca]
        told = self.migrate(*where, "--batch", str(batch), code=67, password=False)
        self.assertEqual(sum("\tdone\t" in line and "\ttaken=1\t" in line for line in told.splitlines()), 6)
        self.assertIn("nobody\tfailed\texit=67", told)
        self.assertIn("mailgate: nobody: no such account", told)
        told = self.migrate(*where, "--batch", "-", "--parallel", "2", "--copy", stdin="".join(lines),
                            password=False)
        self.assertEqual(told.count("\tkept=1\ttaken=0\tcopied=1\t"), 6)
        for name in names:
            self.name = name
            self.assertEqual(sorted(self.ids_here()), sorted(self.ids_there()))


class TrustTests(MigrateCase):
    def test_unknown_authority(self) -> None:
        """The system's authorities do not vouch for it; nor does another one of ours. No password is told."""
        other = self.folder / "other.pem"
        other.write_bytes(Authority("Another").pem)
        for port, words in ((dovecot().port, []), (dovecot().port, ["--ca", str(other)]),
                            (dovecot().secure_port, ["--tls", "implicit", "--ca", str(other)])):
            told = self.migrate(f"localhost:{port}", self.name, *words, code=69)
            self.assertIn("certificate verify failed", told)
        self.assertNotIn(f"user=<{self.name}>", (dovecot().folder / "log").read_text())

    def test_other_name(self) -> None:
        """A certificate for another name is no good, unless that name is said."""
        where = [f"127.0.0.1:{dovecot().port}", self.name, "--ca", dovecot().ca]
        self.assertIn("TLS: the certificate is for another name", self.migrate(*where, code=69))
        self.assertIn("\tdone\t", self.migrate(*where, "--tls-name", "localhost"))

    def test_insecure(self) -> None:
        for tls, port in (("starttls", dovecot().port), ("implicit", dovecot().secure_port)):
            told = self.migrate(f"127.0.0.1:{port}", self.name, "--insecure", "--tls", tls)
            self.assertIn("\tdone\t", told)

    def test_clear(self) -> None:
        """Without TLS only where that is asked for: a server that has none is left alone."""
        where = f"127.0.0.1:{house.port}"
        self.assertIn("does not begin TLS (STLS)", self.migrate(where, self.name, stdin=PASSWORD, code=69))
        other = house.account()
        house.lmtp(plain(1), self.name)
        told = self.migrate(where, other, "--user", self.name, "--tls", "none", "--copy", stdin=PASSWORD)
        self.assertIn("copied=1", told)

    def test_nobody_there(self) -> None:
        """No server, or one that speaks first where TLS is to begin."""
        for where, words in (("127.0.0.1:1", ["--tls", "none"]),
                             (f"localhost:{dovecot().port}", ["--tls", "implicit", "--insecure"])):
            self.assertIn("failed\texit=69", self.migrate(where, self.name, *words, code=69))


class LiveTests(MigrateCase):
    """Maildrops that are files of other programs, copied from Dovecot without its lists."""

    def move(self, location: str) -> None:
        """Move a maildrop that has two of three messages; the third comes along, and all stays as it is."""
        site = Site(self.folder / "site", accounts={self.name: PASSWORD}, store=f'maildrops = "{location}"')
        where = [f"localhost:{dovecot().port}", self.name, "--ca", dovecot().ca, "--password-stdin", "--copy"]
        stdin = f"{dovecot_service.PASSWORD}\n".encode()
        self.assertIn(b"\ttaken=2\tcopied=1\t", site.succeed("migrate", "pop3", *where, stdin=stdin))
        listed = site.succeed("maildrop", "list", self.name).decode().splitlines()
        self.assertEqual(sorted(line.split("\t")[2] for line in listed), sorted(self.ids_there()))
        self.assertIn(b"\tkept=3\ttaken=0\tcopied=0\t", site.succeed("migrate", "pop3", *where, stdin=stdin))

    def test_maildir(self) -> None:
        self.fill(1, 2, 3)
        maildir = self.folder / "mail" / self.name
        for folder in ("cur", "new", "tmp"):
            (maildir / folder).mkdir(parents=True)
        for number in (3, 1):
            (maildir / "cur" / f"170000000{number}.M1P1.here:2,S").write_bytes(arrived(number))
        self.move(f"maildir:{self.folder}/mail/{{name}}")

    def test_mbox(self) -> None:
        self.fill(1, 2, 3)
        (self.folder / "mail").mkdir()
        (self.folder / "mail" / self.name).write_bytes(mail.mbox([arrived(2), arrived(1)]))
        self.move(f"mbox:{self.folder}/mail/{{name}}")


class OtherServerTests(MigrateCase):
    def test_mailgate(self) -> None:
        """From one of our own services: what is there once and what is there already, octet for octet."""
        source = house.account()
        for number in range(1, 8):
            house.lmtp(plain(number), source)
        for number in (2, 5):
            house.lmtp(plain(number), self.name)
        self.migrate(f"127.0.0.1:{house.port}", self.name, "--user", source, "--tls", "none", "--copy",
                     stdin=PASSWORD)
        there, here = house.octets(source), house.octets(self.name)
        self.assertEqual(sorted(there), sorted(here))
        for unique_id, octets in there.items():
            self.assertEqual(here[unique_id].partition(b"Message-ID")[2], octets.partition(b"Message-ID")[2])

    def test_popa3d(self) -> None:
        """popa3d over an mbox: no CAPA, no pipelining, ids that are digests."""
        server = popa3d(self.folder / "popa3d")
        texts = [arrived(number) for number in range(1, 6)]
        spool = self.folder / "mbox"
        spool.write_bytes(mail.mbox(texts))
        for one in (self.folder, house.folder):
            one.chmod(0o755)
        server.put(spool)
        theirs = server.uidl()
        for number in (5, 4, 1, 2):
            house.lmtp(plain(number), self.name)
        with Inetd(server.command, server.folder / "errors") as listener:
            told = self.migrate(f"127.0.0.1:{listener.port}", self.name, "--user", ROOM_USER, "--tls", "none",
                                "--copy", stdin=ROOM_PASSWORD)
        self.assertIn("\ttaken=4\tcopied=1\t", told)
        self.assertEqual(sorted(self.ids_here()), sorted(theirs))
        self.assertEqual(self.ids_here()[:2], [theirs[4], theirs[3]])
