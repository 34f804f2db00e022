"""A Kerberos realm of the tests' own: MIT's KDC on loopback, its database, keytabs and tickets.

    realm = Realm(folder)                   # KDC running; needs Debian's krb5-kdc and friends
    realm.add("alice", "pop/localhost")
    keytab = realm.keytab("pop/localhost")
    cache = realm.log_in("alice")           # a credential cache with a ticket-granting ticket
    with realm.environment(): ...           # libkrb5 in this process uses this realm
    realm.stop()

`Client` is MIT's own client library in a child process.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.needs import needs
from tests.services import wait_for

PASSWORD = "secret of the realm"
RUN_SECONDS = 60

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


class Realm:
    """A running KDC. `cross`, another Realm, is trusted: its principals get tickets for services here."""

    def __init__(self, folder: Path, name: str = "TEST.EXAMPLE", *, cross: Realm | None = None) -> None:
        kdc = needs("krb5kdc", "kdb5_util", "kadmin.local", "kinit", "kvno")
        self.name = name
        self.folder = folder.absolute()
        self.folder.mkdir(parents=True)
        self.port = _free_port()
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
        self.process = subprocess.Popen([kdc, "-n"], env=self._environment(), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(self._answers, "the KDC to answer")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the KDC."""
        self.process.kill()
        self.process.wait()

    def add(self, *principals: str) -> None:
        """Add principals: users with PASSWORD, services (with a slash) with random keys."""
        for principal in principals:
            key = "-randkey" if "/" in principal and not principal.endswith("/admin") else f'-pw "{PASSWORD}"'
            self._kadmin(f"add_principal {key} {principal}")

    def keytab(self, *principals: str, name: str = "krb5.keytab") -> Path:
        """Return a keytab with keys of the principals, the same in every keytab."""
        path = self.folder / name
        for principal in principals:
            self._kadmin(f"ktadd -norandkey -k {path} {principal}")
        return path

    def log_in(self, principal: str, **environment: str) -> Path:
        """Return a credential cache with a ticket-granting ticket for a user."""
        path = self.folder / f"cache-{principal.replace('/', '-')}"
        self.run("kinit", "-c", str(path), principal, stdin=f"{PASSWORD}\n", **environment)
        return path

    def run(self, program: str, *arguments: str, stdin: str = "", **more: str) -> str:
        """Run one of the realm's programs to its end; it must succeed. Return what it wrote."""
        ran = subprocess.run([needs(program), *arguments], input=stdin, env=self._environment(**more),
                             capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
        assert ran.returncode == 0, (program, arguments, ran.stdout, ran.stderr)
        return ran.stdout

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

    def client(self, request: Mapping[str, Any], **environment: str) -> Any:
        """Run `tests.kerberos_peer` with a request; return what it answers."""
        return ended(self.begin_client(request, **environment))

    def begin_client(self, request: Mapping[str, Any], **environment: str) -> subprocess.Popen[str]:
        """Start `tests.kerberos_peer`; `ended` waits for its answer."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.kerberos_peer", json.dumps(request)], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent,
            env=self._environment(**environment))
        return process

    def _kadmin(self, command: str) -> None:
        told = self.run("kadmin.local", "-r", self.name, "-q", command)
        assert "while" not in told, told

    def _answers(self) -> bool:
        assert self.process.poll() is None, "the KDC has ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", **self.variables, **more}


def ended(process: subprocess.Popen[str]) -> Any:
    """Return the answer of a `tests.kerberos_peer` that was begun."""
    out, err = process.communicate(timeout=RUN_SECONDS)
    assert process.returncode == 0, (out, err)
    return json.loads(out)


def _free_port() -> int:
    """Return a port that nobody has at the moment, for UDP and TCP: the KDC takes only numbers."""
    while True:
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
            stream.bind(("127.0.0.1", 0))
            port: int = stream.getsockname()[1]
            with contextlib.suppress(OSError):
                datagram.bind(("127.0.0.1", port))
                return port
