"""The suite over other servers from Debian, and over our own: `python -m tests.conformance.peers`.

    --keep FOLDER   write servers.json and servers.inc there (docs/conformance has them)
    --server NAME   only this one; may be given several times

Each is started on loopback over a maildrop of its own, as root, and ended again. One that is not there is
left out, and said to be.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import gzip
import imaplib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple
from unittest import SkipTest

from mailgate.conformance.checks import all_checks, chosen
from mailgate.conformance.connection import Bounds
from mailgate.conformance.delivering import Deliver, Undelivered, by_url
from mailgate.conformance.findings import PROFILES, Verdict
from mailgate.conformance.reports import line, summary
from mailgate.conformance.running import Report, Run
from mailgate.conformance.samples import Sample
from mailgate.conformance.target import Pace, Target
from mailgate.testing.certificates import Authority
from tests.needs import needs
from tests.peers import cyrus, dovecot_service, rooms
from tests.peers.inetd import Inetd
from tests.peers.packages import unpacked
from tests.peers.servers import popa3d
from tests.services import HOSTNAME, Site, wait_for

USER, PASSWORD = "peer", "open sesame"
EVENTS = 12         # the last ones before a finding are kept
COURIER = """\
set -e
mkdir -p /run/courier
mount -t tmpfs tmpfs /run/courier
mkdir /run/courier/authdaemon
set -a
. /etc/courier/authdaemonrc
/usr/lib/courier/courier-authlib/authdaemond &      # not as a daemon: it ends with this process group
prefix=/usr exec_prefix=/usr sbindir=/usr/sbin bindir=/usr/bin libexecdir=/usr/lib/courier
. /etc/courier/pop3d
. /etc/courier/pop3d-ssl
TLS_CERTFILE={folder}/tls.pem
TLS_DHPARAMS=
TLS_CACHEFILE=
PROXY_HOSTNAME=
exec /usr/sbin/couriertcpd -address=127.0.0.1 -maxprocs=40 -maxperip=40 -nodnslookup -noidentlookup \\
  {port} {programs}/courierpop3login {programs}/courierpop3d Maildir
"""


class Peer(NamedTuple):
    """A server that serves."""

    name: str
    version: str
    about: str
    port: int
    user: str
    password: str
    deliver: Deliver
    ca_pem: str | None = None


def into_maildir(maildir: Path, give: Callable[[Path], None]) -> Deliver:
    """Return a way to deliver as a delivery agent does: into tmp, then into new."""
    count = itertools.count(1)

    def deliver(sample: Sample) -> None:
        name = f"{time.time():.6f}.M{next(count)}P{os.getpid()}.peers"
        (maildir / "tmp" / name).write_bytes(sample.content.replace(b"\r\n", b"\n"))
        give(maildir / "tmp" / name)
        (maildir / "tmp" / name).rename(maildir / "new" / name)

    return deliver


def debian_version(package: str) -> str:
    """Return the version of an unpacked package, from its changelog."""
    for file in sorted((unpacked(package) / "usr/share/doc" / package).glob("changelog*.gz")):
        found = re.match(r"\S+ \(([^)]+)\)", gzip.decompress(file.read_bytes()).decode("utf-8", "replace"))
        if found:
            return found[1]
    return "?"


@contextlib.contextmanager
def own(folder: Path) -> Iterator[Peer]:
    """Ours, with APOP, SCRAM and TLS, from LMTP to POP3."""
    authority = Authority()
    folder.mkdir()
    authority.issue("localhost").write(folder)
    site = Site(folder, further="""
