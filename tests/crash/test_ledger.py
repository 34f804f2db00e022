"""The ledger of the crash tests: it finds every broken promise, and lets pass what is nobody's promise."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from tests.crash.ledger import Copy, Ledger, make_message, token_of

FRONT = b"Return-Path: <>\r\nDelivered-To: a@b\r\nReceived: by c;\r\n\tSat, 21 Nov 2026 23:49:39 +0000\r\n"


class LedgerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ledger = Ledger()
        self.copies = [Copy("mrose", b"%d" % number) for number in range(4)]
        self.sent = {copy: make_message(random.Random(0), copy.token, 500) for copy in self.copies}
        for copy, message in self.sent.items():
            self.ledger.offer([copy], message)

    def there(self, *copies: Copy) -> dict[str, list[bytes]]:
        return {"mrose": [FRONT + self.sent[copy] for copy in copies]}

    def assert_broken(self, words: str, found: dict[str, list[bytes]]) -> None:
        self.assertIn(words, str(self.assertRaises(AssertionError, self.ledger.settle, found)))

    def test_tokens(self) -> None:
        self.assertEqual([token_of(message) for message in self.sent.values()], [b"0", b"1", b"2", b"3"])

    def test_deliveries_without_an_answer(self) -> None:
        """May be there or not, whole; afterwards they are certain."""
        self.ledger.settle(self.there(self.copies[0]))
        self.assertEqual(list(self.ledger.held), self.copies[:1])
        self.assertEqual((self.ledger.undone, self.ledger.done), (1, 1))
        self.assert_broken("messages are lost", self.there())

    def test_lost(self) -> None:
        self.ledger.accepted(self.copies[1])
        self.assert_broken("messages are lost", self.there(self.copies[0]))

    def test_half(self) -> None:
        found = self.there(*self.copies)
        found["mrose"][2] = found["mrose"][2][:-20]
        self.assert_broken("not what was sent", found)

    def test_added(self) -> None:
        found = self.there(*self.copies)
        found["mrose"][2] = b"X-Other: 1\r\n" + found["mrose"][2]
        self.assert_broken("not what was sent", found)

    def test_twice(self) -> None:
        self.assert_broken("there twice", self.there(self.copies[0], self.copies[0]))

    def test_unknown(self) -> None:
        self.ledger.settle(self.there())
        self.assert_broken("unknown origin", self.there(self.copies[0]))

    def test_quit_without_an_answer(self) -> None:
        """All or none."""
        for done in (False, True):
            self.ledger.settle(self.there(*self.copies))
            self.ledger.leave(self.copies[:2])
            self.ledger.settle(self.there(*self.copies[2 if done else 0:]))
            self.assertEqual(list(self.ledger.held), self.copies[2 if done else 0:])

    def test_half_a_quit(self) -> None:
        self.ledger.settle(self.there(*self.copies))
        self.ledger.leave(self.copies[:2])
        self.assert_broken("one QUIT removed", self.there(*self.copies[1:]))

    def test_return_of_a_removed_message(self) -> None:
        self.ledger.settle(self.there(*self.copies))
        self.ledger.answered(self.ledger.leave(self.copies[:2]), removed=True)
        self.assert_broken("have come back", self.there(*self.copies[1:]))

    def test_refused_quit(self) -> None:
        """Nothing is removed."""
        self.ledger.settle(self.there(*self.copies))
        self.ledger.answered(self.ledger.leave(self.copies[:2]), removed=False)
        self.assert_broken("messages are lost", self.there(*self.copies[2:]))

    def test_removed_before_its_delivery_was_answered(self) -> None:
        """Another client was quicker: the message is gone, and stays so."""
        self.ledger.answered(self.ledger.leave(self.copies[:1]), removed=True)
        self.ledger.accepted(self.copies[0])
        self.ledger.settle(self.there(*self.copies[1:]))
        self.assert_broken("have come back", self.there(*self.copies))
