"""Every kind of fault, in one table: what a scenario may ask for, and what the reference lists."""

from __future__ import annotations

from collections.abc import Mapping

from mailgate.testing.trouble import (
    content,
    delivery,
    exchanges,
    greetings,
    handshakes,
    listings,
    refusals,
    stories,
    wording,
)
from mailgate.testing.trouble.model import Kind

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (
    *refusals.KINDS, *delivery.KINDS, *wording.KINDS, *content.KINDS, *listings.KINDS, *handshakes.KINDS,
    *exchanges.KINDS, *greetings.KINDS, *stories.KINDS)}
