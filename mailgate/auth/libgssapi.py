"""The few functions of MIT's libgssapi_krb5 that a service needs (RFC 2744), through cffi without a compiler.

Nothing here is loaded before `library` is first called: twistd forks after the service is made.
Heimdal's library has another soname; so has libgssglue, which knows no keytab.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from mailgate.auth.libkrb5 import Library, opened

SONAMES = ("libgssapi_krb5.so.2",)      # Apple packs the structures otherwise

_DECLARATIONS = """
typedef uint32_t OM_uint32;
typedef struct gss_name_struct *gss_name_t;
typedef struct gss_cred_id_struct *gss_cred_id_t;
typedef struct gss_ctx_id_struct *gss_ctx_id_t;

typedef struct { OM_uint32 length; void *elements; } gss_OID_desc, *gss_OID;
typedef struct { size_t count; gss_OID elements; } gss_OID_set_desc, *gss_OID_set;
typedef struct { size_t length; void *value; } gss_buffer_desc, *gss_buffer_t;
typedef struct {
    OM_uint32 initiator_addrtype; gss_buffer_desc initiator_address;
    OM_uint32 acceptor_addrtype; gss_buffer_desc acceptor_address;
    gss_buffer_desc application_data;
} gss_channel_bindings_desc, *gss_channel_bindings_t;
typedef struct { const char *key; const char *value; } gss_key_value_element_desc;
typedef struct { OM_uint32 count; gss_key_value_element_desc *elements; } gss_key_value_set_desc;

extern gss_OID gss_mech_krb5;
extern gss_OID GSS_KRB5_NT_PRINCIPAL_NAME;

OM_uint32 gss_display_status(OM_uint32 *, OM_uint32, int, gss_OID, OM_uint32 *, gss_buffer_t);
OM_uint32 gss_release_buffer(OM_uint32 *, gss_buffer_t);

OM_uint32 gss_import_name(OM_uint32 *, gss_buffer_t, gss_OID, gss_name_t *);
OM_uint32 gss_display_name(OM_uint32 *, gss_name_t, gss_buffer_t, gss_OID *);
OM_uint32 gss_release_name(OM_uint32 *, gss_name_t *);

OM_uint32 gss_acquire_cred_from(OM_uint32 *, gss_name_t, OM_uint32, gss_OID_set, int,
                                const gss_key_value_set_desc *, gss_cred_id_t *, gss_OID_set *, OM_uint32 *);
OM_uint32 gss_release_cred(OM_uint32 *, gss_cred_id_t *);

OM_uint32 gss_accept_sec_context(OM_uint32 *, gss_ctx_id_t *, gss_cred_id_t, gss_buffer_t,
                                 gss_channel_bindings_t, gss_name_t *, gss_OID *, gss_buffer_t, OM_uint32 *,
                                 OM_uint32 *, gss_cred_id_t *);
OM_uint32 gss_delete_sec_context(OM_uint32 *, gss_ctx_id_t *, gss_buffer_t);
OM_uint32 gss_wrap(OM_uint32 *, gss_ctx_id_t, int, OM_uint32, gss_buffer_t, int *, gss_buffer_t);
OM_uint32 gss_unwrap(OM_uint32 *, gss_ctx_id_t, gss_buffer_t, gss_buffer_t, int *, OM_uint32 *);
"""


_COMPLETE, _CONTINUE_NEEDED, _FAILURE = 0, 1, 13 << 16      # major codes (section 3.9.1)
_GSS_CODE, _MECH_CODE = 1, 2        # whose words are asked for
_ACCEPT = 2                         # what a credential is for
_ANONYMOUS = 64                     # of a context's flags
_OF_GLUE = range(100_000, 200_000)  # minor codes that stand for none of the mechanism's


@functools.cache
def library() -> Library:
    """Load libgssapi_krb5, at the first call. Raises: ConfigurationError, if it cannot be loaded."""
    return opened(_DECLARATIONS, SONAMES, "libgssapi", "libgssapi-krb5-2")


class GssFault(Exception):
    """A call that ended with anything but success; its text is for the log.

    `of_kerberos` is libkrb5's code, where that alone says what it was; else 0.
    """

    def __init__(self, major: int, minor: int, words: str) -> None:
        super().__init__(words)
        told = major == _FAILURE and minor not in _OF_GLUE
        self.of_kerberos = (minor - (1 << 32) if minor >> 31 else minor) if told else 0


class Accepted(NamedTuple):
    """What a token has led to. `client` once the context stands: the principal's name, "" if hidden."""

    reply: bytes
    client: str | None


class _Given(NamedTuple):
    """Octets for the library, and the structure that it finds them by."""

    octets: Any
    buffer: Any


