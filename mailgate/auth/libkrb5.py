"""The few functions of MIT's libkrb5 that a service needs, through cffi without a compiler.

Nothing here is loaded before `library` is first called: twistd forks after the service is made.
Heimdal's library has other structures and is not taken for MIT's: the soname differs.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from mailgate.errors import ConfigurationError

SONAMES = ("libkrb5.3.dylib",) if sys.platform == "darwin" else ("libkrb5.so.3",)

_DECLARATIONS = """
typedef int32_t krb5_error_code;
typedef int32_t krb5_flags;
typedef int32_t krb5_timestamp;
typedef struct krb5_context_s *krb5_context;
typedef struct krb5_auth_context_s *krb5_auth_context;
typedef struct krb5_keytab_s *krb5_keytab;
typedef void *krb5_kt_cursor;

typedef struct { int32_t magic; unsigned int length; char *data; } krb5_data;
typedef struct {
    int32_t magic; krb5_data realm; krb5_data *data; int32_t length; int32_t type;
} *krb5_principal;
typedef struct {
    int32_t magic; int32_t enctype; unsigned int length; unsigned char *contents;
} krb5_keyblock;
typedef struct { int32_t magic; int32_t enctype; unsigned int kvno; krb5_data ciphertext; } krb5_enc_data;
typedef struct {                        /* the beginning; what follows is not used */
    int32_t magic; krb5_flags flags; krb5_keyblock *session; krb5_principal client;
} krb5_enc_tkt_part;
typedef struct {
    int32_t magic; krb5_principal server; krb5_enc_data enc_part; krb5_enc_tkt_part *enc_part2;
} krb5_ticket;
typedef struct {
    int32_t magic; krb5_principal principal; krb5_timestamp timestamp; unsigned int vno; krb5_keyblock key;
} krb5_keytab_entry;
typedef struct {
    int32_t magic; krb5_timestamp ctime; int32_t cusec; int32_t susec; krb5_timestamp stime; uint32_t error;
    krb5_principal client; krb5_principal server; krb5_data text; krb5_data e_data;
} krb5_error;

krb5_error_code krb5_init_context(krb5_context *);
void krb5_free_context(krb5_context);
const char *krb5_get_error_message(krb5_context, krb5_error_code);
void krb5_free_error_message(krb5_context, const char *);
void krb5_clear_error_message(krb5_context);
krb5_error_code krb5_us_timeofday(krb5_context, krb5_timestamp *, int32_t *);
krb5_error_code krb5_set_real_time(krb5_context, krb5_timestamp, int32_t);

krb5_error_code krb5_parse_name(krb5_context, const char *, krb5_principal *);
int krb5_principal_compare(krb5_context, krb5_principal, krb5_principal);
void krb5_free_principal(krb5_context, krb5_principal);

krb5_error_code krb5_kt_resolve(krb5_context, const char *, krb5_keytab *);
krb5_error_code krb5_kt_start_seq_get(krb5_context, krb5_keytab, krb5_kt_cursor *);
krb5_error_code krb5_kt_next_entry(krb5_context, krb5_keytab, krb5_keytab_entry *, krb5_kt_cursor *);
krb5_error_code krb5_kt_end_seq_get(krb5_context, krb5_keytab, krb5_kt_cursor *);
krb5_error_code krb5_free_keytab_entry_contents(krb5_context, krb5_keytab_entry *);
krb5_error_code krb5_kt_close(krb5_context, krb5_keytab);

krb5_error_code krb5_auth_con_init(krb5_context, krb5_auth_context *);
krb5_error_code krb5_auth_con_free(krb5_context, krb5_auth_context);
krb5_error_code krb5_rd_req(krb5_context, krb5_auth_context *, const krb5_data *, krb5_principal,
                            krb5_keytab, krb5_flags *, krb5_ticket **);
krb5_error_code krb5_mk_rep(krb5_context, krb5_auth_context, krb5_data *);
krb5_error_code krb5_mk_error(krb5_context, const krb5_error *, krb5_data *);
void krb5_free_ticket(krb5_context, krb5_ticket *);
void krb5_free_data_contents(krb5_context, krb5_data *);
"""


class Library(NamedTuple):
    """cffi's interface, and the loaded library."""

    ffi: Any
    functions: Any


def require_cffi() -> None:
    """Raise ConfigurationError unless the Python package is there; loads nothing."""
    if importlib.util.find_spec("cffi") is None:
        raise ConfigurationError(["Kerberos needs the Python package cffi: pip install mailgate[kerberos]"])


@functools.cache
def library() -> Library:
    """Load libkrb5, at the first call. Raises: ConfigurationError, if it cannot be loaded."""
    return opened(_DECLARATIONS, SONAMES, "libkrb5", "libkrb5-3")


def opened(declarations: str, sonames: Sequence[str], name: str, package: str) -> Library:
    """Load the first library of MIT's that is there; `package` is Debian's. Raises: ConfigurationError."""
    require_cffi()
    from cffi import FFI

    ffi = FFI()
    ffi.cdef(declarations)
    words = ""
    for soname in sonames:
        try:
            functions = ffi.dlopen(soname)
        except OSError as fault:
            words = str(fault)
        else:
            _find_all(functions)
            return Library(ffi, functions)
    raise ConfigurationError([f"Kerberos needs MIT's {name} (Debian: apt-get install {package}): {words}"])


def _find_all(functions: Any) -> None:
    """Let cffi look all names up now, which it does under a lock of its own, at a name's first use.

    It holds that lock while it reads a type, too, and Python may free objects just then: one that is
    freed by a function that was not looked up yet would wait for itself for ever.
    """
    for name in dir(functions):
        with suppress(AttributeError):      # of an older library; an error where it is called
            getattr(functions, name)
