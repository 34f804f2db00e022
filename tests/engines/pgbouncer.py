"""PgBouncer in front of the tests' PostgreSQL, as operators run it: whole transactions are handed over."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

from tests.engines import postgres
from tests.needs import needs
from tests.ports import free_port

POOL = 3        # connections to the server: fewer than a node's threads

_SETTINGS = """\
[databases]
* = host=127.0.0.1 port={server} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {pool}
max_client_conn = 500
ignore_startup_parameters = options
"""


@cache
def pooler() -> int:
    """Return the port of a PgBouncer before the server that all tests share. Raises: as `needs`."""
    program = needs("pgbouncer")
    server, port = postgres.primary(), free_port()
    folder = Path(tempfile.mkdtemp(prefix="mailgate-pgbouncer-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "pgbouncer.ini").write_text(_SETTINGS.format(
        server=server.port, user=postgres.SUPERUSER, port=port, pool=POOL))
    identity = {}
    if os.geteuid() == 0:       # it refuses to run as root, like the server
        identity = {"user": postgres.NOBODY, "group": postgres.NOBODY, "extra_groups": []}
        os.chown(folder, postgres.NOBODY, postgres.NOBODY)
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([program, "-q", str(folder / "pgbouncer.ini")], cwd=folder, stdout=log,
                                   stdin=subprocess.DEVNULL, stderr=log, **identity)
    atexit.register(_end, process)

    def listens() -> bool:
        assert process.poll() is None, (folder / "log").read_text(errors="replace")
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 5).close()
            return True
        return False

    postgres.until(listens)
    return port


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
