"""A GSS-API client with Kerberos tickets: MIT's libgssapi_krb5 by ctypes (RFC 2744).

    client = GssClient(cache, "pop/localhost@TEST.EXAMPLE")
    token = client.token()              # the first one
    client.token(reply)                 # b"" once the context stands
    client.unwrap(offer); client.wrap(choice)

Nothing of mailgate is imported. It uses the realm of the environment, as `Realm.environment` sets it.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint32, c_void_p
from pathlib import Path

MUTUAL, REPLAY, SEQUENCE, CONFIDENTIAL, INTEGRITY, ANONYMOUS, DCE_STYLE = 2, 4, 8, 16, 32, 64, 0x1000
CONTINUE_NEEDED = 1
INITIATE = 1
BOUND_TO = b"tls-server-end-point:"


class Buffer(ctypes.Structure):
    _fields_ = (("length", c_size_t), ("value", c_void_p))


class Oid(ctypes.Structure):
    _fields_ = (("length", c_uint32), ("elements", c_void_p))


class OidSet(ctypes.Structure):
    _fields_ = (("count", c_size_t), ("elements", POINTER(Oid)))


class Bindings(ctypes.Structure):
    _fields_ = (("initiator_type", c_uint32), ("initiator", Buffer), ("acceptor_type", c_uint32),
                ("acceptor", Buffer), ("application", Buffer))


class Element(ctypes.Structure):
    _fields_ = (("key", c_char_p), ("value", c_char_p))


class Store(ctypes.Structure):
    _fields_ = (("count", c_uint32), ("elements", POINTER(Element)))


class GssFault(Exception):
    """A call that failed: major code, minor code."""


class GssClient:
    """One context of a client. `bound`: the application data of a channel binding."""

    def __init__(self, cache: Path | str, server: str, *, flags: int = MUTUAL | INTEGRITY,
                 bound: bytes | None = None, mechanism: str = "gss_mech_krb5") -> None:
        self._library = ctypes.CDLL("libgssapi_krb5.so.2")
        self._flags, self._bound = flags, bound
        self._mechanism = POINTER(Oid).in_dll(self._library, mechanism)
        self._context, self._name, self._credential = c_void_p(), c_void_p(), c_void_p()
        self._held = (server.encode(), f"FILE:{cache}".encode())
        self._call("gss_import_name", byref(_given(self._held[0])),
                   POINTER(Oid).in_dll(self._library, "GSS_KRB5_NT_PRINCIPAL_NAME"), byref(self._name))
        element = Element(b"ccache", self._held[1])
        self._call("gss_acquire_cred_from", None, c_uint32(0),
                   byref(OidSet(1, POINTER(Oid).in_dll(self._library, "gss_mech_krb5"))), c_int(INITIATE),
                   byref(Store(1, ctypes.pointer(element))), byref(self._credential), None, None)
        self.complete = False

    def token(self, received: bytes = b"") -> bytes:
        """Return the next token for the server; empty when there is no more to say."""
        application = self._bound or b""
        bindings = Bindings(application=_given(application))
        made = Buffer()
        major = self._call(
            "gss_init_sec_context", self._credential, byref(self._context), self._name, self._mechanism,
            c_uint32(self._flags), c_uint32(0), byref(bindings) if self._bound is not None else None,
            byref(_given(received)), None, byref(made), None, None)
        self.complete = major != CONTINUE_NEEDED
        return _taken(made)

    def wrap(self, message: bytes) -> bytes:
        """Return a message wrapped for the server."""
        made = Buffer()
        self._call("gss_wrap", self._context, c_int(0), c_uint32(0), byref(_given(message)), None,
                   byref(made))
        return _taken(made)

    def unwrap(self, message: bytes) -> bytes:
        """Return what the server has wrapped."""
        made = Buffer()
        self._call("gss_unwrap", self._context, byref(_given(message)), byref(made), None, None)
        return _taken(made)

    def _call(self, name: str, *args: object) -> int:
        minor = c_uint32()
        function = getattr(self._library, name)
        function.restype = c_uint32
        major: int = function(byref(minor), *args)
        if major not in (0, CONTINUE_NEEDED):
            raise GssFault(major, minor.value)
        return major


def _given(octets: bytes) -> Buffer:
    copy = ctypes.create_string_buffer(octets, len(octets) + 1)
    buffer = Buffer(len(octets), ctypes.cast(copy, c_void_p))
    buffer.copy = copy          # kept as long as the buffer
    return buffer


def _taken(buffer: Buffer) -> bytes:
    return ctypes.string_at(buffer.value, buffer.length) if buffer.length else b""
