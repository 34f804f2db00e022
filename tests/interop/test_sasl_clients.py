"""Every mechanism with real clients: curl, mpop (GNU SASL), fetchmail, getmail, poplib, scramp."""

from __future__ import annotations

import base64
import hashlib
import poplib
import shutil
import socket
import ssl
import tempfile
from pathlib import Path
from typing import Any

import scramp
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing.certificates import Authority
from tests.auth.sasl.test_scram import Client
from tests.auth.tokens import AUDIENCE, ISSUER, Issuer
from tests.interop.programs import Ran, curl, fetchmail, getmail, mda_into, run
from tests.interop.talk import CLIENT_SECONDS, PASSWORD
from tests.needs import needs
from tests.services import HOSTNAME, Service, Site

LOGIN_DENIED = 67       # curl's
MESSAGE = b"Subject: one\r\n\r\nhello\r\n"
EVERYTHING = ('mechanisms = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1",'
              ' "EXTERNAL", "OAUTHBEARER", "XOAUTH2", "CRAM-MD5", "PLAIN", "LOGIN"]')
FURTHER = """\
[[listen]]
protocol = "pop3"
endpoint = "tcp:0:interface=127.0.0.1"
plaintext_login = true
{everything}
[[listen]]
protocol = "pop3s"
endpoint = "tcp:0:interface=127.0.0.1"
client_certificates = "request"
client_ca = "ca.pem"
certificate_name = "common-name"
{everything}
[tls]
certificate = "cert.pem"
key = "key.pem"
[[checker]]
kind = "store"
[[checker]]
kind = "oauth"
keys = "keys.json"
issuer = "{issuer}"
audience = "{audience}"
[pop3]
apop = true
"""


class Everything:
    """One service that takes every mechanism, for all tests of the module."""

    site: Site
    service: Service

    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mailgate-sasl-"))
        authority = Authority()
        self.issued = authority.issue(HOSTNAME, "localhost")
        self.issued.write(self.folder)
        (self.folder / "ca.pem").write_bytes(authority.pem)
        self.authority = authority
        self.issuer = Issuer()
        self.issuer.write(self.folder / "keys.json")
        self.site = Site(self.folder, further=FURTHER.format(
            everything=EVERYTHING, issuer=ISSUER, audience=AUDIENCE))
        for name in ("user", "other"):
            self.site.succeed("account", "add", name, "--scram", "--apop", "--password-stdin",
                              stdin=PASSWORD.encode())
        self.site.succeed("account", "add", "contexts", "--scram", "--cram", "--password-stdin",
                          stdin=PASSWORD.encode())
        self.site.deliver(MESSAGE, f"user@{HOSTNAME}")
        self.service = self.site.start()
        ports = [port for protocol, port in self.service.ports if protocol == "pop3"]
        self.unasked, self.clear = ports
        self.secure = dict(self.service.ports)["pop3s"]

    def close(self) -> None:
        self.service.end()
        shutil.rmtree(self.folder)


house = Everything()
setUpModule, tearDownModule = house.open, house.close


class ClientCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(mode=0o700, parents=True)


