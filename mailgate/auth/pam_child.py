"""The program of PAM's processes: one check at a time, for modules may block, crash, leak and share state.

`pam_children` runs it by its path. It knows nothing but the standard library, so that it is small and
begins at once. Requests come as frames on standard input, answers leave on standard output: four octets
of length, then fields with a NUL between them.
"""

from __future__ import annotations

import ctypes
import errno
import grp
import json
import os
import pwd
import resource
import signal
import struct
import sys
from collections.abc import Callable, Sequence
from ctypes import CFUNCTYPE, POINTER, byref, c_char_p, c_int, c_uint, c_void_p
from typing import Any, NamedTuple

SONAME = "libpam.so.0"              # Linux-PAM's; others number their items and codes otherwise
FOLDERS = ("/etc/pam.d", "/usr/lib/pam.d")
TERMINAL = b"mailgate"              # PAM_TTY: pam_access and pam_time want one
LONGEST_USER_ENTRY = 1 << 20        # octets of a line of the user database
MOST_MESSAGES = 32                  # of one conversation (PAM_MAX_NUM_MSG)
OVERFLOW_UIDS = (65534, 65535)      # nobody, and what stands for no user at all
SPARE_SECONDS = 5                   # after the time limit, for one whom nobody has ended

# _pam_types.h of Linux-PAM
SUCCESS, BUFFER_ERROR, CONVERSATION_ERROR = 0, 5, 19
ECHO_OFF, ECHO_ON = 1, 2
TTY, RHOST, FAIL_DELAY, USER = 3, 4, 10, 2
SILENT, DISALLOW_NULL_PASSWORD = 0x8000, 1
REFUSALS = frozenset({
    6, 7, 8, 10, 11,        # PERM_DENIED, AUTH_ERR, CRED_INSUFFICIENT, USER_UNKNOWN, MAXTRIES
    12, 13, 16, 17, 27})    # NEW_AUTHTOK_REQD, ACCT_EXPIRED, CRED_EXPIRED, CRED_ERR, AUTHTOK_EXPIRED

YES, NO, UNAVAILABLE = b"yes", b"no", b"unavailable"


class Unavailable(Exception):
    """It cannot be said now: the text is for an operator."""


class Refusal(Exception):
    """It is a no: the text is for the log."""


# Frames, both sides' ----------------------------------------------------------------------------


def framed(*fields: bytes) -> bytes:
    """Return a frame."""
    body = b"\0".join(fields)
    return struct.pack(">I", len(body)) + body


def read_frame(read: Callable[[int], bytes]) -> list[bytes]:
    """Return the fields of the next frame; `read` returns at most so many octets, and none at the end.

    Raises: EOFError.
    """
    return _exactly(read, struct.unpack(">I", _exactly(read, 4))[0]).split(b"\0")


def _exactly(read: Callable[[int], bytes], octets: int) -> bytes:
    found = b""
    while len(found) < octets:
        piece = read(octets - len(found))
        if not piece:
            raise EOFError
        found += piece
    return found


# Who may log in ---------------------------------------------------------------------------------


class User(NamedTuple):
    """What the system's user database has of one."""

    name: str
    uid: int
    gid: int


class _Passwd(ctypes.Structure):
    _fields_ = [("name", c_char_p), ("password", c_char_p), ("uid", c_uint), ("gid", c_uint),
                ("gecos", c_char_p), ("home", c_char_p), ("shell", c_char_p)]


def find_user(name: bytes, getpwnam_r: Any = None) -> User | None:
    """Return a user, or None. Raises: Unavailable, where Python's `pwd` would say that there is none."""
    if getpwnam_r is None:
        getpwnam_r = ctypes.CDLL(None).getpwnam_r
    entry, found, octets = _Passwd(), c_void_p(), 4096
    while True:
        room = ctypes.create_string_buffer(octets)
        code = getpwnam_r(name, byref(entry), room, ctypes.c_size_t(octets), byref(found))
        if code != errno.ERANGE or octets >= LONGEST_USER_ENTRY:
            break
        octets *= 4
    if code not in (0, errno.ENOENT, errno.ESRCH):
        raise Unavailable(f"the user database: {os.strerror(code)}")
    if not found.value:
        return None
    return User(entry.name.decode("utf-8", "surrogateescape"), entry.uid, entry.gid)


