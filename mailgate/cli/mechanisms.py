"""Which accounts stand in the way of a mechanism: what `mailgate check` says of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mailgate.auth.schemes import SCHEMES_FOR, scheme_of
from mailgate.config import Config

SHOWN_NAMES = 10


async def standing_in_the_way(config: Config, store: Any) -> list[str]:
    """Return a line for each mechanism that is wanted and that some account keeps nothing for."""
    lines = []
    asked = _asked(config)
    for kind, where in asked.items():
        if names := await store.accounts.lacking(SCHEMES_FOR[kind]):
            lines.append(f"{where}: {await _listed(store, names)}")
    kept = {scheme_of(one) for account in await store.accounts.list() for one in account.verifiers}
    unasked: dict[tuple[str, ...], list[str]] = {}      # by who stands in their way
    for kind in ("SCRAM-SHA-256", "SCRAM-SHA-1"):
        if kind not in asked and (kind in kept or "scram" in (config.accounts.keep or ())):
            unasked.setdefault(tuple(await store.accounts.lacking(SCHEMES_FOR[kind])), []).append(kind)
    return lines + [f"{' and '.join(kinds)} will not be announced, for want of keys: "
                    + await _listed(store, names) for names, kinds in unasked.items() if names]


def _asked(config: Config) -> dict[str, str]:
    """Return what to say of each mechanism that the configuration names."""
    wanted = {}
    for index, one in enumerate(config.listen):
        for name in one.mechanisms or ():
            kind = name.removesuffix("-PLUS")
            if kind in SCHEMES_FOR:
                wanted[kind] = f"listen[{index}].mechanisms: {kind} is announced, and cannot work for"
    if config.pop3.apop:
        wanted["APOP"] = "pop3.apop: APOP needs the password itself, which is not kept for"
    return wanted


async def _listed(store: Any, names: Sequence[str]) -> str:
    """Return the first names; app passwords stand in the way, whatever is kept of the account's own."""
    more = len(names) - SHOWN_NAMES
    shown = [f"{name} (app passwords)" if await _has_app_passwords(store, name) else name
             for name in names[:SHOWN_NAMES]]
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


async def _has_app_passwords(store: Any, name: str) -> bool:
    login = await store.accounts.find_login(name)       # None, if it was removed a moment ago
    return login is not None and bool(login.app_passwords)
