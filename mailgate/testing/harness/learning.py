"""What is learnt of a session for its record, and what faults may know and do about its messages."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from twisted.internet.defer import Deferred

from mailgate.interfaces import IMessageStream
from mailgate.net.connection import LATER
from mailgate.pop3.effects import Commit, Fetch, LogIn
from mailgate.testing.harness.around import Around
from mailgate.testing.harness.records import LoginTry
from mailgate.testing.trouble.model import Seen
from mailgate.wire.shown import shown


def _now(deferred: Any) -> bytes:
    """Return the result of a Deferred that has fired."""
    result: bytes = deferred.result
    return result


class Learning(Around):
    """A connection whose logins, fetches and deletions are recorded."""

    def __init__(self, factory: Any) -> None:
        super().__init__(factory)
        self._claim: tuple[str, str] | None = None      # name and mechanism of the login under way
        self._marked: list[str] = []                    # unique-ids of what QUIT is to remove
        self._fetched: str | None = None                # unique-id of the message of the present reply

    def _begin(self, ask: Any) -> object:
        ask = self._let_in(ask)
        if isinstance(ask, LogIn):
            self._claim = shown(ask.claim.name), self._session.mechanism.decode("ascii", "replace")
        elif self._maildrop is not None and isinstance(ask, Fetch) and ask.body_lines is None:
            self._fetched = self._unique_id(ask.number)
        elif self._maildrop is not None and isinstance(ask, Commit):
            self._marked = [self._unique_id(number) for number in sorted(ask.marked)
                            if not self._harness.has_vanished(self._maildrop, number)]
        return super()._begin(ask)

    def _unique_id(self, number: int) -> str:
        unique_id: bytes = self._maildrop.listing.unique_id(number - 1)
        return unique_id.decode()

    def _perform(self, ask: Any) -> object:
        result = super()._perform(ask)
        if result is not LATER:
            self._note_login(result)
        return result

    def _go_on(self, result: object) -> None:
        self._note_login(result)
        super()._go_on(result)

    def _note_login(self, result: object) -> None:
        if self._claim is not None:
            (name, mechanism), self._claim = self._claim, None
            good = self._maildrop is not None
            if good or isinstance(result, BaseException):
                self.record.logins.append(LoginTry(name, mechanism, good))
            if good:
                self.record.user = name

    async def _commit(self, ask: Commit) -> None:
        await super()._commit(ask)
        self.record.deleted.extend(self._marked)

    # trouble.model.Surroundings ---------------------------------------------------------------

    def listing(self) -> list[Seen]:
        """See Surroundings."""
        listing, marked = self._session._maildrop_listing, self._session._marked
        return [Seen(number, size, listing.unique_id(number - 1), number in marked)
                for number, size in enumerate(listing.sizes, 1)]

    def content(self, number: int) -> bytes:
        """See Surroundings. A harness's store gives everything at once."""
        found = self._maildrop.fetch(number) if self._maildrop is not None else b""
        if isinstance(found, bytes):
            return found
        if not IMessageStream.providedBy(found):
            found.addErrback(lambda failure: None)      # it has vanished
            return b""
        pieces: list[bytes] = []
        while piece := _now(found.read()):
            pieces.append(piece)
        found.close()
        return b"".join(pieces)

    def unmark(self, numbers: Collection[int]) -> None:
        """See Surroundings."""
        session = self._session
        for number in set(numbers) & session._marked:
            session._marked.discard(number)
            session._count += 1
            session._octets += session._maildrop_listing.sizes[number - 1]

    def mark(self, numbers: Collection[int]) -> None:
        """See Surroundings."""
        for number in set(numbers) - self._session._marked:
            self._session.on_dele(b"%d" % number)

    def retrieved(self) -> list[int]:
        """See Surroundings."""
        return [int(command.argument) for command in self.record.commands
                if command.verb == "RETR" and command.succeeded and command.argument.isdigit()]

    def deliver(self, content: bytes) -> None:
        """See Surroundings. A harness's store has taken it at once."""
        if self.record.user is not None:
            arriving = Deferred.fromCoroutine(self._harness.add_message(self.record.user, content))
            arriving.addErrback(lambda failure: self._note(f"no new mail: {failure.value}"))