class Rule(NamedTuple):
    """Which users of the system may log in and receive mail."""

    minimum_uid: int
    groups: Sequence[str] = ()      # of which one has to be theirs; none: whichever

    def judge(self, name: bytes, find: Callable[[bytes], User | None] = find_user) -> None:
        """Return for a user who may. Raises: Refusal, Unavailable."""
        user = find(name)
        if user is None:
            raise Refusal("unknown to the system")
        if _folded(user.name) != name.decode("utf-8", "surrogateescape"):
            raise Refusal("another name of a user")
        if user.uid < self.minimum_uid or user.uid in OVERFLOW_UIDS:
            raise Refusal(f"uid {user.uid} may not log in")
        if self.groups and not self.gids().intersection(os.getgrouplist(user.name, user.gid)):
            raise Refusal("in none of the groups")

    def gids(self) -> set[int]:
        """Return the groups' numbers. Raises: Unavailable, if one is not there: who is in it is not known."""
        found = set()
        for name in self.groups:
            try:
                found.add(grp.getgrnam(name).gr_gid)
            except KeyError:
                raise Unavailable(f"there is no group {name}") from None
        return found


def _folded(name: str) -> str:
    return "".join(chr(ord(one) + 32) if "A" <= one <= "Z" else one for one in name)


# PAM ----------------------------------------------------------------------------------------------


class _Message(ctypes.Structure):
    _fields_ = [("style", c_int), ("text", c_char_p)]


class _Response(ctypes.Structure):
    _fields_ = [("text", c_void_p), ("code", c_int)]


_Messages = POINTER(POINTER(_Message))
_Answerer = CFUNCTYPE(c_int, c_int, _Messages, POINTER(c_void_p), c_void_p)
_Delayer = CFUNCTYPE(None, c_int, c_uint, c_void_p)


class _Conversation(ctypes.Structure):
    _fields_ = [("answerer", _Answerer), ("data", c_void_p)]


@_Delayer
def _no_delay(code: int, microseconds: int, data: int | None) -> None:
    """Do not wait after a failure: mailgate answers those at a time of its own, and holds nobody for it."""


def libraries() -> tuple[Any, Any]:
    """Return libpam and libc. Raises: Unavailable."""
    try:
        pam, libc = ctypes.CDLL(SONAME), ctypes.CDLL(None)
    except OSError as fault:
        raise Unavailable(f"no Linux-PAM is here (Debian: apt-get install libpam0g): {fault}") from fault
    for function in (pam.pam_authenticate, pam.pam_acct_mgmt, pam.pam_end, pam.pam_strerror):
        function.argtypes = [c_void_p, c_int]
    pam.pam_start.argtypes = [c_char_p, c_char_p, POINTER(_Conversation), POINTER(c_void_p)]
    pam.pam_set_item.argtypes = [c_void_p, c_int, c_void_p]
    pam.pam_get_item.argtypes = [c_void_p, c_int, POINTER(c_void_p)]
    pam.pam_strerror.restype = c_char_p
    libc.calloc.restype, libc.calloc.argtypes = c_void_p, [ctypes.c_size_t, ctypes.c_size_t]
    libc.strdup.restype, libc.strdup.argtypes = c_void_p, [c_char_p]
    return pam, libc


