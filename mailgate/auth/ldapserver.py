"""A directory behind one or more LDAP servers: searches and binds, on connections that are kept.

Searches go over connections that are bound as the reader (or as nobody), logins over others, which are
bound again for each login (RFC 4511 section 4.2.1): who has just logged in never searches. A connection is
used by one thread at a time, so there are at most two for each thread that asks.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import ldap
from ldap.controls import DecodeControlTuples
from ldap.controls.ppolicy import PasswordPolicyControl

from mailgate.auth.credentials import Refused
from mailgate.auth.ldapwire import Broken, Channel, Times, Trust, connect, policy_words, words_of
from mailgate.directories import Server
from mailgate.errors import StoreUnavailable

IDLE_SECONDS = 60.0         # longer, and something on the way may have forgotten the connection
AGE_SECONDS = 600.0         # so that the first server is found again when it is back
ASIDE_SECONDS = 5.0         # how long a silent server is not asked: each question would cost its time again
SCOPES = {"base": ldap.SCOPE_BASE, "one-level": ldap.SCOPE_ONELEVEL, "subtree": ldap.SCOPE_SUBTREE}

_READER, _LOGIN = "reader", "login"     # what a connection is for

# What a server says when this DN with this password does not log in, for whatever reason. Some say by
# `constraintViolation` and `unwillingToPerform` that an account is locked.
_REFUSALS = (ldap.INVALID_CREDENTIALS, ldap.NO_SUCH_OBJECT, ldap.INVALID_DN_SYNTAX, ldap.INAPPROPRIATE_AUTH,
             ldap.INSUFFICIENT_ACCESS, ldap.UNWILLING_TO_PERFORM, ldap.CONSTRAINT_VIOLATION, ldap.REFERRAL)
_ELSEWHERE = (ldap.SERVER_DOWN, ldap.CONNECT_ERROR, ldap.BUSY, ldap.UNAVAILABLE)    # another one may be able

Result = TypeVar("Result")


class Reader(NamedTuple):
    """Who searches: a DN, and the file with its password, whose line end does not count."""

    dn: str
    password_file: str


class Entry(NamedTuple):
    """What was found: a DN, and an attribute's values."""

    dn: str
    values: tuple[bytes, ...]


class Search(NamedTuple):
    """Where and for what to search."""

    base: str
    scope: str          # a key of SCOPES
    attribute: str      # whose values are wanted


class _Kept(NamedTuple):
    channel: Channel
    server: Server
    made: float
    used: float | None = None       # None: never yet


