"""Readers of settings: each returns what it read, or raises ValueError that says what is expected."""

from __future__ import annotations

import binascii
import difflib
from collections.abc import Callable
from typing import Any

MOST = 1 << 40      # of whole numbers: more octets, messages or times than there will be


def whole(least: int, most: int = MOST) -> Callable[[Any], int]:
    """Return a reader of whole numbers."""
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"a whole number from {least} {'on' if most == MOST else f'to {most}'}"
                             " is expected")
        return value
    return read


def signed(value: Any) -> int:
    """Read a whole number, negative or not."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MOST:
        raise ValueError("a whole number is expected")
    return value


def ratio(value: Any) -> float:
    """Read a number from 0 on, whole or not."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MOST:
        raise ValueError("a number from 0 on is expected")
    return float(value)


def seconds(value: Any) -> float:
    """Read a length of time."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise ValueError("seconds are expected: a number from 0 on")
    return float(value)


def text(value: Any) -> str:
    """Read any text."""
    if not isinstance(value, str):
        raise ValueError("a text is expected")
    return value


def octets(value: Any) -> bytes:
    """Read octets: a text stands for its UTF-8 form, a table `{hex = "ff00"}` for any octets.

    In Python bytes are taken as they are.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, dict) and set(value) == {"hex"} and isinstance(value["hex"], str):
        try:
            return bytes.fromhex(value["hex"])
        except (ValueError, binascii.Error):
            raise ValueError('pairs of hexadecimal digits are expected: {hex = "0d0a"}') from None
    if not isinstance(value, str):
        raise ValueError('octets are expected: a text, or {hex = "..."}')
    return value.encode("utf-8", "surrogatepass")


def switch(value: Any) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise ValueError("true or false is expected")
    return value


def choice(*words: str) -> Callable[[Any], str]:
    """Return a reader of one of several words."""
    def read(value: Any) -> str:
        if isinstance(value, str) and value in words:
            return value
        near = difflib.get_close_matches(value, words, 1) if isinstance(value, str) else []
        raise ValueError(f"one of {', '.join(words)} is expected"
                         + (f"; did you mean {near[0]}?" if near else ""))
    return read


def several(one: Callable[[Any], Any], what: str) -> Callable[[Any], tuple[Any, ...]]:
    """Return a reader of a list, or of one thing that stands for a list of it alone."""
    def read(value: Any) -> tuple[Any, ...]:
        found = value if isinstance(value, (list, tuple)) else [value]
        try:
            return tuple([one(each) for each in found])
        except ValueError as fault:
            raise ValueError(f"{what} are expected: {fault}") from None
    return read


numbers = several(whole(1), "message-numbers (or one)")
texts = several(text, "texts (or one)")
