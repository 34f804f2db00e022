"""Real clients inside TLS: STLS, POP3S and STARTTLS of the running service, and its certificates renewed."""

from __future__ import annotations

import fcntl
import os
import poplib
import pty
import re
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import tempfile
import termios
import threading
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing.certificates import Authority
from tests.interop.house import House
from tests.interop.measures import MEGABYTE, Costs, megabytes, tell
from tests.interop.programs import Ran, contents, fetchmail, getmail, mda_into, run
from tests.interop.talk import CLIENT_SECONDS, PASSWORD, Raw
from tests.interop.texts import HELLO, TEXTS, large, wire_form
from tests.needs import needs
from tests.services import WAIT_SECONDS, Service, wait_for

AUTHORITY = Authority()
NAMES = ("localhost", "127.0.0.1", "mail.example.org")
BIG_OCTETS = 50 * MEGABYTE
FLAT_OCTETS = 20 * MEGABYTE
PROGRESS_SECONDS = 2.0
SECTIONS = """
[[listen]]
protocol = "pop3s"
endpoint = "tcp:0:interface=127.0.0.1"
[[listen]]
protocol = "pop3"
endpoint = "tcp:0:interface=127.0.0.1"
plaintext_login = false
[[listen]]
protocol = "pop3s"
endpoint = "tcp:0:interface=127.0.0.1"
tls_profile = "legacy"
[[listen]]
protocol = "pop3s"
endpoint = "tcp:0:interface=127.0.0.1"
tls_profile = "modern"
client_certificates = "require"
client_ca = "{folder}/ca.pem"
[tls]
certificate = "{folder}/cert.pem"
key = "{folder}/key.pem"
watch_seconds = 1
[tls.sni."pop.example.net"]
certificate = "{folder}/net.pem"
key = "{folder}/net.key"
"""


class TlsHouse(House):
    """A house with certificates. Its listeners, in order: both kinds, pop3s, TLS only, legacy, modern."""

    def open(self) -> None:
        """Make the certificates, then the house."""
        self.certificates = Path(tempfile.mkdtemp(prefix="mailgate-tls-"))
        (self.certificates / "ca.pem").write_bytes(AUTHORITY.pem)
        AUTHORITY.issue(*NAMES).write(self.certificates)
        AUTHORITY.issue("pop.example.net").write(self.certificates, "net.pem", "net.key")
        AUTHORITY.issue("mrose", client=True).write(self.certificates, "mrose.pem", "mrose.key")
        self._sections["further"] = SECTIONS.format(folder=self.certificates)
        super().open()

    def close(self) -> None:
        """Remove both."""
        shutil.rmtree(self.certificates)
        super().close()

    @property
    def ca(self) -> str:
        return str(self.certificates / "ca.pem")

    @property
    def pop3s_port(self) -> int:
        return self.service.ports[2][1]

    @property
    def strict_port(self) -> int:
        """The port of the pop3 listener that takes passwords inside TLS only."""
        return self.service.ports[3][1]

    @property
    def legacy_port(self) -> int:
        return self.service.ports[4][1]

    @property
    def modern_port(self) -> int:
        return self.service.ports[5][1]

    def context(self, most: Any = None) -> ssl.SSLContext:
        """Return a client that trusts our authority."""
        context = ssl.create_default_context(cafile=self.ca)
        if most is not None:
            context.maximum_version = most
        return context

    def secure(self, *, implicit: bool, receive_octets: int | None = None) -> Raw:
        """Return a bare connection inside TLS that has been greeted."""
        client = Raw.__new__(Raw)
        plain = socket.socket()
        if receive_octets is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_octets)
        plain.settimeout(CLIENT_SECONDS)
        plain.connect(("127.0.0.1", self.pop3s_port if implicit else self.port))
        greeting = b""
        if not implicit:
            greeting = plain.recv(1000)
            plain.sendall(b"STLS\r\n")
            assert plain.recv(1000).startswith(b"+OK")
        client.socket = self.context().wrap_socket(plain, server_hostname="localhost")
        client.file = client.socket.makefile("rb")
        client.greeting = greeting or client.file.readline()
        return client


