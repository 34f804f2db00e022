"""A Kerberos realm for tests: MIT's KDC on loopback, with its database, keytabs and tickets.

    with Realm(folder) as realm, realm.environment():
        realm.add("alice")
        with Server(settings=realm.settings()) as server:       # it listens for KPOP, too
            server.account("alice", "secret")
            cache = realm.log_in("alice")       # KRB5CCNAME for the client that is tested, at server.kpop

Needs MIT's programs: Debian's krb5-kdc, krb5-admin-server and krb5-user; and cffi, for the server's side.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

NAME = "TEST.EXAMPLE"
PASSWORD = "secret of the realm"        # of every user
SERVICE = "pop/localhost"               # what clients of KPOP ask a ticket for, by the host they connect to
PROGRAMS = ("krb5kdc", "kdb5_util", "kadmin.local", "kinit")
PACKAGES = "krb5-kdc krb5-admin-server krb5-user"
RUN_SECONDS = 60
START_SECONDS = 30
POLL_SECONDS = 0.02

_KRB5_CONF = """\
[libdefaults]
default_realm = {realm}
dns_lookup_kdc = false
dns_lookup_realm = false
dns_canonicalize_hostname = false
rdns = false
qualify_shortname = ""
[realms]
{realms}
[domain_realm]
localhost = {realm}
"""
_REALM_CONF = """\
{realm} = {{
  kdc = 127.0.0.1:{port}
}}
"""
_KDC_CONF = """\
[kdcdefaults]
kdc_listen = 127.0.0.1:{port}
kdc_tcp_listen = 127.0.0.1:{port}
[realms]
{realm} = {{
  database_name = {folder}/principal
  key_stash_file = {folder}/stash
  acl_file = {folder}/kadm5.acl
  max_life = 10h
  supported_enctypes = aes256-cts-hmac-sha1-96:normal aes128-cts-hmac-sha256-128:normal
}}
[logging]
kdc = FILE:{folder}/kdc.log
"""


class NoKerberos(RuntimeError):
    """MIT's programs are not here; the text names what would install them."""


class KerberosFailed(RuntimeError):
    """One of MIT's programs has failed; the text is what it said."""


def missing() -> list[str]:
    """Return which of the programs that a realm needs are not here."""
    return [program for program in PROGRAMS if _found(program) is None]


