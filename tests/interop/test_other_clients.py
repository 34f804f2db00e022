"""Clients with habits of their own: mpop, which pipelines all it can, and Perl's Net::POP3."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.house import House
from tests.interop.programs import contents, mpop, net_pop3
from tests.interop.texts import HELLO, TEXTS, taken_apart, wire_form

EX_NOPERM = 77      # sysexits.h: what mpop says of a refused login

house = House()
setUpModule, tearDownModule = house.open, house.close


class ClientCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.name = house.account()
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(mode=0o700)


class MpopTests(ClientCase):
    def bodies(self) -> list[bytes]:
        """Return the bodies of all that was fetched; lines end in LF."""
        return sorted(content.partition(b"\n\n")[2] for content in contents(self.folder / "mail" / "new"))

    def test_pipelined_session(self) -> None:
        """Every RETR and every DELE goes out ahead of the answers; all arrives, all is removed."""
        texts = [TEXTS[name] for name in ("plain", "dots", "8-bit", "MIME", "long lines")] * 8
        for text in texts:
            house.lmtp(text, self.name)
        ran = mpop(self.folder, house.port, self.name, "--keep=off")
        self.assertEqual(ran.code, 0, ran.everything)
        self.assertIn("--> RETR 1\r\n--> RETR 2\r\n--> RETR 3\r\n", ran.everything)
        self.assertIn("--> DELE 1\r\n--> DELE 2\r\n--> DELE 3\r\n", ran.everything)
        self.assertEqual(self.bodies(), sorted(
            wire_form(text).partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n") for text in texts))
        self.assertEqual(house.held(self.name), 0)

    def test_nothing_is_fetched_twice(self) -> None:
        """With keep, the second run fetches only what is new."""
        for text in (HELLO, TEXTS["dots"]):
            house.lmtp(text, self.name)
            ran = mpop(self.folder, house.port, self.name, "--keep=on")
            self.assertEqual(ran.code, 0, ran.everything)
        self.assertEqual(len(self.bodies()), 2)
        self.assertEqual(house.held(self.name), 2)

    def test_wrong_password(self) -> None:
        """A refused login is told as one."""
        ran = mpop(self.folder, house.port, self.name, password="wrong")
        self.assertEqual(ran.code, EX_NOPERM, ran.everything)


class NetPop3Tests(ClientCase):
    def perl(self, script: str, password: str = "secret") -> bytes:
        """Run a script in which `$in` is the login's outcome and `$pop` the client; it quits by itself."""
        login = f'my $in = $pop->login("{self.name}", "{password}"); '
        ran = net_pop3(house.port, f"{login}{script}; $pop->quit", folder=self.folder)
        self.assertEqual((ran.code, ran.told), (0, ""), ran.everything)
        return ran.out

    def test_content(self) -> None:
        """get() gives every text as it was delivered."""
        house.lmtp(TEXTS["dots"], self.name)
        house.lmtp(TEXTS["8-bit"], self.name)
        for number, name in enumerate(("dots", "8-bit"), 1):
            fetched = self.perl(f"print @{{$pop->get({number})}}")
            self.assertEqual(taken_apart(fetched.replace(b"\n", b"\r\n"))[3], wire_form(TEXTS[name]))

    def test_counts(self) -> None:
        """login() is the number of messages, or 0E0; list() and popstat() agree."""
        self.assertEqual(self.perl("print $in"), b"0E0")
        house.lmtp(HELLO, self.name)
        counted = self.perl('print join(" ", $in, $pop->popstat, $pop->list(1), $pop->list->{1}, '
                            'length($pop->uidl(1)) > 0)')
        number, messages, octets, *sizes, has_id = counted.split()
        self.assertEqual((number, messages, sizes, has_id), (b"1", b"1", [octets, octets], b"1"))

    def test_delete(self) -> None:
        """delete() and quit() remove; reset() in between undoes."""
        for text in (HELLO, TEXTS["dots"], HELLO):
            house.lmtp(text, self.name)
        self.perl("$pop->delete(1); $pop->reset; $pop->delete(2)")
        self.assertEqual([taken_apart(content)[3] for content in house.octets(self.name).values()],
                         [HELLO, HELLO])

    def test_refusals(self) -> None:
        """A wrong password is undef; APOP finds no timestamp; the client knows what it may ask."""
        found = self.perl('my $apop = $pop->apop("a", "b"); print defined($in) + defined($apop), " ", '
                          'join(" ", sort keys %{$pop->capabilities})', password="wrong").split()
        self.assertEqual(found[0], b"0")
        self.assertEqual({b"TOP", b"UIDL", b"USER", b"PIPELINING"} - set(found), set())
