"""The library of scenarios and the samples: all of it can be read, and every scenario does something."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing import samples, scenarios
from mailgate.testing.memory import MemoryServer
from tests.testing.walk import Walk, calm

LEAST = 60      # scenarios


class LibraryTests(SynchronousTestCase):
    def test_all_can_be_read(self) -> None:
        """Each has a name, says what it is for, and asks for samples that there are."""
        names = scenarios.names()
        self.assertGreaterEqual(len(names), LEAST)
        for name in names:
            made = scenarios.load(name)
            self.assertEqual(made.name, name)
            for text in (made.description, made.finds, made.right):
                self.assertRegex(text.strip(), r"(?s)^[A-Z+].*\.$", name)
            for address in made.sources:
                self.assertRegex(address, r"^https?://[^\s`>]+$", name)
            self.assertEqual(len(made.sources), len(set(made.sources)), name)
            self.assertTrue(made.faults or made.messages, name)
            samples.all_contents(made.messages)

    def test_unknown_name(self) -> None:
        """A name that there is not is told with what is near."""
        fault = self.assertRaises(LookupError, scenarios.load, "cut-in-mid-mesage")
        self.assertIn("is it cut-in-mid-message", str(fault))
        self.assertRaises(LookupError, scenarios.text, "../samples")

    def test_every_scenario_acts(self) -> None:
        """A client that does everything meets every fault of every scenario, and hears the difference."""
        idle, unheard = [], []
        for name in scenarios.names():
            made = scenarios.load(name)
            if made.faults:
                walk, well = Walk(made), calm(made.messages, "pop3" in made.settings)
                heard = False
                while (walk.idle or not heard) and walk.go_on():
                    heard = heard or walk.differs(well)
                idle += [f"{name}: {fault}" for fault in walk.idle]
                unheard += [] if heard else [name]
        self.assertEqual((idle, unheard), ([], []))


class SampleTests(SynchronousTestCase):
    def test_are_what_they_say(self) -> None:
        """Lines end in CRLF, each message has its own number, and the same name gives the same octets."""
        for name in samples.names():
            one, two = samples.contents(f"{name} x 2")
            self.assertNotEqual(one, two)
            self.assertEqual(samples.contents(name), [one])
            if name != "control":
                self.assertNotIn(b"\n", one.replace(b"\r\n", b""), name)
                self.assertNotIn(b"\r", one.replace(b"\r\n", b""), name)
            self.assertRegex(samples.told(name), r"^[A-Z0-9].*\.$")
        self.assertEqual(samples.contents("none"), [])
        for wrong in ("plane", "plain x 0", "plain x many", "plain x"):
            self.assertRaises(LookupError, samples.contents, wrong)

    def test_numbers_go_on(self) -> None:
        """Two askings of one sample in a list are different messages."""
        found = samples.all_contents(("plain", "dots", "plain x 2"))
        self.assertEqual(len(set(found)), 4)

    def test_edges(self) -> None:
        """A stuffed dot stands on both sides of every buffer's end, wherever the reply begins."""
        [content] = samples.contents("dots-at-buffers")
        for size in samples.BUFFER_OCTETS:
            for at in range(size - 80, size - 10):
                self.assertIn(b"\r\n.", content[at - 8:at + 8])
        self.assertEqual(max(map(len, samples.contents("long-line-998")[0].split(b"\r\n"))), 998)
        self.assertEqual(len(samples.contents("mb5")[0]) // 1_000_000, 5)

    def test_the_store_takes_them_as_they_are(self) -> None:
        """What a sample holds is what RETR sends, but for an end of line at its end."""
        with MemoryServer() as server:
            drop = server.account("mrose", "secret")
            for name in samples.names():
                [content] = samples.contents(name)
                drop.add(content)
                held = drop.messages[-1].content
                self.assertEqual(held.removesuffix(b"\r\n"), content.removesuffix(b"\r\n"), name)