class Realm:
    """A running KDC. `cross`, another Realm, is trusted: its principals get tickets for services here.

    `folder` is made, and everything is kept in it. Raises: NoKerberos; KerberosFailed.
    """

    def __init__(self, folder: Path, name: str = NAME, *, cross: Realm | None = None) -> None:
        lacking = missing()
        if lacking:
            raise NoKerberos(f"missing: {', '.join(lacking)}; install with: apt-get install {PACKAGES}")
        self.name = name
        self.folder = folder.absolute()
        self.folder.mkdir(parents=True)
        self._holder = _held_port()
        self.port: int = self._holder.getsockname()[1]
        self._principals: set[str] = set()
        others = [] if cross is None else [cross]
        (self.folder / "krb5.conf").write_text(_KRB5_CONF.format(realm=name, realms="".join(
            _REALM_CONF.format(realm=one.name, port=one.port) for one in (self, *others))))
        (self.folder / "kdc.conf").write_text(_KDC_CONF.format(
            realm=name, port=self.port, folder=self.folder))
        (self.folder / "replays").mkdir(mode=0o700)
        self.variables = {"KRB5_CONFIG": str(self.folder / "krb5.conf"),
                          "KRB5_KDC_PROFILE": str(self.folder / "kdc.conf"),
                          "KRB5RCACHEDIR": str(self.folder / "replays")}
        self.run("kdb5_util", "create", "-s", "-r", name, "-P", "master")
        if cross is not None:
            shared = f"krbtgt/{name}@{cross.name}"
            self._kadmin(f'add_principal -pw "{PASSWORD}" {shared}')
            cross._kadmin(f'add_principal -pw "{PASSWORD}" {shared}')
        self.process = subprocess.Popen(
            [str(_found("krb5kdc")), "-n"], env=self._environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the KDC. May be called twice."""
        self.process.kill()
        self.process.wait()
        self._holder.close()

    def __enter__(self) -> Realm:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()

    # Principals -------------------------------------------------------------------------------

    def add(self, *principals: str) -> None:
        """Add principals: users with PASSWORD, services (with a slash) with random keys."""
        for principal in principals:
            key = "-randkey" if "/" in principal and not principal.endswith("/admin") else f'-pw "{PASSWORD}"'
            self._kadmin(f"add_principal {key} {principal}")
            self._principals.add(principal)

    def keytab(self, *principals: str, name: str = "krb5.keytab") -> Path:
        """Return a keytab with keys of the principals, the same in every keytab."""
        path = self.folder / name
        for principal in principals:
            self._kadmin(f"ktadd -norandkey -k {path} {principal}")
        return path

    def log_in(self, principal: str, **environment: str) -> Path:
        """Return a credential cache (KRB5CCNAME) with a ticket-granting ticket for a user."""
        path = self.folder / f"cache-{principal.replace('/', '-')}"
        self.run("kinit", "-c", str(path), principal, stdin=f"{PASSWORD}\n", **environment)
        return path

    # Servers ----------------------------------------------------------------------------------

    def settings(self, service: str = SERVICE, *, rules: Sequence[str] | None = None,
                 versions: Sequence[str] = ()) -> dict[str, Any]:
        """Return what a server is told to take this realm's tickets for a service: `Server(settings=...)`.

        The service is added, with its key in a keytab. `rules` and `versions` are those of the table
        `[kerberos]`; without rules every user NAME of the realm opens the account NAME.
        """
        if service not in self._principals:
            self.add(service)
        table: dict[str, Any] = {
            "keytab": str(self.keytab(service, name=f"{service.replace('/', '-')}.keytab")),
            "service": f"{service}@{self.name}", "versions": list(versions)}
        if rules is not None:
            table["rules"] = list(rules)
        return {"kerberos": table}

    @contextlib.contextmanager
    def environment(self) -> Iterator[None]:
        """Let libkrb5 in this process, and in processes it starts, use this realm."""
        before = {name: os.environ.get(name) for name in self.variables}
        os.environ.update(self.variables)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    # Programs ---------------------------------------------------------------------------------

    def run(self, program: str, *arguments: str, stdin: str = "", **more: str) -> str:
        """Run one of MIT's programs to its end, `more` in its environment; return what it wrote.

        Raises: NoKerberos, KerberosFailed.
        """
        return self._run(program, arguments, stdin, more).stdout

    def _run(self, program: str, arguments: Sequence[str], stdin: str = "",
             more: Mapping[str, str] = MappingProxyType({})) -> subprocess.CompletedProcess[str]:
        path = _found(program)
        if path is None:
            raise NoKerberos(f"missing: {program}; install with: apt-get install {PACKAGES}")
        ran = subprocess.run([path, *arguments], input=stdin, env=self._environment(**more),
                             capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
        if ran.returncode:
            raise KerberosFailed(f"{program} {' '.join(arguments)}: {ran.stdout}{ran.stderr}")
        return ran

    def _kadmin(self, command: str) -> None:
        ran = self._run("kadmin.local", ["-r", self.name, "-q", command])
        if " while " in ran.stdout + ran.stderr:        # it ends with 0 whatever happens
            raise KerberosFailed(f"kadmin.local: {command}: {ran.stdout}{ran.stderr}")

    def _wait(self) -> None:
        """Return when the KDC takes requests."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            if self.process.poll() is not None:
                raise KerberosFailed("the KDC has ended; its log is kdc.log in the realm's folder")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if time.monotonic() > deadline:
                raise KerberosFailed(f"the KDC does not answer after {START_SECONDS} s")
            time.sleep(POLL_SECONDS)

    def _environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, "PATH": _path(), **self.variables, **more}


def _path() -> str:
    return os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"


def _found(program: str) -> str | None:
    return shutil.which(program, path=_path())


def _held_port() -> socket.socket:
    """Return a socket that has a port and never listens: the KDC takes only numbers, and some time to begin.

    Meanwhile the system would give a port that nobody has to anybody. The KDC can listen beside it, since
    both set SO_REUSEADDR. Of UDP it is known only that nobody has it now.
    """
    while True:
        holder = socket.socket()
        try:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(("127.0.0.1", 0))
            with contextlib.suppress(OSError), socket.socket(type=socket.SOCK_DGRAM) as datagram:
                datagram.bind(holder.getsockname())
                return holder
        except BaseException:
            holder.close()
            raise
        holder.close()
