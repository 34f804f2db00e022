"""A removal that a process, or the machine, dies in: after each step that it has, and what others do then.

Every message that stays, and every one that was added, is there once; what was removed is gone.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from itertools import product

from twisted.trial.unittest import SynchronousTestCase

from tests.stores.spools.mbox_hooks import FROM, Died, DyingDisk, MboxCase, message

MESSAGES = [message(number, b"x" * 40 * number) for number in range(6)]
FRESH = message("fresh", b"y" * 300)
TINY = FROM + b"\n"
REMOVALS = [{0}, {5}, {1, 3}, {0, 2, 4}, {2, 3, 4, 5}, set(range(6))]


class KillingDisk(DyingDisk):
    """Kills the process that it is in."""

    def _step(self, name: str, half: Callable[[], None] | None = None) -> None:
        try:
            super()._step(name, half)
        except Died:
            os.kill(os.getpid(), signal.SIGKILL)


class CrashTests(MboxCase, SynchronousTestCase):
    def die(self, steps: int, journal: bytes, **how: object) -> bool:
        """Carry out until a step; return whether that came to an end."""
        disk = DyingDisk(self.folder, steps, **how)
        try:
            self.spool(disk=disk).carry_out(journal, None)
            ended = True
        except Died:
            ended = False
        disk.close()
        (self.folder / "joe.lock").unlink(missing_ok=True)      # as others do it with one that is stale
        return ended

    def append(self, *messages: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(b"".join(messages))

    def cases(self, messages: Sequence[bytes],
              removed: set[int]) -> Iterator[tuple[Callable[[], bytes], list[bytes]]]:
        """Give journal and what stays, with and without mail that came after the decision."""
        for late in ([], [FRESH], [messages[index] for index in sorted(removed)]):
            def begin(late: list[bytes] = late) -> bytes:
                for path in self.folder.iterdir():
                    path.unlink()
                self.write(*messages)
                spool = self.spool()
                names = [one.name for one in spool.scan({})[0]]
                journal, _ = spool.plan([names[index] for index in removed])
                self.append(*late)
                return journal
            stay = [one for index, one in enumerate(messages) if index not in removed]
            yield begin, stay + late

    def steps(self, begin: Callable[[], bytes], **how: object) -> Iterator[tuple[bytes, int]]:
        """Begin anew for every step that there is, and die before it."""
        step = 0
        while True:
            journal = begin()
            if self.die(step, journal, **how):
                return
            yield journal, step
            step += 1

    def settled(self, expected: list[bytes], words: object) -> None:
        self.assertEqual(self.path.read_bytes(), b"".join(expected), words)
        left = [name for name in self.beside() if name != ".joe.mailgate" and not name.startswith(".lk")]
        self.assertEqual(left, [])

    def test_every_step(self) -> None:
        """Killed before a step or while writing; then nothing comes, or fresh mail, or the same again."""
        count = 0
        for removed in REMOVALS:
            again = [MESSAGES[index] for index in sorted(removed)]
            for begin, stay in self.cases(MESSAGES, removed):
                for torn, appended in product((False, True), ([], [FRESH], again, [FRESH, *again])):
                    for journal, step in self.steps(begin, torn=torn):
                        self.append(*appended)
                        self.spool().carry_out(journal, None)
                        self.settled(stay + appended, (removed, torn, step))
                        self.append(*again)     # and once more, late: nothing is done twice
                        self.spool().carry_out(journal, None)
                        self.settled(stay + appended + again, (removed, torn, step))
                        count += 1
        self.assertGreater(count, 2000)

    def test_died_twice(self) -> None:
        """Who finishes it dies too, after each of his steps, and between the two mail comes in."""
        count = 0
        for removed in ({1, 3}, {5}, {0, 1, 2}):
            again = [MESSAGES[index] for index in sorted(removed)]
            begin, stay = next(self.cases(MESSAGES, removed))
            for appended in ([FRESH], again):
                for journal, step in self.steps(begin):
                    self.append(*appended)
                    before = {path.name: path.read_bytes() for path in self.folder.iterdir()}
                    second = 0
                    while not self.die(second, journal, torn=True):
                        self.append(*appended)
                        self.spool().scan({})           # finishes it by itself
                        self.spool().carry_out(journal, None)
                        self.settled([*stay, *appended, *appended], (removed, step, second))
                        for name in os.listdir(self.folder):
                            (self.folder / name).unlink()
                        for name, content in before.items():
                            (self.folder / name).write_bytes(content)
                        second += 1
                        count += 1
        self.assertGreater(count, 200)

    def test_power_failure(self) -> None:
        """What was not synced is lost, all of it or all but the last step."""
        count = 0
        for removed in REMOVALS:
            begin, stay = next(self.cases(MESSAGES, removed))
            for power, torn in product(("all", "last"), (False, True)):
                for journal, step in self.steps(begin, torn=torn, power=power):
                    self.append(FRESH)
                    self.spool().carry_out(journal, None)
                    self.settled([*stay, FRESH], (removed, power, step))
                    count += 1
        self.assertGreater(count, 200)

    def test_tiny_messages(self) -> None:
        """What is cut off has less room than a mark would like."""
        messages = [TINY, MESSAGES[0], TINY, MESSAGES[1], TINY]
        for removed in ({0}, {2}, {4}, {0, 2, 4}):
            begin, stay = next(self.cases(messages, removed))
            for journal, step in self.steps(begin, torn=True):
                self.append(TINY)
                self.spool().carry_out(journal, None)
                self.settled([*stay, TINY], (removed, step))

    def test_other_programs_rewrite_it(self) -> None:
        """One that does not know of the journal, and marks all messages as seen, has no part in a loss.

        What stays is there, though twice if it was in two places when the other program came.
        """
        count = 0
        for removed in ({1, 3}, {0}, {2, 3, 4}):
            begin, stay = next(self.cases(MESSAGES, removed))
            for journal, step in self.steps(begin):
                seen = self.path.read_bytes().replace(b"\n\nbody", b"\nStatus: RO\n\nbody")
                self.path.write_bytes(seen + FRESH)
                spool = self.spool()
                spool.carry_out(journal, None)
                shown = [self.read(spool, one.name) for one in spool.scan({})[0]]
                for one in [*stay, FRESH]:
                    content = one.removeprefix(FROM)[:-1]
                    self.assertIn(shown.count(content), (1, 2), (removed, step, content))
                count += 1
        self.assertGreater(count, 30)

    def test_kill_9(self) -> None:
        """A real process, whose locks stay behind: the next session gets them at once."""
        begin, stay = next(self.cases(MESSAGES, {1, 3}))
        step, died = 0, True
        while died:
            journal = begin()
            child = os.fork()
            if not child:
                self.spool(disk=KillingDisk(self.folder, step, torn=True)).carry_out(journal, None)
                os._exit(0)
            died = os.WIFSIGNALED(os.waitpid(child, 0)[1])
            self.append(FRESH)
            self.spool(patience_seconds=1.0).carry_out(journal, None)
            self.settled([*stay, FRESH], step)
            step += 1
        self.assertEqual(step, 24)

    def test_what_the_steps_are(self) -> None:
        """A step that is added has to be thought about: is all well when somebody dies before it?"""
        begin, _ = next(self.cases(MESSAGES, {1, 3}))
        journal = begin()
        disk = DyingDisk(self.folder, 1000)
        self.spool(disk=disk).carry_out(journal, None)
        self.assertEqual(" ".join(disk.names), (
            "create write link unlink "                             # NAME.lock
            "create write write write sync rename sync_folder "     # what it is finished by
            "write sync write sync "                                # the mark
            "write sync truncate sync "                             # the mailbox
            "write sync truncate "                                  # done
            "unlink"))                                              # NAME.lock
