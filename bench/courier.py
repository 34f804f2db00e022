"""Courier's POP3 server to be measured beside: private configuration, private data, its own Maildirs.

Its paths are compiled in, so it runs in a mount namespace where /etc/courier and /run/courier are folders of
its own. That takes root on Linux; the programs are looked for where Debian's packages put them.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from bench.fill import PASSWORD
from bench.processes import SERVER_CORE
from bench.servers import MaildirServer

PROGRAM = "/usr/sbin/couriertcpd"
PLACES = (Path("/etc/courier"), Path("/run/courier"))       # what is mounted over
_POP3 = "/usr/lib/courier/courier/courierpop3"
_CHECKER = "/usr/lib/courier/courier-authlib/authdaemond"
_ACCOUNTS = "/usr/sbin/makeuserdb"
_PARTS = (PROGRAM, f"{_POP3}login", f"{_POP3}d", _CHECKER, _ACCOUNTS,
          "/usr/lib/courier-authlib/libauthuserdb.so")
_ALONE = ("unshare", "--mount", "--propagation", "private")
_CONNECTIONS = 20_000       # sessions at a time: more than any work here opens

# All that authdaemond reads; so many daemons are what it is installed with.
CONFIGURATION = """\
authmodulelist="authuserdb"
daemons=5
authdaemonvar=/run/courier/authdaemon
DEBUG_LOGIN=0
DEFAULTOPTIONS=""
LOGGEROPTS=""
"""
# authdaemond wants a descriptor 3, by which its starter would learn that it is ready; couriertcpd ends its
# sessions but knows nothing of authdaemond. So the shell stays above both, and ends when they have.
SCRIPT = f"""\
set -e
trap 'kill $checker $server || :; wait; exit' TERM
mount --bind '{{folder}}/etc' /etc/courier
mount --bind '{{folder}}/run' /run/courier
{_ACCOUNTS}
{_CHECKER} 3>/dev/null & checker=$!
until test -S /run/courier/authdaemon/socket; do sleep 0.05; done
{PROGRAM} -address=127.0.0.1 -nodnslookup -noidentlookup -maxprocs={_CONNECTIONS} \\
  -maxperip={_CONNECTIONS} -maxperc={_CONNECTIONS} {{pop3}} {_POP3}login {_POP3}d Maildir & server=$!
wait
"""


class Courier(MaildirServer):
    """A process for each session; the five of authdaemond check its logins."""

    name = "Courier"

    def __init__(self, folder: Path, core: int | None = SERVER_CORE) -> None:
        super().__init__(folder, core)
        self.userdb = folder / "etc/userdb"
        (folder / "run/authdaemon").mkdir(parents=True)
        (folder / "etc").mkdir()
        (folder / "etc/authdaemonrc").write_text(CONFIGURATION)
        self.script = folder / "start"
        self.script.write_text(SCRIPT.format(folder=folder, pop3=self.pop3))

    def command(self) -> list[str]:
        return [*_ALONE, "sh", str(self.script)]

    def fill(self, *wanted: dict[str, Any]) -> None:
        """Write the messages, and the accounts in its form: SHA-1, as it takes no passwords in clear."""
        super().fill(*wanted)
        secret = base64.b64encode(hashlib.sha1(PASSWORD.encode()).digest()).decode()
        who = f"uid={self.owner.pw_uid}|gid={self.owner.pw_gid}|systempw={{SHA}}{secret}"
        names = [line.partition(":")[0] for line in self.users.read_text(encoding="utf-8").splitlines()]
        self.userdb.touch(0o600)
        self.userdb.write_text("".join(
            f"{name}\thome={self.mail / name}|mail={self.mail / name}|{who}\n" for name in names))


def usable() -> bool:
    """Return whether it is installed and can be run here."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "dpkg-query"))):
        return False
    if not all(Path(part).exists() for part in _PARTS) or not all(place.is_dir() for place in PLACES):
        return False
    tried = [*_ALONE, "mount", "--bind", *map(str, PLACES)]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


def version() -> str:
    """Return the version of the Courier that is installed."""
    command = ["dpkg-query", "--show", "--showformat", "${source:Upstream-Version}", "courier-base"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
