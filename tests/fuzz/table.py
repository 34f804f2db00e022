"""Every target by its name."""

from __future__ import annotations

from collections.abc import Mapping

from tests.fuzz import (
    clients,
    connections,
    conversations,
    directories,
    mailboxes,
    mechanisms,
    texts,
    tokens,
    wire,
)
from tests.fuzz.target import Target

_ROOMS = (wire, texts, directories, tokens, mechanisms, conversations, mailboxes, connections, clients)

TARGETS: Mapping[str, Target] = {name: target for room in _ROOMS for name, target in room.TARGETS.items()}
