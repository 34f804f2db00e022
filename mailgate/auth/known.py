"""Whose maildrop a name is, by checkers that can tell without a password."""

from __future__ import annotations

from collections.abc import Iterable

from mailgate.errors import AccountConflict, StoreUnavailable
from mailgate.interfaces import IMaildropLookup, IUserLookup
from mailgate.names import check_name, fold


async def known_maildrop(lookups: Iterable[IUserLookup], name: str) -> str | None:
    """Return the key of the maildrop of a name that one of them knows, asked in order, or None.

    Raises: StoreUnavailable, if one cannot say and no other knows the name.
    """
    outage = None
    for lookup in lookups:
        try:
            maildrop = await _maildrop(lookup, name)
        except StoreUnavailable as fault:       # another one may know it all the same
            outage = outage or fault
        else:
            if maildrop is not None:
                return maildrop
    if outage is not None:
        raise outage
    return None


async def _maildrop(lookup: IUserLookup, name: str) -> str | None:
    if not IMaildropLookup.providedBy(lookup):
        return fold(name) if await lookup.knows(name) else None
    maildrop = await lookup.maildrop_of(name)
    if maildrop is None:
        return None
    try:
        check_name(maildrop, sdps=False)
    except AccountConflict:         # nobody could log in to it
        return None
    return fold(maildrop)