class Context:
    """One security context of a service, with the credential that accepts it. Raises everywhere: GssFault.

    Its calls block, and come from one thread at a time. Python frees it with its last owner, in
    whatever thread: that waits for nothing.
    """

    def __init__(self, service: str, keytab: str) -> None:
        self._ffi, self._functions = library()
        self._credential = self._acquired(service, keytab)
        self._handle = self._kept("gss_ctx_id_t *", lambda minor, held: (
            self._functions.gss_delete_sec_context(minor, held, self._ffi.NULL)))

    def accept(self, token: bytes, binding: bytes | None) -> Accepted:
        """Take a token of the client's. `binding` is looked at where the client has sent one too."""
        ffi = self._ffi
        given, bound = self._given(token), self._given(binding or b"")
        bindings = ffi.NULL if binding is None else ffi.new("gss_channel_bindings_desc *", {
            "application_data": bound.buffer[0]})
        client, reply = self._kept("gss_name_t *", self._functions.gss_release_name), self._filled()
        flags = ffi.new("OM_uint32 *")
        major = self._call("gss_accept_sec_context", self._handle, self._credential[0], given.buffer,
                           bindings, client, ffi.NULL, reply, flags, ffi.NULL, ffi.NULL)
        if major == _CONTINUE_NEEDED:
            if not reply.length:    # MIT's waits for another one where a token is of no kind that it knows
                raise GssFault(major, 0, self._reason(_FAILURE, 0))
            return Accepted(self._octets(reply), None)
        return Accepted(self._octets(reply), "" if flags[0] & _ANONYMOUS else self._displayed(client[0]))

    def wrap(self, message: bytes) -> bytes:
        """Return a message for the client, shown to be ours but not hidden."""
        given, wrapped = self._given(message), self._filled()
        self._call("gss_wrap", self._handle[0], 0, 0, given.buffer, self._ffi.NULL, wrapped)
        return self._octets(wrapped)

    def unwrap(self, message: bytes) -> bytes:
        """Return what the client has wrapped."""
        given, plain = self._given(message), self._filled()
        self._call("gss_unwrap", self._handle[0], given.buffer, plain, self._ffi.NULL, self._ffi.NULL)
        return self._octets(plain)

    def _acquired(self, service: str, keytab: str) -> Any:
        """Return the credential of one service of a keytab, for Kerberos and nothing else."""
        ffi, functions = self._ffi, self._functions
        name, given = self._kept("gss_name_t *", functions.gss_release_name), self._given(service.encode())
        self._call("gss_import_name", given.buffer, functions.GSS_KRB5_NT_PRINCIPAL_NAME, name)
        key, value = ffi.new("char[]", b"keytab"), ffi.new("char[]", b"FILE:" + os.fsencode(keytab))
        element = ffi.new("gss_key_value_element_desc *", {"key": key, "value": value})
        store = ffi.new("gss_key_value_set_desc *", {"count": 1, "elements": element})
        kerberos = ffi.new("gss_OID_set_desc *", {"count": 1, "elements": functions.gss_mech_krb5})
        credential = self._kept("gss_cred_id_t *", functions.gss_release_cred)
        self._call("gss_acquire_cred_from", name[0], 0, kerberos, _ACCEPT, store, credential, ffi.NULL,
                   ffi.NULL)
        return credential

    def _call(self, name: str, *args: Any) -> int:
        """Call a function; return its major code. Raises: GssFault, for a token that came before too."""
        minor = self._ffi.new("OM_uint32 *")
        major: int = getattr(self._functions, name)(minor, *args)
        if major not in (_COMPLETE, _CONTINUE_NEEDED):      # what is "informatory" is none here
            raise GssFault(major, minor[0], self._reason(major, minor[0]))
        return major

    def _reason(self, major: int, minor: int) -> str:
        if minor and minor not in _OF_GLUE and major >> 16:
            return self._words(minor, _MECH_CODE)
        return "it is cut off or malformed" if major == _FAILURE else self._words(major, _GSS_CODE)

    def _words(self, code: int, kind: int) -> str:
        """Return the text of a code, with the details that the library kept of the thread's last error."""
        minor, more, text = self._ffi.new("OM_uint32 *"), self._ffi.new("OM_uint32 *"), self._filled()
        if self._functions.gss_display_status(
                minor, code, kind, self._functions.gss_mech_krb5, more, text):
            return f"code {code}"
        return self._octets(text).decode("utf-8", "replace")

    def _displayed(self, name: Any) -> str:
        text = self._filled()
        self._call("gss_display_name", name, text, self._ffi.NULL)
        return self._octets(text).decode("utf-8", "surrogateescape")

    def _kept(self, kind: str, free: Callable[[Any, Any], object]) -> Any:
        """Return a place for a handle that the library fills and that is freed with it."""
        minor = self._ffi.new("OM_uint32 *")
        return self._ffi.gc(self._ffi.new(kind), lambda held: free(minor, held))

    def _given(self, octets: bytes) -> _Given:
        """Return a copy for the library, which turns some messages round where they lie."""
        copy = self._ffi.new("char[]", octets)
        return _Given(copy, self._ffi.new("gss_buffer_desc *", {"length": len(octets), "value": copy}))

    def _filled(self) -> Any:
        """Return a buffer that the library fills."""
        return self._kept("gss_buffer_desc *", self._functions.gss_release_buffer)

    def _octets(self, buffer: Any) -> bytes:
        return bytes(self._ffi.buffer(buffer.value, buffer.length)) if buffer.length else b""
