"""The checks, in the order in which they are made."""

from __future__ import annotations

from mailgate.conformance.checks import (
    capabilities,
    content,
    hostile_ends,
    hostile_lines,
    logins,
    observed,
    sasl,
    sessions,
    tls,
    transaction,
    uidl,
)
from mailgate.conformance.findings import Check

_MODULES = (sessions, logins, transaction, content, uidl, capabilities, sasl, tls, hostile_lines,
            hostile_ends, observed)


def all_checks() -> list[Check]:
    """Return every check."""
    return [check for module in _MODULES for check in module.TABLE.checks]


def chosen(profiles: set[str], only: set[str]) -> list[Check]:
    """Return the checks of some profiles, or those that are named.

    Raises: KeyError, with the unknown names.
    """
    checks = all_checks()
    if only:
        unknown = only - {check.id for check in checks}
        if unknown:
            raise KeyError(", ".join(sorted(unknown)))
        return [check for check in checks if check.id in only]
    wanted = profiles | ({"basic"} if "full" in profiles else set())
    return [check for check in checks if check.profile in wanted]
