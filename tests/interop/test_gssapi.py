"""AUTH GSSAPI against the real service and a real KDC: curl, fetchmail, mpop, and MIT's library by hand."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import ssl
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing.certificates import Authority
from tests.gss_client import BOUND_TO, CONFIDENTIAL, INTEGRITY, MUTUAL, GssClient
from tests.interop.programs import Ran, contents, mda_into, run
from tests.interop.talk import CLIENT_SECONDS
from tests.kerberos import Realm
from tests.needs import needs
from tests.services import BIN, HOSTNAME, Service, Site

SERVICE = "pop/localhost@TEST.EXAMPLE"
LOGIN_DENIED, AUTH_ERROR = 67, 94       # curl's
OFFER = b"\1\0\0\0"
REFUSED = b"-ERR [AUTH] login refused\r\n"

_open = contextlib.ExitStack()
realm: Realm
site: Site
service: Service
caches: dict[str, str]
ports: dict[str, int]

_FURTHER = """\
[[listen]]
protocol = "pop3"
endpoint = "tcp:0:interface=127.0.0.1"
mechanisms = ["GSSAPI", "PLAIN"]
[[listen]]
protocol = "pop3s"
endpoint = "tcp:0:interface=127.0.0.1"
mechanisms = ["GSSAPI"]
[kerberos]
keytab = "{keytab}"
service = "pop/localhost@TEST.EXAMPLE"
rules = [
  "{{name}}@TEST.EXAMPLE -> {{name}}",
  "{{name}}/shop@TEST.EXAMPLE -> {{name}}@shop",
  "alice@TEST.EXAMPLE -> info",
]
[tls]
certificate = "cert.pem"
key = "key.pem"
"""


def setUpModule() -> None:
    """Start a KDC, and one service that takes its tickets in clear, by STLS and inside TLS."""
    global realm, site, service, caches, ports
    needs("curl", "fetchmail", "mpop")
    folder = Path(_open.enter_context(tempfile.TemporaryDirectory()))
    realm = Realm(folder / "realm")
    _open.callback(realm.stop)
    _open.enter_context(realm.environment())
    realm.add("alice", "zoe", "pop/localhost", "imap/localhost")
    realm._kadmin('add_principal -pw "secret of the realm" bob/shop')
    caches = {name: str(realm.log_in(name)) for name in ("alice", "zoe", "bob/shop")}
    (folder / "site").mkdir()
    authority = Authority()
    authority.issue("localhost", HOSTNAME).write(folder / "site")
    (folder / "site" / "ca.pem").write_bytes(authority.pem)
    site = Site(folder / "site", accounts={"alice": "a", "info": "i", "zoe": "z"}, hosts={"shop": ["s"]},
                further=_FURTHER.format(keytab=realm.keytab("pop/localhost", "imap/localhost")))
    site.succeed("account", "disable", "zoe")
    site.deliver(b"Subject: one\n\nby ticket\n", f"alice@{HOSTNAME}")
    site.deliver(b"Subject: two\n\nfor bob\n", f"bob@shop.{HOSTNAME}")
    service = site.start()
    _open.callback(service.end)
    plain, clear = (port for protocol, port in service.ports if protocol == "pop3")
    ports = {"unasked": plain, "clear": clear, "secure": dict(service.ports)["pop3s"]}


def tearDownModule() -> None:
    _open.close()


def environment(user: str | None) -> dict[str, str]:
    """Return what a program finds tickets by; None: it has none."""
    return {**realm.variables, "KRB5CCNAME": caches[user] if user else "/nonexistent"}


def trusted() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(site.folder / "ca.pem"))


class ProgramCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(mode=0o700, parents=True)


class CurlTests(ProgramCase):
    def fetch(self, *options: str, user: str | None = "alice", name: str = "alice@TEST.EXAMPLE:",
              url: str = "") -> Ran:
        url = url or f"pop3://localhost:{ports['clear']}/1"
        return run([needs("curl"), "-q", "-s", "-S", "-v", "--max-time", "30", "--user", name, "--cacert",
                    str(site.folder / "ca.pem"), *options, url],
                   folder=self.folder, environment=environment(user))

    def test_ways(self) -> None:
        """In clear, by STLS and inside TLS; in two steps: a token is too long for curl's initial response.

        (With --sasl-ir curl 7.88 makes the token, finds it too long, and then cannot make it again.)
        """
        inside = f"pop3s://localhost:{ports['secure']}/1"
        for options, url in (([], ""), (["--ssl-reqd"], ""), ([], inside)):
            ran = self.fetch("--login-options", "AUTH=GSSAPI", *options, url=url)
            self.assertEqual(ran.code, 0, ran.told)
            self.assertIn("> AUTH GSSAPI", ran.told)
            self.assertTrue(ran.out.endswith(b"by ticket\r\n"))

    def test_acting_as(self) -> None:
        """--sasl-authzid says whom; what no rule permits is refused, and nothing tells why."""
        for acting_as, code in (("alice", 0), (f"alice@{HOSTNAME}", 0), ("zoe", LOGIN_DENIED),
                                ("nobody", LOGIN_DENIED), ("bob@shop", LOGIN_DENIED)):
            ran = self.fetch("--login-options", "AUTH=GSSAPI", "--sasl-authzid", acting_as)
            self.assertEqual(ran.code, code, ran.told)
            self.assertTrue(not code or "< -ERR [AUTH] login refused" in ran.told, ran.told)
        ran = self.fetch("--login-options", "AUTH=GSSAPI", user="bob/shop", name="bob/shop@TEST.EXAMPLE:")
        self.assertTrue(ran.out.endswith(b"for bob\r\n"), ran.told)

    def test_no_ticket(self) -> None:
        """Why it is not announced unasked: by an address curl tries GSSAPI first, and then nothing else."""
        ran = self.fetch(user=None, name=f"alice@{HOSTNAME}:a")
        self.assertEqual(ran.code, AUTH_ERROR, ran.told)
        self.assertNotIn("AUTH PLAIN", ran.told)
        for name, port in ((f"alice@{HOSTNAME}:a", "unasked"), ("alice:a", "clear")):
            ran = self.fetch(user=None, name=name, url=f"pop3://localhost:{ports[port]}/1")
            self.assertTrue(ran.out.endswith(b"by ticket\r\n"), ran.told)


class FetchmailTests(ProgramCase):
    def poll(self, how: str, user: str | None = "alice", name: str = "alice") -> Ran:
        rc_file = self.folder / "fetchmailrc"
        rc_file.write_text(
            f"poll localhost service {ports['clear']} protocol pop3 {how} timeout 20 no dns\n"
            f'user "{name}" password a is tester here keep fetchall {self.tls} '
            f'{mda_into(self.folder / "mail")}\n')
        rc_file.chmod(0o600)
        return run([needs("fetchmail"), "-f", str(rc_file), "--nodetach", "--nosyslog", "-v", "-v",
                    "--idfile", str(self.folder / "ids"), "--pidfile", str(self.folder / "pid")],
                   folder=self.folder, environment={"FETCHMAILHOME": str(self.folder), **environment(user)})

    tls = "sslproto ''"

    def test_in_clear(self) -> None:
        ran = self.poll("auth gssapi")
        self.assertEqual(ran.code, 0, ran.everything)
        self.assertIn("> AUTH GSSAPI", ran.everything)
        self.assertIn("Unwrapped security level flags: N--", ran.everything)
        self.assertEqual([one.partition(b"\n\n")[2] for one in contents(self.folder / "mail")],
                         [b"by ticket\n"])

    def test_stls(self) -> None:
        self.tls = f"sslcertck sslcertfile {site.folder}/ca.pem"
        ran = self.poll("auth gssapi")
        self.assertEqual(ran.code, 0, ran.everything)
        self.assertRegex(ran.everything, r"(?s)> STLS.*> AUTH GSSAPI")

    def test_refused(self) -> None:
        """Another's maildrop is an authorization failure (3)."""
        ran = self.poll("auth gssapi", name="info2")
        self.assertEqual(ran.code, 3, ran.everything)

    def test_as_it_likes(self) -> None:
        """With a ticket it takes GSSAPI; without one it goes on to the password."""
        for user, said in (("alice", "> AUTH GSSAPI"), (None, "> PASS")):
            ran = self.poll("", user=user)
            self.assertEqual(ran.code, 0, ran.everything)
            self.assertIn(said, ran.everything)