house = TlsHouse(accounts=40, limits=f"size_octets = 0\nprogress_seconds = {PROGRESS_SECONDS}")
big = house.account()
setUpModule, tearDownModule = house.open, house.close


@house.furnished
def furnish() -> None:
    house.site.deliver(large(BIG_OCTETS), f"{big}@mail.example.org")


class ClientCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(mode=0o700)
        self.name = house.account()
        for text in (HELLO, TEXTS["dots"], large(300_000)):
            house.lmtp(text, self.name)

    def bodies(self) -> list[bytes]:
        """Return the bodies that should be fetched, sorted; lines end in LF."""
        return sorted(wire_form(text).partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n")
                      for text in (HELLO, TEXTS["dots"], large(300_000)))

    def session_lines(self) -> list[str]:
        """Return what the log says of this account's sessions."""
        return re.findall(rf"session of {self.name} from .*", house.service.log())

    def assert_secure_sessions(self, count: int) -> None:
        """So many sessions were inside TLS, and none in clear; the log knows version and cipher."""
        wait_for(lambda: len(self.session_lines()) >= count, "the line of the session")
        for line in self.session_lines():
            self.assertRegex(line, r", TLSv1\.[23] \S+$")


class CurlTests(ClientCase):
    def curl(self, url: str, *options: str) -> Ran:
        return run([needs("curl"), "-q", "-s", "-S", "-v", "--max-time", "30", "--cacert", house.ca, "--user",
                    f"{self.name}:{PASSWORD}", *options, url], folder=self.folder)

    def test_both_ways(self) -> None:
        for url in (f"pop3://localhost:{house.port}", f"pop3s://localhost:{house.pop3s_port}",
                    f"pop3://localhost:{house.strict_port}"):
            ran = self.curl(f"{url}/1", "--ssl-reqd")
            self.assertEqual(ran.code, 0, ran.everything)
            self.assertTrue(ran.out.endswith(wire_form(HELLO)))
        self.assert_secure_sessions(3)

    def test_no_password_in_clear(self) -> None:
        """Where passwords are taken inside TLS only, a client that does not want it says none."""
        ran = self.curl(f"pop3://localhost:{house.strict_port}/1")
        self.assertNotEqual(ran.code, 0)
        self.assertNotIn("PASS", ran.told)
        self.assertEqual(self.session_lines(), [])

    def test_other_authority(self) -> None:
        """A client that does not trust us goes no further; the service says why."""
        other = self.folder / "other.pem"
        other.write_bytes(Authority("Other").pem)
        before = house.service.log().count("no TLS with 127.0.0.1")
        for url in (f"pop3://localhost:{house.port}/1", f"pop3s://localhost:{house.pop3s_port}/1"):
            ran = self.curl(url, "--ssl-reqd", "--cacert", str(other))
            self.assertEqual(ran.code, 60, ran.everything)
        wait_for(lambda: house.service.log().count("no TLS with 127.0.0.1") == before + 2, "both lines")
        self.assertIn("unknown ca", house.service.log())


