"""OpenStack Swift with its S3 interface, a small cluster on this machine: what operators run, no imitation.

    cluster = swift()                       # started at the first call, ended with this process
    bucket = cluster.make_bucket()          # a fresh name
    cluster.endpoint, cluster.access_key, cluster.secret_key

Four servers (proxy, account, container, object), each a process, and four devices, each a folder; of every
object three devices have a copy. `take_away` and `give_back` do to a device what a broken disk does. The
servers listen on a loopback address that only this process uses; their folder lies in memory where
that can hold the attributes that Swift writes.
"""

from __future__ import annotations

import atexit
import ctypes
import datetime
import getpass
import hashlib
import hmac
import http.client
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from urllib.parse import quote, urlencode

from tests.needs import needs, unavailable

ROOT = Path(__file__).parents[2]
REGION = "us-east-1"
DEVICES = ("d1", "d2", "d3", "d4")
REPLICAS = 3
PARTITION_BITS = 4              # 16 partitions are plenty for four devices
START_SECONDS = 60.0            # on a busy machine
SUPPRESSED_SECONDS = 0.1        # for which the proxy asks nothing of a device that failed
NEEDED_OCTETS = 512 << 20       # free space of the folder
FOLDER = "mailgate-swift-"      # and the process, in the name of the cluster's folder
PR_SET_PDEATHSIG = 1            # of prctl(2)
MOUNTED = ".ismount"            # a file that stands for a mounted disk (swift.common.utils.ismount_raw)

_PROXY = """\
[pipeline:main]
pipeline = catch_errors gatekeeper cache listing_formats s3api tempauth bulk slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
node_timeout = 20
conn_timeout = 10
error_suppression_interval = {suppressed}
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:cache]
paste.filter_factory = tests.engines.swift_cache:filter_factory
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = {region}
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {secret} .admin
user_test_stranger = {secret}
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
"""

_STORAGE = """\
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
container_update_timeout = 10
"""

_COMMON = """\
[DEFAULT]
bind_ip = {address}
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
devices = {folder}/devices
mount_check = true
disable_fallocate = true
eventlet_debug = false
log_level = WARNING
"""

# The ring builder's own command line, run in one process for all three rings.
_RINGS = """\
import sys
from swift.cli import ringbuilder
for line in sys.stdin:
    try:
        ringbuilder.main(["swift-ring-builder", *line.split()])
    except SystemExit as end:
        if end.code:
            sys.exit(f"{line}: {end.code}")
"""


