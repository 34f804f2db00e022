"""Sizes, numbers, unique-ids and listings that are not so."""

from __future__ import annotations

from tests.testing.trouble.scene import DELE, LIST, NOOP, ONE, RETR_1, STAT, TWO, UIDL, FaultCase

TOTAL = len(ONE) + len(TWO)
HEAD = LIST[:LIST.index(b"\n") + 1]


class ListingCase(FaultCase):
    def setUp(self) -> None:
        super().setUp()
        self.client = self.log_in()

    def ask(self, line: bytes) -> bytes:
        """Return a reply; the one to NOOP behind it is as ever."""
        reply = self.said(self.client, line + b"\r\nNOOP")
        self.assertTrue(reply.endswith(NOOP), reply)
        return reply[:-len(NOOP)]

    def rows(self, line: bytes) -> list[bytes]:
        """Return the lines of a listing."""
        reply = self.ask(line)
        self.assertTrue(reply.startswith(b"+OK") and reply.endswith(b"\r\n.\r\n"), reply)
        return reply.split(b"\r\n")[1:-2]


class SizeTests(ListingCase):
    """sizes, count."""

    def sizes(self) -> tuple[list[bytes], bytes, bytes, bytes]:
        """Return what LIST, LIST 1, STAT, and the first line of RETR 1 say."""
        return (self.rows(b"LIST"), self.ask(b"LIST 1")[4:-2], self.ask(b"STAT")[4:-2],
                self.ask(b"RETR 1").partition(b"\r\n")[0][4:])

    def said_sizes(self, one: int, two: int) -> tuple[list[bytes], bytes, bytes, bytes]:
        return ([b"1 %d" % one, b"2 %d" % two], b"1 %d" % one, b"2 %d" % (one + two), b"%d octets" % one)

    def test_sizes(self) -> None:
        """Everywhere in the same way; the sum is the sum."""
        one, two = len(ONE), len(TWO)
        for settings, wrong in (({"add": 7}, (one + 7, two + 7)), ({"factor": 2}, (one * 2, two * 2)),
                                ({"exact": 5}, (5, 5)), ({"add": -1000}, (0, 0)), ({"way": "zero"}, (0, 0)),
                                ({"way": "lf"}, (one - 4, two - 3)), ({"way": "stuffed"}, (one + 1, two)),
                                ({"way": "header"}, (16, 16)),
                                ({"add": 1, "numbers": [2]}, (one, two + 1))):
            with self.fault("sizes", **settings):
                self.assertEqual(self.sizes(), self.said_sizes(*wrong), settings)
        self.assertEqual(self.sizes(), self.said_sizes(one, two))

    def test_in_one_place(self) -> None:
        right = self.said_sizes(len(ONE), len(TWO))
        wrong = self.said_sizes(len(ONE) + 1, len(TWO) + 1)
        for place, name in enumerate(("list", "line", "stat", "retr")):
            with self.fault("sizes", of=name, add=1, numbers=[1, 2]):
                said = self.sizes()
            self.assertEqual([said[index] == wrong[index] for index in range(4)],
                             [index == place for index in range(4)])
            self.assertEqual([said[index] == right[index] for index in range(4)],
                             [index != place for index in range(4)])

    def test_sum_alone(self) -> None:
        with self.fault("sizes", of="stat", add=1):
            self.assertEqual(self.ask(b"STAT"), b"+OK 2 %d\r\n" % (TOTAL + 1))
        with self.fault("sizes", of="stat", exact=0):
            self.assertEqual(self.ask(b"STAT"), b"+OK 2 0\r\n")

    def test_marked_do_not_count(self) -> None:
        self.fault("sizes", add=1)
        self.ask(b"DELE 1")
        self.assertEqual(self.ask(b"STAT"), b"+OK 1 %d\r\n" % (len(TWO) + 1))
        self.assertEqual(self.ask(b"LIST 1"), b"-ERR no such message\r\n")

    def test_count(self) -> None:
        with self.fault("count", add=3):
            self.assertEqual(self.ask(b"STAT"), b"+OK 5 %d\r\n" % TOTAL)
        with self.fault("count", exact=0):
            self.assertEqual(self.ask(b"STAT"), b"+OK 0 %d\r\n" % TOTAL)
        self.assertEqual(self.ask(b"STAT"), STAT)


