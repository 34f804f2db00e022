"""One connection to an LDAP server: libldap speaks, its octets are carried here.

libldap cannot be held to a deadline while it shakes hands for TLS (with GnuTLS it reads in circles for as
long as the server is silent), and tells nothing of what is wrong with a certificate. So it gets one end of
a socket pair in place of the network; connecting, TLS and waiting are Python's. See decision 12.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import ldap
from ldap.controls.ppolicy import PasswordPolicyControl
from ldap.extop import ExtendedRequest

from mailgate.auth.ldapmessages import Messages
from mailgate.directories import Server
from mailgate.wire.shown import shown

START_TLS = "1.3.6.1.4.1.1466.20037"    # RFC 4511 section 4.14.1
PIECE_OCTETS = 16 * 1024


class Broken(Exception):
    """The server could not be asked. `setting` is what an operator has to look at first.

    `aside`: it is better not asked again at once, because it was silent and would cost its time again.
    """

    def __init__(self, words: str, setting: str = "urls", *, aside: bool = False) -> None:
        super().__init__(words)
        self.setting = setting
        self.aside = aside


class Times(NamedTuple):
    """Seconds that a server has: to be connected with, TLS included, and for each answer."""

    connect: float = 3.0
    answer: float = 5.0


class Answer(NamedTuple):
    """What an operation came to."""

    data: Any
    controls: list[Any]


class Trust:
    """The authorities by which servers' certificates are judged; their file is read again when it changes."""

    def __init__(self, ca_file: str | None) -> None:
        self._ca_file = ca_file
        self._made: tuple[tuple[int, ...], ssl.SSLContext] | None = None

    def context(self) -> ssl.SSLContext:
        """Return the context of a client that wants TLS 1.2 and the right name. Raises: Broken."""
        try:
            signature = () if self._ca_file is None else _signature(os.stat(self._ca_file))
            made = self._made
            if made is None or made[0] != signature:
                context = ssl.create_default_context(cafile=self._ca_file)
                context.minimum_version = ssl.TLSVersion.TLSv1_2
                self._made = made = signature, context
            return made[1]
        except OSError as fault:        # SSLError is one
            words = "no certificates in it" if isinstance(fault, ssl.SSLError) else fault.strerror
            raise Broken(f"{self._ca_file}: {words}", "ca_file") from fault


def connect(server: Server, trust: Trust | None, times: Times, until: float) -> Channel:
    """Return a connection, inside TLS where there is `trust`: by StartTLS, unless the URL says ldaps.

    `until` is of `time.monotonic`. Raises: Broken.
    """
    context = None if trust is None else trust.context()
    until = min(until, time.monotonic() + times.connect)
    wire = _in_words(partial(_connected, server, until), f"{server}: cannot connect")
    try:
        if context is not None:
            if server.scheme == "ldap":
                _ask_for_tls(wire, server, until)
            wire = _in_words(partial(_inside_tls, wire, context, server, until), f"{server}: TLS")
        return Channel(wire, server)
    except BaseException:
        wire.close()
        raise


class Channel:
    """A connection, used by one thread at a time; `cut` may come from any.

    Operations are begun on `ldap`, a SimpleLDAPObject, and waited for by `answer`.
    """

    def __init__(self, wire: socket.socket, server: Server) -> None:
        self._wire = wire
        self._server = server
        self._messages = Messages()
        self._heard = bytearray()       # what libldap has no room for yet
        self._inner, self._near = socket.socketpair()
        for end in (self._inner, self._near):   # a wait here would be for what this very thread has to do
            end.setblocking(False)
        self._unread = select.poll()
        self._unread.register(self._near, select.POLLIN)
        self.ldap = ldap.initialize("ldap://mailgate", fileno=os.dup(self._near.fileno()))
        for option, value in ((ldap.OPT_REFERRALS, ldap.OPT_OFF), (ldap.OPT_DEREF, ldap.DEREF_NEVER),
                              (ldap.OPT_RESTART, ldap.OPT_ON)):
            self.ldap.set_option(option, value)

    def answer(self, message_id: int, until: float) -> Answer:
        """Return the answer to an operation. Raises: Broken; ldap.LDAPError, as the server says."""
        while True:
            self._send(until)
            self._bring()
            kind, data, _, controls = self._look(message_id)
            if kind is not None:
                return Answer(data, controls)
            if not self._heard and not self._unread.poll(0):    # it reads one message at a look
                self._receive(until)

    def cut(self) -> None:
        """End it, whoever waits for what."""
        with contextlib.suppress(OSError):      # it has ended already
            socket.socket.shutdown(self._wire, socket.SHUT_RDWR)    # TLS has no part in this

    def close(self) -> None:
        """Free what it holds."""
        self.release()
        self._wire.close()

    def release(self) -> None:
        """Free libldap's part, and keep the connection itself: what was heard so far counts no more."""
        with contextlib.suppress(ldap.LDAPError):
            self.ldap.unbind_ext()
        self._inner.close()
        self._near.close()

    def _look(self, message_id: int) -> Any:
        """Return the answer if it is complete, else None four times.

        A text that is not UTF-8 is a ValueError of python-ldap, a length beyond reason a MemoryError.
        """
        try:
            return self.ldap.result4(message_id, 1, 0)[:4]
        except (ldap.SERVER_DOWN, ldap.DECODING_ERROR, ValueError, MemoryError) as fault:
            raise Broken(f"{self._server}: what it says is not LDAP") from fault

    def _send(self, until: float) -> None:
        """Carry out what libldap has written."""
        with contextlib.suppress(BlockingIOError):
            while octets := self._inner.recv(PIECE_OCTETS):
                _in_words(partial(_say, self._wire, octets, until), f"{self._server}")

    def _bring(self) -> None:
        """Carry in what was heard, as far as there is room."""
        with contextlib.suppress(BlockingIOError):
            while self._heard:
                del self._heard[:self._inner.send(self._heard[:PIECE_OCTETS])]

    def _receive(self, until: float) -> None:
        """Hear what the server says next."""
        octets = _in_words(partial(_hear, self._wire, until), f"{self._server}")
        if not octets:
            raise Broken(f"{self._server}: it has closed the connection")
        try:
            self._heard += self._messages.feed(octets)
        except ValueError as fault:
            raise Broken(f"{self._server}: what it says is not LDAP: {fault}") from fault