class FetchmailTests(ClientCase):
    def fetch(self, port: int, words: str, **how: Any) -> Ran:
        script = (f'user {self.name} password {PASSWORD} {words} sslcertck sslcertfile {house.ca} '
                  f"sslcommonname mail.example.org fetchall no rewrite {mda_into(self.folder / 'mail')}")
        return fetchmail(port, self.folder, script, **how)

    def fetched(self) -> list[bytes]:
        return sorted(content.partition(b"\n\n")[2] for content in contents(self.folder / "mail"))

    def test_stls(self) -> None:
        ran = self.fetch(house.port, 'sslproto "TLS1.2+"')
        self.assertEqual(ran.code, 0, ran.everything)
        self.assertIn("POP3> STLS", ran.everything)
        self.assertEqual(self.fetched(), self.bodies())
        self.assertEqual(house.held(self.name), 0)
        self.assert_secure_sessions(1)

    def test_ssl(self) -> None:
        ran = self.fetch(house.pop3s_port, "ssl")
        self.assertEqual(ran.code, 0, ran.everything)
        self.assertNotIn("STLS", ran.everything)
        self.assertEqual(self.fetched(), self.bodies())
        self.assert_secure_sessions(1)

    def test_old_version(self) -> None:
        """fetchmail that is told to speak TLS 1.1 gets nothing, and says no password."""
        ran = self.fetch(house.pop3s_port, 'ssl sslproto "TLS1.1"')
        self.assertNotEqual(ran.code, 0)
        self.assertNotIn("PASS", ran.everything)
        self.assertEqual(house.held(self.name), 3)


class PythonTests(ClientCase):
    def test_stls(self) -> None:
        client = poplib.POP3("localhost", house.port, timeout=CLIENT_SECONDS)
        self.addCleanup(client.close)
        self.assertIn("STLS", client.capa())
        client.stls(house.context())
        self.assertNotIn("STLS", client.capa())
        self.fetch(client)

    def test_ssl(self) -> None:
        client = poplib.POP3_SSL(
            "localhost", house.pop3s_port, timeout=CLIENT_SECONDS, context=house.context())
        self.addCleanup(client.close)
        self.assertNotIn("STLS", client.capa())
        self.fetch(client)

    def fetch(self, client: poplib.POP3) -> None:
        client.user(self.name)
        client.pass_(PASSWORD)
        self.assertEqual(client.stat()[0], 3)
        self.assertEqual(client.retr(1)[1][-1], wire_form(HELLO).splitlines()[-1])
        client.quit()
        self.assert_secure_sessions(1)

    def test_client_certificate(self) -> None:
        """A listener that wants one takes the authority's, and nobody else gets as far as the greeting."""
        context = house.context()
        context.load_cert_chain(house.certificates / "mrose.pem", house.certificates / "mrose.key")
        client = poplib.POP3_SSL("localhost", house.modern_port, timeout=CLIENT_SECONDS, context=context)
        self.addCleanup(client.close)
        self.fetch(client)
        with self.assertRaises((ssl.SSLError, OSError, poplib.error_proto)):
            poplib.POP3_SSL("localhost", house.modern_port, timeout=CLIENT_SECONDS, context=house.context())

    def test_lmtp(self) -> None:
        with smtplib.LMTP("localhost", house.service.lmtp_port, timeout=CLIENT_SECONDS) as client:
            client.ehlo_or_helo_if_needed()
            self.assertTrue(client.has_extn("starttls"))
            self.assertEqual(client.starttls(context=house.context())[0], 220)
            client.ehlo_or_helo_if_needed()
            self.assertFalse(client.has_extn("starttls"))
            client.sendmail("a@example.org", f"{self.name}@mail.example.org", HELLO)
        *_, newest = house.octets(self.name).values()
        self.assertRegex(newest, rb"by mail\.example\.org with LMTPS id")
        self.assertRegex(house.service.log(), rf"by 127\.0\.0\.1 \(TLSv1\.3 \S+\), .*<{self.name}@")