class CurlTests(ClientCase):
    def fetch(self, *options: str, password: str = PASSWORD, user: str = "user") -> Ran:
        return curl(house.clear, "1", *options, user=user, password=password, folder=self.folder)

    def test_mechanisms(self) -> None:
        """Two-step and with an initial response, in clear."""
        for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5"):
            for ir in ([], ["--sasl-ir"]):
                ran = self.fetch("--login-options", f"AUTH={mechanism}", *ir)
                self.assertEqual(ran.code, 0, ran.told)
                self.assertIn(f"> AUTH {mechanism}", ran.told)
                self.assertTrue(ran.out.endswith(b"hello\r\n"))
                ran = self.fetch("--login-options", f"AUTH={mechanism}", *ir, password="wrong")
                self.assertEqual(ran.code, LOGIN_DENIED, ran.told)

    def test_kept_contexts(self) -> None:
        """CRAM-MD5 without the password being kept."""
        ran = curl(house.clear, "", "--login-options", "AUTH=CRAM-MD5", user="contexts", folder=self.folder)
        self.assertEqual(ran.code, 0, ran.told)

    def test_apop(self) -> None:
        ran = self.fetch("--login-options", "AUTH=+APOP")
        self.assertEqual(ran.code, 0, ran.told)
        self.assertIn("> APOP user ", ran.told)
        self.assertEqual(self.fetch("--login-options", "AUTH=+APOP", password="wrong").code, LOGIN_DENIED)
        self.assertEqual(self.fetch("--login-options", "AUTH=+APOP", user="contexts").code, LOGIN_DENIED)

    def test_inside_tls(self) -> None:
        """pop3s, and STLS by --ssl-reqd; PLAIN, LOGIN and CRAM-MD5."""
        trust = ("--cacert", str(house.folder / "ca.pem"), "--resolve",
                 f"{HOSTNAME}:{house.secure}:127.0.0.1",
                 "--resolve", f"{HOSTNAME}:{house.clear}:127.0.0.1")
        for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5"):
            for url, how in ((f"pop3s://{HOSTNAME}:{house.secure}/1", []),
                             (f"pop3://{HOSTNAME}:{house.clear}/1", ["--ssl-reqd"])):
                ran = run([needs("curl"), "-q", "-s", "-S", "-v", "--max-time", "30", "--user",
                           f"user:{PASSWORD}",
                           *trust, *how, "--login-options", f"AUTH={mechanism}", url], folder=self.folder)
                self.assertEqual(ran.code, 0, ran.told)
                self.assertTrue(ran.out.endswith(b"hello\r\n"))

    def test_strongest_is_taken(self) -> None:
        """Left to itself curl takes CRAM-MD5 where it is announced: where it is not asked for it is not."""
        self.assertIn("> AUTH CRAM-MD5", self.fetch().told)
        ran = curl(house.unasked, "1", user="user", folder=self.folder)
        self.assertEqual(ran.code, 0, ran.told)
        self.assertNotIn("CRAM-MD5", ran.told)


class MpopTests(ClientCase):
    """mpop speaks SCRAM by GNU SASL."""

    def fetch(self, mechanism: str, code: int, *, user: str = "user", password: str = PASSWORD,
              tls: bool = False, extra: str = "") -> Ran:
        program = needs("mpop")
        for name in ("cur", "new", "tmp"):
            (self.folder / "mail" / name).mkdir(parents=True, exist_ok=True)
        secure = ("tls on\ntls_starttls off\n"
                  f"tls_trust_file {house.folder}/ca.pem\ntls_host_override {HOSTNAME}")
        rc_file = self.folder / "mpoprc"
        rc_file.write_text(f"""\
account default
host 127.0.0.1
port {house.secure if tls else house.clear}
{secure if tls else "tls off"}
auth {mechanism}
user {user}
passwordeval cat {self.folder}/password
delivery maildir {self.folder}/mail
uidls_file {self.folder}/uidls-{mechanism}
keep on
{extra}
""")
        rc_file.chmod(0o600)
        (self.folder / "password").write_text(password)     # too long for a line of the file
        ran = run([program, f"--file={rc_file}", "--debug"], folder=self.folder)
        self.assertEqual(ran.code, code, ran.everything)
        return ran

    def test_mechanisms(self) -> None:
        """In clear: what shows no password there."""
        for mechanism in ("scram-sha-256", "scram-sha-1", "cram-md5", "apop"):
            self.fetch(mechanism, 0)
            self.fetch(mechanism, 77, password="wrong")
        self.assertEqual(len(list((self.folder / "mail" / "new").iterdir())), 4)

    def test_inside_tls(self) -> None:
        for mechanism in ("plain", "login", "scram-sha-256", "scram-sha-1", "cram-md5"):
            self.fetch(mechanism, 0, tls=True)
            self.fetch(mechanism, 77, password="wrong", tls=True)

    def test_tokens(self) -> None:
        """The token stands where the password would."""
        good, bad = house.issuer.token("user").decode(), house.issuer.token("user", exp=1).decode()
        for mechanism in ("oauthbearer", "xoauth2"):
            self.fetch(mechanism, 0, password=good, tls=True)
            self.fetch(mechanism, 77, password=bad, tls=True)
            self.fetch(mechanism, 77, password=house.issuer.token("other").decode(), tls=True)

    def test_external(self) -> None:
        """The name in a client's certificate is its login name; a stranger's certificate is none."""
        house.authority.issue("user", client=True).write(self.folder, "own.pem", "own.key")
        files = f"tls_cert_file {self.folder}/own.pem\ntls_key_file {self.folder}/own.key"
        self.fetch("external", 0, tls=True, extra=files)
        Authority("a stranger").issue("user", client=True).write(self.folder, "own.pem", "own.key")
        self.fetch("external", 69, tls=True, extra=files)


