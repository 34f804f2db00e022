"""The envelope of a message that another program delivered once, as far as its header still tells it."""

from __future__ import annotations

from typing import Any

from mailgate.cli.delivering import read_sender
from mailgate.config import Config
from mailgate.errors import BadAddress, NoSuchRecipient
from mailgate.formats.header import HeaderTap
from mailgate.lmtp.paths import read_forward_path
from mailgate.model import Account, Envelope, Target
from mailgate.names import fold, split_address
from mailgate.routing.router import Router

MOST_TARGETS = 1000         # remembered; each has the octets of two lines at most
ADDRESS_OCTETS = 512        # what a line of SMTP has room for (RFC 5321 section 4.5.3.1.4)
RECIPIENT_FIELDS = ("X-Original-To", "Envelope-To", "Delivered-To")     # nearest to RCPT first


class Envelopes:
    """Reads envelopes of many messages, most of them for the same few recipients."""

    def __init__(self, store: Any, config: Config) -> None:
        self._router = Router(store.accounts, config.hostname)
        self._targets: dict[bytes, Target | None] = {}      # where recipients lead

    async def read(self, account: Account, header: HeaderTap, arrived_ms: int,
                   sender: bytes | None = None) -> tuple[Envelope, str | None]:
        """Return the envelope and the key of the recipient's user; `sender`: if the header tells none."""
        recipient, user = await self._recipient(account, header)
        return Envelope(_sender(header, sender), recipient, arrived_ms), user

    async def _recipient(self, account: Account, header: HeaderTap) -> tuple[bytes, str | None]:
        """Return the recipient that the header tells of and its user: one whose mail comes here, if any."""
        candidates = [path for name in RECIPIENT_FIELDS for value in header.fields(name)
                      if (path := _path(value)) is not None]
        for path in candidates:
            target = await self._target(path)
            if target is not None and fold(target.maildrop) == fold(account.name):
                return path, target.user
        path = candidates[0] if candidates else _own_address(account)
        return path, fold(split_address(path.decode("utf-8", "replace"))[0])

    async def _target(self, path: bytes) -> Target | None:
        """Return where mail for a path goes now. The same few recipients are in most messages of a source."""
        if path not in self._targets:
            if len(self._targets) >= MOST_TARGETS:
                self._targets.clear()
            try:
                self._targets[path] = await self._router.route(path)
            except (NoSuchRecipient, BadAddress):
                self._targets[path] = None
        return self._targets[path]


def _sender(header: HeaderTap, sender: bytes | None) -> bytes:
    """Return the envelope sender: of Return-Path, else the one given, else the null sender."""
    for value in [*header.fields("Return-Path")[:1], sender or b""]:
        try:
            if len(value) <= ADDRESS_OCTETS:
                return read_sender(value)
        except BadAddress:
            continue
    return b""


def _path(value: bytes) -> bytes | None:
    """Return the address that a header field holds, or None."""
    if len(value) > ADDRESS_OCTETS:
        return None
    try:
        path, rest = read_forward_path(value if value.startswith(b"<") else b"<%b>" % value)
        split_address(path.decode("utf-8", "replace"))      # a user's view needs its local part
    except BadAddress:
        return None
    return None if rest else path


def _own_address(account: Account) -> bytes:
    """Return the address that stands for a maildrop whose mail does not tell its recipient."""
    if account.addresses:
        return account.addresses[0].encode()
    return f"{account.name}@{account.domains[0]}".encode() if account.domains else account.name.encode()
