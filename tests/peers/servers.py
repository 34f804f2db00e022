"""Old POP3 servers from Debian, each over one maildrop, asked for what they answer to UIDL.

Dovecot and Courier are started behind the login, for each session anew, by any user. The others know
system users and fixed paths: they get a room of their own, which takes root.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.needs import needs, unavailable
from tests.peers.inetd import Inetd, talk
from tests.peers.packages import unpacked
from tests.peers.rooms import GID, PASSWORD, UID, USER, room

MAIL_USER = 65534           # nobody: for who is root, since a mail server does not read mail as root
PACKAGES = ("courier-pop", "courier-authlib", "libcourier-unicode4", "popa3d", "solid-pop3d", "cyrus-pop3d",
            "cyrus-imapd")


def give(path: Path) -> None:
    """Let the mail user have a folder with all that is in it, if we are root."""
    if os.geteuid() == 0:
        for one in (path, *path.rglob("*")):
            os.chown(one, MAIL_USER, MAIL_USER)


class Dovecot:
    """`location` is a mail_location without what follows the path. Settings stay for all sessions."""

    def __init__(self, folder: Path, location: str) -> None:
        needs("dovecot")
        self._program = Path("/usr/lib/dovecot/pop3")
        if not self._program.exists():
            unavailable("missing: Dovecot's POP3 server; install with: apt-get install dovecot-pop3d")
        self._folder = folder
        (folder / "run").mkdir(parents=True)
        user, group = (MAIL_USER, MAIL_USER) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
        (folder / "conf").write_text(f"""\
base_dir = {folder}/run
log_path = {folder}/log
ssl = no
mail_uid = {user}
mail_gid = {group}
first_valid_uid = 1
first_valid_gid = 1
stats_writer_socket_path =
mail_location = {location}
""")
        (folder / "log").touch()
        give(folder)

    def uidl(self, delete: Sequence[int] = (), **settings: str) -> list[str]:
        """Hold a session."""
        options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        environment = {"USER": "peer", "HOME": str(self._folder), "PATH": os.environ.get("PATH", os.defpath)}
        # It does not let itself be started by an inetd, and leaves the greeting to what is before the login.
        script = """printf '+OK\\r\\n'; cat | "$@" | cat"""
        command = ["sh", "-c", script, "sh", self._program, "-c", self._folder / "conf", *options]
        with Inetd(command, self._folder / "errors", environment=environment) as server:
            return talk(server.port, delete=delete)


class Courier:
    """Courier's server over one Maildir."""

    def __init__(self, maildir: Path, errors: Path) -> None:
        self._maildir = maildir
        self._errors = errors
        root = unpacked("courier-pop")
        self._program = root / "usr/lib/courier/courier/courierpop3d"
        libraries = [unpacked("courier-authlib") / "usr/lib"]
        for package in ("libcourier-unicode4", "libidn12"):
            libraries += (unpacked(package) / "usr/lib").glob("*-linux-*")
        self._environment = {
            "AUTHENTICATED": "peer", "AUTHADDR": "peer", "TCPREMOTEIP": "127.0.0.1",
            "MAILDIR": str(maildir), "LD_LIBRARY_PATH": ":".join(map(str, libraries))}

    def uidl(self, delete: Sequence[int] = ()) -> list[str]:
        """Hold a session."""
        with Inetd([self._program, self._maildir], self._errors, environment=self._environment) as server:
            return talk(server.port, delete=delete)


class Roomed:
    """A server in a room of its own. What it serves is `mail`, which the room has as /var/mail."""

    def __init__(self, folder: Path, command: Sequence[str | Path], folders: tuple[str, ...] = (),
                 files: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.mail = folder / "mail"
        self.mail.mkdir(parents=True)
        self.command = [*room(folder / "room", self.mail, folders, files), *command]
        os.chown(self.mail, 0, GID)
        self.mail.chmod(0o2775)

    def put(self, spool: Path) -> Path:
        """Give USER a copy of a file or folder as his mail; return where it is."""
        mine = self.mail / USER
        if spool.is_dir():
            shutil.copytree(spool, mine)
        else:
            shutil.copyfile(spool, mine)
        for one in (mine, *mine.rglob("*")):
            os.chown(one, UID, GID)
            one.chmod(0o700 if one.is_dir() else 0o660)
        return mine

    def uidl(self, delete: Sequence[int] = ()) -> list[str]:
        """Hold a session."""
        with Inetd(self.command, self.folder / "errors") as server:
            return talk(server.port, (USER, PASSWORD), delete=delete)


def popa3d(folder: Path) -> Roomed:
    """Return popa3d over an mbox."""
    return Roomed(folder, [unpacked("popa3d") / "usr/sbin/popa3d"], ("popa3d",))


def mailutils(folder: Path) -> Roomed:
    """Return the server of GNU Mailutils over an mbox."""
    program = needs("pop3d")
    locks = folder / "locks"
    locks.mkdir(parents=True)
    locks.chmod(0o1777)
    (folder / "conf").write_text(f"""\
mode inetd;
timeout 60;
tcp-wrappers {{ enable no; }}
logging {{ syslog no; }}
mandatory-locking {{ enable yes; lock-directory {locks}; }}
auth {{ authentication pam; authorization system; }}
pam {{ service mu-pop3d; }}
mailbox {{ mailbox-pattern "/var/mail/${{user}}"; mailbox-type mbox; }}
""")
    return Roomed(folder, [program, f"--config-file={folder}/conf", "--inetd"])


def solid(folder: Path) -> Roomed:
    """Return solid-pop3d over a Maildir."""
    return Roomed(folder, [unpacked("solid-pop3d") / "usr/sbin/solid-pop3d"], ("solid-pop3d/bulletins",),
                  {"spop3d.conf": """\
<Global>
    MailDropName "/var/mail/%s"
    MailDropType maildir
    LogStatistics no
</Global>
"""})
