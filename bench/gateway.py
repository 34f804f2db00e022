"""A mailgate to be measured: its configuration, its store, its process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import attrs

from bench.fill import DOMAIN, fill
from bench.processes import SERVER_CORE
from bench.servers import Server
from mailgate.config import Config

BIN = Path(sys.executable).parent
HAS_WORKERS = any(field.name == "workers" for field in attrs.fields(Config))

CONFIGURATION = """\
hostname = "{domain}"
{top}
[store]
metadata = "sqlite:mail.db"
bodies = "file:bodies"
[limits]
size_octets = 0
{limits}
[[listen]]
protocol = "pop3"
endpoint = "tcp:{pop3}:interface=127.0.0.1:backlog=1024"
plaintext_login = true
[[listen]]
protocol = "lmtp"
endpoint = "tcp:{lmtp}:interface=127.0.0.1:backlog=128"
{further}
"""


class Mailgate(Server):
    """One whose configuration can be written again between a stop and a start.

    `workers` is left out of the configuration unless it is given. `further` and `limits` are lines of it.
    """

    name = "mailgate"

    def __init__(self, folder: Path, *, workers: int | None = None, limits: str = "", further: str = "",
                 core: int | None = SERVER_CORE) -> None:
        super().__init__(folder, core)
        self.configuration = folder / "mailgate.toml"
        self.configure(workers=workers, limits=limits, further=further)

    def configure(self, *, workers: int | None = None, limits: str = "", further: str = "") -> None:
        """Write the configuration; the next start reads it."""
        self.configuration.write_text(CONFIGURATION.format(
            domain=DOMAIN, top="" if workers is None else f"workers = {workers}", pop3=self.pop3,
            lmtp=self.lmtp, limits=limits, further=further))

    def fill(self, *wanted: dict[str, Any]) -> None:
        """Put accounts and mail into the store, before it is started."""
        fill(self.configuration, *wanted)

    def command(self) -> list[str]:
        return [str(BIN / "twistd"), "-n", "--pidfile=", f"--logfile={self.folder / 'log'}", "mailgate", "-c",
                str(self.configuration)]

    def forget_indexes(self, user: str) -> None:
        """Start again: what it keeps ready it keeps in memory."""
        self.stop()
        self.start()
