"""What a shell script with curl does: list, fetch each message into a file, delete those that came whole.

Each fetch is a run of curl, and so a session; the deletions are one session more.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Fetch and delete everything; return curl's exit code that was not 0, if there was one."""
    folder, address, *options = sys.argv[1:]
    return fetch(Path(folder), address, options)


def fetch(folder: Path, address: str, options: list[str]) -> int:
    """Do it; `options` are curl's."""
    (folder / "mail").mkdir(exist_ok=True)
    listing = _curl(options, f"{address}/")
    if listing.returncode:
        return listing.returncode
    worst, fetched = 0, list[int]()
    for number in re.findall(rb"(?m)^(\d+) ", listing.stdout):
        part = folder / "part"
        part.unlink(missing_ok=True)
        ended = _curl([*options, "-o", str(part)], f"{address}/{int(number)}")
        if ended.returncode or not part.exists():
            worst = worst or ended.returncode
            continue
        part.rename(folder / "mail" / f"{sum(1 for _ in (folder / 'mail').iterdir()) + 1:05}")
        fetched.append(int(number))
    if fetched:
        # -I: no body is awaited behind the reply
        parts = [[*options, "-I", "-X", "DELE", f"{address}/{number}"] for number in fetched]
        chained = parts[0] + [word for part in parts[1:] for word in ("--next", *part)]
        ended = _curl(chained)
        worst = worst or ended.returncode
    return worst


def _curl(options: list[str], *address: str) -> subprocess.CompletedProcess[bytes]:
    ended = subprocess.run(["curl", "-q", *options, *address], capture_output=True, check=False)
    sys.stderr.buffer.write(ended.stderr)
    return ended


sys.exit(main())
