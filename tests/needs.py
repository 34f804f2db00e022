"""Programs that tests want as real peers: where one is missing the test is skipped, but never unseen.

Under CI a skip would hide that nothing was tested, so there a missing program is a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from unittest import SkipTest

PACKAGES = {     # Debian's package, where it is not named as the program
    "krb5kdc": "krb5-kdc", "kdb5_util": "krb5-kdc", "kadmin.local": "krb5-admin-server",
    "kinit": "krb5-user", "kvno": "krb5-user", "unshare": "util-linux",
    "dovecot": "dovecot-pop3d", "pop3d": "mailutils-pop3d", "cyrmaster": "cyrus-common",
    "saslpasswd2": "sasl2-bin libsasl2-modules-db", "dpkg-deb": "dpkg", "apt-get": "apt",
    "dotlockfile": "liblockfile-bin", "lockfile": "procmail", "dovecot-lda": "dovecot-core",
    "couriertcpd": "courier-base", "couriertls": "courier-base",
    "node": "nodejs", "java": "default-jdk-headless",
    "slapadd": "slapd", "ldapmodify": "ldap-utils",
    "fail2ban-regex": "fail2ban", "fail2ban-client": "fail2ban"}


def needs(*programs: str) -> str:
    """Return the path of the first program; all have to be there.

    Programs of the tests' own Python environment count too.

    Raises: SkipTest, naming the command that installs what is missing; AssertionError under CI.
    """
    paths = {program: _found(program) for program in programs}
    missing = [program for program, path in paths.items() if path is None]
    if missing:
        packages = " ".join(PACKAGES.get(program, program) for program in missing)
        unavailable(f"missing: {', '.join(missing)}; install with: apt-get install {packages}")
    return str(paths[programs[0]])


def needs_perl(module: str) -> str:
    """Return the path of a perl that has a module. Raises: as `needs`."""
    perl = needs("perl")
    asked = subprocess.run([perl, f"-M{module}", "-e", "1"], capture_output=True, check=False)
    if asked.returncode:
        unavailable(f"missing: {module}; install with: apt-get install perl")
    return perl


def unavailable(words: str, environment: Mapping[str, str] = os.environ) -> None:
    """Skip the test, or fail where skipping is no choice."""
    if environment.get("CI", "").lower() in ("true", "1", "yes"):
        raise AssertionError(words)
    raise SkipTest(words)


def _found(program: str) -> str | None:
    beside = Path(sys.executable).with_name(program)
    return str(beside) if os.access(beside, os.X_OK) else shutil.which(
        program, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
