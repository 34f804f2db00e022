"""What a test asks a script that is played."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mailgate.testing.harness.records import SessionRecord
from mailgate.testing.scripted.model import Mismatch


class ScriptMismatch(AssertionError):
    """The client said otherwise than the script, or less. The text shows the conversations."""


class Scripted:
    """A script on a port of its own. `name` is the protocol that its sessions have in the records."""

    def __init__(self, server: Any, call: Callable[..., Any], listener: Any) -> None:
        self._server = server
        self._call = call
        self._listener = listener
        self.name: str = listener.protocol

    @property
    def address(self) -> tuple[str, int]:
        """Host and port. Raises: LookupError, where it does not listen."""
        address: tuple[str, int] = self._server.address(self.name)
        return address

    @property
    def host(self) -> str:
        """The address's host."""
        return self.address[0]

    @property
    def port(self) -> int:
        """The address's port."""
        return self.address[1]

    @property
    def mismatches(self) -> list[Mismatch]:
        """Whatever clients said that fitted nowhere, in order."""
        return self._read(lambda factory: list(factory.mismatches))

    @property
    def finished(self) -> int:
        """How many sessions have ended that were played to the script's end."""
        return self._read(lambda factory: factory.finished)

    @property
    def kept(self) -> list[dict[str, bytes]]:
        """What was kept under names, by session that has ended, in the order of the ends."""
        return self._read(lambda factory: list(factory.kept))

    @property
    def sessions(self) -> list[SessionRecord]:
        """Its sessions since the start or the last reset, the earliest first."""
        return [one for one in self._server.sessions if one.protocol == self.name]

    def check(self, sessions: int | None = None) -> None:
        """See that the client did what the script says: in every session, and in so many.

        Raises: ScriptMismatch.
        """
        from mailgate.testing.showing import show_all

        finished, mismatches, records = self.finished, self.mismatches, self.sessions
        wanted = len(records) if sessions is None else sessions
        problems = [str(one) for one in mismatches]
        if not problems and (finished != wanted or len(records) != wanted):
            problems.append(f"{finished} of {len(records)} sessions were played to the script's end;"
                            f" {wanted} should have been")
        if problems:
            raise ScriptMismatch("\n".join([*problems, "", show_all(records)]))

    def _read(self, function: Callable[[Any], Any]) -> Any:
        self._server.settle()
        return self._call(lambda: function(self._listener.factory))
