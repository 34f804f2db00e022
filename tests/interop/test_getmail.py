"""getmail6 against the service: its plain, its SDPS and its multidrop retriever."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.house import House
from tests.interop.programs import Ran, contents, getmail
from tests.interop.texts import HELLO, TEXTS, large, wire_form

DOMAIN = "xyz.mail.example.org"
SIMPLE = {"type": "SimplePOP3Retriever"}
KEEP = {"read_all": "false", "delete": "false"}
REMOVE = {"read_all": "false", "delete": "true"}

house = House(hosts={"xyz": ("login", "pop3"), "other": ("login", "pop3")})
setUpModule, tearDownModule = house.open, house.close


class GetmailCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(mode=0o700)

    def getmail(self, retriever: Mapping[str, object], options: Mapping[str, object] = KEEP,
                code: int = 0) -> Ran:
        ran = getmail(self.folder, house.port, retriever, options)
        self.assertEqual(ran.code, code, ran.everything)
        return ran

    def bodies(self) -> list[bytes]:
        """Return the bodies of all that was fetched so far, sorted; lines end in LF."""
        return sorted(content.partition(b"\n\n")[2] for content in contents(self.folder / "mail"))

    def envelopes(self) -> list[bytes]:
        """Return "<sender> <recipient>" of all that was fetched so far, sorted."""
        return sorted(content.partition(b"\n")[0] for content in contents(self.folder / "mail"))


def body(text: bytes) -> bytes:
    """Return a text's body as getmail hands it on."""
    return wire_form(text).partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n")


class SimpleTests(GetmailCase):
    def setUp(self) -> None:
        super().setUp()
        self.name = house.account()
        self.retriever = {**SIMPLE, "username": self.name}

    def test_nothing_is_fetched_twice(self) -> None:
        """With delete = false all stays, and the next run fetches only what has come since."""
        house.lmtp(HELLO, self.name)
        house.lmtp(TEXTS["dots"], self.name)
        self.getmail(self.retriever)
        self.assertEqual(self.bodies(), sorted([body(HELLO), body(TEXTS["dots"])]))
        ran = self.getmail(self.retriever)
        self.assertIn("0 messages (0 bytes) retrieved, 2 skipped", ran.everything)
        house.lmtp(TEXTS["8-bit"], self.name)
        self.getmail(self.retriever)
        self.assertEqual(self.bodies(), sorted([body(HELLO), body(TEXTS["dots"]), body(TEXTS["8-bit"])]))
        self.assertEqual(house.held(self.name), 3)

    def test_delete(self) -> None:
        """With delete = true the maildrop is empty afterwards."""
        for text in (HELLO, TEXTS["MIME"], large(2_000_000)):
            house.lmtp(text, self.name)
        self.getmail(self.retriever, REMOVE)
        self.assertEqual(self.bodies(), sorted([body(HELLO), body(TEXTS["MIME"]), body(large(2_000_000))]))
        self.assertEqual(house.held(self.name), 0)

    def test_wrong_password(self) -> None:
        """A refused login ends the run with an error, and nothing is fetched."""
        house.lmtp(HELLO, self.name)
        ran = self.getmail({**self.retriever, "password": "wrong"}, code=127)
        self.assertIn("[AUTH]", ran.everything)
        self.assertEqual(contents(self.folder / "mail"), [])


class SdpsTests(GetmailCase):
    def test_envelopes(self) -> None:
        """S11: MultidropSDPSRetriever delivers with sender and recipient of *ENV, by either password."""
        house.lmtp(TEXTS["dots"], f"fred@{DOMAIN}", f"jim@{DOMAIN}", sender="a@example.org")
        house.lmtp(HELLO, f"Fred@{DOMAIN}", sender="")
        self.getmail({"type": "MultidropSDPSRetriever", "username": "xyz", "password": "login"})
        self.assertEqual(self.envelopes(), [
            b"<> <Fred@%b>" % DOMAIN.encode(), b"<a@example.org> <fred@%b>" % DOMAIN.encode(),
            b"<a@example.org> <jim@%b>" % DOMAIN.encode()])
        self.assertEqual(self.bodies(), sorted([body(TEXTS["dots"]), body(TEXTS["dots"]), body(HELLO)]))
        ran = self.getmail({"type": "MultidropSDPSRetriever", "username": "xyz", "password": "pop3"})
        self.assertIn("0 messages (0 bytes) retrieved, 3 skipped", ran.everything)

    def test_other_form_of_login(self) -> None:
        """After a change from the host's form to a user's, what was seen is not fetched again."""
        domain = "other.mail.example.org"
        house.lmtp(HELLO, f"ann@{domain}", f"bob@{domain}")
        self.getmail({**SIMPLE, "username": "other", "password": "pop3"})
        # getmail keeps a list for each login name; whoever changes the name takes the list along
        shutil.copy(self.folder / f"oldmail-127.0.0.1-{house.port}-other",
                    self.folder / f"oldmail-127.0.0.1-{house.port}-ann+other")
        ran = self.getmail({**SIMPLE, "username": "ann+other", "password": "pop3"})
        self.assertIn("0 messages (0 bytes) retrieved, 1 skipped", ran.everything)
        house.lmtp(TEXTS["dots"], f"ann@{domain}")
        self.getmail({**SIMPLE, "username": "ann+other", "password": "pop3"})
        self.assertEqual(self.bodies(), sorted([body(HELLO), body(HELLO), body(TEXTS["dots"])]))

    def test_multidrop_by_header(self) -> None:
        """MultidropPOP3Retriever finds the recipient in Delivered-To, of which ours is the first."""
        domain = "other.mail.example.org"
        house.lmtp(b"Delivered-To: forged@example.net\r\n" + HELLO, f"col@{domain}", sender="c@example.org")
        self.getmail({"type": "MultidropPOP3Retriever", "username": "col@other", "password": "pop3",
                      "envelope_recipient": "delivered-to:1"}, REMOVE)
        self.assertEqual(self.envelopes(), [b"<c@example.org> <col@other.mail.example.org>"])
        with house.login("col@other", "pop3") as client:
            self.assertEqual(client.stat()[0], 0)
