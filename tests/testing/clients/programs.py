"""The mail clients of the lab, each run once to its end in a folder that it keeps from poll to poll.

Every one is told to trust the harness's authority and no other, and to give up after TIMEOUT_SECONDS of
silence where it has a setting for that.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.interop.sink import Sink
from tests.needs import needs

TIMEOUT_SECONDS = 4
USER, PASSWORD = "mrose", "tanstaaf"
ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Way:
    """How a client is told to come in. `tls`: "none", "stls" (required), "pop3s"; `login` as in LOGINS."""

    tls: str = "none"
    login: str = "pass"


@dataclass(frozen=True)
class At:
    """Where a run takes place."""

    port: int
    ca: str
    folder: Path
    way: Way
    sink_port: int = 0
    host: str = "localhost"


@dataclass(frozen=True)
class Client:
    """A program and how it is used. `arguments` also writes the configuration it needs."""

    name: str
    told: str                                       # how it is used, for the table
    arguments: Callable[[At], list[str]]
    version: Callable[[], str]
    deletes: bool = True                            # what it has fetched
    ways: frozenset[tuple[str, str]] = frozenset()  # (tls, login) that it can
    environment: Mapping[str, str] = field(default_factory=dict)
    by_smtp: bool = False                           # it delivers to a Sink
    content_codes: frozenset[int] = frozenset({0})  # exit codes of a poll that went well

    def can(self, way: Way) -> bool:
        """Whether it can come in so."""
        return (way.tls, way.login) in self.ways


def ways(tls: str, logins: str) -> frozenset[tuple[str, str]]:
    """Return all pairs of two lists in words."""
    return frozenset((one, other) for one in tls.split() for other in logins.split())


def collected(folder: Path) -> list[bytes]:
    """Return the messages that a client has stored in its folder: files of `mail`, or of `mail/new`."""
    mail = folder / "mail"
    files = [file for place in (mail, mail / "new", mail / "cur") if place.is_dir()
             for file in place.iterdir() if file.is_file()]
    return [file.read_bytes() for file in sorted(files)]


def _storing(at: At) -> Path:
    """Return a script that stores what it reads as a message, as a delivery agent does."""
    (at.folder / "mail").mkdir(exist_ok=True)
    script = at.folder / "store.sh"
    script.write_text(f"cat >{at.folder}/part.$$ && mv {at.folder}/part.$$ {at.folder}/mail/$(date +%s%N)\n")
    return script


# poplib -------------------------------------------------------------------------------------------


def _poplib(script: str) -> Callable[[At], list[str]]:
    def arguments(at: At) -> list[str]:
        return [sys.executable, "-m", f"tests.testing.clients.scripts.{script}", "--host", at.host,
                "--port", str(at.port), "--tls", at.way.tls, "--login", at.way.login, "--ca", at.ca,
                "--user", USER, "--password", PASSWORD, "--folder", str(at.folder)]
    return arguments


def _python() -> str:
    return "poplib of Python " + ".".join(map(str, sys.version_info[:3]))


# curl ---------------------------------------------------------------------------------------------


def _curl(at: At) -> list[str]:
    scheme = "pop3s" if at.way.tls == "pop3s" else "pop3"
    options = ["-s", "-S", "-v", "--cacert", at.ca, "--connect-timeout", str(TIMEOUT_SECONDS),
               "--speed-limit", "1", "--speed-time", str(TIMEOUT_SECONDS)]
    options += ["--ssl-reqd"] if at.way.tls == "stls" else []
    options += {"pass": [], "apop": ["--login-options", "AUTH=+APOP"],
                "plain": ["--login-options", "AUTH=PLAIN"],
                "xoauth2": ["--oauth2-bearer", PASSWORD]}[at.way.login]
    options += ["--user", USER if at.way.login == "xoauth2" else f"{USER}:{PASSWORD}"]
    return [sys.executable, "-m", "tests.testing.clients.scripts.fetch_curl", str(at.folder),
            f"{scheme}://{at.host}:{at.port}", *options]


# fetchmail ----------------------------------------------------------------------------------------


def _fetchmail(keep: bool, mda: bool) -> Callable[[At], list[str]]:
    def arguments(at: At) -> list[str]:
        script = _storing(at)
        tls = {"none": "sslproto ''", "stls": "sslproto 'TLS1.2+'", "pop3s": "ssl"}[at.way.tls]
        if at.way.tls != "none":
            tls += f" sslcertck sslcertfile {at.ca} sslcommonname {at.host}"
        rc_file = at.folder / "fetchmailrc"
        rc_file.write_text(
            f"poll {at.host} service {at.port} protocol {'apop' if at.way.login == 'apop' else 'pop3'}"
            f" timeout {TIMEOUT_SECONDS} no dns {'uidl' if keep else ''}\n"
            f"user {USER} password {PASSWORD} is tester here {'keep' if keep else 'no keep'} {tls}"
            + (f" mda 'sh {script}'\n" if mda else f" smtphost 127.0.0.1/{at.sink_port}\n"))
        rc_file.chmod(0o600)
        return [needs("fetchmail"), "-f", str(rc_file), "--nodetach", "--nosyslog", "-v", "-v",
                "--idfile", f"{at.folder}/ids", "--pidfile", f"{at.folder}/pid"]
    return arguments


# getmail ------------------------------------------------------------------------------------------


def _getmail(keep: bool) -> Callable[[At], list[str]]:
    def arguments(at: At) -> list[str]:
        script = _storing(at)
        secure = at.way.tls == "pop3s"
        retriever: dict[str, object] = {"type": "SimplePOP3SSLRetriever" if secure else "SimplePOP3Retriever",
                     "server": at.host, "port": at.port, "username": USER, "password": PASSWORD,
                     "timeout": TIMEOUT_SECONDS}
        if secure:
            retriever["ca_certs"] = at.ca
        if at.way.login == "apop":
            retriever["use_apop"] = "true"
        sections = {"retriever": retriever, "destination": {
            "type": "MDA_external", "path": "/bin/sh", "arguments": f"('{script}',)",
            "allow_root_commands": "true"},
                    "options": {"verbose": 2, "delivered_to": "false", "received": "false",
                                "read_all": "false", "delete": "false" if keep else "true"}}
        (at.folder / "getmailrc").write_text("".join(
            f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in section.items())
            for name, section in sections.items()))
        return [sys.executable, needs("getmail"), f"--getmaildir={at.folder}"]
    return arguments


# mpop ---------------------------------------------------------------------------------------------


def _mpop(keep: bool) -> Callable[[At], list[str]]:
    def arguments(at: At) -> list[str]:
        for name in ("cur", "new", "tmp"):
            (at.folder / "mail" / name).mkdir(parents=True, exist_ok=True)
        auth = {"pass": "user", "plain": "plain"}.get(at.way.login, at.way.login)
        tls = {"none": "tls off", "stls": "tls on\ntls_starttls on", "pop3s": "tls on\ntls_starttls off"}
        rc_file = at.folder / "mpoprc"
        rc_file.write_text(f"""\