class Swift:
    """A running cluster."""

    access_key = "test:tester"
    stranger = "test:stranger"      # a user of the cluster who may do nothing in the buckets
    secret_key = "a-secret-of-tests"

    def __init__(self) -> None:
        high, low = divmod(os.getpid(), 250)
        self.address = f"127.{100 + high // 250 % 100}.{high % 250}.{low + 1}"
        self.folder = _folder()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._buckets = itertools.count(1)
        self._ports = dict(zip(("proxy", "account", "container", "object"), _free_ports(self.address, 4),
                               strict=True))
        self.endpoint = f"http://{self.address}:{self._ports['proxy']}"

    def start(self) -> None:
        """Write what the servers read, start them, and wait until they answer."""
        (self.folder / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = mailgate\n")
        for device in DEVICES:
            (self.folder / "devices" / device).mkdir(parents=True)
            (self.folder / "devices" / device / MOUNTED).touch()
        self._build_rings()
        for kind, port in self._ports.items():
            settings = (_PROXY if kind == "proxy" else _STORAGE).format(
                kind=kind, region=REGION, secret=self.secret_key, suppressed=SUPPRESSED_SECONDS)
            common = _COMMON.format(
                address=self.address, port=port, user=getpass.getuser(), folder=self.folder)
            (self.folder / f"{kind}.conf").write_text(common + settings)
            with open(self.folder / f"{kind}.log", "wb") as log:
                self._processes.append(subprocess.Popen(
                    [needs(f"swift-{kind}-server"), f"{self.folder}/{kind}.conf", "-v"],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                    env={**os.environ, "PYTHONPATH": str(ROOT)}, preexec_fn=_end_with_parent))
        for port in self._ports.values():
            self._wait_for(port)

    def end(self) -> None:
        """End the servers and remove all that they had."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        """Return what the servers said."""
        return "".join(f"{path.name}: {path.read_text('utf-8', 'replace')}\n"
                       for path in sorted(self.folder.glob("*.log")))

    # Devices ----------------------------------------------------------------------------------

    def take_away(self, device: str) -> None:
        """Unmount a device: its servers answer 507 for all that lies there, copies elsewhere stay."""
        (self.folder / "devices" / device / MOUNTED).unlink()

    def give_back(self, device: str) -> None:
        """Mount a device again, and let the proxy forget that it failed."""
        mounted = self.folder / "devices" / device / MOUNTED
        if not mounted.exists():
            mounted.touch()
            time.sleep(3 * SUPPRESSED_SECONDS)

    # Buckets ----------------------------------------------------------------------------------

    def make_bucket(self) -> str:
        """Make a bucket and return its name."""
        name = f"mail-{os.getpid()}-{next(self._buckets)}"
        status, answer = self.request("PUT", f"/{name}")
        assert status == 200, (status, answer)
        return name

    def names(self, bucket: str) -> list[str]:
        """Return the names of the objects in a bucket, as many as one listing tells."""
        status, answer = self.request("GET", f"/{bucket}")
        assert status == 200, (status, answer)
        return re.findall("<Key>(.*?)</Key>", answer.decode())

    def uploads(self, bucket: str) -> list[str]:
        """Return the names of the objects that have an upload in parts under way."""
        status, answer = self.request("GET", f"/{bucket}", {"uploads": ""})
        assert status == 200, (status, answer)
        return re.findall("<Key>(.*?)</Key>", answer.decode())

    def request(self, method: str, path: str, query: dict[str, str] | None = None,
                body: bytes = b"") -> tuple[int, bytes]:
        """Send one signed request (AWS Signature Version 4); return status and answer."""
        now = datetime.datetime.now(datetime.timezone.utc)
        stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        host, digest = self.endpoint.removeprefix("http://"), hashlib.sha256(body).hexdigest()
        search = urlencode(sorted((query or {}).items()), quote_via=quote)
        headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": stamp}
        canonical = "\n".join([method, quote(path), search, *(f"{name}:{headers[name]}" for name in headers),
                               "", ";".join(headers), digest])
        scope = f"{day}/{REGION}/s3/aws4_request"
        hashed = hashlib.sha256(canonical.encode()).hexdigest()
        to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashed])
        key = f"AWS4{self.secret_key}".encode()
        for part in (*scope.split("/"), to_sign):
            key = hmac.digest(key, part.encode(), "sha256")
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope}, SignedHeaders={';'.join(headers)},"
            f" Signature={key.hex()}")
        connection = http.client.HTTPConnection(host, timeout=30)
        try:
            connection.request(method, quote(path) + (f"?{search}" if search else ""), body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    # Starting ---------------------------------------------------------------------------------

    def _build_rings(self) -> None:
        lines = []
        for kind in ("account", "container", "object"):
            builder = f"{self.folder}/{kind}.builder"
            devices = [f"r1z{number}-{self.address}:{self._ports[kind]}/{name} 1"
                       for number, name in enumerate(DEVICES, 1)]
            lines += [f"{builder} create {PARTITION_BITS} {REPLICAS} 0", f"{builder} add {' '.join(devices)}",
                      f"{builder} rebalance"]
        built = subprocess.run([sys.executable, "-c", _RINGS], input="\n".join(lines).encode(),
                               capture_output=True, cwd=self.folder, timeout=START_SECONDS, check=False)
        assert built.returncode == 0, built

    def _wait_for(self, port: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection((self.address, port), 1).close()
                return
            except OSError:
                ended = [process.args for process in self._processes if process.poll() is not None]
                if ended or time.monotonic() > deadline:
                    raise AssertionError(f"no Swift at port {port}; ended: {ended}\n{self.log()}") from None
                time.sleep(0.02)


@cache
def swift() -> Swift:
    """Return the cluster of this process, started with the first call and ended at exit.

    Raises: SkipTest where Swift is not installed (AssertionError under CI).
    """
    for kind in ("proxy", "account", "container", "object"):
        try:
            needs(f"swift-{kind}-server")
        except Exception:
            unavailable("missing: OpenStack Swift; install with: pip install 'mailgate[test]'")
    cluster = Swift()
    atexit.register(_end, cluster, os.getpid())
    cluster.start()
    return cluster


def _end(cluster: Swift, process: int) -> None:
    if os.getpid() == process:      # not in a child that was forked
        cluster.end()


def _end_with_parent() -> None:
    """Have a server end with the process that started it, however that ends. Linux alone."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _folder() -> Path:
    """Make a folder of our own where files can have extended attributes, in memory if possible.

    One that a process left behind which was killed is removed.
    """
    for parent in ("/dev/shm", tempfile.gettempdir(), os.getcwd()):
        if not os.path.isdir(parent) or shutil.disk_usage(parent).free < NEEDED_OCTETS:
            continue
        for left in Path(parent).glob(f"{FOLDER}*"):
            if not Path("/proc", left.name.removeprefix(FOLDER).partition("-")[0]).exists():
                shutil.rmtree(left, ignore_errors=True)
        folder = tempfile.mkdtemp(prefix=f"{FOLDER}{os.getpid()}-", dir=parent)
        try:
            os.setxattr(folder, "user.mailgate", b"x" * 3000)
        except OSError:
            os.rmdir(folder)
        else:
            return Path(folder)
    return unavailable("no file system with extended attributes (user.*), which Swift needs")


def _free_ports(address: str, count: int) -> list[int]:
    """Return ports that nobody listens on; nobody but us knows the address."""
    sockets = [socket.create_server((address, 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
