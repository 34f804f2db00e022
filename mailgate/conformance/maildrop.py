"""The suite's own messages in the maildrop: put there, found again by the token, taken away at the end."""

from __future__ import annotations

import re
import secrets
import time
from contextlib import AbstractContextManager
from typing import Protocol

from mailgate.conformance.connection import Connection, Reply
from mailgate.conformance.delivering import Deliver, Undelivered
from mailgate.conformance.samples import Sample, samples, small
from mailgate.conformance.target import Target

POLL_SECONDS = 0.3
MOST_CANDIDATES = 500       # messages looked into for the token
MOST_OCTETS = 1 << 20       # a larger one is none of ours

NO_UIDL = "number "         # begins what stands for the ids of a server without UIDL

Ids = dict[str, int]        # unique-ids with their numbers


class Doors(Protocol):
    """What is needed to look into the maildrop: logins, one after another."""

    target: Target

    def session(self) -> AbstractContextManager[Connection]:
        """Log in, and leave again."""


class Own:
    """What this run delivered. All sessions for this are the caller's, one at a time."""

    def __init__(self, deliver: Deliver | None) -> None:
        self._deliver = deliver
        self.token = secrets.token_hex(8)
        self.wanted = {one.name: one for one in samples(self.token)}
        self.ids: dict[str, str] = {}       # sample name -> unique-id
        self.seen: set[str] = set()         # every unique-id that is, or was, of this run
        self.missing: dict[str, str] = {}   # sample name -> why it is not there
        self._foreign: set[str] | None = None
        self._count = 0

    @property
    def can_deliver(self) -> bool:
        """Whether there is a way."""
        return self._deliver is not None

    def fill(self, visit: Doors) -> None:
        """Deliver all samples and wait until they are seen. What fails is told by `missing`."""
        if self._deliver is None:
            return
        with visit.session() as session:
            self._foreign = set(unique_ids(session))
        for sample in self.wanted.values():
            self.put(sample)
        self._await(visit, set(self.wanted) - set(self.missing))

    def put(self, sample: Sample) -> bool:
        """Deliver one message; it may be seen later."""
        assert self._deliver is not None
        try:
            self._deliver(sample)
        except Undelivered as fault:
            self.missing[sample.name] = str(fault)
            return False
        return True

    def make(self, count: int = 1, text: bytes = b"") -> list[Sample]:
        """Return new small messages, not delivered yet."""
        self._count += count
        return [small(self.token, f"small-{self._count - place}", text=text) for place in range(count)]

    def fresh(self, visit: Doors, count: int) -> list[Sample]:
        """Deliver small messages, wait for them, and return them. Raises: Undelivered."""
        made = self.make(count)
        for sample in made:
            self.put(sample)
        self._await(visit, {one.name for one in made})
        for sample in made:
            if sample.name not in self.ids:
                raise Undelivered(self.missing.get(sample.name, f"{sample.name} did not arrive"))
        return made

    def find(self, visit: Doors, names: set[str]) -> set[str]:
        """Wait for messages that were delivered; return those that arrived."""
        self._await(visit, names)
        return names & set(self.ids)

    def _await(self, visit: Doors, names: set[str]) -> None:
        until = time.monotonic() + visit.target.pace.arrival_seconds
        while True:
            with visit.session() as session:
                self._look(session)
            left = names - set(self.ids)
            if not left:
                return
            if time.monotonic() > until:
                for name in left:
                    self.missing.setdefault(name, "it was delivered, but did not arrive")
                return
            time.sleep(POLL_SECONDS)

    def _look(self, session: Connection) -> None:
        """Look into what is neither foreign nor known."""
        there = unique_ids(session)
        numbered = any(one.startswith(NO_UIDL) for one in there)      # these move: all are looked at anew
        known = set() if numbered else (self._foreign or set()) | self.seen
        unknown = [one for one in there.items() if one[0] not in known]
        for unique_id, number in unknown[-MOST_CANDIDATES:]:
            name = self.name_of(session, number)
            if name is None:
                (self._foreign or set()).add(unique_id)
            else:
                self.ids[name] = unique_id
                self.seen.add(unique_id)

    def forget(self, name: str) -> None:
        """Let a message be found anew, though it may have the same unique-id."""
        self.seen.discard(self.ids.pop(name))

    def name_of(self, session: Connection, number: int) -> str | None:
        """Return a message's name by the token in it, None for a foreign one."""
        size = session.ask(f"LIST {number}").text.split(b" ")
        if len(size) > 1 and size[1].isdigit() and int(size[1]) > MOST_OCTETS:
            return None
        for command in (f"TOP {number} 0", f"TOP {number} 1"):      # the second for who has no header
            reply = session.ask(command, multi=True)
            if not reply.ok:
                reply = session.ask(f"RETR {number}", multi=True)
            if found := re.search(self.token.encode() + rb" ([a-z0-9-]+)", reply.content):
                return found[1].decode()
        return None

    def number(self, session: Connection, unique_id: str) -> int | None:
        """Return the number of a message of ours in a session; None if it is gone, or another's now."""
        name = next((name for name, known in self.ids.items() if known == unique_id), None)
        numbers = unique_ids(session)
        if unique_id.startswith(NO_UIDL):
            candidates = list(numbers.values())[-MOST_CANDIDATES:]
            return next((one for one in candidates if self.name_of(session, one) == name), None)
        number = numbers.get(unique_id)
        if number is None or self.name_of(session, number) != name:
            return None
        return number

    def clear(self, visit: Doors) -> int:
        """Remove what this run delivered and is still there; return how many messages that were."""
        if self._deliver is None or self._foreign is None:
            return 0
        removed = 0
        with visit.session() as session:
            self._look(session)
            for unique_id, number in unique_ids(session).items():
                # an id may have changed its message: what is removed carries the token
                if unique_id in self.seen and self.name_of(session, number) is not None:
                    removed += session.ask(f"DELE {number}").ok
            session.ask("QUIT")
            session.drop()
        return removed


def unique_ids(session: Connection) -> Ids:
    """Return the unique-ids of a session with the numbers, in order; without UIDL, the numbers alone."""
    reply: Reply = session.ask("UIDL", multi=True)
    if reply.ok:
        pairs = [line.decode("latin-1").partition(" ") for line in reply.lines]
        return {unique_id: int(number) for number, _, unique_id in pairs if number.isdigit()}
    listed = session.ask("LIST", multi=True)
    numbers = [line.split(b" ")[0].decode() for line in listed.lines]
    return {f"{NO_UIDL}{number}": int(number) for number in numbers if number.isdigit()}
