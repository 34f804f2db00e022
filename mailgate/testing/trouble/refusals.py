"""Commands that are not carried out: refused, or answered with something made up."""

from __future__ import annotations

from mailgate.testing.trouble import values
from mailgate.testing.trouble.model import Instead, Kind, Occasion


def _error(occasion: Occasion) -> Instead:
    code = occasion.setting("code")
    words = occasion.setting("text")
    return Instead(b"-ERR " + (f"[{code}] " if code else "").encode() + words.encode() + b"\r\n",
                   occasion.setting("close"))


KINDS = (
    Kind("error", "Answers -ERR, with a response code if one is given, instead of carrying the command out.",
         {"code": (values.text, ""), "text": (values.text, "refused"), "close": (values.switch, False)},
         instead=_error),
)
