"""Twisted's SMTP server, had without what it brings along: the global reactor.

`twisted.mail.smtp` imports the reactor at its beginning, and so installs one, which a program that is tested
may want to choose itself. Where none is installed yet a copy of the module is loaded that gets none; the
module itself is left for the program to import.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twisted.mail.smtp import ESMTP
else:
    MODULE = "twisted.mail.smtp"

    def _load() -> Any:
        if "twisted.internet.reactor" in sys.modules:
            return importlib.import_module(MODULE)
        spec = importlib.util.find_spec(MODULE)
        module = importlib.util.module_from_spec(spec)
        module.__builtins__ = {**vars(builtins), "__import__": _import}
        spec.loader.exec_module(module)
        return module

    def _import(name: str, names: Any = None, local: Any = None, wanted: Any = (), level: int = 0) -> Any:
        """Import as ever, but not the reactor. The server uses it only where it has no clock."""
        if name == "twisted.internet" and "reactor" in (wanted or ()):
            found = {one: importlib.import_module(f"{name}.{one}") for one in wanted if one != "reactor"}
            return SimpleNamespace(reactor=None, **found)
        return builtins.__import__(name, names, local, wanted, level)

    ESMTP = _load().ESMTP

__all__ = ["ESMTP"]
