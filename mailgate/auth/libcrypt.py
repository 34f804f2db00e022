"""The system's crypt(3), for hashes that no library of ours computes: yescrypt, scrypt, GOST.

Debian writes `$y$` into /etc/shadow, and Python lost its `crypt` module with 3.13. Called through
ctypes, crypt_r works in any thread and lets the others run meanwhile.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

_LIBRARIES = ("libcrypt.so.1", "libcrypt.so.2")   # the older interface, and Fedora's and Arch's
_DATA_OCTETS = 256 * 1024   # struct crypt_data: 32 KiB in libxcrypt, 128 KiB in the older glibc


@functools.lru_cache(maxsize=1)
def _crypt_r() -> Callable[..., Any] | None:
    """Return the function, or None where there is no such library. Opened at first use."""
    for name in _LIBRARIES:
        try:
            function = ctypes.CDLL(name).crypt_r
        except (OSError, AttributeError):
            continue
        function.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p]
        function.restype = ctypes.c_char_p
        return function
    return None


def available() -> bool:
    """Return whether the system has a crypt(3) to ask."""
    return _crypt_r() is not None


def crypt(password: bytes, setting: bytes) -> bytes | None:
    """Return the hash of a password under a setting (or a whole hash), None if it cannot be computed.

    Blocks for as long as the hash takes. A password with a NUL has none: crypt(3) would cut it there.
    """
    function = _crypt_r()
    if function is None or b"\0" in password or b"\0" in setting:
        return None
    hashed = function(password, setting, ctypes.create_string_buffer(_DATA_OCTETS))
    if hashed is None or hashed.startswith(b"*"):    # crypt(3): "*0" and "*1" mean failure
        return None
    return bytes(hashed)
