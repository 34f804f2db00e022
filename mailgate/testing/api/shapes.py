"""What is known of a harness, in the shapes of the API (schemas.py)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from mailgate.model import Account, Listed
from mailgate.testing.harness.records import Event, SessionRecord
from mailgate.testing.trouble.model import REQUIRED, Fault, Kind, Scenario
from mailgate.testing.trouble.reading import WHEN

Shape = dict[str, Any]


def plain(value: Any) -> Any:
    """Return a setting in a form that JSON has, which can be read again."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"hex": value.hex()}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(one) for one in value]
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def account(one: Account) -> Shape:
    """Return an account without its passwords."""
    return {"name": one.name, "sdps": one.sdps, "addresses": list(one.addresses),
            "domains": list(one.domains),
            "last_login": None if one.last_login_ms is None else one.last_login_ms / 1000}


def message(one: Listed, content: bytes | None = None) -> Shape:
    """Return a message, with its octets if they are given."""
    found: Shape = {
        "number": one.number, "unique_id": one.unique_id.decode("ascii", "replace"), "octets": one.octets,
        "sender": one.envelope.sender.decode("utf-8", "replace"),
        "recipient": one.envelope.recipient.decode("utf-8", "replace"),
        "arrived": one.envelope.arrived_ms / 1000, "user": one.user}
    if content is None:
        return found
    return {**found, "content": text_of(content), "content_base64": base64.b64encode(content).decode()}


def text_of(content: bytes) -> str | None:
    """Return octets as text, None where they are no UTF-8."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


# Trouble ------------------------------------------------------------------------------------------


def fault(fault_id: int, one: Fault, acted: int) -> Shape:
    """Return a fault that is switched on."""
    return {"id": fault_id, "do": one.do, "label": one.label, "acted": acted,
            **{name: plain(getattr(one, name)) for name in WHEN}, "settings": plain(one.settings)}


def faults(harness: Any) -> list[Shape]:
    """Return all that are switched on."""
    return [fault(fault_id, one, harness.trouble.acted(fault_id))
            for fault_id, one in harness.trouble.faults().items()]


def kind(one: Kind) -> Shape:
    """Return a kind of fault."""
    return {"name": one.name, "told": one.told, "commands": list(one.commands), "settings": [
        {"name": name, "required": default is REQUIRED,
         "default": None if default is REQUIRED else plain(default)}
        for name, (_, default) in one.settings.items()]}


def written(one: Fault) -> Shape:
    """Return a fault as a scenario writes it down."""
    blank = Fault(one.do)
    when = {name: plain(getattr(one, name)) for name in WHEN if getattr(one, name) != getattr(blank, name)}
    return {"do": one.do, **when, **plain(one.settings)}


def scenario(one: Scenario) -> Shape:
    """Return a scenario as it is written down."""
    return {"name": one.name, "description": one.description, "finds": one.finds, "right": one.right,
            "sources": list(one.sources), "messages": list(one.messages), "seed": one.seed,
            "settings": plain(one.settings), "fault": [written(each) for each in one.faults]}


# Sessions -----------------------------------------------------------------------------------------


def session(one: SessionRecord, secrets: bool = False) -> Shape:
    """Return a session without its events, of which it has the number."""
    told = one.as_dict(secrets=secrets, events=False)
    return {**told, "verbs": [each["verb"] for each in told["commands"]], "events": len(one.events)}


def event(record: SessionRecord, one: Event, secrets: bool = False) -> Shape:
    """Return an event of a session."""
    return one.as_dict(record.began, secrets=secrets)
