"""Cyrus IMAP from Debian, with one maildrop and a POP3 server for each of its forms of unique-ids."""

from __future__ import annotations

import imaplib
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.needs import needs, unavailable
from tests.peers.inetd import PATIENCE_SECONDS, talk
from tests.peers.packages import unpacked
from tests.ports import free_ports

FORMATS = ("cyrus", "uidonly", "dovecot", "courier")
USER, ADMIN, PASSWORD = "peer", "admin", "open sesame"
OWNER, GROUP = "cyrus", "mail"          # the package makes them

_CONFIGURATION = """\
configdirectory: {0}/conf
partition-default: {0}/spool
defaultpartition: default
admins: admin
servername: peers
unixhierarchysep: yes
virtdomains: no
allowplaintext: yes
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: {0}/sasldb2
sasl_mech_list: PLAIN LOGIN
popminpoll: 0
idlesocket: {0}/conf/socket/idle
notifysocket: {0}/conf/socket/notify
mboxname_lockpath: {0}/conf/lock
expunge_mode: delayed
"""


class Cyrus:
    """Serves from `with` on to its end. Needs root, since it changes to a user of its own."""

    def __init__(self, folder: Path) -> None:
        """Raises: as `needs`."""
        self._master = needs("cyrmaster")
        saslpasswd = needs("saslpasswd2")
        if os.geteuid() != 0:
            unavailable("to run Cyrus takes root")
        self._folder = folder.absolute()
        for name in ("bin", "spool", "conf/socket", "conf/proc", "conf/log", "conf/db", "conf/lock"):
            (self._folder / name).mkdir(parents=True)
        self._imap, *pops = free_ports(1 + len(FORMATS))
        self._ports = dict(zip(FORMATS, pops, strict=True))
        for package, program in (("cyrus-imapd", "imapd"), ("cyrus-pop3d", "pop3d")):
            # a copy, for its user cannot look into the cache of ours
            shutil.copy(unpacked(package) / "usr/lib/cyrus/bin" / program, self._folder / "bin")
        binaries = self._folder / "bin"
        services = [f'imap cmd="{binaries}/imapd -C {self._folder}/cyrus.conf"'
                    f' listen="127.0.0.1:{self._imap}"']
        for name, port in self._ports.items():
            (self._folder / f"{name}.conf").write_text(
                _CONFIGURATION.format(self._folder) + f"uidl_format: {name}\n")
            services.append(f'{name} cmd="{binaries}/pop3d -C {self._folder}/{name}.conf"'
                            f' listen="127.0.0.1:{port}"')
        (self._folder / "master.conf").write_text(
            f'START {{\n  recover cmd="/usr/lib/cyrus/bin/ctl_cyrusdb -C {self._folder}/cyrus.conf -r"\n}}\n'
            "SERVICES {\n" + "".join(f"  {one} prefork=0\n" for one in services) + "}\nEVENTS {\n}\n")
        for name in (USER, ADMIN):
            subprocess.run([saslpasswd, "-f", self._folder / "sasldb2", "-c", "-p", "-u", "peers", name],
                           input=PASSWORD.encode(), check=True, capture_output=True)
        for one in (self._folder, *self._folder.rglob("*")):
            shutil.chown(one, OWNER, GROUP)

    def __enter__(self) -> Cyrus:
        with open(self._folder / "output", "wb") as output:
            self._process = subprocess.Popen(
                [self._master, "-C", self._folder / "cyrus.conf", "-M", self._folder / "master.conf",
                 "-p", self._folder / "pid"], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            self._session(ADMIN).create(f"user/{USER}")
            assert self.path.is_dir()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def path(self) -> Path:
        """Where the maildrop lies."""
        return next((self._folder / "spool").rglob("cyrus.index")).parent

    def port(self, form: str = "cyrus") -> int:
        """Where the POP3 server with a form of unique-ids listens."""
        return self._ports[form]

    def put(self, messages: Sequence[bytes]) -> None:
        """Add messages."""
        session = self._session(USER)
        for message in messages:
            done, words = session.append("INBOX", None, None, message)  # type: ignore[arg-type]
            assert done == "OK", words
        session.logout()

    def expunge(self, numbers: Sequence[int]) -> None:
        """Remove messages, by IMAP."""
        session = self._session(USER)
        session.select("INBOX")
        session.store(",".join(map(str, numbers)), "+FLAGS", "(\\Deleted)")
        done, words = session.expunge()
        assert done == "OK", words
        session.logout()

    def uidl(self, delete: Sequence[int] = (), *, form: str = "cyrus") -> list[str]:
        """Hold a session."""
        return talk(self.port(form), (USER, PASSWORD), delete=delete)

    def _session(self, name: str) -> imaplib.IMAP4:
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                session = imaplib.IMAP4("127.0.0.1", self._imap, timeout=PATIENCE_SECONDS)
                break
            except (OSError, imaplib.IMAP4.abort):
                assert self._process.poll() is None, (self._folder / "output").read_text()
                assert time.monotonic() < end, (self._folder / "output").read_text()
                time.sleep(0.05)
        session.login(name, PASSWORD)
        return session
