"""Which accounts stand in the way of a mechanism: what `mailgate check` says of it."""

from __future__ import annotations

from typing import Any

from mailgate.auth.schemes import SCHEMES_FOR, scheme_of
from mailgate.config import Config

SHOWN_NAMES = 10


async def standing_in_the_way(config: Config, store: Any) -> list[str]:
    """Return a line for each mechanism that is wanted and that some account keeps nothing for."""
    lines = []
    for kind, where in (await _wanted(config, store)).items():
        names = await store.accounts.lacking(SCHEMES_FOR[kind])
        if names:
            lines.append(f"{where}: {_listed(names)}")
    return lines


async def _wanted(config: Config, store: Any) -> dict[str, str]:
    """Return what to say of each mechanism that the configuration names, or that an account keeps keys for."""
    wanted = {}
    kept = {scheme_of(one) for account in await store.accounts.list() for one in account.verifiers}
    for kind in ("SCRAM-SHA-256", "SCRAM-SHA-1"):
        if kind in kept or "scram" in config.accounts.keep:
            wanted[kind] = f"{kind} is announced only when every account keeps keys for it; without them"
    for index, one in enumerate(config.listen):
        for name in one.mechanisms or ():
            kind = name.removesuffix("-PLUS")
            if kind in SCHEMES_FOR:
                wanted[kind] = f"listen[{index}].mechanisms: {kind} is announced, and cannot work for"
    if config.pop3.apop:
        wanted["APOP"] = "pop3.apop: APOP needs the password itself, which is not kept for"
    return wanted


def _listed(names: list[str]) -> str:
    more = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")
