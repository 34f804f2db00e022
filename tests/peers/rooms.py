"""A private mount namespace with a user of our own, for servers that know system users and fixed paths."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from mailgate.auth.schemes import hash_password
from tests.needs import needs, unavailable

USER, PASSWORD = "peer", "open sesame"
UID, GID = 65534, 8         # nobody, and the group of mail spools
_SERVICES = ("popa3d", "solid-pop3d", "mu-pop3d", "pop3")


def room(folder: Path, mail: Path, folders: tuple[str, ...] = (),
         files: Mapping[str, str] | None = None) -> list[str]:
    """Return the command line to put before a program: within, /var/mail is `mail`, and USER can log in.

    `folders` are below /var/lib, and empty; `files` below /etc. Needs root. Raises: as `needs`.
    """
    unshare = needs("unshare")
    if os.geteuid() != 0:
        unavailable("to run an old POP3 server with users of its own takes root")
    etc = folder / "etc"
    folder.mkdir(parents=True)
    folder.chmod(0o700)     # what is in /etc is nobody's business
    subprocess.run(["cp", "-a", "/etc", etc], check=True)
    secret = hash_password(PASSWORD.encode(), "SHA512-CRYPT").partition("}")[2]
    servers = "".join(f"{name}:x:{60001 + place}:60001::/nonexistent:/bin/false\n"
                      for place, name in enumerate(("popa3d", "spop3d")))
    added = {"passwd": f"{USER}:x:{UID}:{GID}::/nonexistent:/bin/sh\n{servers}",
             "group": "servers:x:60001:\n", "shadow": f"{USER}:{secret}:19000:0:99999:7:::\n"}
    for name, lines in added.items():
        (etc / name).write_text((etc / name).read_text() + lines)
    for service in _SERVICES:
        (etc / "pam.d" / service).write_text(
            "auth required pam_unix.so\naccount required pam_unix.so\nsession required pam_permit.so\n")
    for name, text in (files or {}).items():
        (etc / name).write_text(text)
    script = [f"mount --bind '{etc}' /etc", f"mount --bind '{mail}' /var/mail",
              "mount -t tmpfs tmpfs /var/lib", *(f"mkdir -p /var/lib/{name}" for name in folders)]
    command = [unshare, "--mount", "--propagation", "private", "sh", "-c",
               " && ".join([*script, 'exec "$@"']), "sh"]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        unavailable("a mount namespace is not permitted here")
    return command