class UniqueIdTests(ListingCase):
    """uids: and UIDL says of one message what it says of it among all."""

    def ids(self) -> list[bytes]:
        rows = self.rows(b"UIDL")
        for row in rows:
            self.assertEqual(self.ask(b"UIDL " + row[:1]), b"+OK " + row + b"\r\n")
        return [row[2:] for row in rows]

    def test_illegal(self) -> None:
        for how, ids in (("numbers", [b"1", b"2"]), ("blanks", [b"ui d-one", b"ui d-two"]),
                         ("control", [b"ui\x07d-one", b"ui\x07d-two"]), ("empty", [b"", b""]),
                         ("eight_bit", [b"ui\xe4d-one", b"ui\xe4d-two"]), ("duplicate", [b"uid-one"] * 2),
                         ("long", [b"uid-one" + b"x" * 193, b"uid-two" + b"x" * 193]),
                         ("rotated", [b"uid-two", b"uid-one"])):
            with self.fault("uids", how=how):
                self.assertEqual(self.ids(), ids)
        with self.fault("uids", how="long", octets=71):
            self.assertEqual([len(one) for one in self.ids()], [71, 71])

    def test_of_some(self) -> None:
        with self.fault("uids", how="duplicate", numbers=[1]):
            self.assertEqual(self.ids(), [b"uid-two", b"uid-two"])
        with self.fault("uids", how="missing", numbers=[1]):
            self.assertEqual(self.rows(b"UIDL"), [b"2 uid-two"])
            self.assertEqual(self.ask(b"UIDL 1"), b"-ERR no unique-id\r\n")
            self.assertEqual(self.ask(b"UIDL 2"), b"+OK 2 uid-two\r\n")
        self.assertEqual(self.ask(b"UIDL"), UIDL)

    def test_changed(self) -> None:
        """Other ones in each session, and legal; the same throughout a session."""
        self.fault("uids", how="changed")
        first = self.ids()
        self.assertEqual(self.ids(), first)
        self.leave(self.client)
        self.client = self.log_in()
        ids = [*first, *self.ids(), b"uid-one", b"uid-two"]
        self.assertEqual(len(set(ids)), 6)
        self.assertTrue(all(one.isalnum() and len(one) == 20 for one in ids[:4]))


class ListingTests(ListingCase):
    """listing, expunge."""

    def test_order(self) -> None:
        with self.fault("listing", order="reverse"):
            self.assertEqual(self.ask(b"UIDL"),
                             UIDL[:UIDL.index(b"\n") + 1] + b"2 uid-two\r\n1 uid-one\r\n.\r\n")
            self.assertEqual(self.rows(b"LIST"), [b"2 %d" % len(TWO), b"1 %d" % len(ONE)])
            self.assertEqual(self.ask(b"LIST 1"), b"+OK 1 %d\r\n" % len(ONE))
        with self.fault("listing", order="rotated", command="LIST"):
            self.assertEqual([row[:1] for row in self.rows(b"LIST")], [b"2", b"1"])
            self.assertEqual(self.ask(b"UIDL"), UIDL)
        with self.fault("listing", order="random"):
            self.assertEqual(sorted(self.rows(b"UIDL")), [b"1 uid-one", b"2 uid-two"])

    def test_which(self) -> None:
        one, two = b"1 %d" % len(ONE), b"2 %d" % len(TWO)
        for settings, rows in (({"omit": 1}, [two]), ({"omit": [1, 2]}, []),
                               ({"double": [2]}, [one, two, two]),
                               ({"extra": 2}, [one, two, b"3 1000", b"4 1000"]),
                               ({"step": 3}, [one, b"4 %d" % len(TWO)]),
                               ({"first": 0}, [b"0 %d" % len(ONE), b"1 %d" % len(TWO)]),
                               ({"behind": " octets", "ahead": " "}, [b" " + one + b" octets",
                                                                    b" " + two + b" octets"])):
            with self.fault("listing", **settings):
                self.assertEqual(self.rows(b"LIST"), rows)
        with self.fault("listing", omit=1, extra=1):
            self.assertEqual(self.rows(b"UIDL"), [b"2 uid-two", b"3 extra-3"])
            self.assertEqual(self.ask(b"UIDL 1"), b"-ERR no such message\r\n")

    def test_deleted(self) -> None:
        """A listing that does not follow DELE."""
        self.fault("listing", deleted=True)
        self.assertEqual(self.ask(b"DELE 1"), DELE)
        self.assertEqual(self.rows(b"LIST"), [b"1 %d" % len(ONE), b"2 %d" % len(TWO)])
        self.assertEqual(self.rows(b"UIDL"), [b"1 uid-one", b"2 uid-two"])
        self.assertEqual(self.ask(b"UIDL 1"), b"+OK 1 uid-one\r\n")
        self.assertEqual(self.ask(b"UIDL 7"), b"-ERR no such message\r\n")

    def test_expunge_before(self) -> None:
        """The message is gone when it is asked for; its neighbour is there."""
        self.fault("expunge", command="RETR 1")
        self.assertEqual(self.ask(b"RETR 1"), b"-ERR no such message\r\n")
        self.assertEqual(self.ask(b"LIST"), LIST)
        self.assertEqual(self.holds(), ["uid-two"])
        self.assertEqual(self.ask(b"DELE 1"), DELE)
        self.client.say(b"QUIT\r\n")
        self.assertEqual((self.holds(), self.server.deleted), (["uid-two"], []))

    def test_expunge_after(self) -> None:
        self.fault("expunge", command="RETR", when="after", numbers=[1, 2])
        self.assertEqual(self.ask(b"RETR 1"), RETR_1)
        self.assertEqual(self.holds(), [])
        self.assertEqual(self.ask(b"TOP 2 0"), b"-ERR no such message\r\n")
