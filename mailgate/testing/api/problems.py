"""What is wrong with a request, as it is told: problem details (RFC 9457), with the place of each problem."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from mailgate import errors

MEDIA = "application/problem+json"


class Problem(NamedTuple):
    """One thing that is wrong. `path` is where: `fault[0].at`, `query.limit`; empty for the whole."""

    path: str
    message: str

    @classmethod
    def read(cls, line: str) -> Problem:
        """Return what a line of ConfigurationError.problems tells."""
        path, colon, message = line.partition(": ")
        return cls(path, message) if colon and " " not in path else cls("", line)


class Refused(Exception):
    """The request is answered with this status. `headers` go with it."""

    def __init__(self, status: int, detail: str = "", problems: Sequence[Problem] = (),
                 headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail or HTTPStatus(status).phrase)
        self.status = status
        self.problems = tuple(problems)
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """Return the problem details."""
        return json.dumps({"type": "about:blank", "title": HTTPStatus(self.status).phrase,
                           "status": self.status, "detail": str(self),
                           "problems": [one._asdict() for one in self.problems]}).encode()


STATUSES: Mapping[type[errors.MailgateError], tuple[int, str]] = {
    errors.AccountConflict: (409, "there can be no such account"),
    errors.NoSuchAccount: (404, "there is no such account"),
    errors.NoSuchRecipient: (404, "there is no such recipient"),
    errors.MaildropInUse: (409, "a session has the maildrop"),
    errors.OverQuota: (409, "the maildrop is full"),
    errors.BadAddress: (422, "this is no address"),
    errors.MessageTooLarge: (413, "the message is too large"),
}


def refused(fault: errors.MailgateError) -> Refused | None:
    """Return how a fault of the harness is answered, None where it is a surprise."""
    if isinstance(fault, errors.ConfigurationError):
        return Refused(422, "the request cannot be carried out as it is",
                       [Problem.read(line) for line in fault.problems])
    rows: list[Any] = [STATUSES[one] for one in type(fault).__mro__ if one in STATUSES]
    if not rows:
        return None
    status, words = rows[0]
    return Refused(status, f"{words}: {fault}" if str(fault) else words)
