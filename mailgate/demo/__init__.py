"""`twistd mailgate --demo`: a small service to play with, kept under `var/` of the current folder."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Any

from mailgate.auth.schemes import hash_password
from mailgate.cli.starting import FILE_NAME, write_configuration
from mailgate.cli.telling import Refusal
from mailgate.config import Config, load
from mailgate.demo.samples import Sample, samples
from mailgate.errors import ConfigurationError, NoSuchAccount
from mailgate.model import Account, Envelope, Placement
from mailgate.service import spelled
from mailgate.wire.headers import preamble, received_line

FOLDER = Path("var")
HOSTNAME = "demo.example"
ORDINARY, ORDINARY_PASSWORD = "mrose", "tanstaaf"
SDPS, SDPS_PASSWORDS = "shire", ("second breakfast", "po-ta-toes")

TEMPLATE = """\
# The demonstration that `twistd mailgate --demo` serves. Change it as you like, or remove the whole
# folder to begin anew. Commands work on it too: mailgate -c {file} account list

hostname = "{hostname}"

[store]
metadata = "sqlite:mail.db"
bodies = "file:bodies"

[[listen]]
protocol = "pop3"
endpoint = "tcp:1110:interface=127.0.0.1"
greeting = "mailgate demo ready"

[[listen]]
protocol = "lmtp"
endpoint = "tcp:2424:interface=127.0.0.1"

[limits]
failure_delay_seconds = 0           # nobody guesses passwords that are printed at the start
"""


def setting(folder: Path = FOLDER) -> tuple[Config, dict[str, Any]]:
    """Return the demo's configuration and the hooks of its service; the first call writes the file.

    Raises: ConfigurationError.
    """
    file = folder.absolute() / FILE_NAME
    if not file.exists():
        try:
            write_configuration(folder.absolute(), HOSTNAME, TEMPLATE)
        except Refusal as fault:
            raise ConfigurationError(list(fault.lines)) from fault
    config = load(file)

    async def prepare(store: Any) -> None:
        await fill(store, config)

    return config, {"prepare": prepare, "announce": announce}


async def fill(store: Any, config: Config) -> None:
    """Put accounts and messages into an empty store; what was begun before is only completed."""
    domain = f"{SDPS}.{config.hostname}"
    address = f"{ORDINARY}@{config.hostname}"
    try:
        if (await store.accounts.get(SDPS)).verifiers:
            return
    except NoSuchAccount:
        await store.accounts.add([Account(ORDINARY, addresses=(address,)),
                                  Account(SDPS, sdps=True, domains=(domain,))])
    for sample in samples(address, domain):
        await _deliver(store, config, sample, address)
    for name, passwords in ((ORDINARY, (ORDINARY_PASSWORD,)), (SDPS, SDPS_PASSWORDS)):
        # last, because the host's show that all is done
        await store.accounts.set_verifiers(name, [hash_password(one.encode()) for one in passwords])


async def _deliver(store: Any, config: Config, sample: Sample, ordinary: str) -> None:
    now_ms = time.time_ns() // 1_000_000
    placements = []
    for recipient in sample.recipients:
        envelope = Envelope(sample.sender.encode(), recipient.encode(), now_ms)
        maildrop = ORDINARY if recipient == ordinary else SDPS
        placements.append(Placement(maildrop, recipient.partition("@")[0], envelope, preamble(envelope)))
    delivery = store.deliver()
    for content in (received_line(hostname=config.hostname, protocol="local", delivery_id=sample.key,
                                  arrived_ms=now_ms), sample.content):
        waiting = delivery.write(content)
        if waiting is not None:
            await waiting
    for outcome in await delivery.commit(placements, all_or_nothing=True, delivery_id=sample.key):
        if outcome is not None:
            raise outcome


def announce(service: Any) -> None:
    """Print what there is, and commands that work when they are pasted."""
    stdout = sys.__stdout__         # twistd logs what goes to sys.stdout
    if stdout is not None:
        print(announcement(service), file=stdout, flush=True)


def announcement(service: Any) -> str:
    """Return the text; ports are those that were really bound."""
    ports = {listener.protocol: listener.port.getHost() for listener in service.listeners}
    where = ", ".join(f"{name.upper()} on {spelled(address)}" for name, address in ports.items())
    passwords = " or ".join(f'"{one}"' for one in SDPS_PASSWORDS)
    pop3 = ports.get("pop3")
    commands = "" if pop3 is None else f"""
Fetch a message:
  {curl_command(pop3.host, pop3.port)}
Fetch everything for the SDPS host, with the envelope of each message:
  {fetchmail_command(pop3.host, pop3.port)}
"""
    return f"""
mailgate demo is ready: {where}
Accounts:
  {ORDINARY}  password "{ORDINARY_PASSWORD}"  an ordinary account, {ORDINARY}@{service.config.hostname}
  {SDPS}  password {passwords}  an SDPS host; fred@{SDPS} and sam+{SDPS} log in to their views
{commands}
Its files are in {service.config.folder}; control-C ends it.
"""


def curl_command(host: str, port: int) -> str:
    """Return a command that prints the first message of the ordinary account."""
    return f"curl -s --user {ORDINARY}:{ORDINARY_PASSWORD} pop3://{host}:{port}/1"


def fetchmail_command(host: str, port: int) -> str:
    """Return a command that prints every message of the SDPS host and leaves it there."""
    script = (f"poll {host} service {port} protocol sdps user {SDPS} password {SDPS_PASSWORDS[1]} "
              'sslproto "" keep fetchall mda "echo; echo Envelope sender: %F; cat"')
    return f"echo {shlex.quote(script)} | fetchmail --nosyslog -f -"
