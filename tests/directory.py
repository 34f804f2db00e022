"""An LDAP directory of the tests' own: a real slapd on loopback, with TLS and a socket.

    directory = Slapd()             # running; needs Debian's slapd
    directory.ldap, directory.ldaps, directory.ldapi    # its URLs
    directory.authority             # who issued its certificate, for 127.0.0.1
    directory.stop(); directory.start()         # on the same addresses, with the same entries
    directory.pause(); directory.resume()       # SIGSTOP, SIGCONT
    directory.remove()              # stopped, folder gone
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

from mailgate.auth.schemes import hash_password
from mailgate.testing.certificates import Authority
from tests.needs import needs
from tests.ports import hold
from tests.services import stands_still, wait_for

SUFFIX = "dc=example,dc=org"
PEOPLE = f"ou=people,{SUFFIX}"
READER, READER_PASSWORD = f"cn=mailgate,{SUFFIX}", "reads names"    # who may search
RUN_SECONDS = 60

_CONFIGURATION = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload ppolicy
pidfile {folder}/slapd.pid
argsfile {folder}/slapd.args
threads 4
TLSCertificateFile {folder}/cert.pem
TLSCertificateKeyFile {folder}/key.pem
TLSCACertificateFile {folder}/ca.pem
{security}
database mdb
maxsize 16777216
suffix "{suffix}"
rootdn "cn=root,{suffix}"
rootpw root
directory {folder}/data
index uid,mail eq
access to attrs=userPassword by anonymous auth by * none
access to dn.subtree="ou=hidden,{suffix}" by * none
access to * by dn.exact="{reader}" read by * none
overlay ppolicy
ppolicy_default "cn=policy,{suffix}"
ppolicy_use_lockout
"""
_ENTRIES = f"""\
dn: {SUFFIX}
objectClass: dcObject
objectClass: organization
dc: example
o: Example

dn: {PEOPLE}
objectClass: organizationalUnit
ou: people

dn: ou=hidden,{SUFFIX}
objectClass: organizationalUnit
ou: hidden

dn: ou=elsewhere,{PEOPLE}
objectClass: referral
objectClass: extensibleObject
ou: elsewhere
ref: ldap://127.0.0.1:1/ou=elsewhere,{PEOPLE}

dn: ou=alias,{PEOPLE}
objectClass: alias
objectClass: extensibleObject
ou: alias
uid: pointed
aliasedObjectName: uid=alice,{PEOPLE}

dn: cn=policy,{SUFFIX}
objectClass: pwdPolicy
objectClass: device
cn: policy
pwdAttribute: userPassword
pwdLockout: TRUE
pwdMaxFailure: 1000
pwdMustChange: TRUE

dn: {READER}
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: mailgate
userPassword: {READER_PASSWORD}
"""


def person(uid: str, password: str, *, more: str = "", under: str = PEOPLE, rdn: str = "") -> str:
    """Return the LDIF of a user; `rdn` where its name in a DN is not `uid` as it is."""
    return (f"\ndn: {rdn or f'uid={uid}'},{under}\nobjectClass: inetOrgPerson\ncn: {uid}\nsn: {uid}\n"
            f"uid: {uid}\nuserPassword: {hash_password(password.encode(), 'SSHA')}\n{more}")


class Slapd:
    """See above. `entries` is more LDIF; `security` more lines of the configuration."""

    def __init__(self, entries: str = "", *, security: str = "") -> None:
        self._program = needs("slapd", "slapadd")
        self.folder = Path(tempfile.mkdtemp(prefix="slapd-"))     # short: it holds a socket
        (self.folder / "data").mkdir()
        self.authority = Authority("Directory of tests")
        self.authority.issue("127.0.0.1").write(self.folder)
        (self.folder / "ca.pem").write_bytes(self.authority.pem)
        self._configuration = self.folder / "slapd.conf"
        self._configuration.write_text(_CONFIGURATION.format(
            folder=self.folder, suffix=SUFFIX, reader=READER, security=security))
        self._holders = [hold() for _ in range(2)]      # while it is stopped, too
        self._ports = [holder.getsockname()[1] for holder in self._holders]
        self.ldap = f"ldap://127.0.0.1:{self._ports[0]}"
        self.ldaps = f"ldaps://127.0.0.1:{self._ports[1]}"
        self.ldapi = "ldapi://" + quote(str(self.folder / "socket"), safe="")
        self.ca_file = self.folder / "ca.pem"
        self.password_file = self.folder / "reader.secret"
        self.password_file.write_text(READER_PASSWORD + "\n")
        subprocess.run([needs("slapadd"), "-q", "-f", str(self._configuration)], check=True,
                       input=_ENTRIES + entries, text=True, capture_output=True, timeout=RUN_SECONDS)
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it on its addresses, and wait until it answers."""
        log = open(self.folder / "log", "ab")   # noqa: SIM115  (the child has it too)
        with log:
            self.process = subprocess.Popen(
                [self._program, "-d", "0", "-f", str(self._configuration),
                 "-h", f"{self.ldap} {self.ldaps} {self.ldapi}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_for(self._answers, "slapd to answer")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it in order; entries and addresses stay."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait(RUN_SECONDS)
            self.process = None

    def pause(self) -> None:
        """Let it stand still; the system goes on to take connections for it."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)
        pid = self.process.pid
        wait_for(lambda: stands_still(pid), "slapd to stand still")

    def resume(self) -> None:
        """Let it go on."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def modify(self, ldif: str) -> None:
        """Change entries, as the directory's root."""
        subprocess.run([needs("ldapmodify"), "-x", "-H", self.ldapi, "-D", f"cn=root,{SUFFIX}", "-w", "root"],
                       input=ldif, text=True, check=True, capture_output=True, timeout=RUN_SECONDS)

    def remove(self) -> None:
        """Stop it, and remove its folder."""
        self.stop()
        for holder in self._holders:
            holder.close()
        shutil.rmtree(self.folder)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "slapd has ended: " + (self.folder / "log").read_text()
        for port in self._ports:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)):
                    return False
        return (self.folder / "socket").exists()