class FetchmailTests(ClientCase):
    def poll(self, auth: str, code: int, *, password: str = PASSWORD, port: int | None = None) -> Ran:
        ran = fetchmail(port or house.clear, self.folder, f'auth {auth} user "user" password "{password}" '
                        f'is tester here sslproto "" keep fetchall {mda_into(self.folder / "mail")}')
        self.assertEqual(ran.code, code, ran.everything)
        return ran

    def test_cram_md5(self) -> None:
        self.assertIn("POP3> AUTH CRAM-MD5", self.poll("cram-md5", 0).everything)
        self.poll("cram-md5", 3, password="wrong")

    def test_apop(self) -> None:
        ran = fetchmail(house.clear, self.folder, f'user "user" password "{PASSWORD}" is tester here '
                        f'sslproto "" keep fetchall {mda_into(self.folder / "mail")}', protocol="apop")
        self.assertEqual(ran.code, 0, ran.everything)
        self.assertIn("POP3> APOP user ", ran.everything)

    def test_ntlm_is_refused_cleanly(self) -> None:
        """It is tried without a look at what is announced: one -ERR, and fetchmail leaves in order."""
        ran = self.poll("ntlm", 3)
        self.assertIn("POP3> AUTH NTLM\nfetchmail: POP3< -ERR command refused", ran.everything)
        self.assertIn("Authorization failure", ran.everything)


class CurlTokenTests(ClientCase):
    def test_tokens(self) -> None:
        """Short ones and long ones, by both mechanisms, with and without an initial response."""
        for mechanism in ("OAUTHBEARER", "XOAUTH2"):
            for ir in ([], ["--sasl-ir"]):
                for claims in ({}, {"groups": ["x" * 20_000]}):
                    token = house.issuer.token("user", **claims).decode()
                    ran = curl(house.clear, "1", "--login-options", f"AUTH={mechanism}", *ir,
                               "--oauth2-bearer",
                               token, user="user", folder=self.folder)
                    self.assertEqual(ran.code, 0, ran.told[-3000:])
                bad = house.issuer.token("user", aud="another").decode()
                ran = curl(house.clear, "1", "--login-options", f"AUTH={mechanism}", *ir, "--oauth2-bearer",
                           bad,
                           user="user", folder=self.folder)
                self.assertEqual(ran.code, LOGIN_DENIED, ran.told)


class GetmailTests(ClientCase):
    def fetch(self, token: bytes, code: int) -> Ran:
        ran = getmail(self.folder, house.clear, {
            "type": "SimplePOP3Retriever", "username": "user", "password": token.decode(),
            "use_xoauth2": "true"})
        self.assertEqual(ran.code, code, ran.everything)
        return ran

    def test_xoauth2(self) -> None:
        """A good token fetches, a bad one is told and fetches nothing."""
        self.fetch(house.issuer.token("user", exp=1), 127)
        self.fetch(house.issuer.token("user"), 0)
        self.assertEqual(len(list((self.folder / "mail").iterdir())), 1)


