"""One mail transaction: a sender, and the recipients that were accepted (RFC 5321 section 3.3)."""

from __future__ import annotations

from mailgate.errors import TooManyRecipients
from mailgate.lmtp.paths import path_key
from mailgate.model import Envelope, Placement, Target
from mailgate.wire.headers import preamble


class Transaction:
    """What MAIL and RCPT said.

    `accepted` has an entry for every RCPT that succeeded, in order: each gets its own reply (RFC
    2033 section 4.2). An entry is an index into `paths`; a path that is given again is one copy.
    """

    __slots__ = ("sender", "utf8", "paths", "accepted", "_targets", "_known", "_most")

    def __init__(self, sender: bytes, *, utf8: bool, most_recipients: int) -> None:
        self.sender = sender
        self.utf8 = utf8                # SMTPUTF8 was given
        self.paths: list[bytes] = []    # as they were given first
        self.accepted: list[int] = []
        self._targets: list[Target] = []
        self._known: dict[bytes, int] = {}
        self._most = most_recipients

    def accept_again(self, path: bytes) -> bool:
        """Accept a path that was accepted before; return False if it was not.

        Raises: TooManyRecipients, whether it was or not.
        """
        if len(self.accepted) >= self._most:
            raise TooManyRecipients(f"limit {self._most}")
        index = self._known.get(path_key(path))
        if index is None:
            return False
        self.accepted.append(index)
        return True

    def accept(self, path: bytes, target: Target) -> None:
        """Accept a path that is new."""
        index = self._known[path_key(path)] = len(self.paths)
        self.paths.append(path)
        self._targets.append(target)
        self.accepted.append(index)

    @property
    def only_path(self) -> bytes | None:
        """The path, if there is but one."""
        return self.paths[0] if len(self.paths) == 1 else None

    def placements(self, arrived_ms: int) -> tuple[Placement, ...]:
        """Return one placement a path. `arrived_ms`: milliseconds since 1970, UTC."""
        envelopes = [Envelope(self.sender, path, arrived_ms) for path in self.paths]
        return tuple([Placement(target.maildrop, target.user, envelope, preamble(envelope),
                                account=target.account)
                      for target, envelope in zip(self._targets, envelopes, strict=True)])