class OtherProgramTests(ClientCase):
    def test_getmail(self) -> None:
        ran = getmail(self.folder, house.pop3s_port, {
            "type": "SimplePOP3SSLRetriever", "server": "localhost", "username": self.name,
            "ca_certs": house.ca}, {"read_all": "false", "delete": "true"})
        self.assertEqual(ran.code, 0, ran.everything)
        self.assertEqual(sorted(content.partition(b"\n\n")[2] for content in contents(self.folder / "mail")),
                         self.bodies())
        self.assertEqual(house.held(self.name), 0)
        self.assert_secure_sessions(1)

    def test_mpop(self) -> None:
        """By GnuTLS, both ways, and with its own judgement of the certificate."""
        for port, starttls in ((house.port, "on"), (house.pop3s_port, "off")):
            folder = self.folder / starttls
            for name in ("cur", "new", "tmp"):
                (folder / "mail" / name).mkdir(parents=True)
            rc_file = folder / "mpoprc"
            rc_file.write_text(
                f"account default\nhost localhost\nport {port}\ntls on\ntls_starttls {starttls}\n"
                f"tls_trust_file {house.ca}\nauth user\nuser {self.name}\npassword {PASSWORD}\nkeep on\n"
                f"delivery maildir {folder}/mail\nuidls_file {folder}/uidls\nreceived_header off\n")
            rc_file.chmod(0o600)
            ran = run([needs("mpop"), f"--file={rc_file}", "--debug"], folder=folder)
            self.assertEqual(ran.code, 0, ran.everything)
            self.assertEqual(len(list((folder / "mail/new").iterdir())), 3)
        self.assert_secure_sessions(2)


