"""What commands about accounts have in common: names on the command line, moments in what they print."""

from __future__ import annotations

import datetime
from typing import Any

import click

from mailgate.cli.telling import Refusal


def as_text(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Refuse what is no text: the octets of an argument that are not UTF-8."""
    for one in (value,) if isinstance(value, str) else value:
        try:
            one.encode()
        except UnicodeEncodeError:
            raise Refusal(f"{one}: not UTF-8") from None
    return value


name_argument = click.argument("name", callback=as_text)


def moment(ms: int | None, never: str = "-") -> str:
    """Return milliseconds since 1970 as a time of UTC, to the second."""
    if ms is None:
        return never
    return datetime.datetime.fromtimestamp(ms // 1000, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