class PoplibTests(ClientCase):
    def test_apop(self) -> None:
        for name, password, good in (("user", PASSWORD, True), ("user", "wrong", False),
                                     ("nobody", "x", False)):
            client = poplib.POP3("127.0.0.1", house.clear, timeout=CLIENT_SECONDS)
            if good:
                self.assertTrue(client.apop(name, password).startswith(b"+OK"))
                self.assertEqual(client.stat()[0], 1)
            else:
                self.assertRaises(poplib.error_proto, client.apop, name, password)
            client.quit()

    def test_rpop(self) -> None:
        """RPOP never was more than a joke."""
        client = poplib.POP3("127.0.0.1", house.clear, timeout=CLIENT_SECONDS)
        self.assertRaises(poplib.error_proto, client.rpop, "user")
        client.quit()


class Wire:
    """Lines over a socket or an OpenSSL connection."""

    def __init__(self, port: int, *, tls: int | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=CLIENT_SECONDS)
        self.tls: Any = None
        self.rest = b""
        if tls is not None:
            self.begin_tls(tls)
        self.greeting = self.read()

    def begin_tls(self, version: int) -> None:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
        self.socket.settimeout(None)
        self.tls = SSL.Connection(context, self.socket)
        self.tls.set_connect_state()
        self.tls.do_handshake()

    def read(self) -> bytes:
        while b"\r\n" not in self.rest:
            got = self.tls.recv(4096) if self.tls is not None else self.socket.recv(4096)
            assert got, "closed"
            self.rest += got
        line, _, self.rest = self.rest.partition(b"\r\n")
        return line

    def say(self, line: bytes) -> bytes:
        (self.tls or self.socket).sendall(line + b"\r\n")
        return self.read()

    def close(self) -> None:
        self.socket.close()

    def binding(self, kind: str) -> tuple[str, bytes]:
        """Return channel binding data as a client has it."""
        if kind == "tls-exporter":
            return kind, self.tls.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")
        if kind == "tls-unique":
            return kind, self.tls.get_finished()
        peer = ssl.PEM_cert_to_DER_cert(house.issued.chain_pem.decode().split("-----END CERTIFICATE-----")[0]
                                        + "-----END CERTIFICATE-----\n")
        return kind, hashlib.sha256(peer).digest()