class OpenSslTests(SynchronousTestCase):
    """What `openssl s_client` sees."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    def meet(self, port: int, *options: str, stdin: bytes = b"QUIT\r\n") -> Ran:
        return run([needs("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", house.ca,
                    "-ign_eof", *options], folder=self.folder, stdin=stdin)

    def test_starttls(self) -> None:
        """STLS and STARTTLS as openssl says them; ours is the last word, and close_notify behind it."""
        for port, protocol, last in ((house.port, "pop3", "+OK goodbye"),
                                     (house.service.lmtp_port, "lmtp", "221 2.0.0 bye")):
            ran = self.meet(port, "-starttls", protocol, "-servername", "localhost")
            self.assertIn("Verify return code: 0 (ok)", ran.everything)
            self.assertIn(last, ran.everything)
            self.assertEqual(ran.code, 0, ran.everything)
            self.assertNotIn("unexpected eof", ran.everything)

    def test_alpn_and_names(self) -> None:
        for offers, agreed in {"pop3": "ALPN protocol: pop3", "h2,pop3": "ALPN protocol: pop3",
                               "http/1.1": "No ALPN negotiated"}.items():
            self.assertIn(agreed, self.meet(house.pop3s_port, "-alpn", offers).everything)
        for name, subject in {"pop.example.net": "pop.example.net", "other.example": "localhost"}.items():
            self.assertRegex(self.meet(house.pop3s_port, "-servername", name).everything,
                             rf"subject=CN ?= ?{re.escape(subject)}\n")

    def test_versions(self) -> None:
        """1.2 at the least, 1.3 at a modern listener, 1.0 at a legacy one and only there."""
        old = ("-cipher", "DEFAULT@SECLEVEL=0")
        for option, version in {"-tls1": "TLSv1", "-tls1_1": "TLSv1.1"}.items():
            self.assertIn("Cipher is (NONE)", self.meet(house.pop3s_port, option, *old).everything)
            ran = self.meet(house.legacy_port, option, *old)
            self.assertRegex(ran.everything, rf"Protocol *: {version}\n")
            self.assertIn("+OK goodbye", ran.everything)
        self.assertIn("+OK goodbye", self.meet(house.pop3s_port, "-tls1_2").everything)
        self.assertIn("Cipher is (NONE)", self.meet(house.modern_port, "-tls1_2").everything)
        told = house.service.log()
        self.assertEqual(len(re.findall(r"listen\[4\]\.tls_profile: legacy lets clients in", told)), 1)
        self.assertEqual(len(re.findall(r"tls_profile: legacy", told)), 1)

    def test_resumption(self) -> None:
        """`-reconnect` with TLS 1.2 resumes all of its five; a ticket of 1.3 is taken too."""
        ran = self.meet(house.pop3s_port, "-tls1_2", "-reconnect")
        self.assertEqual(ran.everything.count("Reused, TLSv1.2"), 5, ran.everything)
        kept = str(self.folder / "session")
        for version in ("-tls1_2", "-tls1_3"):
            self.assertIn("New, TLSv1", self.meet(house.pop3s_port, version, "-sess_out", kept).everything)
            self.assertIn("Reused, TLSv1", self.meet(house.pop3s_port, version, "-sess_in", kept).everything)

    def test_no_renegotiation(self) -> None:
        """R in TLS 1.2 is answered by a refusal; openssl gives up then."""
        with subprocess.Popen([needs("openssl"), "s_client", "-connect", f"127.0.0.1:{house.pop3s_port}",
                               "-tls1_2", "-quiet", "-no_ign_eof"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as program:
            assert program.stdin is not None and program.stdout is not None
            while b"+OK" not in (line := program.stdout.readline()):
                self.assertNotEqual(line, b"", "openssl has ended")
            program.stdin.write(b"R\n")
            program.stdin.flush()
            told, _ = program.communicate(timeout=WAIT_SECONDS)
        self.assertIn(b"no renegotiation", told)


class LargeTests(SynchronousTestCase):
    """50 MB inside TLS: memory is flat, readers may be slow, and one that stops is cut."""

    def setUp(self) -> None:
        self.costs = Costs(house.service.pid)

    def blocked(self, *, implicit: bool) -> Raw:
        client = house.secure(implicit=implicit, receive_octets=16_384)
        self.addCleanup(client.close)
        wait_for(lambda: client.log_in(big).startswith(b"+OK"), "the session before to end")
        self.asked = time.monotonic()
        client.say("RETR 1")
        return client

    def assert_flat(self, what: str) -> None:
        growth = self.costs.peak_growth()
        tell(what, f"{megabytes(growth)} above {megabytes(self.costs.before)}")
        self.assertLess(growth, FLAT_OCTETS)

    def test_slow_reader(self) -> None:
        for implicit in (False, True):
            client = self.blocked(implicit=implicit)
            taken = 0
            until = time.monotonic() + 2.5 * PROGRESS_SECONDS
            while time.monotonic() < until:
                taken += len(client.socket.recv(4096))
                time.sleep(0.05)
            last = b""
            while not last.endswith(b"\r\n.\r\n"):
                piece = client.socket.recv(1 << 20)
                self.assertTrue(piece, "cut")
                taken += len(piece)
                last = (last + piece)[-5:]
            self.assertGreater(taken, BIG_OCTETS)
            self.assertTrue(client.ask("QUIT").startswith(b"+OK"))
            self.assertEqual(client.socket.recv(1), b"")
            client.close()
        self.assert_flat("a RETR of 50 MB inside TLS, slowly and then at full speed")

    def test_reader_that_stops(self) -> None:
        for implicit in (False, True):
            client = self.blocked(implicit=implicit)
            wait_for(lambda: not self._has_session(), "the client to be cut")
            self.assertGreaterEqual(time.monotonic() - self.asked, PROGRESS_SECONDS)
            client.close()
        self.assert_flat("a RETR of 50 MB inside TLS that nobody reads")

    def _has_session(self) -> bool:
        with house.talk() as other:
            return other.log_in(big).startswith(b"-ERR [IN-USE]")


class RenewalTests(SynchronousTestCase):
    """Certificates are renewed while the service runs."""

    def setUp(self) -> None:
        self.addCleanup(AUTHORITY.issue(*NAMES).write, house.certificates)

    def serial(self) -> int:
        with house.secure(implicit=True) as client:
            certificate: Any = client.socket.getpeercert()      # type: ignore[attr-defined]
            return int(certificate["serialNumber"], 16)

    def renew(self, service: Service | None = None) -> int:
        issued = AUTHORITY.issue(*NAMES)
        issued.write(house.certificates)
        return issued.certificate.serial_number

    def test_hangup(self) -> None:
        """SIGHUP: new connections get the new certificate, sessions go on."""
        name = house.account()
        house.lmtp(HELLO, name)
        sessions = [house.secure(implicit=implicit) for implicit in (False, True, True)]
        for session, account in zip(sessions, (name, house.account(), house.account()), strict=True):
            self.addCleanup(session.close)
            self.assertTrue(session.log_in(account).startswith(b"+OK"))
        before = self.serial()
        wanted = self.renew()
        os.kill(house.service.pid, signal.SIGHUP)
        wait_for(lambda: self.serial() == wanted, "the new certificate")
        self.assertNotEqual(before, wanted)
        self.assertTrue(sessions[0].ask("RETR 1").startswith(b"+OK"))
        self.assertTrue(sessions[0].lines()[-1])
        for session in sessions:
            self.assertTrue(session.ask("QUIT").startswith(b"+OK"))

    def test_changed_files(self) -> None:
        """Without a signal: within `watch_seconds`."""
        wanted = self.renew()
        wait_for(lambda: self.serial() == wanted, "the new certificate")

    def test_broken(self) -> None:
        """A broken certificate is told, and the one before stays; so does the service."""
        wanted = self.renew()
        wait_for(lambda: self.serial() == wanted, "the new certificate")
        (house.certificates / "key.pem").write_bytes(AUTHORITY.issue("localhost").key_pem)
        os.kill(house.service.pid, signal.SIGHUP)
        line = (f"tls.key: {house.certificates}/key.pem: is not the key to {house.certificates}/cert.pem; "
                "the one before stays in use")
        wait_for(lambda: line in house.service.log(), "the complaint")
        self.assertEqual(self.serial(), wanted)

    def test_many_hangups_under_load(self) -> None:
        """Logins inside TLS while certificates change all the time: every one succeeds."""
        accounts = [house.account() for _ in range(4)]
        faults: list[object] = []
        until = time.monotonic() + 3

        def work(account: str) -> None:
            try:
                while time.monotonic() < until:
                    with house.secure(implicit=account in accounts[:2]) as client:
                        answers = [client.log_in(account), client.ask("STAT"), client.ask("QUIT")]
                        if not all(answer.startswith(b"+OK") for answer in answers):
                            faults.append(answers)
            except Exception as fault:
                faults.append(fault)

        workers = [threading.Thread(target=work, args=(account,)) for account in accounts]
        for worker in workers:
            worker.start()
        while time.monotonic() < until:
            self.renew()
            os.kill(house.service.pid, signal.SIGHUP)
            time.sleep(0.05)
        for worker in workers:
            worker.join(WAIT_SECONDS)
        self.assertEqual(faults, [])
        self.assertIsNone(house.service.process.poll())


class TerminalTests(SynchronousTestCase):
    def test_terminal_that_goes(self) -> None:
        """`twistd -n` in a terminal that is closed ends in order, as before it took SIGHUP for itself."""
        master, slave = pty.openpty()

        def take_terminal() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        log = house.folder / "terminal.log"
        with open(log, "wb") as output:
            service = subprocess.Popen(
                [Path(needs("twistd")), "-n", "--pidfile=", "mailgate", "-c", house.site.file], stdin=slave,
                stdout=output, stderr=output, start_new_session=True, preexec_fn=take_terminal)
        self.addCleanup(service.kill)
        os.close(slave)
        wait_for(lambda: b"mailgate is ready" in log.read_bytes(), "the service to be ready")
        service.send_signal(signal.SIGHUP)
        wait_for(lambda: b"certificates are read again" in log.read_bytes(), "the certificates to be read")
        os.close(master)
        self.assertEqual(service.wait(WAIT_SECONDS), 0)
        self.assertIn(b"mailgate has ended", log.read_bytes())
