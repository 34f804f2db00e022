"""Readers of settings: each returns what it read, or raises ValueError that says what is expected."""

from __future__ import annotations

from typing import Any


def whole(least: int, most: int = 1 << 40) -> Any:
    """Return a reader of whole numbers."""
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"a whole number from {least} on is expected")
        return value
    return read


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
        return bytes.fromhex(value["hex"])
    if not isinstance(value, str):
        raise ValueError('octets are expected: a text, or {hex = "..."}')
    return value.encode()


def switch(value: Any) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise ValueError("true or false is expected")
    return value
