"""Where the mail of one user lies: a path with his name in it, as it is configured."""

from __future__ import annotations

import re
from typing import NamedTuple

PLACEHOLDERS = ("name", "local", "domain")

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_UNSAFE = re.compile(r"[/\x00-\x1f\x7f\ud800-\udfff]")


class PathPattern(NamedTuple):
    """A path in which `{name}` stands for a maildrop's name, `{local}` and `{domain}` for its halves.

    A name without `@` is all local part, in the domain that is the default.
    """

    text: str

    def split(self) -> tuple[str, list[str]]:
        """Return the folder above all that has a name in it, and the parts from there on."""
        parts = self.text.split("/")
        first = next(index for index, part in enumerate(parts) if _PLACEHOLDER.search(part))
        return "/".join(parts[:first]) or ("/" if self.text.startswith("/") else "."), parts[first:]

    def fill(self, maildrop: str, default_domain: str) -> list[str]:
        """Return the parts from the first with a name on. Raises: ValueError, if no file can be called so."""
        local, mark, domain = maildrop.rpartition("@")
        if not mark:
            local, domain = maildrop, default_domain
        values = {"name": maildrop, "local": local, "domain": domain}
        below = []
        for part in self.split()[1]:
            filled = _PLACEHOLDER.sub(lambda found: values[found[1]], part)
            if _UNSAFE.search(filled) or filled in ("", ".", ".."):
                raise ValueError(f"{filled!r} is no name of a file")
            below.append(filled)
        return below


def parse_pattern(text: str) -> PathPattern:
    """Read a path that tells one maildrop from all others. Raises: ValueError, in words for an operator."""
    unknown = [word for word in _PLACEHOLDER.findall(text) if word not in PLACEHOLDERS]
    if unknown:
        known = ", ".join(f"{{{word}}}" for word in PLACEHOLDERS)
        raise ValueError(f"{{{unknown[0]}}} stands for nothing; there are {known}")
    if set("{}") & set(_PLACEHOLDER.sub("", text)):
        raise ValueError("a brace without its other half")
    if "{name}" not in text and "{local}" not in text:
        raise ValueError("neither {name} nor {local} is in it: all would have the same mail")
    parts = text.split("/")
    if ".." in parts or "" in parts[1:]:
        raise ValueError("a path with .. or // in it, or a / at its end")
    return PathPattern(text)
