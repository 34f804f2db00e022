"""A Dovecot 2.3 to be measured beside: private configuration, private data, its own Maildirs."""

from __future__ import annotations

import grp
import os
import shutil
import subprocess
from pathlib import Path

from bench.processes import SERVER_CORE
from bench.servers import MaildirServer

PROGRAM = shutil.which("dovecot", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
LMTP = any(Path(folder, "lmtp").exists() for folder in ("/usr/lib/dovecot", "/usr/libexec/dovecot"))

# What its manual calls the two login modes, and one where sessions share processes too.
_LOGINS = "service pop3-login {\n  service_count = 0\n  process_min_avail = 1\n}\n"
_SESSIONS = "service pop3 {\n  service_count = 0\n  process_min_avail = 1\n  client_limit = 1000\n}\n"
MODES = {
    "Dovecot": "",
    "Dovecot, high-performance logins": _LOGINS,
    "Dovecot, shared processes": _LOGINS + _SESSIONS,
}

CONFIGURATION = """\
protocols = {protocols}
listen = 127.0.0.1
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
info_log_path = /dev/null
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain
auth_username_format = %n
auth_cache_size = 100M
mail_location = maildir:{folder}/mail/%n
first_valid_uid = 1
mail_max_userip_connections = 100000
passdb {{
  driver = passwd-file
  args = {folder}/users
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/mail/%n allow_all_users=yes
}}
{identity}
default_client_limit = 20000
default_process_limit = 20000
service pop3-login {{
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
{lmtp}
{mode}
"""
LMTP_LISTENER = """\
service lmtp {{
  inet_listener lmtp {{
    port = {lmtp}
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


class Dovecot(MaildirServer):
    """One of its modes."""

    def __init__(self, folder: Path, mode: str = "Dovecot", core: int | None = SERVER_CORE) -> None:
        super().__init__(folder, core)
        self.name = mode
        root = os.geteuid() == 0
        self.configuration = folder / "dovecot.conf"
        self.configuration.write_text(CONFIGURATION.format(
            protocols="pop3 lmtp" if LMTP else "pop3", folder=folder, pop3=self.pop3, mode=MODES[mode],
            uid=self.owner.pw_uid, gid=self.owner.pw_gid,
            lmtp=LMTP_LISTENER.format(lmtp=self.lmtp) if LMTP else "",
            identity="" if root else ONE_USER.format(
                user=self.owner.pw_name, group=grp.getgrgid(os.getegid()).gr_name)))

    def command(self) -> list[str]:
        assert PROGRAM is not None, "there is no dovecot"
        return [PROGRAM, "-F", "-c", str(self.configuration)]


def version() -> str:
    """Return the version of the Dovecot that is installed."""
    assert PROGRAM is not None, "there is no dovecot"
    asked = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True)
    return asked.stdout.split()[0]
