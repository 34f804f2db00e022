"""What old POP3 servers answered to UIDL, and what mailgate answers then: the same, for every message.

The servers are Debian's own, each over one maildrop: some messages are deleted, one comes later, the last
answer is noted. Then the maildrop is imported, and the service asked; and it is served as it lies.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailgate.formats.known import Distinct, legal_unique_id
from mailgate.formats.uniqueids import parse_format
from mailgate.importing.cyrus import CyrusFolder
from mailgate.importing.maildir import Maildir
from mailgate.importing.mbox import Mbox
from tests.peers import mail
from tests.peers.cyrus import FORMATS, Cyrus
from tests.peers.inetd import talk
from tests.peers.servers import Courier, Dovecot, Roomed, give, mailutils, popa3d, solid
from tests.services import Service, Site

DROPS = ("dovecot", "dovecot-names", "dovecot-saved", "dovecot-mbox", "courier", "cyrus", "popa3d",
         "mailutils")
PASSWORD = "secret"
DELETED = (3, 8)


@cache
def house() -> Path:
    """Return a folder for all tests of a run, which other users can reach."""
    folder = Path(tempfile.mkdtemp(prefix="mailgate-peers-"))
    folder.chmod(0o755)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def service() -> Service:
    """Return one service for all tests, with an account for each old server."""
    site = Site(house() / "site", accounts=dict.fromkeys(DROPS, PASSWORD))
    started = site.start()
    atexit.register(started.end)
    return started


class House:
    """A service whose maildrops are Maildirs or mboxes that lie in a folder of theirs."""

    def __init__(self, kind: str, unique_ids: str) -> None:
        folder = Path(tempfile.mkdtemp(dir=house()))
        self.mail = folder / "mail"
        self.mail.mkdir()
        store = f'maildrops = "{kind}:{self.mail}/{{name}}"\nunique_ids = "{unique_ids}"'
        self._service = Site(folder / "site", accounts=dict.fromkeys(DROPS, PASSWORD), store=store).start()
        atexit.register(self._service.end)

    def uidl(self, name: str) -> list[str]:
        """Hold a session."""
        return talk(self._service.pop3_port, (name, PASSWORD))


live = cache(House)


class PeerCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=house()))
        self.folder.chmod(0o755)

    def imported(self, name: str, path: Path, unique_ids: str) -> list[str]:
        """Import a mailbox into the maildrop of an account; return what the service answers to UIDL."""
        told = service().site.succeed("import", name, str(path), "--unique-ids", unique_ids)
        self.assertNotIn(b"skipped", told)
        return talk(service().pop3_port, (name, PASSWORD))

    def served(self, name: str, path: Path, kind: str, unique_ids: str) -> list[str]:
        """Serve a copy of a mailbox as it lies; return what the service answers to UIDL, and again."""
        place = live(kind, unique_ids)
        if path.is_dir():
            shutil.copytree(path, place.mail / name)
        else:
            shutil.copyfile(path, place.mail / name)
        answer = place.uidl(name)
        self.assertEqual(place.uidl(name), answer)
        return answer

    def assert_same(self, ours: Sequence[str], theirs: Sequence[str]) -> None:
        """Hold what mailgate tells to what an old server told.

        What POP3 cannot show, and what was told before of another message, is the one thing that may not be.
        """
        self.assertEqual(len(ours), len(theirs))
        self.assertEqual(len(set(ours)), len(ours))
        distinct = Distinct()
        for own, their in zip(ours, theirs, strict=True):
            octets = their.encode("latin-1")
            expected = distinct.give(octets) if legal_unique_id(octets) else None
            if expected is not None:
                self.assertEqual(own, expected.decode(), (ours, theirs))
            self.assertIsNotNone(legal_unique_id(own.encode()))


def told(source: Maildir | Mbox | CyrusFolder) -> list[str]:
    """Return the unique-ids of what an import reads; where none is known, one that tells its place."""
    found = []
    for message in source.messages():
        for _ in message.pieces():
            pass
        unique_id = message.unique_id
        found.append(unique_id.decode() if unique_id else f"unknown-{len(found)}")
    return found


class DovecotMaildirTests(PeerCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = mail.make_maildir(self.folder / "Maildir")
        give(self.path)
        self.server = Dovecot(self.folder / "dovecot", f"maildir:{self.path}")

    def use(self, **settings: str) -> list[str]:
        """Let some time pass; return what the server answers at last."""
        before = self.server.uidl(DELETED, **settings)
        self.assertEqual(len(before), len(mail.MESSAGES))
        give(mail.deliver_to_maildir(self.path))
        theirs = self.server.uidl(**settings)
        self.assertEqual(theirs[:-1], [one for number, one in enumerate(before, 1) if number not in DELETED])
        return theirs

    def test_as_it_comes(self) -> None:
        """Nothing is set at either end."""
        theirs = self.use()
        self.assertEqual(self.imported("dovecot", self.path, "auto"), theirs)
        self.assertEqual(self.served("dovecot", self.path, "maildir", "auto"), theirs)

    def test_names(self) -> None:
        """Ids that are file names; and more have come since, whose ids would be theirs."""
        theirs = self.use(pop3_uidl_format="%f")
        (self.path / "new/1717400000.M1P7.mx").write_bytes(b"Subject: unseen\n\nx\n")
        for ours in (self.imported("dovecot-names", self.path, "dovecot:%f"),
                     self.served("dovecot-names", self.path, "maildir", "dovecot:%f")):
            self.assertEqual(ours, [*theirs, "1717400000.M1P7.mx"])

    def test_saved(self) -> None:
        """Ids that were given for good (`pop3_save_uidl`), some of them files' names, beside later ones."""
        self.server.uidl(pop3_save_uidl="yes", pop3_uidl_format="%f")
        give(mail.deliver_to_maildir(self.path))
        self.server.uidl(pop3_save_uidl="yes", pop3_uidl_format="%v.%u")
        (self.path / "cur/1717400000.M1P7.mx:2,").write_bytes(b"Subject: last\n\nx\n")
        give(self.path)
        theirs = self.server.uidl()
        self.assertEqual(len({one[:6] for one in theirs}), 3)
        self.assertEqual(self.imported("dovecot-saved", self.path, "auto"), theirs)
        self.assertEqual(self.served("dovecot-saved", self.path, "maildir", "auto"), theirs)

    def test_templates(self) -> None:
        """All variables that a Maildir has, and all modifiers, in the form of Dovecot's version 2.3."""
        self.use()
        for template in (
                "%08Xu%08Xv", "%v.%u", "%v-%u", "UID%u-%v", "%08Xv%08Xu", "%u", "%g", "%f", "%Mf", "%UMf",
                "%Uf", "%LUf", "%Rf", "%Hf", "%2.256Hf-%u", "%Nf", "%4.100Nf-%u", "%Df", "%Ef", "%Tf",
                "%10f-%u", "%3.12f", "%-14.f-%u", "%.-4f", "%-9.4f%u", "%4.010Xv.%u", "%012u", "%5u",
                "%2.%u%v", "100%%%u", "%MRg", "%XXu.%u"):
            with self.subTest(template=template):
                theirs = self.server.uidl(pop3_uidl_format=template)
                ours = told(Maildir(self.path, parse_format(f"dovecot:{template}")))
                self.assert_same(ours, theirs)

    def test_reuse_and_order(self) -> None:
        """X-UIDL fields where Dovecot reuses them, ids of a list that was made by others, and its order."""
        theirs = self.use(pop3_reuse_xuidl="yes")
        self.assertIn("0123456789abcdef0123456789abcdef", theirs)
        self.assert_same(told(Maildir(self.path, parse_format("dovecot,reuse_xuidl"))), theirs)
        file = self.path / "dovecot-uidlist"
        head, *lines = file.read_text().splitlines()
        parts = [line.split(" ", 1) for line in lines]
        changed = ("O2 ", "P ", "Pold:id/3 O1 ", "Gsome-guid ", "G ", "Pother O2 ", "O10 ", "", "X7 Y ",
                   "P: ")
        file.write_text("\n".join([f"{head} P%f Z9", *(
            f"{uid} {fields}{rest}" for (uid, rest), fields in zip(parts, changed, strict=True))]) + "\n")
        give(file)
        for template in ("%08Xu%08Xv", "%g", "%f"):
            copy = self.folder / template.strip("%")
            shutil.copytree(self.path, copy)        # before Dovecot mends it
            theirs = self.server.uidl(pop3_uidl_format=template)
            self.assert_same(told(Maildir(copy, parse_format(f"dovecot:{template}"))), theirs)

    def test_what_pop3_cannot_show(self) -> None:
        """Dovecot shows names with 8-bit octets, and such as are too long; their messages get fresh ids."""
        for name in ("new/1717400001.M1P7.b\xfccher", "new/1717400002.M1P7." + "x" * 70):
            (self.path / name).write_bytes(b"Subject: x\n\nx\n")
        give(self.path)
        theirs = self.server.uidl(pop3_uidl_format="%f")
        ours = told(Maildir(self.path, parse_format("dovecot:%f")))
        self.assertEqual(len([one for one in ours if one.startswith("unknown-")]), 2)
        self.assert_same(ours, theirs)