[pop3]
apop = true
[tls]
certificate = "cert.pem"
key = "key.pem"
""")
    site.succeed("account", "add", USER, "--scram", "--apop", "--password-stdin",
                 stdin=f"{PASSWORD}\n".encode())
    service = site.start()
    try:
        yield Peer("mailgate", version("mailgate"), "LMTP to its own store", service.pop3_port, USER,
                   PASSWORD, by_url(f"lmtp://127.0.0.1:{service.lmtp_port}/{USER}@{HOSTNAME}"),
                   authority.pem.decode())
    finally:
        service.end()


@contextlib.contextmanager
def dovecot(folder: Path, settings: str = "", about: str = "Maildir, as installed") -> Iterator[Peer]:
    """Dovecot with a Maildir a user."""
    service = dovecot_service.DovecotService(settings)
    try:
        told = subprocess.run(["dovecot", "--version"], capture_output=True, check=True).stdout.decode()
        maildir = service.maildir(USER)
        for name in ("cur", "new", "tmp"):
            (maildir / name).mkdir(parents=True)
        service.give(service.folder / "mail")
        yield Peer("Dovecot", told.split()[0], about, service.port, USER, dovecot_service.PASSWORD,
                   into_maildir(maildir, service.give), service.authority.pem.decode())
    finally:
        service.end()


def dovecot_locking(folder: Path) -> contextlib.AbstractContextManager[Peer]:
    """Dovecot that locks the maildrop for a session, which it does not by itself."""
    return dovecot(folder, "pop3_lock_session = yes\n", "Maildir, pop3_lock_session = yes")


@contextlib.contextmanager
def cyrus_imapd(folder: Path) -> Iterator[Peer]:
    """Cyrus with its own spool, filled by IMAP."""
    authority = Authority()
    folder.mkdir()
    folder.chmod(0o755)
    server = cyrus.Cyrus(folder)
    authority.issue("localhost").write(folder)
    with open(folder / "cyrus.conf", "a") as file:
        file.write(f"tls_server_cert: {folder}/cert.pem\ntls_server_key: {folder}/key.pem\n")
    for name in ("cert.pem", "key.pem"):
        (folder / name).chmod(0o644)

    def deliver(sample: Sample) -> None:
        try:
            server.put([sample.content])
        except (AssertionError, imaplib.IMAP4.error) as fault:
            raise Undelivered(f"APPEND is refused: {fault}") from None

    with server:
        yield Peer("Cyrus", debian_version("cyrus-pop3d"), "its own spool, filled by IMAP APPEND",
                   server.port("cyrus"), cyrus.USER, cyrus.PASSWORD, deliver, authority.pem.decode())


@contextlib.contextmanager
def popa3d_peer(folder: Path) -> Iterator[Peer]:
    """popa3d with an mbox, a process a connection."""
    server = popa3d(folder)
    spool = folder / "empty"
    spool.touch()
    mine = server.put(spool)

    def deliver(sample: Sample) -> None:
        text = re.sub(rb"(?m)^(>*From )", rb">\1", sample.content.replace(b"\r\n", b"\n"))
        with open(mine, "ab") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            file.write(b"From peer@example.org Sat Jun  1 12:00:00 2024\n" + text
                       + (b"\n" if text.endswith(b"\n") else b"\n\n"))

    with Inetd(server.command, folder / "errors") as inetd:
        yield Peer("popa3d", debian_version("popa3d"), "mbox, by an inetd", inetd.port, rooms.USER,
                   rooms.PASSWORD, deliver)


@contextlib.contextmanager
def courier(folder: Path) -> Iterator[Peer]:
    """Courier with a Maildir, its own login and TLS."""
    needs("couriertcpd", "couriertls")
    mail = folder / "mail"
    for name in ("cur", "new", "tmp"):
        (mail / "Maildir" / name).mkdir(parents=True)
    programs = unpacked("courier-pop")
    give(mail)
    prefix = rooms.room(folder / "room", mail)
    etc = folder / "room/etc"
    for file in (programs / "etc/courier").glob("pop3d*"):
        (etc / "courier" / file.name).write_bytes(file.read_bytes())
    passwd = etc / "passwd"     # where he is at home, there is his Maildir
    passwd.write_text(passwd.read_text().replace(f"{rooms.USER}:x:{rooms.UID}:{rooms.GID}::/nonexistent:",
                                                 f"{rooms.USER}:x:{rooms.UID}:{rooms.GID}::/var/mail:"))
    authority = Authority()
    issued = authority.issue("localhost")
    (folder / "tls.pem").write_bytes(issued.key_pem + issued.chain_pem)
    port = dovecot_service.free_ports(1)[0]
    script = folder / "start.sh"
    for name in ("courierpop3login", "courierpop3d"):       # the user cannot look into root's cache
        shutil.copy(programs / "usr/lib/courier/courier" / name, folder)
    script.write_text(COURIER.format(folder=folder, port=port, programs=folder))
    with open(folder / "output", "wb") as output:
        process = subprocess.Popen([*prefix, "sh", str(script)], stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=output, start_new_session=True)
    try:
        wait_for(lambda: process.poll() is not None or dovecot_service.answers(port), "Courier to answer")
        assert process.poll() is None, (folder / "output").read_text()
        yield Peer("Courier", debian_version("courier-pop"), "Maildir, couriertcpd, authdaemond with PAM",
                   port, rooms.USER, rooms.PASSWORD, into_maildir(mail / "Maildir", give),
                   authority.pem.decode())
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        process.wait()


def give(path: Path) -> None:
    """Let the user of the rooms have a folder, or a file."""
    for one in (path, *path.rglob("*")):
        os.chown(one, rooms.UID, rooms.GID)


SERVERS: dict[str, Callable[[Path], contextlib.AbstractContextManager[Peer]]] = {
    "mailgate": own, "dovecot": dovecot, "dovecot-locking": dovecot_locking, "courier": courier,
    "cyrus": cyrus_imapd, "popa3d": popa3d_peer}


# What came of it ------------------------------------------------------------------------------------


def run(name: str) -> dict[str, Any] | None:
    """Start one server, make all checks, and return what is worth keeping; None if it is not there."""
    with tempfile.TemporaryDirectory(prefix="mailgate-peers-", ignore_cleanup_errors=True) as temporary:
        Path(temporary).chmod(0o755)
        try:
            with SERVERS[name](Path(temporary) / name) as peer:
                report = check(peer)
        except SkipTest as missing:
            print(f"{name} is left out: {missing}\n", flush=True)
            return None
    shown = [line(one) for one in report.results if one.verdict in (Verdict.FAIL, Verdict.WARN)]
    title = f"{peer.name} {peer.version}, {peer.about}"
    print("\n  ".join([title, *shown, *report.notices, summary(report)]), flush=True)
    return kept(peer, report)


def check(peer: Peer) -> Report:
    """Make all checks over a server."""
    target = Target("localhost" if peer.ca_pem else "127.0.0.1", peer.port, peer.user.encode(),
                    peer.password.encode(), ca_pem=peer.ca_pem,
                    pace=Pace(bounds=Bounds(reply_seconds=20.0), lock_seconds=20.0, arrival_seconds=10.0))
    return Run(target, chosen(set(PROFILES), set()), peer.deliver).carry_out()


def kept(peer: Peer, report: Report) -> dict[str, Any]:
    """Return what is worth keeping: verdicts, and what was said where something was found."""
    return {
        "server": peer.name, "version": peer.version, "about": peer.about,
        "capabilities": report.met.before, "seconds": round(report.seconds, 1), "notices": report.notices,
        "summary": {verdict.value: report.count(verdict) for verdict in Verdict},
        "checks": {one.check.id: {
            "verdict": one.verdict.value, "reason": one.reason,
            **({"exchange": [str(event) for event in one.events[-EVENTS:]]}
               if one.verdict in (Verdict.FAIL, Verdict.WARN) else {}),
        } for one in report.results},
    }


def merged(file: Path, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what was found now, and of the servers that were not asked what was found before."""
    told = json.loads(file.read_text())["servers"] if file.exists() else []
    kept = {(one["server"], one["about"]): one for one in told}
    return list({**kept, **{(one["server"], one["about"]): one for one in found}}.values())


