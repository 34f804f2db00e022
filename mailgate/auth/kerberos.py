"""The service's side of Kerberos 5 (RFC 4120 section 3.2): is this AP-REQ good, and whose is it?

`ServiceKey` asks libkrb5, and blocks: `Acceptor` does so in a few threads of its own. Each judgement
has a context of its own, freed with all that belongs to it: contexts are not for two threads, and a
changed keytab or krb5.conf is noticed at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger

from mailgate.auth.hashing import HashPool, network_of
from mailgate.auth.libkrb5 import library
from mailgate.errors import ConfigurationError, TicketRefused
from mailgate.principals import Principal, parse_principal

THREADS = 2                     # a judgement takes a fraction of a millisecond
_MUTUAL_REQUIRED = 0x20000000   # AP-REQ's ap-options (RFC 4120 section 5.5.1)
_KRB5_TABLE = -1765328384       # com_err's tables of error codes
_ASN1_TABLE, _ASN1_CODES = 1859794432, 256
_LAST_PROTOCOL_CODE = 127       # above it the table has the library's own errors
_GENERIC = 60                   # KRB_ERR_GENERIC (RFC 4120 section 7.5.9)
_NOT_US = 35                    # KRB_AP_ERR_NOT_US
_NO_KEY = 45                    # KRB_AP_ERR_NOKEY: the keytab is not there, or has nothing for the service
# No codes of the protocol, and yet of what a client wrote: kinds of messages, of keys and of checksums.
_OF_OCTETS = frozenset(_KRB5_TABLE + offset for offset in (138, 150, 151, 152, 153, 188, 189, 190, 236))
_KEYTAB_END = _KRB5_TABLE + 182     # KRB5_KT_END

log = Logger()


class Accepted(NamedTuple):
    """A good AP-REQ: who the client is, and the AP-REP if mutual authentication was asked for."""

    principal: Principal
    reply: bytes | None


class _Fault(Exception):
    """An error code of libkrb5, and its text for the log."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


class ServiceKey:
    """A keytab file and the one service principal in it whose tickets are taken.

    `now` gives the seconds since 1970 by which tickets are judged; the system's time unless given.
    Everything blocks, and may be called from any thread.
    """

    def __init__(self, keytab: str, service: str, *, now: Callable[[], float] | None = None) -> None:
        self.keytab = os.path.abspath(keytab)
        self.service = parse_principal(service)
        self._now = now

    def judge(self, request: bytes) -> Accepted:
        """Return whose AP-REQ it is. The same request is good once: libkrb5's replay cache remembers it.

        Raises: TicketRefused, with the KRB-ERROR to send; ConfigurationError, if there is no libkrb5.
        """
        with _Context(self._now) as kerberos:
            server = kerberos.principal(str(self.service))
            try:
                return self._judge(kerberos, server, request)
            except _Fault as fault:
                reply = _error_reply(kerberos, server, fault.code)
                ours = not is_clients(fault.code) or fault.code == _KRB5_TABLE + _NO_KEY
                raise TicketRefused(str(fault), reply, ours=ours) from fault

    def _judge(self, kerberos: _Context, server: Any, request: bytes) -> Accepted:
        keytab = kerberos.opened(f"FILE:{self.keytab}")
        authentication = kerberos.made("krb5_auth_context *", "krb5_auth_con_init", "krb5_auth_con_free")
        held = kerberos.ffi.new("krb5_auth_context *", authentication)
        octets = kerberos.ffi.from_buffer(request)
        data = kerberos.ffi.new("krb5_data *", {"length": len(request), "data": octets})
        options = kerberos.ffi.new("krb5_flags *")
        ticket = kerberos.made("krb5_ticket **", "krb5_rd_req", "krb5_free_ticket", before=(
            held, data, server, keytab, options))
        if not kerberos.functions.krb5_principal_compare(kerberos.handle, server, ticket.server):
            raise _Fault(_KRB5_TABLE + _NOT_US, f"a ticket for {_principal(kerberos, ticket.server)}")
        reply = None
        if options[0] & _MUTUAL_REQUIRED:
            with kerberos.data() as made:
                kerberos.check(kerberos.functions.krb5_mk_rep(kerberos.handle, authentication, made))
                reply = _octets(kerberos, made[0])
        return Accepted(_principal(kerberos, ticket.enc_part2.client), reply)

    def faults(self) -> list[str]:
        """Return what keeps the service from working, in words for an operator; empty when nothing does."""
        try:
            with _Context() as kerberos:
                held = sorted({str(name) for name in _keytab_entries(kerberos, f"FILE:{self.keytab}")})
        except ConfigurationError as fault:
            return fault.problems
        except _Fault as fault:
            return [_keytab_words(self.keytab, fault)]
        if str(self.service) in held:
            return []
        what = f"there are keys of {', '.join(held)}" if held else "it is empty"
        return [f"{self.keytab} has no key of {self.service}; {what}"]


