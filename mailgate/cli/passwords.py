"""Passwords on their way in: from standard input or from a terminal, never from the command line."""

from __future__ import annotations

import getpass
import os
import signal
import sys
from collections.abc import Collection

import click

from mailgate.auth.keeping import verifiers_for
from mailgate.cli.telling import Refusal

SDPS_PASSWORDS = 2      # an SDPS host may have two (a login password and a POP3 password)


def read_verifiers(*, from_stdin: bool, sdps: bool, kinds: Collection[str] = ()) -> tuple[str, ...]:
    """Return verifiers of the passwords that are typed or piped in: hashes, and what `kinds` name beside.

    Raises: Refusal, click.UsageError.
    """
    most = SDPS_PASSWORDS if sdps else 1
    passwords = _from_stdin(most) if from_stdin else _from_terminal(most)
    return verifiers_for([_checked(one) for one in passwords], kinds)


def read_app_password() -> bytes:
    """Return the one password that is piped in. Raises: Refusal."""
    return _checked(_from_stdin(1)[0])


def read_password_elsewhere(*, from_stdin: bool) -> bytes:
    """Return the password of an account on another server: piped in, or typed once.

    Raises: Refusal, click.UsageError.
    """
    if from_stdin:
        return read_app_password()
    if not sys.stdin.isatty():
        raise click.UsageError("There is no terminal to ask for a password: use --password-stdin.")
    signal.signal(signal.SIGINT, signal.default_int_handler)    # a prompt can be left
    return _checked(os.fsencode(getpass.getpass("Password there: ")))


def _from_stdin(most: int) -> list[bytes]:
    """Return one password a line; only the line ends are removed."""
    lines = sys.stdin.buffer.read().split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    if not lines:
        raise Refusal("no password on standard input")
    if len(lines) > most:
        raise Refusal(f"{len(lines)} lines on standard input; " + (
            "an SDPS host has at most two passwords" if most > 1 else "one password is expected"))
    return [line.removesuffix(b"\r") for line in lines]


def _from_terminal(most: int) -> list[bytes]:
    """Ask, twice each; a second password may be left empty."""
    if not sys.stdin.isatty():
        raise click.UsageError("There is no terminal to ask for a password: use --password-stdin.")
    signal.signal(signal.SIGINT, signal.default_int_handler)    # a prompt can be left
    passwords = []
    for number in range(1, most + 1):
        title = "Password" if most == 1 else f"Password {number}"
        typed = getpass.getpass(f"{title}{' (empty for none)' if number > 1 else ''}: ")
        if not typed and number > 1:
            break
        if getpass.getpass(f"{title} again: ") != typed:
            raise Refusal("the two did not agree; nothing was changed")
        passwords.append(os.fsencode(typed))
    return passwords


def _checked(password: bytes) -> bytes:
    if not password:
        raise Refusal("a password cannot be empty")
    if any(octet in password for octet in (b"\0", b"\r")):
        raise Refusal("a password holds no NUL and no CR: no protocol could carry it")
    return password