account default
host {at.host}
port {at.port}
{tls[at.way.tls]}
{'' if at.way.tls == "none" else f"tls_trust_file {at.ca}"}
timeout {TIMEOUT_SECONDS}
auth {auth}
user {USER}
password {PASSWORD}
delivery maildir {at.folder}/mail
uidls_file {at.folder}/uidls
received_header off
keep {'on' if keep else 'off'}
""")
        rc_file.chmod(0o600)
        return [needs("mpop"), f"--file={rc_file}", "--debug"]
    return arguments


def _getmail_version() -> str:
    return f"getmail6 {importlib.metadata.version('getmail6')}"


def _says(*command: str, pattern: str) -> Callable[[], str]:
    def version() -> str:
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
        found = re.search(pattern, asked.stdout + asked.stderr)
        return f"{Path(command[0]).name} {found[1]}" if found else "unknown"
    return version


_PLAIN_LOGINS = "pass apop"
_FETCHMAIL = _says("fetchmail", "--version", pattern=r"release ([\d.]+\d)")
_FETCHMAIL_CODES = frozenset({0, 1})        # 1: there was no new mail
_FETCHMAIL_WAYS = ways("none stls pop3s", "pass apop")
_MPOP = _says("mpop", "--version", pattern=r"version ([\d.]+)")
_MPOP_WAYS = ways("none stls pop3s", "pass apop plain xoauth2")

CLIENTS: Mapping[str, Client] = {client.name: client for client in (
    Client("poplib", "a script of ten lines that fetches and deletes all, without timeout",
           _poplib("fetch_all"), _python, ways=ways("none stls pop3s", _PLAIN_LOGINS)),
    Client("poplib-keep", "a careful script that leaves all on the server; timeout=4",
           _poplib("fetch_new"), _python, deletes=False, ways=ways("none stls pop3s", _PLAIN_LOGINS)),
    Client("curl", "a script that lists, fetches each, then deletes; --connect-timeout 4 --speed-limit 1"
           " --speed-time 4, --ssl-reqd where TLS is required; it logs in with AUTH PLAIN", _curl,
           _says("curl", "--version", pattern=r"curl ([\d.]+)"),
           ways=ways("none stls pop3s", "pass apop plain xoauth2")),
    Client("fetchmail", "delivers by SMTP; timeout 4; sslproto '' where no TLS is wanted",
           _fetchmail(False, False), _FETCHMAIL, ways=_FETCHMAIL_WAYS, by_smtp=True,
           content_codes=_FETCHMAIL_CODES),
    Client("fetchmail-keep", "the same with keep and uidl", _fetchmail(True, False), _FETCHMAIL,
           deletes=False, ways=_FETCHMAIL_WAYS, by_smtp=True, content_codes=_FETCHMAIL_CODES),
    Client("fetchmail-mda", "the same, but it delivers to a program (mda) that stores what it reads",
           _fetchmail(False, True), _FETCHMAIL, ways=_FETCHMAIL_WAYS, content_codes=_FETCHMAIL_CODES),
    Client("getmail", "delivers to a program that stores what it reads; timeout = 4, delete = true,"
           " read_all = false", _getmail(False), _getmail_version,
           ways=ways("none pop3s", _PLAIN_LOGINS)),
    Client("getmail-keep", "the same with delete = false", _getmail(True), _getmail_version, deletes=False,
           ways=ways("none pop3s", _PLAIN_LOGINS)),
    Client("mpop", "to a Maildir; timeout 4, keep off", _mpop(False), _MPOP, ways=_MPOP_WAYS),
    Client("mpop-keep", "the same with keep on", _mpop(True), _MPOP, deletes=False, ways=_MPOP_WAYS))}

__all__ = ["CLIENTS", "At", "Client", "Sink", "Way", "collected", "ways"]