class MpopTests(ProgramCase):
    def test_gnu_sasl(self) -> None:
        """In clear and inside TLS; it asks for mutual authentication and names nobody."""
        for port, tls in ((ports["clear"], "tls off"), (ports["clear"], "tls on\ntls_starttls on"),
                          (ports["secure"], "tls on\ntls_starttls off")):
            for name in ("cur", "new", "tmp"):
                (self.folder / "mail" / name).mkdir(parents=True, exist_ok=True)
            rc_file = self.folder / "mpoprc"
            rc_file.write_text(
                f"account default\nhost localhost\nport {port}\n{tls}\ntls_trust_file {site.folder}/ca.pem\n"
                f"auth gssapi\nuser alice\nkeep on\nonly_new off\nreceived_header off\n"
                f"delivery maildir {self.folder}/mail\nuidls_file {self.folder}/uidls\n")
            rc_file.chmod(0o600)
            ran = run([needs("mpop"), f"--file={rc_file}", "--debug"], folder=self.folder,
                      environment=environment("alice"))
            self.assertEqual(ran.code, 0, ran.everything)
            self.assertIn("--> AUTH GSSAPI", ran.everything)
        self.assertEqual([one.partition(b"\n\n")[2] for one in contents(self.folder / "mail" / "new")],
                         [b"by ticket\n"] * 3)


