"""A source that another process reads gives what the source itself gives."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailgate.errors import StoreUnavailable
from mailgate.formats.entries import BadSource, NotPlain
from mailgate.importing.forked import ForkedSource
from mailgate.importing.maildir import Maildir
from mailgate.importing.mbox import Mbox
from mailgate.importing.source import Unreadable

FROM_LINE = b"From a@example.org Mon Jan  1 00:00:00 2024\n"


def told(source: Any) -> list[tuple[object, ...]]:
    """Return all that a source says, in order."""
    found: list[tuple[object, ...]] = []
    for message in source.messages():
        try:
            content = b"".join(message.pieces())
        except (FileNotFoundError, NotPlain, Unreadable) as fault:
            found.append((message.name, type(fault), str(fault)))
            continue
        found.append((message.name, content, message.octets, message.arrived_ms, message.unique_id,
                      message.sender, message.identity()))
    return found


class Script:
    """A source that raises at will."""

    octets = 7

    def __init__(self, *steps: bytes | Exception) -> None:
        self.steps = steps

    def messages(self) -> Iterator[Any]:
        for step in self.steps:
            if isinstance(step, (BadSource, StoreUnavailable, SystemExit)):
                raise step
            yield ScriptMessage(step)


class ScriptMessage:
    name, octets, arrived_ms, unique_id, sender, folder, flags = "one", 1, 2, b"3", b"4", "Sent", "S"

    def __init__(self, step: bytes | Exception) -> None:
        self._step = step

    def pieces(self) -> Iterator[bytes]:
        yield b"begin "
        if isinstance(self._step, Exception):
            raise self._step
        yield self._step

    def identity(self) -> str:
        return "5"


class ForkedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)

    def test_maildir_and_mbox(self) -> None:
        """Names, contents, times, ids, identities, what is no plain file: the same, in the same order."""
        for name in ("cur", "new"):
            (self.folder / name).mkdir()
        for number in range(5):
            content = b"A: %d\n\n" % number + b"x" * 200_000
            (self.folder / "new" / f"170000000{number}.M1P1.h").write_bytes(content)
        (self.folder / "cur" / "1700000009.M1P1.h:2,S").symlink_to("/etc/passwd")
        mbox = self.folder / "mbox"
        mbox.write_bytes(b"\n".join(FROM_LINE + b"X-UIDL: %d\n\nhello\n" % n for n in range(4)) * 2)
        for make in (lambda: Maildir(self.folder), lambda: Mbox(mbox)):
            direct = told(make())
            self.assertGreater(len(direct), 5)
            self.assertEqual(told(ForkedSource(make())), direct)

    def test_what_the_caller_leaves(self) -> None:
        """A message that is not read, or not to its end, does not stand in the next one's way."""
        for taken in (0, 1):
            found = []
            for message in ForkedSource(Script(b"one", b"two", b"three")).messages():
                pieces = message.pieces()
                found += [next(pieces) for _ in range(taken)]
            self.assertEqual(found, [b"begin "] * 3 * taken)

    def test_faults(self) -> None:
        """Of one message: the others come. Of the source: the end, in the same words."""
        source = ForkedSource(Script(b"one", FileNotFoundError("gone"), NotPlain("a link"),
                                     Unreadable("bad"), b"two"))
        self.assertEqual(source.octets, 7)
        self.assertEqual(told(source), [
            ("one", b"begin one", 1, 2, b"3", b"4", "5"), ("one", FileNotFoundError, "gone"),
            ("one", NotPlain, "a link"), ("one", Unreadable, "bad"),
            ("one", b"begin two", 1, 2, b"3", b"4", "5")])
        for fault in (BadSource("not an mbox"), StoreUnavailable("locked")):
            for script in (Script(b"one", fault), Script(fault)):
                self.assertEqual(str(self.assertRaises(type(fault), told, ForkedSource(script))), str(fault))

    def test_a_reader_that_dies(self) -> None:
        """Is told: what came until then was not the whole."""
        source = ForkedSource(Script(b"one", SystemExit()))       # type: ignore[arg-type]
        self.assertRaises(BadSource, told, source)
        source = ForkedSource(Script(*[b"x" * 100_000] * 20))
        reading = source.messages()
        next(reading)
        os.kill(source._child, signal.SIGKILL)
        self.assertRaises(BadSource, list, reading)

    def test_a_source_that_nobody_reads(self) -> None:
        """Its reader ends by itself as soon as the pipe is closed."""
        source = ForkedSource(Script(*[b"x" * 100_000] * 20))
        source._pipe.close()
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(source._child, 0)[1]), os.EX_SOFTWARE)
