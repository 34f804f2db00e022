"""A checker of this system's users, as its section says."""

from __future__ import annotations

from typing import Any

from mailgate.auth.pam import MINIMUM_UID, PROCESSES, SECONDS, SERVICE, PamChecker
from mailgate.auth.pam_children import Settings
from mailgate.auth.remembered import RememberedSuccess
from mailgate.config import CheckerSection


def pam_checker(section: CheckerSection, reactor: Any = None,
                remembered: RememberedSuccess[Any] | None = None) -> PamChecker:
    """Return the checker; without a reactor it takes the one that is installed at the first login."""
    return PamChecker(pam_settings(section), processes=section.processes or PROCESSES, reactor=reactor,
                      remembered=remembered)


def pam_settings(section: CheckerSection) -> Settings:
    """Return what its processes go by."""
    least = MINIMUM_UID if section.minimum_uid is None else section.minimum_uid
    return Settings(section.service or SERVICE, least, section.groups or (),
                    section.timeout_seconds or SECONDS)