class Transaction:
    """One pam_start to its pam_end; its answers are the name and the password, whatever is asked for.

    Raises, as a context: Unavailable.
    """

    def __init__(self, service: str, name: bytes, password: bytes, peer: bytes = b"",
                 folder: str | None = None) -> None:
        self._pam, self._libc = libraries()
        self._service = service
        self._name = name
        self._password = password
        self._peer = peer
        self._folder = folder
        self._conversation = _Conversation(_Answerer(self._converse), None)     # PAM copies no code: keep it
        self._handle = c_void_p()
        self._code = SUCCESS

    def __enter__(self) -> Transaction:
        self._find_service()
        code = self._start()
        if code:    # there may be no handle to ask for words
            raise Unavailable(f"PAM does not begin with the service {self._service} (code {code}): "
                              "the system's log tells what is wrong with its file")
        self._set(TTY, TERMINAL)
        if self._peer:
            self._set(RHOST, self._peer)
        self._pam.pam_set_item(self._handle, FAIL_DELAY, ctypes.cast(_no_delay, c_void_p))
        return self

    def __exit__(self, *_: object) -> None:
        self._pam.pam_end(self._handle, self._code)

    def _find_service(self) -> None:
        """Raise Unavailable where PAM would fall back to its service "other"."""
        folders = FOLDERS if self._folder is None else (self._folder,)
        if not any(os.path.isfile(os.path.join(folder, self._service)) for folder in folders):
            raise Unavailable(f"there is no {folders[0]}/{self._service}")

    def _start(self) -> int:
        service = self._service.encode()
        arguments = (service, self._name, byref(self._conversation))
        if self._folder is None:
            return int(self._pam.pam_start(*arguments, byref(self._handle)))
        start = self._pam.pam_start_confdir     # since Linux-PAM 1.4
        start.argtypes = [*self._pam.pam_start.argtypes[:3], c_char_p, POINTER(c_void_p)]
        return int(start(*arguments, os.fsencode(self._folder), byref(self._handle)))

    def _set(self, item: int, value: bytes) -> None:
        self._code = self._pam.pam_set_item(self._handle, item, ctypes.cast(c_char_p(value), c_void_p))
        self._check("pam_set_item")

    def authenticate(self) -> None:
        """Return when the password is right. Raises: Refusal, Unavailable."""
        self._code = self._pam.pam_authenticate(self._handle, SILENT | DISALLOW_NULL_PASSWORD)
        self._check("authentication")

    def account(self) -> None:
        """Return when the user may log in now: not expired, not locked, at this hour. Raises: as before."""
        self._code = self._pam.pam_acct_mgmt(self._handle, SILENT | DISALLOW_NULL_PASSWORD)
        self._check("account")
        user = c_void_p()
        self._pam.pam_get_item(self._handle, USER, byref(user))
        found = ctypes.string_at(user.value) if user.value else b""
        if found != self._name:     # a module has mapped it: whose maildrop would it be?
            raise Refusal(f"PAM made the user {found.decode('utf-8', 'backslashreplace')} of this name")

    def _check(self, phase: str) -> None:
        if self._code == SUCCESS:
            return
        words = (self._pam.pam_strerror(self._handle, self._code) or b"").decode("utf-8", "replace")
        kind = Refusal if self._code in REFUSALS else Unavailable
        raise kind(f"{phase}: {words} (code {self._code})")

    def _converse(self, count: int, messages: Any, responses: Any, data: int | None) -> int:
        """See pam_conv(3). Never raises: ctypes would answer with a success."""
        try:
            return self._answer(count, messages, responses)
        except BaseException:
            return CONVERSATION_ERROR

    def _answer(self, count: int, messages: Any, responses: Any) -> int:
        if not 0 < count <= MOST_MESSAGES:
            return CONVERSATION_ERROR
        texts = {ECHO_OFF: self._password, ECHO_ON: self._name}
        room = self._libc.calloc(count, ctypes.sizeof(_Response))      # PAM frees it, and what is in it
        if not room:
            return BUFFER_ERROR
        made = ctypes.cast(room, POINTER(_Response))
        for index in range(count):
            text = texts.get(messages[index].contents.style)
            if text is not None:
                made[index].text = self._libc.strdup(text)
        responses[0] = room
        return SUCCESS


# Requests -------------------------------------------------------------------------------------------


class Desk:
    """Answers requests as the settings say: `service`, `folder`, `minimum_uid`, `groups`."""

    def __init__(self, *, service: str, folder: str | None, minimum_uid: int, groups: Sequence[str]) -> None:
        self._service = service
        self._folder = folder
        self._rule = Rule(minimum_uid, tuple(groups))

    def answer(self, operation: bytes, name: bytes, password: bytes, peer: bytes) -> tuple[bytes, bytes]:
        """Return YES, NO or UNAVAILABLE, and words."""
        try:
            self._carry_out(operation, name, password, peer)
        except Refusal as refusal:
            return NO, _octets(refusal)
        except Unavailable as fault:
            return UNAVAILABLE, _octets(fault)
        return YES, b""

    def _carry_out(self, operation: bytes, name: bytes, password: bytes, peer: bytes) -> None:
        if operation == b"begin":       # is everything there?
            self._rule.gids()
            with self._transaction(pwd.getpwuid(0).pw_name.encode(), b"", b""):
                return
        self._rule.judge(name)
        if operation == b"knows":
            return
        with self._transaction(name, password, peer) as transaction:
            if operation == b"check":
                transaction.authenticate()
            transaction.account()

    def _transaction(self, name: bytes, password: bytes, peer: bytes) -> Transaction:
        return Transaction(self._service, name, password, peer, self._folder)


def _octets(fault: Exception) -> bytes:
    text = "".join(one if one.isprintable() else "?" for one in str(fault))
    return text.encode("utf-8", "backslashreplace")


def main(settings: str) -> None:
    """Answer until nobody asks any more."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))    # a core would hold a password
    requests, answers = os.dup(0), os.dup(1)            # which modules and their programs do not inherit
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    given = json.loads(settings)
    seconds = given.pop("seconds")
    desk = Desk(**given)
    while True:
        try:
            operation, name, password, peer = read_frame(lambda octets: os.read(requests, octets))
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_REAL, seconds + SPARE_SECONDS)   # for when the service was killed
        answer = framed(*desk.answer(operation, name, password, peer))
        signal.setitimer(signal.ITIMER_REAL, 0)
        while answer:
            answer = answer[os.write(answers, answer):]


if __name__ == "__main__":
    main(sys.argv[1])
