"""SDPS over the real service: login forms, two passwords, views, *ENV, sizes, snapshot."""

from __future__ import annotations

import poplib
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.house import House
from tests.interop.talk import Session
from tests.interop.texts import HELLO, TEXTS, taken_apart

SPACED = "  two  words "

house = House(accounts=0, hosts={"xyz": ("login", "pop3"), "spaced": (SPACED, "p")})


setUpModule, tearDownModule = house.open, house.close


@house.furnished
def furnish() -> None:
    for recipients, sender in ((["fred@xyz.mail.example.org", "jim@xyz.mail.example.org"], "a@example.org"),
                               (["Fred@XYZ.mail.example.org"], ""),
                               (["sue.s@xyz.mail.example.org"], "B+tag@Example.ORG")):
        house.lmtp(HELLO, *recipients, sender=sender)


def envelope(client: Session, number: object, command: str = "*ENV") -> list[bytes]:
    """Return the data lines of *ENV."""
    lines: list[bytes] = cast(Any, client)._longcmd(f"{command} {number}")[1]
    return lines


class LoginTests(SynchronousTestCase):
    def test_both_passwords(self) -> None:
        """S1: either of the host's passwords opens it, in the host's form and in a user's."""
        for name in ("xyz", "fred@xyz"):
            for password in ("login", "pop3"):
                with house.login(name, password) as client:
                    self.assertGreater(client.stat()[0], 0)
            self.assertRaisesRegex(poplib.error_proto, r"\[AUTH\]", house.login, name, "loginpop3")

    def test_login_forms(self) -> None:
        """S2: @ and +, with and without domain, in any case: the same view; the host's two forms: all."""
        for name in ("fred@xyz", "fred+xyz", "FRED@XYZ", "fred@xyz.mail.example.org",
                     "Fred+xyz.Mail.example.org"):
            with house.login(name, "pop3") as client:
                self.assertEqual([envelope(client, number)[3] for number in (1, 2)],
                                 [b"fred@xyz.mail.example.org", b"Fred@XYZ.mail.example.org"], name)
                self.assertEqual(client.stat()[0], 2, name)
        for name in ("xyz", "XYZ", "xyz.mail.example.org"):
            with house.login(name, "pop3") as client:
                self.assertEqual(client.stat()[0], 4, name)

    def test_user_without_mail(self) -> None:
        """Every user of a host can log in: one without mail has an empty maildrop."""
        with house.login("nobody-yet@xyz", "login") as client:
            self.assertEqual(client.stat(), (0, 0))

    def test_spaces_in_passwords(self) -> None:
        """S4: spaces in front, in the middle and behind are compared as they are."""
        house.login("spaced", SPACED).quit()
        for other in (SPACED.strip(), SPACED.rstrip(), SPACED.lstrip(), "  two words ", f" {SPACED}",
                      f"{SPACED} "):
            self.assertRaisesRegex(poplib.error_proto, r"\[AUTH\]", house.login, "spaced", other)


class ViewTests(SynchronousTestCase):
    def test_one_message_for_two_users(self) -> None:
        """S3: it is two of the host's, one in each view; unique-ids differ, and are the same in all views."""
        with house.login("xyz", "pop3") as client:
            ids = client.unique_ids()
            recipients = [envelope(client, number)[3] for number in range(1, 5)]
        self.assertEqual(recipients, [b"fred@xyz.mail.example.org", b"jim@xyz.mail.example.org",
                                      b"Fred@XYZ.mail.example.org", b"sue.s@xyz.mail.example.org"])
        self.assertEqual(len(set(ids)), 4)
        for user, expected in (("fred", [ids[0], ids[2]]), ("jim", [ids[1]]), ("sue.s", [ids[3]])):
            with house.login(f"{user}@xyz", "pop3") as client:
                self.assertEqual(client.unique_ids(), expected, user)

    def test_deletion_in_a_view(self) -> None:
        """What one user's session removes is gone for the host; the other user's copy stays."""
        house.lmtp(HELLO, "ann@spaced.mail.example.org", "bob@spaced.mail.example.org")
        with house.login("ann@spaced", "p") as client:
            client.dele(1)
        with house.login("spaced", "p") as client:
            users = [envelope(client, number)[1] for number in range(1, client.stat()[0] + 1)]
        self.assertNotIn(b"ann", users)
        self.assertIn(b"bob", users)

    def test_return_path_and_size(self) -> None:
        """S8: Return-Path stands in front, from the envelope; LIST, TOP and STAT count it."""
        house.lmtp(TEXTS["own Return-Path"], "eve@spaced.mail.example.org", sender="real@example.org")
        with house.login("eve@spaced", "p") as client:
            fetched = client.content(1)
            sender, recipient, _, rest = taken_apart(fetched)
            self.assertEqual((sender, recipient), (b"real@example.org", b"eve@spaced.mail.example.org"))
            self.assertEqual(rest, b"Subject: x\r\n\r\nx\r\n")
            self.assertEqual(fetched.lower().count(b"return-path:"), 1)
            self.assertEqual((client.sizes(), client.stat()), ([len(fetched)], (1, len(fetched))))
            self.assertEqual(client.top(1, 0)[1][0], b"Return-Path: <real@example.org>")

    def test_mail_that_comes_late(self) -> None:
        """S9: mail that comes during a session shows in the next one."""
        house.lmtp(HELLO, "late@spaced.mail.example.org")
        with house.login("late@spaced", "p") as client:
            before = client.stat(), client.unique_ids()
            house.lmtp(HELLO, "late@spaced.mail.example.org")
            self.assertEqual((client.stat(), client.unique_ids()), before)
        with house.login("late@spaced", "p") as client:
            self.assertEqual(client.stat()[0], 2)
            self.assertEqual(client.unique_ids()[:1], before[1])


class EnvelopeTests(SynchronousTestCase):
    def test_four_lines(self) -> None:
        """*ENV shows domain, user, sender and recipient, as they came in the envelope."""
        with house.login("xyz", "pop3") as client:
            self.assertEqual(envelope(client, 1), [
                b"xyz.mail.example.org", b"fred", b"a@example.org", b"fred@xyz.mail.example.org"])
            self.assertEqual(envelope(client, 4), [
                b"xyz.mail.example.org", b"sue.s", b"B+tag@Example.ORG", b"sue.s@xyz.mail.example.org"])

    def test_null_sender(self) -> None:
        """S7: the null sender is an empty third line; there are exactly four."""
        with house.login("xyz", "pop3") as client:
            self.assertEqual(envelope(client, 3), [
                b"XYZ.mail.example.org", b"Fred", b"", b"Fred@XYZ.mail.example.org"])

    def test_any_case(self) -> None:
        """S6: the command's case does not matter."""
        with house.login("xyz", "pop3") as client:
            self.assertEqual(envelope(client, 1, "*env"), envelope(client, 1))

    def test_refusals(self) -> None:
        """S5: what names no message is refused, in one line; so is the command before the login."""
        with house.talk() as client:
            self.assertTrue(client.ask("*ENV 1").startswith(b"-ERR"))
            self.assertTrue(client.log_in("xyz", "pop3").startswith(b"+OK"))
            client.ask("DELE 2")
            for argument in ("", " 0", " 99999", " x", " 2", " -1", " 1 1"):
                self.assertTrue(client.ask(f"*ENV{argument}").startswith(b"-ERR"), argument)
                self.assertTrue(client.ask("NOOP").startswith(b"+OK"), argument)
            self.assertTrue(client.ask("*ENV 1").startswith(b"+OK"))
            self.assertEqual(len(client.lines()), 4)