class DovecotMboxTests(PeerCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = self.folder / "mail" / "inbox"
        self.path.parent.mkdir()
        self.path.write_bytes(mail.mbox())
        give(self.path.parent)
        self.server = Dovecot(self.folder / "dovecot", f"mbox:{self.path.parent}:INBOX={self.path}")

    def use(self, **settings: str) -> list[str]:
        """Let some time pass; return what the server answers at last."""
        self.assertEqual(len(self.server.uidl(DELETED, **settings)), len(mail.MESSAGES))
        with open(self.path, "ab") as file:
            file.write(mail.mbox([mail.LATER], day=2))
        return self.server.uidl(**settings)

    def test_as_it_comes(self) -> None:
        """UIDs are counted in the mbox itself."""
        theirs = self.use()
        self.assertEqual(self.imported("dovecot-mbox", self.path, "dovecot"), theirs)
        self.assertEqual(self.served("dovecot-mbox", self.path, "mbox", "dovecot"), theirs)

    def test_templates(self) -> None:
        """The variables that an mbox has. Equal messages have equal digests: Dovecot can tell them apart."""
        self.use()
        for unique_ids, settings in (
                ("dovecot:%08Xu%08Xv", {}), ("uw", {"pop3_uidl_format": "%08Xv%08Xu"}),
                ("dovecot:%v.%u", {"pop3_uidl_format": "%v.%u"}),
                ("dovecot:%m", {"pop3_uidl_format": "%m"}), ("dovecot:%g", {"pop3_uidl_format": "%g"}),
                ("dovecot:%Um%u", {"pop3_uidl_format": "%Um%u"}),
                ("dovecot,reuse_xuidl", {"pop3_reuse_xuidl": "yes"})):
            with self.subTest(unique_ids=unique_ids):
                ours = told(Mbox(self.path, parse_format(unique_ids)))
                self.assert_same(ours, self.server.uidl(**settings))
                if "reuse_xuidl" not in unique_ids:     # else there is one that POP3 cannot show
                    self.assertEqual(ours, self.server.uidl(pop3_uidl_duplicates="rename", **settings))

    def test_digest_of_all(self) -> None:
        """`mbox_md5 = all`: what Dovecot adds to a header does not count."""
        theirs = self.use(mbox_md5="all", pop3_uidl_format="%m")
        self.assert_same(told(Mbox(self.path, parse_format("dovecot,md5_all:%m"))), theirs)

    def test_two_numberings(self) -> None:
        """From a message on whose UID cannot be so, the server too counts anew; and without a UIDVALIDITY."""
        data = (b"From: Mail System Internal Data <MAILER-DAEMON@mx>\nX-IMAP: 1700000000 0000000020\n"
                b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n\nkept by an imapd\n")
        for before, base in (([], b"X-IMAPbase: 1700000000 20\n"), ([data], b""), ([], b"")):
            for strange in (b"X-UID: 4\n", b"X-UID: x\n", b"X-UID: 21\n", b""):
                fields = (base + b"X-UID: 5\n", b"X-UID: 9\n", strange, b"X-UID: 17\n", b"X-UID: 20\n")
                self.path.write_bytes(mail.mbox(
                    [*before, *(b"Subject: %d\n%b\nx\n" % one for one in enumerate(fields))]))
                shutil.rmtree(self.path.parent / ".imap", ignore_errors=True)
                give(self.path.parent)
                ours = told(Mbox(self.path, parse_format("dovecot:%v.%u")))
                counted = ["1700000000.5", "1700000000.9"] if base or before else ["unknown-0", "unknown-1"]
                self.assertEqual(ours, [*counted, "unknown-2", "unknown-3", "unknown-4"])
                theirs = self.server.uidl(pop3_uidl_format="%v.%u")
                self.assertEqual(len(theirs), len(ours))
                self.assertEqual(theirs[:2] == counted, bool(base or before), theirs)
                self.assertFalse({"1700000000.17", "1700000000.20"} & set(theirs))


class CourierTests(PeerCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = mail.make_maildir(self.folder / "Maildir")
        self.server = Courier(self.path, self.folder / "errors")

    def test_as_it_comes(self) -> None:
        before = self.server.uidl(DELETED)
        mail.deliver_to_maildir(self.path)
        theirs = self.server.uidl()
        self.assertEqual(len(theirs), len(before) - len(DELETED) + 1)
        self.assertEqual(self.imported("courier", self.path, "auto"), theirs)
        self.assertEqual(self.served("courier", self.path, "maildir", "auto"), theirs)
        self.assertEqual(told(Maildir(self.path, parse_format("courier"))), theirs)

    def test_older_lists(self) -> None:
        """A list of version 2, from times when ids were numbers alone, and files' names before that."""
        lines = [name.partition("/")[2].partition(":")[0] + ":2," for name in mail.maildir_names()]
        kinds = ("7:0", "0:0", "3:1700000000", "4:1700000001", "0:0")
        (self.path / "courierpop3dsizelist").write_text("/2 9 1700000000\n" + "".join(
            f"{line} 100 {kinds[place % len(kinds)]}\n" for place, line in enumerate(sorted(lines))))
        mine = self.folder / "copy"
        shutil.copytree(self.path, mine)        # before Courier makes a list of version 3 of it
        theirs = self.server.uidl()
        self.assertIn("UID7", theirs)
        self.assertIn("1717243209.M9P7.m+2Bx+27.example.org", theirs)
        for path in (mine, self.path):
            self.assert_same(told(Maildir(path, parse_format("courier"))), theirs)


class CyrusTests(PeerCase):
    def test_all_forms(self) -> None:
        """Expunged messages lie there still, for their file is kept some days."""
        with Cyrus(self.folder / "cyrus") as server:
            server.put([one.replace(b"\n", b"\r\n") for one in mail.MESSAGES if b"NO FIELD" not in one])
            server.expunge([2, 7])
            server.uidl(DELETED)
            server.put([mail.LATER.replace(b"\n", b"\r\n")])
            theirs = {form: server.uidl(form=form) for form in FORMATS}
            path = server.path
        self.assertEqual(len(theirs["cyrus"]), len(mail.MESSAGES) - 4)
        for form in FORMATS:
            self.assertEqual(told(CyrusFolder(path, parse_format(f"cyrus,{form}"))), theirs[form])
        self.assertEqual(told(CyrusFolder(path, parse_format("cyrus"))), theirs["cyrus"])
        self.assertEqual(self.imported("cyrus", path, "auto"), theirs["cyrus"])


class MboxServerTests(PeerCase):
    """Servers of an mbox that know system users only."""

    def use(self, server: Roomed) -> tuple[list[str], Path]:
        """Let some time pass; return what the server answers at last, and the mbox."""
        (self.folder / "inbox").write_bytes(mail.mbox())
        path = server.put(self.folder / "inbox")
        server.uidl(DELETED)
        with open(path, "ab") as file:
            file.write(mail.mbox([mail.LATER], day=2))
        theirs = server.uidl()
        self.assertEqual(len(theirs), len(mail.MESSAGES) - len(DELETED) + 1)
        return theirs, path

    def test_popa3d(self) -> None:
        """Ids are digests, of equal messages the same."""
        theirs, path = self.use(popa3d(self.folder / "popa3d"))
        self.assert_same(told(Mbox(path, parse_format("popa3d"))), theirs)
        self.assert_same(self.imported("popa3d", path, "popa3d"), theirs)
        self.assert_same(self.served("popa3d", path, "mbox", "popa3d"), theirs)

    def test_mailutils(self) -> None:
        """Ids are written into the messages, as qpopper does it."""
        theirs, path = self.use(mailutils(self.folder / "mailutils"))
        self.assert_same(told(Mbox(path, parse_format("x-uidl"))), theirs)
        self.assert_same(self.imported("mailutils", path, "auto"), theirs)
        self.assert_same(self.served("mailutils", path, "mbox", "auto"), theirs)


class SolidTests(PeerCase):
    def test_maildir(self) -> None:
        """Ids are digests of files' names, as tpop3d has them too; its order is the folder's."""
        server = solid(self.folder / "solid")
        path = server.put(mail.make_maildir(self.folder / "Maildir"))
        theirs = server.uidl()
        self.assertEqual(sorted(told(Maildir(path, parse_format("dovecot:%Mf")))), sorted(theirs))
