"""KPOP against the real service and a real KDC: MIT's krb5_sendauth, fetchmail, octets by hand, TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailgate.kpop.sendauth import framed
from tests.interop.programs import contents, mda_into, run
from tests.kerberos import Realm
from tests.needs import needs, unavailable
from tests.services import BIN, Service, Site, wait_for

SERVICE = "pop/localhost"
BEGIN = framed(b"KRB5_SENDAUTH_V1.0\0") + framed(b"KPOPV1.0\0")
BAD_RESPONSE, BAD_APPLICATION, REJECTED = -1765328176, -1765328179, -1765328177    # MIT's krb5 table

_open = contextlib.ExitStack()
realm: Realm
site: Site
service: Service
caches: dict[str, str]

_FURTHER = """\
[[listen]]
protocol = "kpop"
endpoint = "tcp:0:interface=127.0.0.1"
[[listen]]
protocol = "kpop"
endpoint = "tcp:0:interface=127.0.0.1"
implicit_tls = true
[kerberos]
keytab = "{keytab}"
service = "pop/localhost@TEST.EXAMPLE"
versions = ["justjunk"]
rules = [
  "{{name}}@TEST.EXAMPLE -> {{name}}",
  "{{name}}/shop@TEST.EXAMPLE -> {{name}}@shop",
]
[tls]
certificate = "cert.pem"
key = "key.pem"
"""


def setUpModule() -> None:
    """Start a KDC, and one service that takes its tickets."""
    global realm, site, service, caches
    folder = Path(_open.enter_context(tempfile.TemporaryDirectory()))
    realm = Realm(folder / "realm")
    _open.callback(realm.stop)
    _open.enter_context(realm.environment())
    realm.add("alice", "bob", "bob/admin", "zoe", SERVICE, "imap/localhost")
    realm._kadmin('add_principal -pw "secret of the realm" bob/shop')
    keytab = realm.keytab(SERVICE)
    caches = {name: str(realm.log_in(name)) for name in ("alice", "bob", "bob/admin", "bob/shop", "zoe")}
    (folder / "site").mkdir()
    subprocess.run(
        [needs("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "site/key.pem", "-out",
         "site/cert.pem", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"],
        cwd=folder, check=True, capture_output=True)
    site = Site(folder / "site", accounts={"alice": "a", "bob": "b", "zoe": "z"}, hosts={"shop": ["s"]},
                further=_FURTHER.format(keytab=keytab))
    site.succeed("account", "disable", "zoe")
    service = site.start()
    _open.callback(service.end)


def tearDownModule() -> None:
    _open.close()


def ports() -> list[int]:
    """Return the ports of the KPOP listeners: without TLS, and inside it."""
    return [port for protocol, port in service.ports if protocol == "kpop"]


def sendauth(user: str, *say: str, server: str = SERVICE, version: str = "KPOPV1.0",
             mutual: bool = True) -> Any:
    """Run MIT's krb5_sendauth as a user, then say lines; return what came back."""
    return realm.client({"do": "sendauth", "port": ports()[0], "server": server, "say": say,
                         "version": version, "mutual": mutual}, KRB5CCNAME=caches[user])


def request(user: str, *, mutual: bool = False, server: str = SERVICE) -> bytes:
    """Return a framed AP-REQ."""
    made = realm.client({"do": "request", "server": server, "mutual": mutual}, KRB5CCNAME=caches[user])
    return framed(bytes.fromhex(made["request"]))


def talk(octets: bytes, connection: socket.socket | None = None) -> bytes:
    """Say octets at once, and return all that comes until the server closes."""
    with connection or socket.create_connection(("127.0.0.1", ports()[0]), 20) as client:
        client.sendall(octets)
        said = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := client.recv(4096):
                said += piece
        return said


class SendauthTests(SynchronousTestCase):
    """MIT's own client library, as historic clients called it."""

    def test_session(self) -> None:
        """Mutual or not, by name or address, with any password."""
        site.deliver(b"Subject: one\n\nhello\n", "alice@mail.example.org")
        for mutual in (True, False):
            for user in ("alice", "alice@mail.example.org"):
                found = sendauth("alice", f"USER {user}", "PASS krb_ticket", "RSET", "QUIT", mutual=mutual)
                self.assertEqual(found["code"], 0, found)
                self.assertRegex("\n".join(found["lines"]), (
                    r"^\+OK mailgate ready\n\+OK .*\n\+OK maildrop has [1-9].*\n\+OK .*\n\+OK goodbye$"))

    def test_not_mine(self) -> None:
        """Another's maildrop, an instance's, a disabled one, one that is not there: one reply."""
        for user, name in (("alice", "bob"), ("bob/admin", "bob"), ("zoe", "zoe"), ("alice", "nobody"),
                           ("bob", "bob@shop"), ("bob/shop", "shop"), ("bob/shop", "eve@shop")):
            found = sendauth(user, f"USER {name}", f"PASS {name}", "QUIT")
            self.assertEqual(found["lines"][2:], ["-ERR [AUTH] login refused", "+OK goodbye"], (user, name))
        self.assertIn("bob/admin@TEST.EXAMPLE may not open bob: no rule opens it", service.log())

    def test_sdps_by_rule(self) -> None:
        """user@host opens the user's view of the host's maildrop."""
        site.deliver(b"Subject: for bob\n\nhello\n", "bob@shop.mail.example.org")
        site.deliver(b"Subject: for eve\n\nhello\n", "eve@shop.mail.example.org")
        for name in ("bob@shop", "bob+shop"):
            found = sendauth("bob/shop", f"USER {name}", "PASS x", "*ENV 1", "QUIT")
            self.assertRegex(found["lines"][2], "has 1 messages")

    def test_versions(self) -> None:
        """Another application version is refused in MIT's way; a configured one is taken."""
        self.assertEqual(sendauth("alice", version="KPOPV0.1")["code"], BAD_APPLICATION)
        self.assertEqual(sendauth("alice", version="justjunk")["lines"], ["+OK mailgate ready"])

    def test_another_service(self) -> None:
        """A ticket for another service is rejected, and MIT's client understands so."""
        self.assertEqual(sendauth("alice", server="imap/localhost")["code"], REJECTED)


