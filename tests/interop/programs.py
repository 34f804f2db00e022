"""The mail clients that are programs of their own, each run once to its end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.interop.talk import PASSWORD
from tests.needs import needs, needs_perl

RUN_SECONDS = 60

# getmail6 6.20 takes the envelope of *ENV as octets, and then fails where it wants text: decode them.
_GETMAIL = """
import runpy, sys
from getmailcore import retrievers

class Retriever(retrievers.MultidropSDPSRetriever):
    def _getmsgbyid(self, msgid):
        msg = super()._getmsgbyid(msgid)
        for name in ("sender", "recipient"):
            if isinstance(getattr(msg, name), bytes):
                setattr(msg, name, getattr(msg, name).decode())
        return msg

retrievers.MultidropSDPSRetriever = Retriever
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Ran(NamedTuple):
    """How a program ended, and what it wrote."""

    code: int
    out: bytes
    told: str       # standard error; for fetchmail and getmail, which tell on both, all of it

    @property
    def everything(self) -> str:
        """All that it wrote, for failed assertions and for protocol traces."""
        return self.out.decode("utf-8", "replace") + self.told


def run(arguments: Sequence[str], *, folder: Path, stdin: bytes = b"",
        environment: Mapping[str, str] | None = None) -> Ran:
    """Run a program in a folder, which is its home too."""
    variables = {"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C", "TZ": "UTC",
                 "USER": "tester", "LOGNAME": "tester", **(environment or {})}
    ended = subprocess.run(list(arguments), input=stdin, capture_output=True, timeout=RUN_SECONDS,
                           check=False, cwd=folder, env=variables)
    return Ran(ended.returncode, ended.stdout, ended.stderr.decode("utf-8", "replace"))


def curl(port: int, path: str, *options: str, user: str, password: str = PASSWORD, folder: Path) -> Ran:
    """Fetch `pop3://127.0.0.1/PATH`. Octets come on `out`; `-v` tells the dialogue on `told`."""
    return run([needs("curl"), "-q", "-s", "-S", "-v", "--max-time", "30", "--user", f"{user}:{password}",
                *options, f"pop3://127.0.0.1:{port}/{path}"], folder=folder)


def fetchmail(port: int, folder: Path, script: str, *options: str, protocol: str = "pop3") -> Ran:
    """Poll the service once. `script` is what follows the server's part of the poll line.

    The folder keeps its .fetchids from run to run. `-v -v` tells the dialogue.
    """
    program = needs("fetchmail")
    folder.mkdir(mode=0o700, exist_ok=True)
    rc_file = folder / "fetchmailrc"
    rc_file.write_text(f"poll 127.0.0.1 service {port} protocol {protocol} timeout 20 no dns\n{script}\n")
    rc_file.chmod(0o600)
    return run([program, "-f", str(rc_file), "--nodetach", "--nosyslog", "-v", "-v",
                "--idfile", str(folder / "ids"), "--pidfile", str(folder / "pid"), *options], folder=folder,
               environment={"FETCHMAILHOME": str(folder)})


def mda_into(folder: Path) -> str:
    """Return the words that make fetchmail write each message, as it came, to a file of its own."""
    folder.mkdir(exist_ok=True)
    return f"mda \"sh -c 'cat >$(mktemp {folder}/XXXXXXXX)'\""


def getmail(folder: Path, port: int, retriever: Mapping[str, object],
            options: Mapping[str, object] | None = None) -> Ran:
    """Run getmail once. Each message goes to a file in `mail`, "<sender> <recipient>" in front of it.

    The folder keeps what was seen from run to run.
    """
    program = needs("getmail")
    mail = folder / "mail"
    mail.mkdir(mode=0o700, parents=True, exist_ok=True)
    script = f'{{ echo "$1 $2"; cat; }} >$(mktemp {mail}/XXXXXXXX)'
    sections: dict[str, Mapping[str, object]] = {
        "retriever": {"server": "127.0.0.1", "port": port, "password": PASSWORD, "timeout": 20, **retriever},
        "destination": {"type": "MDA_external", "path": "/bin/sh", "allow_root_commands": "true",
                        "arguments": ("-c", script, "sh", "<%(sender)>", "<%(recipient)>")},
        "options": {"verbose": 2, "delivered_to": "false", "received": "false", **(options or {})}}
    (folder / "getmailrc").write_text("".join(
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in section.items())
        for name, section in sections.items()))
    return run([sys.executable, "-c", _GETMAIL, program, f"--getmaildir={folder}"], folder=folder)


def mpop(folder: Path, port: int, user: str, *options: str, password: str = PASSWORD) -> Ran:
    """Run mpop once, into the Maildir `mail` of its folder."""
    program = needs("mpop")
    folder.mkdir(mode=0o700, exist_ok=True)
    for name in ("cur", "new", "tmp"):
        (folder / "mail" / name).mkdir(parents=True, exist_ok=True)
    rc_file = folder / "mpoprc"
    rc_file.write_text(f"""\
account default
host 127.0.0.1
port {port}
tls off
auth user
user {user}
password {password}
delivery maildir {folder}/mail
uidls_file {folder}/uidls
received_header off
""")
    rc_file.chmod(0o600)
    return run([program, f"--file={rc_file}", "--debug", *options], folder=folder)


def net_pop3(port: int, script: str, *arguments: str, folder: Path) -> Ran:
    """Run a Perl script in which `$pop` is a Net::POP3 connected to the service."""
    perl = needs_perl("Net::POP3")
    program = (f'use Net::POP3; binmode STDOUT; my $pop = Net::POP3->new("127.0.0.1", Port => {port}, '
               f'Timeout => 20) or die "no greeting"; {script}')
    return run([perl, "-w", "-e", program, *arguments], folder=folder)


def contents(folder: Path) -> list[bytes]:
    """Return what lies in a folder, a file a message, sorted."""
    return sorted(file.read_bytes() for file in folder.iterdir())