class Acceptor:
    """Judges AP-REQs in threads of its own, begun when first needed; lives in the reactor's thread."""

    def __init__(self, key: ServiceKey, reactor: IReactorFromThreads, *, threads: int = THREADS) -> None:
        self.key = key
        self._pool = HashPool(reactor, threads=threads)
        self._pool.start()

    def accept(self, request: bytes, peer: str | None) -> Deferred[Accepted]:
        """See ServiceKey.judge. Raises, by the Deferred, TooBusy as well. May be cancelled."""
        return self._pool.run(network_of(peer), self.key.judge, request)

    def faults(self) -> Deferred[list[str]]:
        """See ServiceKey.faults."""
        return self._pool.run(network_of(None), self.key.faults)

    def stop(self) -> Deferred[None]:
        """Refuse what waits; fires when the threads have ended."""
        return self._pool.stop()


class _Context:
    """A krb5_context and what was made in it; all of it is freed at the end, the latest first."""

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        self.ffi, self.functions = library()
        self.handle: Any = None
        self._now = now
        self._stack = ExitStack()

    def __enter__(self) -> _Context:
        holder = self.ffi.new("krb5_context *")
        code = self.functions.krb5_init_context(holder)
        if code:        # no context to ask for words: krb5.conf cannot be read, most likely
            raise ConfigurationError([f"libkrb5 cannot begin (error {code}): is krb5.conf well-formed?"])
        self.handle = holder[0]
        self._stack.callback(self.functions.krb5_free_context, self.handle)
        if self._now is not None:
            seconds, fraction = divmod(self._now(), 1)
            self.check(self.functions.krb5_set_real_time(self.handle, int(seconds), int(fraction * 1e6)))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def check(self, code: int) -> None:
        """Raise what an error code means. Raises: _Fault."""
        if code:
            raise _Fault(code, self.words(code))

    def words(self, code: int) -> str:
        """Return an error's text, with the details that the library kept of the last one."""
        text = self.functions.krb5_get_error_message(self.handle, code)
        try:
            return bytes(self.ffi.string(text)).decode("utf-8", "replace")
        finally:
            self.functions.krb5_free_error_message(self.handle, text)

    def made(self, kind: str, maker: str, freer: str, *, before: tuple[Any, ...] = ()) -> Any:
        """Return what a function puts into its last argument, freed with the context. Raises: _Fault."""
        holder = self.ffi.new(kind)
        code = getattr(self.functions, maker)(self.handle, *before, holder)
        self.check(code)
        self._stack.callback(getattr(self.functions, freer), self.handle, holder[0])
        return holder[0]

    def principal(self, name: str) -> Any:
        """Return a principal of the library."""
        return self.made("krb5_principal *", "krb5_parse_name", "krb5_free_principal", before=(
            name.encode(),))

    def opened(self, keytab: str) -> Any:
        """Return a keytab; whether it is there shows when it is used."""
        return self.made("krb5_keytab *", "krb5_kt_resolve", "krb5_kt_close", before=(os.fsencode(keytab),))

    @contextmanager
    def data(self) -> Iterator[Any]:
        """Give a krb5_data for the library to fill."""
        holder = self.ffi.new("krb5_data *")
        try:
            yield holder
        finally:
            self.functions.krb5_free_data_contents(self.handle, holder)


