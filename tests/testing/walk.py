"""A client that does everything, in memory: so that every fault of a scenario has something to meet."""

from __future__ import annotations

import functools
import re
from typing import Any

from mailgate.testing.memory import MemoryServer, Talker
from mailgate.testing.samples import all_contents
from mailgate.testing.trouble.model import Scenario

MESSAGES = 6            # the first so many are asked for
WAIT_SECONDS = 20.0     # behind each line; less than a server waits for a login
USER, PASSWORD = "mrose", "tanstaaf"
PROOF = "AG1yb3NlAHRhbnN0YWFm"      # of both, for PLAIN
ORDINARY = (f"USER {USER}", f"PASS {PASSWORD}")
OTHERS = (("AUTH PLAIN", PROOF), (f"AUTH PLAIN {PROOF}",), ("AUTH XOAUTH2 dXNlcj1tcm9zZQ==", ""),
          ("AUTH XOAUTH2", "dXNlcj1tcm9zZQ==", ""), (f"APOP {USER} {'0' * 32}",))
EVERY = {       # what is said of every message, by session
    1: ("LIST {}", "UIDL {}", "RETR {}", "DELE {}"), 2: ("TOP {} 0", "TOP {} 1000"), 3: ("RETR {}",),
    4: ("TOP {} 1000",), 5: ("DELE {}",), 6: ()}
FOR_GOOD = 5            # the session that keeps its deletions


@functools.cache
def calm(messages: tuple[str, ...], apop: bool) -> Walk:
    """Return a walk through a maildrop where all is well, gone as far as somebody has compared."""
    return Walk(Scenario("", messages=messages, settings={"pop3": {"apop": apop}}))


class Walk:
    """A scenario walked through, session by session. The only setting of the server's it may have is APOP."""

    def __init__(self, scenario: Scenario) -> None:
        self.answers: list[bytes] = []          # what came behind each line
        self.segments: list[bytes] = []
        self.lengths: list[tuple[int, int]] = []    # of both, after each session
        self.server = MemoryServer(settings={
            "pop3": {"apop": bool(scenario.settings.get("pop3", {}).get("apop"))}})
        drop = self.server.account(USER, PASSWORD)
        for content in all_contents(scenario.messages):
            drop.add(content)
        self.faults = self.server.scenario(scenario)
        self._to_come: list[Any] = [
            *[(self._session, number, ORDINARY) for number in EVERY],
            *[(self._session, FOR_GOOD, login) for login in OTHERS],
            (self._inside_tls, "pop3"), (self._inside_tls, "pop3s")]

    def go_on(self) -> bool:
        """Have one more session; return False where there is none."""
        if not self._to_come:
            return False
        session, *how = self._to_come.pop(0)
        session(*how)
        self.lengths.append((len(self.answers), len(self.segments)))
        return True

    @property
    def idle(self) -> list[str]:
        """The faults that have met nothing so far."""
        return [f"{fault.fault.do} at {fault.fault.command}" for fault in self.faults if not fault.acted]

    def differs(self, other: Walk) -> bool:
        """Whether something else was said than in as many sessions of another walk."""
        while len(other.lengths) < len(self.lengths):
            other.go_on()
        answers, segments = other.lengths[len(self.lengths) - 1]
        return (self.answers, self.segments) != (other.answers[:answers], other.segments[:segments])

    def _session(self, number: int, login: tuple[str, ...]) -> None:
        talker = self.server.talk()
        self._wait(talker)
        for line in ("CAPA", *login, "CAPA", "STAT", "LIST", "UIDL"):
            self._say(talker, line)
        listed = {int(one) for one in re.findall(rb"(?m)^(\d{1,2}) \d+\r?$", talker.received)}
        for line in EVERY[number]:
            for message in sorted(listed)[:MESSAGES]:
                self._say(talker, line.format(message))
        last = ("QUIT",) if number == FOR_GOOD else ("RSET", "QUIT")
        for line in ("STAT", "LIST", "UIDL", *last):
            self._say(talker, line)
        self._leave(talker)

    def _inside_tls(self, protocol: str) -> None:
        talker = self.server.talk(protocol, tls=self.server.trusting() if protocol == "pop3s" else None)
        if protocol == "pop3":
            self._say(talker, "CAPA")
            self._say(talker, "STLS")
            if not talker.closed:
                talker.transport.startTLS(self.server.trusting())      # type: ignore[union-attr]
        for line in ("CAPA", *ORDINARY, "QUIT"):
            self._say(talker, line)
        self._leave(talker)

    def _say(self, talker: Talker, line: str) -> None:
        if not talker.closed:
            before = len(talker.received)
            talker.say(line.encode() + b"\r\n")
            self._wait(talker)
            self.answers.append(talker.received[before:])

    def _wait(self, talker: Talker) -> None:
        if not talker.closed:
            self.server.advance(WAIT_SECONDS)

    def _leave(self, talker: Talker) -> None:
        self.segments += talker.segments
        if not talker.closed:
            talker.transport.loseConnection()       # type: ignore[union-attr]
            self.server.advance(WAIT_SECONDS)