class Talk:
    """A connection that says base64 and lines by hand, and a GSS-API context beside it."""

    def __init__(self, user: str = "alice", *, secure: bool = False, server: str = SERVICE,
                 **how: Any) -> None:
        self.socket = socket.create_connection(("127.0.0.1", ports["secure" if secure else "clear"]),
                                               CLIENT_SECONDS)
        if secure:
            self.socket = trusted().wrap_socket(self.socket, server_hostname="localhost")
            hashed = hashlib.sha256(self.socket.getpeercert(binary_form=True)).digest()     # type: ignore
            how = {"bound": None, **how}
            if how["bound"] is True:
                how["bound"] = BOUND_TO + hashed
        self.lines = self.socket.makefile("rb")
        assert self.lines.readline().startswith(b"+OK ")
        self.context = GssClient(caches[user], server, **how)

    def say(self, line: bytes) -> bytes:
        """Say a line; return the next."""
        self.socket.sendall(line + b"\r\n")
        return self.lines.readline()

    def give(self, octets: bytes, command: bytes = b"") -> bytes:
        """Say octets in base64; return what is behind the challenge, or the reply."""
        line = self.say(command + base64.b64encode(octets))
        return base64.b64decode(line[2:]) if line.startswith(b"+ ") else line

    def offered(self) -> bytes:
        """Go as far as the offer of layers; return what the server has wrapped."""
        answer = self.give(self.context.token(), b"AUTH GSSAPI ")
        if not self.context.complete:
            assert self.context.token(answer) == b""
            answer = self.give(b"")
        return answer

    def choose(self, acting_as: bytes = b"", choice: bytes = OFFER) -> bytes:
        """Choose a layer, and return the reply."""
        return self.give(self.context.wrap(choice + acting_as))

    def close(self) -> None:
        self.lines.close()
        self.socket.close()


class OctetTests(SynchronousTestCase):
    def talk(self, *args: Any, **how: Any) -> Talk:
        made = Talk(*args, **how)
        self.addCleanup(made.close)
        return made

    def test_ways(self) -> None:
        """Mutual or not, in two steps, several on one connection; no layer is offered, of no size."""
        for flags in (0, INTEGRITY, MUTUAL | INTEGRITY, MUTUAL | INTEGRITY | CONFIDENTIAL):
            one = self.talk(flags=flags)
            self.assertEqual(one.context.unwrap(one.offered()), OFFER)
            self.assertTrue(one.choose().startswith(b"+OK maildrop has 1 "))
            self.assertEqual(one.say(b"QUIT"), b"+OK goodbye\r\n")
        one = self.talk(flags=0)
        self.assertEqual(one.say(b"AUTH GSSAPI"), b"+ \r\n")
        self.assertEqual(one.context.unwrap(one.give(one.context.token())), OFFER)
        self.assertTrue(one.choose(b"info").startswith(b"+OK maildrop has 0 "))

    def test_layers(self) -> None:
        """A client that wants one is refused, told so in the log, and may try again."""
        for choice in (b"\2\0\x10\0", b"\4\0\x10\0", b"\7\0\0\0", b"\0\0\0\0", b"\1\0\x10\0"):
            one = self.talk()
            one.offered()
            self.assertEqual(one.choose(b"alice", choice), REFUSED)
            self.assertIn(f"another security layer than none: {choice.hex()}", service.log())
            one.context = GssClient(caches["alice"], SERVICE)
            one.offered()
            self.assertTrue(one.choose().startswith(b"+OK "))
            one.close()

    def test_cut_off(self) -> None:
        """Whoever goes in the middle of the exchange, or cancels it, keeps no maildrop shut."""
        one = self.talk()
        one.give(one.context.token(), b"AUTH GSSAPI ")
        one.close()
        one = self.talk()
        one.offered()
        one.close()
        one = self.talk()
        one.offered()
        self.assertEqual(one.say(b"*"), b"-ERR authentication cancelled\r\n")
        token = GssClient(caches["alice"], SERVICE).token()
        one.socket.sendall(b"AUTH GSSAPI " + base64.b64encode(token)[:-7])
        one.close()
        last = self.talk()
        last.offered()
        self.assertTrue(last.choose().startswith(b"+OK "))

    def test_refusals(self) -> None:
        """Another service's ticket, a replay, a disabled account, garbage: one reply."""
        other = self.talk(server="imap/localhost@TEST.EXAMPLE")
        self.assertEqual(other.give(other.context.token(), b"AUTH GSSAPI "), REFUSED)
        captured = GssClient(caches["alice"], SERVICE).token()
        self.talk().give(captured, b"AUTH GSSAPI ")
        self.assertEqual(self.talk().give(captured, b"AUTH GSSAPI "), REFUSED)
        self.assertIn("Request is a replay", service.log())
        disabled = self.talk("zoe")
        disabled.offered()
        self.assertEqual(disabled.choose(), REFUSED)
        for garbage in (b"\x60", b"x" * 65_536, captured[:300]):
            self.assertEqual(self.talk().give(garbage, b"AUTH GSSAPI "), REFUSED)
        one = self.talk()
        one.offered()
        self.assertEqual(one.give(b"no wrapped choice"), REFUSED)
        self.assertTrue(self.talk().say(b"AUTH GSS-SPNEGO").startswith(b"-ERR "))

    def test_bindings(self) -> None:
        """Inside TLS a client may bind itself to the server's certificate: to that one and no other."""
        for bound, good in ((True, True), (None, True), (BOUND_TO + bytes(32), False)):
            one = self.talk(secure=True, bound=bound)
            if good:
                one.offered()
                self.assertTrue(one.choose().startswith(b"+OK maildrop has 1 "))
                one.say(b"QUIT")
            else:
                self.assertEqual(one.give(one.context.token(), b"AUTH GSSAPI "), REFUSED)
        self.assertIn("Incorrect channel bindings were supplied", service.log())


