"""Users, groups, shadow and PAM services of our own, in the place of the system's: a private mount namespace.

Nothing below /etc is written: files are mounted over it for one program and what it starts.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from mailgate.auth.schemes import hash_password
from tests.needs import needs, unavailable

PASSWORD = b"open sesame"
UIDS = {"alice": 2001, "bob": 2002, "locked": 2003, "expired": 2004, "aged": 2005, "Carol": 2006,
        "slow": 2007, "crash": 2008, "hang": 2009, "member": 2010, "svc": 500, "low": 999}

_UNIX = "auth required pam_unix.so\naccount required pam_unix.so\n"
_TROUBLE = """\
auth [success=ignore default=die] pam_exec.so {folder}/trouble
auth required pam_faildelay.so delay=60000000
""" + _UNIX
_SCRIPT = """\
#!/bin/sh
echo "$PAM_USER $PAM_RHOST $PAM_TTY $PAM_SERVICE $PAM_TYPE" >> {folder}/seen
case "$PAM_USER" in
slow) while ! [ -e {folder}/go ]; do sleep 0.05; done ;;
hang) sleep 1000 ;;
crash) kill -SEGV $PPID ;;
esac
exit 0
"""


class System:
    """A folder with passwd, shadow, group and pam.d; `inside` is the command line in front of a program.

    Services: `mailgate` (pam_unix), `trouble` (the same after a program that waits for `go`, hangs or
    crashes for the users of such names, and a pam_faildelay of a minute), `nomodule`. All have one password.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.folder.mkdir(parents=True)
        self.folder.chmod(0o755)
        crypt = hash_password(PASSWORD, "SHA512-CRYPT").partition("}")[2]
        rest = {"expired": "19000:0:99999:7::100:", "aged": "0:0:99999:7:::"}
        self._extend("passwd", [f"{name}:x:{uid}:100::/:/bin/sh" for name, uid in UIDS.items()])
        self._extend("group", ["mail-users:x:3000:member"])
        self._extend("shadow", [f"{name}:{'!' if name == 'locked' else ''}{crypt}:"
                                f"{rest.get(name, '19000:0:99999:7:::')}" for name in UIDS])
        (self.folder / "shadow").chmod(0o640)
        (self.folder / "pam.d").mkdir()
        self.service("mailgate", _UNIX)
        self.service("trouble", _TROUBLE.format(folder=self.folder))
        self.service("nomodule", "auth required pam_no_such_thing.so\naccount required pam_permit.so\n")
        (self.folder / "trouble").write_text(_SCRIPT.format(folder=self.folder))
        (self.folder / "trouble").chmod(0o755)

    def _extend(self, name: str, lines: Sequence[str]) -> None:
        own = Path("/etc", name).read_text() if os.access(f"/etc/{name}", os.R_OK) else ""
        (self.folder / name).write_text(own + "".join(f"{line}\n" for line in lines))

    def service(self, name: str, text: str) -> None:
        """Write a service file."""
        (self.folder / "pam.d" / name).write_text(text)

    @property
    def seen(self) -> list[str]:
        """What the program of the service `trouble` was told: user, host, terminal, service, phase."""
        return (self.folder / "seen").read_text().splitlines()

    def go(self) -> None:
        """Let the program of the service `trouble` go on that waits for the user `slow`."""
        (self.folder / "go").touch()

    @property
    def inside(self) -> list[str]:
        """What to put before a command line. Raises: as `needs`."""
        rights = [] if os.geteuid() == 0 else ["--map-root-user"]
        mounts = " && ".join(f"mount --bind '{self.folder}/{name}' /etc/{name}"
                             for name in ("passwd", "shadow", "group", "pam.d"))
        command = [needs("unshare"), *rights, "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh"]
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
            unavailable("a mount namespace is not permitted here")
        return command
