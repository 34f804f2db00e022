"""Debian's packages of POP3 servers, unpacked into a folder of ours: installed, one excludes the others."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.needs import needs, unavailable

FETCH_SECONDS = 300


def cache() -> Path:
    """Return the folder in which they are kept between runs."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "mailgate-tests"


def unpacked(package: str) -> Path:
    """Return the folder in which a package's files lie as below the root; fetched once, by apt.

    Raises: as `needs`, also where apt cannot fetch it.
    """
    needs("apt-get", "dpkg-deb")
    folder = cache() / package
    if not folder.is_dir():
        cache().mkdir(parents=True, exist_ok=True)
        with open(cache() / ".lock", "wb") as lock:     # apt's own lock lets one of two fail
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                _fetch(package, folder)
    return folder


def _fetch(package: str, folder: Path) -> None:
    made = Path(tempfile.mkdtemp(dir=cache(), prefix=f"{package}."))
    try:
        ran = _apt_get("download", package, folder=made)
        if ran.returncode and os.geteuid() == 0:        # its lists may be too old
            _apt_get("update", folder=made)
            ran = _apt_get("download", package, folder=made)
        files = list(made.glob("*.deb"))
        if ran.returncode or len(files) != 1:
            unavailable(f"missing: {package}; fetch with: apt-get update && apt-get download {package} "
                        f"({ran.stderr.decode(errors='replace').strip()})")
        subprocess.run(["dpkg-deb", "-x", files[0], made / "root"], check=True)
        (made / "root").chmod(0o755)
        (made / "root").rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _apt_get(*words: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["apt-get", "-q", *words], cwd=folder, capture_output=True, check=False,
                          stdin=subprocess.DEVNULL, timeout=FETCH_SECONDS)
