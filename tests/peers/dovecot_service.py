"""A whole Dovecot on loopback: logins, TLS both ways, a master user. Its mail is a Maildir a user."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from mailgate.testing.certificates import Authority
from tests.needs import needs, unavailable
from tests.ports import free_ports
from tests.services import wait_for

PASSWORD = "sesame"                 # of every user
MASTER, MASTER_PASSWORD = "master", "alldoors"
CONFIGURATION = """\
protocols = pop3
listen = 127.0.0.1
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
ssl = yes
ssl_cert = <{folder}/cert.pem
ssl_key = <{folder}/key.pem
ssl_min_protocol = TLSv1.2
disable_plaintext_auth = no
auth_mechanisms = plain
auth_username_format = %n
auth_master_user_separator = *
mail_location = maildir:{folder}/mail/%n
first_valid_uid = 1
first_valid_gid = 0
passdb {{
  driver = static
  master = yes
  args = password={master_password}
}}
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/mail/%n allow_all_users=yes
}}
{identity}
service pop3-login {{
  inet_listener pop3 {{
    port = {port}
  }}
  inet_listener pop3s {{
    port = {secure_port}
    ssl = yes
  }}
}}
"""
# Where it does not run as root it can be nobody else, nor change its root.
ONE_USER = """\
default_login_user = {user}
default_internal_user = {user}
default_internal_group = {group}
service anvil {{
  chroot =
}}
service pop3-login {{
  chroot =
}}
service stats {{
  chroot =
}}
"""


class DovecotService:
    """Serves from its making until `end`. `authority` vouches for its certificate, which is for localhost."""

    def __init__(self, settings: str = "") -> None:
        """Start it. `settings` are lines for its configuration."""
        program = needs("dovecot")
        if not Path("/usr/lib/dovecot/pop3-login").exists():
            unavailable("missing: Dovecot's POP3 server; install with: apt-get install dovecot-pop3d")
        # a short path: sockets lie in it
        self.folder = Path(tempfile.mkdtemp(prefix="mailgate-dovecot-"))
        self.folder.chmod(0o755)
        self.authority = Authority()
        self.authority.issue("localhost").write(self.folder)
        (self.folder / "ca.pem").write_bytes(self.authority.pem)
        self.port, self.secure_port = free_ports(2)
        owner = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        self._owner = owner.pw_uid, owner.pw_gid
        (self.folder / "mail").mkdir()
        self.give(self.folder / "mail")
        identity = "" if os.geteuid() == 0 else ONE_USER.format(
            user=owner.pw_name, group=grp.getgrgid(owner.pw_gid).gr_name)
        (self.folder / "conf").write_text(CONFIGURATION.format(
            folder=self.folder, port=self.port, secure_port=self.secure_port, uid=self._owner[0],
            gid=self._owner[1], identity=identity, password=PASSWORD,
            master_password=MASTER_PASSWORD) + settings)
        self._process = subprocess.Popen([program, "-F", "-c", str(self.folder / "conf")],
                                         stdin=subprocess.DEVNULL)
        try:
            wait_for(self._answers, "Dovecot to answer")
        except BaseException:
            self.end()
            raise

    @property
    def ca(self) -> str:
        """The file with the authority's certificate."""
        return str(self.folder / "ca.pem")

    def maildir(self, user: str) -> Path:
        """Return where a user's mail lies."""
        return self.folder / "mail" / user

    def deliver(self, user: str, name: str, message: bytes) -> None:
        """Put a message, with LF line ends, into a user's Maildir, as one of its files."""
        for folder in ("cur", "new", "tmp"):
            (self.maildir(user) / folder).mkdir(parents=True, exist_ok=True)
        (self.maildir(user) / name).write_bytes(message)
        self.give(self.maildir(user))

    def give(self, path: Path) -> None:
        """Let Dovecot have a folder with all that is in it, if we are root."""
        if os.geteuid() == 0:
            for one in (path, *path.rglob("*")):
                os.chown(one, *self._owner)

    def end(self) -> None:
        """End it, and remove everything."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self.folder / "log").read_text()
        return answers(self.port)


def answers(port: int) -> bool:
    """Whether a POP3 server greets there."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            return client.recv(3) == b"+OK"
    except OSError:
        return False
