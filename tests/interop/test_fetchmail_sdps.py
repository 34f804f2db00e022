"""fetchmail speaking SDPS: the envelope of each message reaches the next mail server."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.house import House
from tests.interop.programs import Ran, fetchmail
from tests.interop.sink import Sink, Taken
from tests.interop.texts import HELLO, TEXTS

GREETING_LISTENER = """\
[[listen]]
protocol = "pop3"
endpoint = "tcp:0:interface=127.0.0.1"
plaintext_login = true
greeting = "pop3.mail.demon.net ready"
"""
DOMAIN = "xyz.mail.example.org"
PASSWORDS = ("login", "pop3 pass")

house = House(accounts=0, hosts={"xyz": PASSWORDS, "other": ("p",)}, further=GREETING_LISTENER)


setUpModule, tearDownModule = house.open, house.close


@house.furnished
def furnish() -> None:
    house.lmtp(TEXTS["dots"], f"fred@{DOMAIN}", f"jim@{DOMAIN}", sender="a@example.org")
    house.lmtp(HELLO, f"Fred@{DOMAIN}", sender="")
    house.lmtp(TEXTS["8-bit"], f"sue.s@{DOMAIN}", sender="B+tag@example.net")

ENVELOPES = [(b"a@example.org", b"fred"), (b"a@example.org", b"jim"), (b"", b"Fred"),
             (b"B+tag@example.net", b"sue.s")]


class SdpsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(mode=0o700)

    def poll(self, port: int, words: str, *, user: str = "xyz", password: str = PASSWORDS[1],
             protocol: str = "sdps", before: str = "") -> tuple[list[Taken], Ran]:
        """Poll once into a sink, and leave everything there; return what the sink got."""
        with Sink() as sink:
            ran = fetchmail(port, self.folder, f'{before} user "{user}" password "{password}" sslproto "" '
                            f'{words} keep fetchall smtp 127.0.0.1/{sink.port}', protocol=protocol)
        self.assertEqual(ran.code, 0, ran.everything)
        return sink.taken, ran


class SingleDropTests(SdpsCase):
    def test_sender_is_taken_from_the_envelope(self) -> None:
        """S10: `protocol sdps`: each message's own sender; the recipient is the local user."""
        taken, ran = self.poll(house.port, "is tester here")
        self.assertEqual([one.sender for one in taken], [sender for sender, _ in ENVELOPES])
        self.assertEqual({one.recipients for one in taken}, {(b"tester@127.0.0.1",)})
        self.assertEqual(ran.everything.count("POP3> *ENV"), len(ENVELOPES))
        self.assertEqual([one.content.partition(b"\r\n\r\n")[2] for one in taken],
                         [text.partition(b"\r\n\r\n")[2] for text in
                          (TEXTS["dots"], TEXTS["dots"], HELLO, TEXTS["8-bit"])])

    def test_login_forms(self) -> None:
        """S2, S3: a user's form, by @ and by +, fetches this user's mail only."""
        for user, expected in (("fred@xyz", [ENVELOPES[0][0], b""]), ("fred+xyz", [ENVELOPES[0][0], b""]),
                               ("SUE.S@XYZ", [b"B+tag@example.net"])):
            taken, _ = self.poll(house.port, "is tester here", user=user)
            self.assertEqual([one.sender for one in taken], expected, user)

    def test_both_passwords(self) -> None:
        """S1: either password does, for the host and for a user."""
        for password in PASSWORDS:
            for user, count in (("xyz", 4), ("jim@xyz", 1)):
                taken, _ = self.poll(house.port, "is tester here", user=user, password=password)
                self.assertEqual(len(taken), count, (user, password))

    def test_plain_pop3(self) -> None:
        """As plain POP3 the host's mail comes too, without *ENV; the sender is that of Return-Path."""
        taken, ran = self.poll(house.port, "is tester here", protocol="pop3")
        self.assertEqual([one.sender for one in taken], [sender for sender, _ in ENVELOPES])
        self.assertNotIn("*ENV", ran.everything)


class MultidropTests(SdpsCase):
    def assert_envelopes(self, taken: list[Taken]) -> None:
        self.assertEqual([(one.sender, one.recipients) for one in taken],
                         [(sender, (b"%b@%b" % (user, DOMAIN.encode()),)) for sender, user in ENVELOPES])

    def test_asked_for(self) -> None:
        """S10: `protocol sdps` and multidrop: each message to its own recipient, from its own sender."""
        taken, _ = self.poll(house.port, "to * here", before=f"localdomains {DOMAIN}")
        self.assert_envelopes(taken)

    def test_by_the_greeting(self) -> None:
        """S10: a greeting with `demon.` in it makes fetchmail use *ENV by itself."""
        port = house.service.ports[2][1]
        taken, ran = self.poll(port, "to * here", before=f"localdomains {DOMAIN}", protocol="pop3")
        self.assert_envelopes(taken)
        self.assertEqual(ran.everything.count("POP3> *ENV"), len(ENVELOPES))

    def test_other_greeting(self) -> None:
        """The usual greeting does not."""
        _, ran = self.poll(house.port, "to * here", before=f"localdomains {DOMAIN}", protocol="pop3")
        self.assertNotIn("*ENV", ran.everything)

    def test_by_delivered_to(self) -> None:
        """Plain POP3 multidrop finds the recipient in Delivered-To."""
        taken, ran = self.poll(house.port, "to * here", protocol="pop3",
                               before=f'envelope "Delivered-To:" localdomains {DOMAIN}')
        self.assert_envelopes(taken)
        self.assertNotIn("*ENV", ran.everything)

    def test_removed_after_forwarding(self) -> None:
        """Without keep, what was forwarded is removed."""
        domain = "other.mail.example.org"
        house.lmtp(HELLO, f"ann@{domain}", f"bob@{domain}")
        with Sink() as sink:
            ran = fetchmail(house.port, self.folder, f'localdomains {domain} user "other" password "p" '
                            f'sslproto "" to * here smtp 127.0.0.1/{sink.port}', protocol="sdps")
        self.assertEqual(ran.code, 0, ran.everything)
        self.assertEqual([one.recipients for one in sink.taken],
                         [(f"ann@{domain}".encode(),), (f"bob@{domain}".encode(),)])
        self.assertEqual(house.held("other"), 0)