class OperatorTests(SynchronousTestCase):
    """What is said, and what goes on all the same, where tickets cannot be judged."""

    def site(self, kerberos: str) -> Site:
        return Site(Path(self.mktemp()), accounts={"alice": "a"}, further=(
            '[[listen]]\nprotocol = "pop3"\nendpoint = "tcp:0:interface=127.0.0.1"\n'
            f'mechanisms = ["GSSAPI", "PLAIN"]\n{kerberos}'))

    def test_all_is_well(self) -> None:
        ran = site.command("check")
        self.assertEqual(ran.returncode, 0, ran)

    def test_no_keytab(self) -> None:
        """`mailgate check` says so; the service runs, offers all else, and tells the log."""
        made = self.site('[kerberos]\nkeytab = "nothing"\nservice = "pop/localhost@TEST.EXAMPLE"\n')
        checked = made.command("check")
        self.assertEqual(checked.returncode, 78, checked)
        self.assertIn(b"kerberos.keytab: ", checked.stderr)
        self.assertIn(b"/nothing: No such file or directory", checked.stderr)
        running = made.start()
        self.addCleanup(running.end)
        with socket.create_connection(("127.0.0.1", running.ports[-1][1]), CLIENT_SECONDS) as client:
            client.sendall(b"CAPA\r\nAUTH GSSAPI\r\nUSER alice\r\nPASS a\r\nQUIT\r\n")
            said = client.makefile("rb").read()
        self.assertIn(b"SASL PLAIN\r\n", said)
        self.assertIn(b".\r\n-ERR command refused\r\n", said)
        self.assertIn(b"+OK maildrop has 0 ", said)
        self.assertRegex(running.log(), "GSSAPI is not offered: .*/nothing: No such file or directory")

    def test_without_cffi(self) -> None:
        """The listener is made all the same; what is missing is said in words."""
        made = self.site('[kerberos]\nkeytab = "k"\nservice = "pop/localhost@TEST.EXAMPLE"\n')
        code = ("import sys; sys.modules['cffi'] = None\n"
                "from twisted.internet import reactor\n"
                "from mailgate.config import load\n"
                "from mailgate.assembly.auth import Doors\n"
                "from mailgate.assembly.listeners import make_factory, ticket_service\n"
                "config = load(sys.argv[1])\n"
                "class Store: accounts = None\n"
                "doors = Doors(config, Store, None, reactor)\n"
                "made = make_factory(config, config.listen[2], Store, doors, reactor)\n"
                "print(b'GSSAPI' in made.mechanisms, *ticket_service(config).faults())\n")
        ran = subprocess.run([BIN / "python", "-c", code, made.file], capture_output=True, text=True,
                             check=False)
        self.assertEqual(
            ran.stdout, "False Kerberos needs the Python package cffi: pip install mailgate[kerberos]\n",
            ran.stderr)