class Directory:
    """Servers with the same entries, asked in order.

    Calls block, at most until a time of `time.monotonic`; any thread may call. `start_tls` None: wherever ldap://
    would leave this machine. `tell` is called, in any thread, with words for the log when a server fails
    and when it answers again. `now` tells how old things are.
    """

    def __init__(self, servers: tuple[Server, ...], *, start_tls: bool | None = None,
                 ca_file: str | None = None, reader: Reader | None = None, times: Times = Times(),
                 tell: Callable[[str], None] | None = None,
                 now: Callable[[], float] = time.monotonic) -> None:
        self.servers = servers
        self._start_tls = start_tls
        self._trust = Trust(ca_file)
        self._reader = reader
        self._times = times
        self.tell = tell
        self._now = now
        self._lock = threading.Lock()
        self._kept: dict[str, list[_Kept]] = {_READER: [], _LOGIN: []}
        self._open: set[Channel] = set()
        self._aside: dict[Server, float] = {}       # until when
        self._failing: set[Server] = set()
        self._ends = 0                              # how often it was closed

    def search(self, search: Search, text: str, until: float) -> list[Entry]:
        """Return what a filter matches, at most two entries: one is what is wanted.

        Raises: StoreUnavailable, also where the base is not there or may not be read.
        """
        def ask(channel: Channel, until: float) -> list[Entry]:
            begun = channel.ldap.search_ext(
                search.base, SCOPES[search.scope], text, [search.attribute], sizelimit=2,
                timeout=math.ceil(self._times.answer))
            try:
                found = channel.answer(begun, until).data
            except ldap.SIZELIMIT_EXCEEDED:
                return [Entry("", ()), Entry("", ())]
            return [Entry(dn, _values(attributes, search.attribute))
                    for dn, attributes in found if dn is not None]      # None: a reference elsewhere

        try:
            return self._ask(_READER, ask, until)
        except ldap.LDAPError as fault:
            raise StoreUnavailable(f"LDAP: search below {search.base!r}: {words_of(fault)}") from fault

    def log_in(self, dn: str, password: bytes, until: float) -> None:
        """Return if the password is right.

        Raises: LoginRefused, also where the account is locked, or its password must be changed first;
        StoreUnavailable.
        """
        if not dn or not password:      # that would be nobody's bind, and succeed (RFC 4513 section 5.1)
            raise Refused("LDAP: no DN or no password")
        try:
            reason = self._ask(_LOGIN, lambda channel, until: _bound(channel, dn, password, until), until)
        except ldap.LDAPError as fault:
            raise StoreUnavailable(f"LDAP: bind: {words_of(fault)}") from fault
        if reason is not None:
            raise Refused(f"LDAP: {reason}")

    def faults(self, search: Search | None, seconds: float) -> Iterator[tuple[str, str]]:
        """Give what keeps each server from being used, as (setting, words): for `mailgate check`."""
        for server in self.servers:
            until = time.monotonic() + seconds
            try:
                channel = self._connected(server, _READER, until)
                try:
                    if search is not None:
                        channel.answer(channel.ldap.search_ext(
                            search.base, ldap.SCOPE_BASE, "(objectClass=*)", ["1.1"]), self._step(until))
                finally:
                    self._close(channel)
            except Broken as fault:
                yield fault.setting, str(fault)
            except ldap.LDAPError as fault:
                yield "search_base", f"{server}: {search and search.base}: {words_of(fault)}"

    def close(self) -> None:
        """End all connections; who waits for an answer gets none. The next question opens others."""
        with self._lock:
            self._ends += 1
            kept = [one for ones in self._kept.values() for one in ones]
            for ones in self._kept.values():
                ones.clear()
            for channel in self._open:
                channel.cut()
        for one in kept:
            self._close(one.channel)

    def _ask(self, role: str, work: Callable[[Channel, float], Result], until: float) -> Result:
        """Return what the first server says that can: over a kept connection, else over a new one.

        Raises: StoreUnavailable; ldap.LDAPError, what it says otherwise.
        """
        faults, ends = [], self._ends
        kept = self._take(role)
        if kept is not None:
            try:
                return self._work(role, kept, work, until)
            except Broken as fault:
                faults.append(str(fault))
        for server in self._candidates():
            if self._ends != ends:
                raise StoreUnavailable("LDAP: the service is ending")
            try:
                channel = self._opened(server, role, until)
                return self._work(role, _Kept(channel, server, self._now()), work, until)
            except Broken as fault:
                faults.append(str(fault))
        raise StoreUnavailable("LDAP: " + ("; ".join(dict.fromkeys(faults)) or
                                           "no server has answered a moment ago, and none is asked now"))

    def _opened(self, server: Server, role: str, until: float) -> Channel:
        try:
            return self._connected(server, role, until)
        except Broken as fault:
            self._failed(server, fault, until)
            raise

    def _connected(self, server: Server, role: str, until: float) -> Channel:
        """Return a new connection, bound as what it is for. Raises: Broken."""
        channel = connect(server, self._trust if self._is_protected(server) else None, self._times, until)
        with self._lock:
            self._open.add(channel)
        try:
            if role == _READER and self._reader is not None:
                password = _password(self._reader.password_file)
                reason = _bound(channel, self._reader.dn, password, self._step(until))
                if reason is not None:
                    raise Broken(f"{server}: {self._reader.dn}: {reason}", "bind_dn", aside=True)
        except ldap.LDAPError as fault:
            self._close(channel)
            raise Broken(f"{server}: bind: {words_of(fault)}", "bind_dn") from fault
        except BaseException:
            self._close(channel)
            raise
        return channel

    def _work(self, role: str, kept: _Kept, work: Callable[[Channel, float], Result], until: float) -> Result:
        """Return what the work returns, and keep the connection. Raises: Broken; ldap.LDAPError."""
        try:
            result = work(kept.channel, self._step(until))
        except _ELSEWHERE as fault:
            self._close(kept.channel)
            broken = Broken(f"{kept.server}: {words_of(fault)}")
            self._failed(kept.server, broken, until)
            raise broken from fault
        except Broken as fault:
            self._close(kept.channel)
            if fault.aside or kept.used is None:    # else it may only have grown old
                self._failed(kept.server, fault, until)
            raise
        except BaseException:
            self._close(kept.channel)
            raise
        self._works(kept.server)
        with self._lock:
            if kept.channel in self._open:
                self._kept[role].append(kept._replace(used=self._now()))
        return result

    def _take(self, role: str) -> _Kept | None:
        """Return the connection that was used last, if one is fit for use."""
        now, old = self._now(), []
        with self._lock:
            kept = self._kept[role]
            fit = [one for one in kept
                   if now - (one.used or 0.0) < IDLE_SECONDS and now - one.made < AGE_SECONDS]
            old = [one for one in kept if one not in fit]
            kept[:] = fit
            taken = kept.pop() if kept else None
        for one in old:
            self._close(one.channel)
        return taken

    def _candidates(self) -> list[Server]:
        now = self._now()
        with self._lock:
            return [one for one in self.servers if self._aside.get(one, now) <= now]

    def _failed(self, server: Server, fault: Broken, until: float) -> None:
        """Note a failure; who was silent for all the time that is usual is left alone for a while."""
        with self._lock:
            if fault.aside and time.monotonic() < until:
                self._aside[server] = self._now() + ASIDE_SECONDS
            news = server not in self._failing
            self._failing.add(server)
        if news and self.tell is not None:
            self.tell(str(fault))

    def _works(self, server: Server) -> None:
        with self._lock:
            self._aside.pop(server, None)
            news = server in self._failing
            self._failing.discard(server)
        if news and self.tell is not None:
            self.tell(f"{server}: it answers again")

    def _is_protected(self, server: Server) -> bool:
        """Return whether TLS is spoken with a server."""
        if server.scheme == "ldap":
            return not server.is_local if self._start_tls is None else self._start_tls
        return server.scheme == "ldaps"

    def _step(self, until: float) -> float:
        """Return until when a server has to answer now."""
        return min(until, time.monotonic() + self._times.answer)

    def _close(self, channel: Channel) -> None:
        with self._lock:
            self._open.discard(channel)
        channel.close()


def _bound(channel: Channel, dn: str, password: bytes, until: float) -> str | None:
    """Bind a connection; return why it is refused, or None. Raises: Broken; ldap.LDAPError."""
    try:
        begun = channel.ldap.simple_bind(dn, password, serverctrls=[PasswordPolicyControl()])
        return policy_words(channel.answer(begun, until).controls)
    except _REFUSALS as refusal:
        told = refusal.args[0] if refusal.args and isinstance(refusal.args[0], dict) else {}
        return policy_words(DecodeControlTuples(told.get("ctrls") or [])) or words_of(refusal)


def _values(attributes: dict[str, list[bytes]], wanted: str) -> tuple[bytes, ...]:
    """Return an attribute's values; a server may write its name in any case."""
    return tuple(value for name, values in attributes.items() if name.lower() == wanted.lower()
                 for value in values)


def _password(path: str) -> bytes:
    """Return the reader's password: of a file of one line. Raises: Broken."""
    try:
        with open(path, "rb") as file:
            password = file.read().rstrip(b"\r\n")
    except OSError as fault:
        raise Broken(f"{path}: {fault.strerror}", "bind_password_file") from fault
    if not password:
        raise Broken(f"{path}: there is no password in it", "bind_password_file")
    return password
