"""A Kerberos realm of the tests' own, and MIT's own client library in a child process.

    realm = Realm(folder)                   # KDC running; needs Debian's krb5-kdc and friends
    realm.add("alice", "pop/localhost")
    keytab = realm.keytab("pop/localhost")
    cache = realm.log_in("alice")           # a credential cache with a ticket-granting ticket
    realm.client({"do": "sendauth", ...}, KRB5CCNAME=str(cache))
    realm.stop()

The realm is the one that the harness offers to authors of clients (mailgate/testing/kdc.py).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mailgate.testing import kdc
from mailgate.testing.kdc import PASSWORD, RUN_SECONDS
from tests.needs import needs

__all__ = ["PASSWORD", "Realm", "ended"]


class Realm(kdc.Realm):
    """A realm that is skipped, or missed under CI, where MIT's programs are not there."""

    def __init__(self, folder: Path, name: str = kdc.NAME, *, cross: Realm | None = None) -> None:
        needs(*kdc.PROGRAMS, "kvno")
        super().__init__(folder, name, cross=cross)

    def client(self, request: Mapping[str, Any], **environment: str) -> Any:
        """Run `tests.kerberos_peer` with a request; return what it answers."""
        return ended(self.begin_client(request, **environment))

    def begin_client(self, request: Mapping[str, Any], **environment: str) -> subprocess.Popen[str]:
        """Start `tests.kerberos_peer`; `ended` waits for its answer."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.kerberos_peer", json.dumps(request)], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent,
            env=self._environment(**environment))
        return process


def ended(process: subprocess.Popen[str]) -> Any:
    """Return the answer of a `tests.kerberos_peer` that was begun."""
    out, err = process.communicate(timeout=RUN_SECONDS)
    assert process.returncode == 0, (out, err)
    return json.loads(out)