class OctetTests(SynchronousTestCase):
    def test_burst(self) -> None:
        """The Macintosh's one buffer, and all of the session behind it."""
        said = talk(BEGIN + request("bob") + b"USER bob\r\nPASS hej\r\nSTAT\r\nQUIT\r\n")
        self.assertEqual(said, b"\0" + framed(b"") + b"+OK mailgate ready\r\n+OK send the password\r\n"
                         b"+OK maildrop has 0 messages (0 octets)\r\n+OK 0 0\r\n+OK goodbye\r\n")

    def test_replay(self) -> None:
        """A captured AP-REQ gets in nobody a second time: error 34 in a KRB-ERROR."""
        captured = BEGIN + request("bob", mutual=True)
        first, second = talk(captured + b"QUIT\r\n"), talk(captured + b"QUIT\r\n")
        self.assertEqual((first[:5], first[9:10]), (b"\0" * 5, b"\x6f"))
        self.assertEqual((second[0], second[5:6]), (0, b"\x7e"))
        self.assertIn(b"\xa6\x03\x02\x01\x22", second)
        self.assertNotIn(b"+OK", second)
        self.assertIn('login refused for 127.0.0.1 (kpop, ticket) as "": Request is a replay', service.log())

    def test_pop3_client(self) -> None:
        """It gets nothing, its password is not logged, and the log says what it was."""
        self.assertEqual(talk(b"USER alice\r\nPASS very-secret\r\n"), b"")
        wait_for(lambda: "a POP3 client on the KPOP port" in service.log(), "the log to tell")
        self.assertNotIn("very-secret", service.log())

    def test_lengths(self) -> None:
        """None past its limit is waited for."""
        self.assertEqual(talk(b"\xff\xff\xff\xff"), b"")
        self.assertEqual(talk(BEGIN + b"\x7f\xff\xff\xff"), b"\0")
        self.assertEqual(talk(BEGIN + b"QUIT\r\n"), b"\0")


class TLSTests(SynchronousTestCase):
    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(site.folder / "cert.pem"))

    def test_inside_tls(self) -> None:
        """TLS first, then the exchange, then POP3; and no STLS in it."""
        client = socket.create_connection(("127.0.0.1", ports()[1]), 20)
        said = talk(BEGIN + request("bob") + b"CAPA\r\nUSER bob\r\nPASS\r\nQUIT\r\n",
                    self.context().wrap_socket(client, server_hostname="localhost"))
        self.assertTrue(said.startswith(b"\0" * 5 + b"+OK mailgate ready\r\n"), said)
        self.assertTrue(said.endswith(b"+OK maildrop has 0 messages (0 octets)\r\n+OK goodbye\r\n"))
        self.assertNotIn(b"STLS", said)

    def test_stls(self) -> None:
        """STLS behind the greeting: the client stays known, and says USER inside."""
        with socket.create_connection(("127.0.0.1", ports()[0]), 20) as client:
            client.sendall(BEGIN + request("bob") + b"CAPA\r\nSTLS\r\n")
            said = b""
            while b"+OK begin TLS\r\n" not in said:
                piece = client.recv(4096)
                self.assertNotEqual(piece, b"")
                said += piece
            self.assertIn(b"STLS\r\n", said)
            inside = self.context().wrap_socket(client, server_hostname="localhost")
            self.assertIn(b"+OK maildrop has 0", talk(b"USER bob\r\nPASS x\r\nQUIT\r\n", inside))

    def test_tls_where_none_is_spoken(self) -> None:
        """A ClientHello on the plain port is told in the log."""
        client = socket.create_connection(("127.0.0.1", ports()[0]), 20)
        with self.assertRaises(OSError), client:
            self.context().wrap_socket(client, server_hostname="localhost")
        wait_for(lambda: "TLS where none is spoken" in service.log(), "the log to tell")


class FetchmailTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(mode=0o700)
        services = self.folder / "services"
        services.write_text(f"{Path('/etc/services').read_text()}\nkpop {ports()[0]}/tcp\n")
        self.inside = [needs("unshare"), "--mount", "sh", "-c",
                       f'mount --bind "{services}" /etc/services && exec "$@"', "sh"]
        works = subprocess.run([*self.inside, "true"], capture_output=True, check=False).returncode == 0
        if not works:
            unavailable("a mount namespace needs root: fetchmail looks KPOP up in /etc/services")

    def poll(self, user: str, name: str) -> Any:
        rc_file = self.folder / "fetchmailrc"
        rc_file.write_text(f'poll localhost protocol kpop auth kerberos_v5 timeout 20 no dns\n'
                           f'user "{name}" is tester here {mda_into(self.folder / "mail")}\n')
        rc_file.chmod(0o600)
        return run([*self.inside, needs("fetchmail"), "-f", str(rc_file), "--nodetach", "--nosyslog", "-v",
                    "-v", "--sslproto", "", "--idfile", str(self.folder / "ids"), "--pidfile",
                    str(self.folder / "pid")], folder=self.folder,
                   environment={"FETCHMAILHOME": str(self.folder), **realm.variables,
                                "KRB5CCNAME": caches[user]})

    def test_fetch(self) -> None:
        """Debian's fetchmail gets its ticket from the KDC and its mail from us."""
        site.deliver(b"Subject: kpop\n\nby ticket\n", "bob@mail.example.org")
        ran = self.poll("bob", "bob")
        self.assertEqual(ran.code, 0, ran.everything)
        self.assertIn("PASS krb_ticket", ran.everything.replace("*", ""), ran.everything)
        self.assertEqual([one.partition(b"\n\n")[2] for one in contents(self.folder / "mail")],
                         [b"by ticket\n"])

    def test_refused(self) -> None:
        """Another's maildrop is an authorization failure (3) to it."""
        ran = self.poll("bob", "alice")
        self.assertEqual(ran.code, 3, ran.everything)


class OperatorTests(SynchronousTestCase):
    """What `mailgate check` and a start say of keytab and service."""

    def site(self, kerberos: str, listen: str = 'protocol = "kpop"') -> Site:
        return Site(Path(self.mktemp()), further=(
            f'[[listen]]\n{listen}\nendpoint = "tcp:0:interface=127.0.0.1"\n{kerberos}'))

    def told(self, made: Site, *words: str) -> None:
        """Both end with 78 and say the same."""
        checked = made.command("check")
        self.assertEqual(checked.returncode, 78, checked)
        started = subprocess.run([BIN / "twistd", "-n", "--pidfile=", "mailgate", "-c", made.file],
                                 capture_output=True, cwd=made.folder, timeout=60, check=False)
        self.assertEqual(started.returncode, 78, started)
        for word in words:
            self.assertIn(word, checked.stderr.decode())
            self.assertIn(word, started.stderr.decode())

    def test_all_is_well(self) -> None:
        ran = site.command("check")
        self.assertEqual(ran.returncode, 0, ran)

    def test_keytab(self) -> None:
        keytab = realm.folder / "krb5.keytab"
        self.told(self.site('[kerberos]\nkeytab = "nothing"\nservice = "pop/localhost@TEST.EXAMPLE"\n'),
                  "kerberos.keytab: ", "/nothing: No such file or directory")
        self.told(self.site(f'[kerberos]\nkeytab = "{keytab}"\nservice = "pop/wrong@TEST.EXAMPLE"\n'),
                  f"kerberos.keytab: {keytab} has no key of pop/wrong@TEST.EXAMPLE; "
                  f"there are keys of {SERVICE}@TEST.EXAMPLE")

    def test_without_cffi(self) -> None:
        """One clear error at the listener that needs it; without such a listener nothing is missed."""
        kerberos = '[kerberos]\nkeytab = "k"\nservice = "pop/localhost@TEST.EXAMPLE"\n'
        for listen, problems in (('protocol = "kpop"', 1), ('protocol = "pop3"', 0)):
            made = self.site(kerberos, listen)
            code = ("import sys; sys.modules['cffi'] = None\n"
                    "from twisted.internet import reactor\n"
                    "from mailgate.config import load\nfrom mailgate.errors import ConfigurationError\n"
                    "from mailgate.assembly.auth import Doors\n"
                    "from mailgate.assembly.listeners import make_factory\n"
                    "config = load(sys.argv[1])\n"
                    "class Store: accounts = None\n"
                    "doors = Doors(config, Store, None, reactor)\n"
                    "try: make_factory(config, config.listen[2], Store, doors, reactor)\n"
                    "except ConfigurationError as fault: print(*fault.problems, sep='\\n')\n")
            ran = subprocess.run([BIN / "python", "-c", code, made.file], capture_output=True, text=True,
                                 check=False)
            self.assertEqual((ran.returncode, len(ran.stdout.splitlines())), (0, problems), ran)
            self.assertTrue(not problems or ran.stdout.startswith(
                "listen[2].protocol: Kerberos needs the Python package cffi: pip install "), ran)