def _ask_for_tls(wire: socket.socket, server: Server, until: float) -> None:
    """StartTLS. What was heard behind its answer in clear is dropped with the channel that heard it."""
    channel = Channel(wire, server)
    try:
        channel.answer(channel.ldap.extop(ExtendedRequest(START_TLS, None)), until)
    except ldap.LDAPError as refusal:
        raise Broken(f"{server}: StartTLS is refused: {words_of(refusal)}") from refusal
    finally:
        channel.release()


def _say(wire: socket.socket, octets: bytes, until: float) -> None:
    wire.settimeout(_left(until))
    wire.sendall(octets)


def _hear(wire: socket.socket, until: float) -> bytes:
    wire.settimeout(_left(until))
    return wire.recv(PIECE_OCTETS)


def _connected(server: Server, until: float) -> socket.socket:
    if server.scheme != "ldapi":
        wire = socket.create_connection((server.host, server.port), _left(until))
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return wire
    wire = socket.socket(socket.AF_UNIX)
    try:
        wire.settimeout(_left(until))
        wire.connect(server.host)
    except BaseException:
        wire.close()
        raise
    return wire


def _inside_tls(wire: socket.socket, context: ssl.SSLContext, server: Server, until: float) -> socket.socket:
    wire.settimeout(_left(until))
    inside = context.wrap_socket(wire, server_hostname=server.host, do_handshake_on_connect=False)
    try:
        inside.do_handshake()
    except BaseException:
        inside.close()
        raise
    return inside


def _in_words(step: Callable[[], Any], where: str) -> Any:
    """Return what a step on the network returns. Raises: Broken, with words for an operator."""
    try:
        return step()
    except TimeoutError as fault:
        raise Broken(f"{where}: no answer in time", aside=True) from fault
    except ssl.SSLCertVerificationError as fault:
        raise Broken(f"{where}: {fault.verify_message.rstrip('.')}") from fault
    except (OSError, UnicodeError) as fault:        # a host's name that is none
        words = getattr(fault, "strerror", None) or str(fault)
        raise Broken(f"{where}: {words.partition(' (_ssl.c')[0]}") from fault


def _left(until: float) -> float:
    """Return the seconds that are left. Raises: TimeoutError."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("no time is left")
    return left


def _signature(status: os.stat_result) -> tuple[int, ...]:
    return status.st_mtime_ns, status.st_size, status.st_ino


def words_of(fault: ldap.LDAPError) -> str:
    """Return what libldap and the server say of a fault, as one line."""
    told = fault.args[0] if fault.args and isinstance(fault.args[0], dict) else {}
    words = str(told.get("desc", type(fault).__name__)).lower()
    info = told.get("info")
    return f"{words} ({shown(str(info))})" if info else words


def policy_words(controls: list[Any]) -> str | None:
    """Return which rule of its password policy was broken, if the server says so.

    By the response control of draft-behera-ldap-password-policy section 6.2.
    """
    for control in controls:
        if isinstance(control, PasswordPolicyControl) and control.error is not None:
            return _POLICY_ERRORS.get(int(control.error), f"password policy error {int(control.error)}")
    return None


_POLICY_ERRORS = {0: "the password has expired", 1: "the account is locked",
                  2: "the password must be changed first"}
