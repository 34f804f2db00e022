"""What the scripts share: where they connect to, and files of mail."""

from __future__ import annotations

import argparse
import os
import poplib
import ssl
from pathlib import Path


def arguments() -> argparse.Namespace:
    """Return where to connect to (tls: none, stls, pop3s; login: pass, apop), as whom, and the folder."""
    parser = argparse.ArgumentParser()
    for name in ("host", "port", "tls", "login", "ca", "user", "password", "folder"):
        parser.add_argument(f"--{name}", required=True)
    return parser.parse_args()


def connected(to: argparse.Namespace, timeout: float | None) -> poplib.POP3:
    """Return a connection that is logged in, TLS begun where it is asked for."""
    more = {} if timeout is None else {"timeout": timeout}
    trusted = ssl.create_default_context(cafile=to.ca)
    if to.tls == "pop3s":
        pop: poplib.POP3 = poplib.POP3_SSL(to.host, int(to.port), context=trusted, **more)
    else:
        pop = poplib.POP3(to.host, int(to.port), **more)
        if to.tls == "stls":
            pop.stls(trusted)
    if to.login == "apop":
        pop.apop(to.user, to.password)
    else:
        pop.user(to.user)
        pop.pass_(to.password)
    return pop


def store(folder: Path, content: bytes) -> None:
    """Put a message into a file of its own, whole or not at all."""
    mail = folder / "mail"
    mail.mkdir(exist_ok=True)
    number = sum(1 for _ in mail.iterdir()) + 1
    part = folder / "part"
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.rename(mail / f"{number:05}")