class ScrampTests(ClientCase):
    """An independent library of SCRAM, all four names."""

    def log_in(self, wire: Wire, mechanism: str, *, user: str = "user", password: str = PASSWORD,
               binding: tuple[str, bytes] | None = None) -> bytes:
        """Run an exchange; return the last reply. The library judges the server's signature."""
        if binding is not None and binding[0] == "tls-exporter":
            return self.log_in_by_exporter(wire, mechanism, binding[1])
        client = scramp.ScramClient([mechanism], user, password, channel_binding=binding)
        reply = wire.say(f"AUTH {mechanism} ".encode() + base64.b64encode(client.get_client_first().encode()))
        if not reply.startswith(b"+ "):
            return reply
        client.set_server_first(base64.b64decode(reply[2:]).decode())
        reply = wire.say(base64.b64encode(client.get_client_final().encode()))
        if not reply.startswith(b"+ "):
            return reply
        client.set_server_final(base64.b64decode(reply[2:]).decode())
        return wire.say(b"")

    def log_in_by_exporter(self, wire: Wire, mechanism: str, data: bytes) -> bytes:
        """Do the same by the tests' own client: the library does not know this type."""
        client = Client(PASSWORD.encode(), gs2=b"p=tls-exporter,,", binding=data,
                        algorithm="sha1" if "SHA-1-" in mechanism else "sha256")
        reply = wire.say(f"AUTH {mechanism} ".encode() + base64.b64encode(client.first))
        reply = wire.say(base64.b64encode(client.final(base64.b64decode(reply[2:]))))
        return wire.say(b"") if reply == b"+ " + base64.b64encode(client.expected) else reply

    def test_without_binding(self) -> None:
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-1"):
            for user, password, good in (("user", PASSWORD, True), ("contexts", PASSWORD, True),
                                         ("user", "wrong", False), ("nobody", PASSWORD, False)):
                wire = Wire(house.clear)
                self.addCleanup(wire.close)
                reply = self.log_in(wire, mechanism, user=user, password=password)
                self.assertTrue(reply.startswith(b"+OK" if good else b"-ERR [AUTH]"), reply)
                if good:        # the lock is given up before the next login
                    self.assertTrue(wire.say(b"QUIT").startswith(b"+OK"))

    def test_bound_to_the_channel(self) -> None:
        """TLS 1.2 and 1.3, each type of binding that is defined there."""
        for version, kinds in ((SSL.TLS1_2_VERSION, ("tls-unique", "tls-exporter", "tls-server-end-point")),
                               (SSL.TLS1_3_VERSION, ("tls-exporter", "tls-server-end-point"))):
            for mechanism in ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"):
                for kind in kinds:
                    wire = Wire(house.secure, tls=version)
                    self.addCleanup(wire.close)
                    reply = self.log_in(wire, mechanism, binding=wire.binding(kind))
                    self.assertTrue(reply.startswith(b"+OK"), (version, mechanism, kind, reply))
                    self.assertTrue(wire.say(b"QUIT").startswith(b"+OK"))

    def test_behind_stls(self) -> None:
        """The binding is that of the TLS which STLS began; the greeting's timestamp is good there too."""
        for version, kind in ((SSL.TLS1_2_VERSION, "tls-unique"), (SSL.TLS1_3_VERSION, "tls-exporter")):
            wire = Wire(house.clear)
            self.addCleanup(wire.close)
            self.assertTrue(wire.say(b"STLS").startswith(b"+OK"))
            wire.begin_tls(version)
            reply = self.log_in(wire, "SCRAM-SHA-256-PLUS", binding=wire.binding(kind))
            self.assertTrue(reply.startswith(b"+OK"), (version, reply))
            self.assertTrue(wire.say(b"QUIT").startswith(b"+OK"))
        wire = Wire(house.clear)
        self.addCleanup(wire.close)
        wire.say(b"STLS")
        wire.begin_tls(SSL.TLS1_3_VERSION)
        stamp = wire.greeting.split()[-1]
        digest = hashlib.md5(stamp + PASSWORD.encode()).hexdigest()
        self.assertTrue(wire.say(f"APOP user {digest}".encode()).startswith(b"+OK"))

    def test_another_channel(self) -> None:
        """Data of another connection is refused, and the connection closed."""
        for version, kind in ((SSL.TLS1_2_VERSION, "tls-unique"), (SSL.TLS1_3_VERSION, "tls-exporter")):
            one, other = Wire(house.secure, tls=version), Wire(house.secure, tls=version)
            self.addCleanup(one.close)
            self.addCleanup(other.close)
            reply = self.log_in(one, "SCRAM-SHA-256-PLUS", binding=other.binding(kind))
            self.assertTrue(reply.startswith(b"-ERR [AUTH]"), reply)
            self.assertRaises((AssertionError, SSL.ZeroReturnError, SSL.SysCallError, OSError), one.say,
                              b"CAPA")

    def test_unique_is_not_of_tls_1_3(self) -> None:
        wire = Wire(house.secure, tls=SSL.TLS1_3_VERSION)
        self.addCleanup(wire.close)
        reply = self.log_in(wire, "SCRAM-SHA-256-PLUS", binding=("tls-unique", b"x" * 32))
        self.assertTrue(reply.startswith(b"-ERR"), reply)

    def test_announced(self) -> None:
        """-PLUS inside TLS only; unasked, what every account keeps keys for."""
        for port, tls, said in ((house.unasked, None,
                                 b"SASL SCRAM-SHA-256 SCRAM-SHA-1 OAUTHBEARER XOAUTH2 PLAIN"),
                                (house.secure, SSL.TLS1_3_VERSION,
                                 b"SASL SCRAM-SHA-256-PLUS SCRAM-SHA-1-PLUS SCRAM-SHA-256 SCRAM-SHA-1"
                                 b" OAUTHBEARER XOAUTH2 CRAM-MD5 PLAIN LOGIN")):
            wire = Wire(port, tls=tls)
            self.addCleanup(wire.close)
            lines = [wire.say(b"CAPA")]
            while lines[-1] != b".":
                lines.append(wire.read())
            self.assertIn(said, lines)