def as_page(taken: str, found: list[dict[str, Any]]) -> str:
    """Return the tables of the manual's page."""
    rows = [f"Taken {taken} on loopback, all profiles.", "", ".. list-table::", "   :header-rows: 1", "",
            *_row("server", "how it was run", "pass", "warn", "fail", "skip", "seconds")]
    for one in found:
        counts = one["summary"]
        rows += _row(f"{one['server']} {one['version']}", one["about"],
                     *(str(counts[verdict.value]) for verdict in Verdict), f"{one['seconds']:.0f}")
    titles = {check.id: check.title for check in all_checks()}
    for one in found:
        title = f"{one['server']} {one['version']} ({one['about']})"
        rows += ["", title, "~" * len(title), ""]
        findings = {name: check for name, check in one["checks"].items()
                    if check["verdict"] in ("fail", "warn")}
        if not findings:
            rows.append("Nothing was found.")
            continue
        rows += [".. list-table::", "   :header-rows: 1", "   :widths: 20 8 36 36", "",
                 *_row("check", "verdict", "statement", "what was seen")]
        for name, check in sorted(findings.items(), key=lambda item: item[1]["verdict"]):
            rows += _row(name, check["verdict"], titles[name], f"``{literal(check['reason'])}``")
    return "\n".join(rows) + "\n"


def _row(*cells: str) -> list[str]:
    return [("   * - " if place == 0 else "     - ") + cell for place, cell in enumerate(cells)]


def literal(text: str) -> str:
    """Return a reason as it may stand in a literal: short, without what changes from run to run."""
    text = re.sub(r"unique-id \S+", "unique-id ...", text.replace("`", "'"))
    text = re.sub(r"<[^>]*@[^>]*>", "<...>", text)
    return (text[:157] + "..." if len(text) > 160 else text).strip() or "-"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--server", action="append", choices=list(SERVERS))
    options = parser.parse_args()
    names = options.server or list(SERVERS)
    with ThreadPoolExecutor(len(names)) as pool:     # they wait more than they work
        found = [one for one in pool.map(run, names) if one is not None]
    if options.keep is not None:
        found = merged(options.keep / "servers.json", found)
        options.keep.mkdir(parents=True, exist_ok=True)
        taken = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        (options.keep / "servers.json").write_text(
            json.dumps({"taken": taken, "servers": found}, indent=1, ensure_ascii=True) + "\n")
        (options.keep / "servers.inc").write_text(as_page(taken, found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
