"""What an operator should know of a PAM service before his users find out: for `mailgate check`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from mailgate.auth.pam_child import FOLDERS
from mailgate.auth.pam_children import Children, Settings
from mailgate.errors import StoreUnavailable

SHADOW = "/etc/shadow"
_INCLUDE = re.compile(r"\s*(?:@include|-?(?:auth|account)\s+(?:include|substack))\s+(\S+)", re.IGNORECASE)
_MODULE = re.compile(r"\s*-?(auth|account)\s+(?:\[[^]]*\]|\w+)\s+(\S+)", re.IGNORECASE)


def faults(settings: Settings) -> list[str]:
    """Return what keeps PAM from being asked, as the present user; empty when nothing does. Blocks."""
    if not _is_there(settings):
        return [f"there is no {_folders(settings)[0]}/{settings.service}; PAM would go by its service "
                "\"other\", so it is not asked; etc/pam.d/mailgate is one to begin with"]
    children = Children(settings)
    try:
        children.ask("begin")
    except StoreUnavailable as fault:
        return [str(fault)]
    finally:
        children.stop()
    return []


def misgivings(settings: Settings, shadow: str = SHADOW) -> list[str]:
    """Return what will not work as it looks, though PAM can be asked; of rights, for the present user."""
    if not _is_there(settings):
        return []
    found = modules(settings)
    told = [f"the service {settings.service} has no lines for {kind}: PAM goes by those of \"other\""
            for kind in sorted({"auth", "account"}.difference(kind for kind, _ in found))]
    names = {os.path.basename(path) for _, path in found}
    if "pam_unix.so" in names and os.geteuid() != 0 and not os.access(shadow, os.R_OK):
        told.append(f"pam_unix has to read {shadow}, and this user may not: its helper unix_chkpwd checks no "
                    "password but that user's own. Let him be in the group shadow, or use another module")
    return told


def modules(settings: Settings) -> list[tuple[str, str]]:
    """Return ("auth" or "account", path) of every module in the service's file and in what it includes."""
    found: list[tuple[str, str]] = []
    seen: set[str] = set()
    for name in _texts(settings, settings.service, seen):
        found += [(one[1].lower(), one[2]) for one in map(_MODULE.match, name.splitlines())
                  if one is not None and one[2].endswith(".so")]
    return found


def _texts(settings: Settings, name: str, seen: set[str]) -> Iterator[str]:
    """Give the text of a service's file, then those of what it includes, each once."""
    if name in seen:
        return
    seen.add(name)
    for folder in _folders(settings):
        try:
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
                text = file.read().replace("\\\n", " ")
        except OSError:
            continue
        yield text
        for line in text.splitlines():
            if (included := _INCLUDE.match(line)) is not None:
                yield from _texts(settings, included[1], seen)
        return


def _is_there(settings: Settings) -> bool:
    return any(os.path.isfile(os.path.join(folder, settings.service)) for folder in _folders(settings))


def _folders(settings: Settings) -> tuple[str, ...]:
    return FOLDERS if settings.folder is None else (settings.folder,)