def _error_reply(kerberos: _Context, server: Any, code: int) -> bytes:
    """Return the KRB-ERROR of an error as MIT's krb5_recvauth makes it: code, time, service, text.

    The text is the code's own, with its NUL: what is told of principals and files stays in the log.
    """
    offset = code - _KRB5_TABLE
    if not _is_protocol(code):
        code = _KRB5_TABLE + _GENERIC       # a fault of ours is no business of the client's
    kerberos.functions.krb5_clear_error_message(kerberos.handle)
    text = kerberos.ffi.new("char[]", kerberos.words(code).encode())
    error = kerberos.ffi.new("krb5_error *")
    error.error = offset if 0 <= offset <= _LAST_PROTOCOL_CODE else _GENERIC
    error.server = server
    error.text = {"length": kerberos.ffi.sizeof(text), "data": text}
    stime, susec = kerberos.ffi.new("krb5_timestamp *"), kerberos.ffi.new("int32_t *")
    kerberos.check(kerberos.functions.krb5_us_timeofday(kerberos.handle, stime, susec))
    error.stime, error.susec = stime[0], susec[0]
    with kerberos.data() as made:
        kerberos.check(kerberos.functions.krb5_mk_error(kerberos.handle, error, made))
        return _octets(kerberos, made[0])


def is_clients(code: int) -> bool:
    """Return whether a client's octets alone can bring about an error of libkrb5, if the keytab has a key."""
    return _is_protocol(code) or code in _OF_OCTETS


def _is_protocol(code: int) -> bool:
    """Return whether an error is one of what the client sent: of the protocol, or of its encoding."""
    return (_KRB5_TABLE <= code <= _KRB5_TABLE + _LAST_PROTOCOL_CODE
            or _ASN1_TABLE <= code < _ASN1_TABLE + _ASN1_CODES)


def _keytab_entries(kerberos: _Context, keytab: str) -> Iterator[Principal]:
    """Give the principal of every key. Raises: _Fault."""
    functions, ffi = kerberos.functions, kerberos.ffi
    opened = kerberos.opened(keytab)
    cursor, entry = ffi.new("krb5_kt_cursor *"), ffi.new("krb5_keytab_entry *")
    kerberos.check(functions.krb5_kt_start_seq_get(kerberos.handle, opened, cursor))
    try:
        while not (code := functions.krb5_kt_next_entry(kerberos.handle, opened, entry, cursor)):
            yield _principal(kerberos, entry.principal)
            functions.krb5_free_keytab_entry_contents(kerberos.handle, entry)
        if code != _KEYTAB_END:
            kerberos.check(code)
    finally:
        functions.krb5_kt_end_seq_get(kerberos.handle, opened, cursor)


def _keytab_words(keytab: str, fault: _Fault) -> str:
    try:
        with open(keytab, "rb") as file:
            file.read(1)
    except OSError as reason:
        return f"{keytab}: {reason.strerror}"
    return f"{keytab}: {fault}"


def _principal(kerberos: _Context, principal: Any) -> Principal:
    """Return a principal of the library as ours. What is not UTF-8 equals no text of a configuration."""
    parts = [_octets(kerberos, principal.data[index]) for index in range(principal.length)]
    return Principal(tuple(part.decode("utf-8", "surrogateescape") for part in parts),
                     _octets(kerberos, principal.realm).decode("utf-8", "surrogateescape"))


def _octets(kerberos: _Context, data: Any) -> bytes:
    return bytes(kerberos.ffi.buffer(data.data, data.length)) if data.length else b""
