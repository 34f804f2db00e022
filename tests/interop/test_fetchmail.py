"""fetchmail 6.4 against the service: what it fetches, what it leaves, what it fetches again."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.house import House
from tests.interop.programs import Ran, contents, fetchmail, mda_into
from tests.interop.sink import Sink
from tests.interop.texts import HELLO, TEXTS, large, wire_form
from tests.services import HOSTNAME

FETCHED, NO_MAIL, REFUSED = 0, 1, 3     # fetchmail's exit codes

house = House()
setUpModule, tearDownModule = house.open, house.close


class FetchmailCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.name = house.account()
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(mode=0o700)
        self.mail = self.folder / "mail"
        self.into_files = mda_into(self.mail)

    def poll(self, words: str, code: int, *, server: str = "", password: str = "secret") -> Ran:
        """Poll once with the user's and the server's options; it has to end with a code."""
        ran = fetchmail(house.port, self.folder, f'{server} user "{self.name}" password "{password}" '
                        f'is tester here sslproto "" {words}')
        self.assertEqual(ran.code, code, ran.everything)
        return ran

    def bodies(self) -> list[bytes]:
        """Return the bodies of the fetched messages, sorted; an MDA gets lines that end in LF."""
        return sorted(content.partition(b"\n\n")[2] for content in contents(self.mail))

    def deliver(self, *texts: bytes) -> None:
        for text in texts:
            house.lmtp(text, self.name)


def body(text: bytes) -> bytes:
    """Return a text's body as an MDA gets it."""
    return wire_form(text).partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n")


class FetchTests(FetchmailCase):
    def test_fetch_and_remove(self) -> None:
        """Without options every message is fetched by TOP n 99999999, intact, and removed."""
        texts = [TEXTS["plain"], TEXTS["dots"], TEXTS["8-bit"], TEXTS["long lines"], TEXTS["MIME"]]
        self.deliver(*texts)
        ran = self.poll(self.into_files, FETCHED)
        self.assertEqual(self.bodies(), sorted(map(body, texts)))
        self.assertIn("POP3> TOP 1 99999999", ran.everything)
        self.assertEqual(ran.everything.count("POP3> DELE"), len(texts))
        self.assertEqual(house.held(self.name), 0)
        self.poll(self.into_files, NO_MAIL)

    def test_keep(self) -> None:
        """With keep and UIDL the messages stay, and what was seen is not fetched again."""
        self.deliver(TEXTS["plain"], TEXTS["dots"])
        ran = self.poll(f"keep {self.into_files}", FETCHED, server="uidl")
        self.assertIn("POP3> TOP 1 99999999", ran.everything)
        self.assertNotIn("POP3> DELE", ran.everything)
        self.poll(f"keep {self.into_files}", NO_MAIL, server="uidl")
        self.assertEqual(self.bodies(), sorted([body(TEXTS["plain"]), body(TEXTS["dots"])]))
        self.deliver(TEXTS["8-bit"])
        ran = self.poll(f"keep {self.into_files}", FETCHED, server="uidl")
        self.assertEqual(ran.everything.count("POP3> TOP"), 1, ran.everything)
        self.assertIn(body(TEXTS["8-bit"]), self.bodies())
        self.assertEqual(house.held(self.name), 3)

    def test_keep_without_uidl(self) -> None:
        """With keep alone fetchmail asks LAST first; refused, it goes by unique-ids all the same."""
        self.deliver(*[HELLO] * 5)
        self.poll(f"keep {self.into_files}", FETCHED)
        self.deliver(TEXTS["dots"])
        ran = self.poll(f"keep {self.into_files}", FETCHED)
        self.assertIn("POP3> LAST\nfetchmail: POP3< -ERR", ran.everything)
        self.assertEqual(ran.everything.count("POP3> RETR"), 1, ran.everything)
        self.assertIn("POP3> RETR 6", ran.everything)

    def test_fetch_all(self) -> None:
        """With fetchall it is RETR, and everything each time."""
        self.deliver(TEXTS["dots"])
        for _ in range(2):
            ran = self.poll(f"keep fetchall {self.into_files}", FETCHED)
            self.assertIn("POP3> RETR 1", ran.everything)
        self.assertEqual(self.bodies(), [body(TEXTS["dots"])] * 2)

    def test_size_limit(self) -> None:
        """A limit on the size, judged by LIST, leaves the larger message where it is."""
        self.deliver(HELLO, large(100_000))
        self.poll(f"limit 50000 {self.into_files}", FETCHED)
        self.assertEqual(self.bodies(), [body(HELLO)])
        self.assertEqual(house.held(self.name), 1)

    def test_five_megabytes(self) -> None:
        """A stream of 5 MB arrives whole."""
        text = large(5_000_000)
        self.deliver(text)
        self.poll(self.into_files, FETCHED)
        self.assertEqual(self.bodies(), [body(text)])

    def test_several_users(self) -> None:
        """One run fetches for several users."""
        other = house.account()
        self.deliver(HELLO)
        house.lmtp(TEXTS["dots"], other)
        script = (f'user "{other}" password "secret" is tester here sslproto "" {self.into_files}\n')
        self.poll(f"{self.into_files}\n{script}", FETCHED)
        self.assertEqual(self.bodies(), sorted([body(HELLO), body(TEXTS["dots"])]))

    def test_wrong_password(self) -> None:
        """A wrong password is told as such."""
        self.deliver(HELLO)
        ran = self.poll(self.into_files, REFUSED, password="wrong")
        self.assertIn("Authorization failure", ran.everything)
        self.assertEqual(contents(self.mail), [])

    def test_failed_delivery_removes_nothing(self) -> None:
        """What the MDA refuses stays in the maildrop."""
        self.deliver(HELLO)
        ran = fetchmail(house.port, self.folder,
                        f'user "{self.name}" password "secret" sslproto "" mda "false"')
        self.assertNotIn("POP3> DELE", ran.everything)
        self.assertEqual(house.held(self.name), 1)


class ForwardingTests(FetchmailCase):
    def test_smtp(self) -> None:
        """Forwarded by SMTP, the sender is the one of Return-Path; content and dots are intact."""
        self.deliver(TEXTS["dots"])
        house.lmtp(HELLO, self.name, sender="")
        with Sink() as sink:
            self.poll(f"smtp 127.0.0.1/{sink.port}", FETCHED)
        self.assertEqual([taken.sender for taken in sink.taken], [b"sender@example.org", b""])
        self.assertEqual(sink.taken[0].content.partition(b"\r\n\r\n")[2],
                         TEXTS["dots"].partition(b"\r\n\r\n")[2])
        self.assertEqual(house.held(self.name), 0)

    def test_back_into_a_maildrop(self) -> None:
        """Forwarded by LMTP to the service itself, the mail is in the other maildrop, and only there."""
        other = house.account()
        self.deliver(TEXTS["dots"], TEXTS["8-bit"])
        script = (f'user "{self.name}" password "secret" is "{other}" here sslproto "" lmtp '
                  f'smtpaddress {HOSTNAME} smtp 127.0.0.1/{house.service.lmtp_port}')
        ran = fetchmail(house.port, self.folder, script)
        self.assertEqual(ran.code, FETCHED, ran.everything)
        self.assertEqual(house.held(self.name), 0)
        found = [content.partition(b"\r\n\r\n")[2] for content in house.octets(other).values()]
        self.assertEqual(found, [TEXTS[name].partition(b"\r\n\r\n")[2] for name in ("dots", "8-bit")])
