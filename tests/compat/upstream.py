"""Upstream's POP3 tests, loaded once more with mailgate.compat.POP3 in the place of their subject."""

from __future__ import annotations

import importlib.util
import types
from typing import Any
from unittest import mock

import twisted.mail
from twisted.mail import pop3, protocols
from twisted.mail.test import test_pop3

from mailgate import compat


def with_stand_in() -> types.ModuleType:
    """Return a copy of `twisted.mail.test.test_pop3` that tests our POP3 and nothing of Twisted's.

    Its `pop3` is Twisted's module with the one class replaced, and `VirtualPOP3` is defined anew on
    top of that; the modules that everybody else imports stay as they are.
    """
    replaced = types.ModuleType(pop3.__name__)
    replaced.__dict__.update(pop3.__dict__, POP3=compat.POP3)
    with mock.patch.object(twisted.mail, "pop3", replaced):
        virtual = _copy_of(protocols)
        with mock.patch.object(twisted.mail, "protocols", virtual):
            return _copy_of(test_pop3)


def _copy_of(module: Any) -> types.ModuleType:
    spec = module.__spec__
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy
