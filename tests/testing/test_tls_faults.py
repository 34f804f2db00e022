"""TLS that goes wrong on command: each fault as strict clients see it, by the error that is right for it."""

from __future__ import annotations

import poplib
import socket
import ssl
import subprocess

from mailgate.testing.badcertificates import BAD
from mailgate.testing.harness.tls import WAYS
from mailgate.testing.memory import MemoryServer
from mailgate.testing.trouble.kinds import KINDS
from tests.needs import needs
from tests.testing.serving import BODY
from tests.testing.tls_clients import SOON_SECONDS, WAIT_SECONDS, FaultCase


class CertificateTests(FaultCase):
    """Certificates: what is wrong with each is what a strict client says."""

    REFUSED = (     # fault, its settings, what OpenSSL says of it, the alert that comes back
        ("certificate_expired", {"days": 3}, "certificate has expired", "certificate expired"),
        ("certificate_not_yet_valid", {}, "certificate is not yet valid", "bad certificate"),
        ("certificate_wrong_name", {}, "Hostname mismatch", "bad certificate"),
        ("certificate_untrusted", {}, "unable to get local issuer certificate", "unknown ca"),
        ("certificate_self_signed", {}, "self-signed certificate", "unknown ca"),
        ("certificate_missing_intermediate", {}, "unable to get local issuer certificate", "unknown ca"),
        ("certificate_short_key", {}, "EE certificate key too weak", "bad certificate"),
        ("certificate_weakly_signed", {"digest": "sha1"}, "signature digest algorithm too weak",
         "bad certificate"),
        ("certificate_weakly_signed", {"digest": "md5"}, "signature digest algorithm too weak",
         "bad certificate"),
        ("certificate_for_clients", {}, "unsuitable certificate purpose", "unsupported certificate"),
        ("certificate_nul_in_name", {}, "Hostname mismatch", "bad certificate"),
        ("certificate_only_address", {}, "Hostname mismatch", "bad certificate"),
        ("certificate_issued_by_no_authority", {}, "invalid CA certificate", "unknown ca"),
    )

    def test_strict_client(self) -> None:
        """Python's default context refuses each for its own reason, and the record has the alert."""
        context = self.trusting()
        context.set_ciphers("DEFAULT:@SECLEVEL=2")      # Debian's level; OpenSSL's own may be lower
        for do, settings, words, alert in self.REFUSED:
            with self.subTest(do, **settings), self.server.fault(do, **settings):
                refused = self.assertRaises(ssl.SSLCertVerificationError, self.fetch, context)
                self.assertIn(words, refused.verify_message)
                record = self.record()
                self.assertTrue(record.end.startswith("no TLS: ") and record.end.endswith(alert), record.end)
                self.assertEqual(record.events[-1].faults, (do,))
                self.assertEqual(record.verbs, [])

    def test_behind_stls(self) -> None:
        """The same certificates are shown behind STLS."""
        with self.server.fault("certificate_expired"):
            refused = self.assertRaises(ssl.SSLCertVerificationError, self.fetch, stls=True)
        self.assertIn("expired", refused.verify_message)
        self.assertEqual(self.record().verbs, ["CAPA", "STLS"])

    def test_disorder_is_borne(self) -> None:
        """A chain in disorder is no reason to refuse: OpenSSL finds its way through it."""
        with self.server.fault("certificate_wrong_order"):
            self.assertEqual(self.fetch(), BODY)
        self.assertEqual(self.record().end, "QUIT")

    def test_common_name(self) -> None:
        """Who looks at no common name, as RFC 9525 wants it, refuses; Python's default still looks."""
        with self.server.fault("certificate_only_common_name"):
            strict = self.trusting(hostname_checks_common_name=False)
            refused = self.assertRaises(ssl.SSLCertVerificationError, self.fetch, strict)
            self.assertIn("Hostname mismatch", refused.verify_message)
            self.assertEqual(self.fetch(), BODY)

    def test_only_address(self) -> None:
        """A certificate for an address is good for who connects by it."""
        with self.server.fault("certificate_only_address"):
            self.assertEqual(self.fetch(name="127.0.0.1"), BODY)

    def test_changes_between_connections(self) -> None:
        """The second session of a run is shown another good certificate; the third the first one again."""
        seen = []
        with self.server.fault("certificate_other", session=2):
            for _ in range(3):
                client = self.secure(self.trusting())
                seen.append(client.getpeercert(binary_form=True))
                client.close()
                self.record()
        self.assertEqual(seen[0], seen[2])
        self.assertNotEqual(seen[0], seen[1])

    def test_second_session_expired(self) -> None:
        """A certificate can expire between two connections of one run, on one kind of listener."""
        with self.server.fault("certificate_expired", session=2, protocol="pop3s"):
            self.assertEqual(self.fetch(), BODY)
            self.assertRaises(ssl.SSLCertVerificationError, self.fetch)
            self.assertEqual(self.fetch(), BODY)

    def test_openssl_and_curl(self) -> None:
        """`openssl s_client` names the same errors by number; curl ends with 60 and names them too."""
        openssl, curl = needs("openssl"), needs("curl")
        for do, number, words in (("certificate_expired", 10, "certificate has expired"),
                                  ("certificate_self_signed", 18, "self-signed certificate"),
                                  ("certificate_wrong_name", 62, "no alternative certificate subject name"),
                                  ("certificate_for_clients", 26, "unsuitable certificate purpose")):
            with self.subTest(do), self.server.fault(do):
                shown = subprocess.run(
                    [openssl, "s_client", "-connect", f"localhost:{self.server.pop3s[1]}", "-CAfile",
                     self.server.ca_file, "-verify_hostname", "localhost", "-verify_return_error"],
                    input=b"QUIT\n", capture_output=True, check=False, timeout=WAIT_SECONDS)
                self.assertEqual(shown.returncode, 1)
                self.assertIn(b"verify error:num=%d:" % number, shown.stdout + shown.stderr)
                fetched = subprocess.run(
                    [curl, "-sS", "--cacert", self.server.ca_file, "-u", "mrose:secret",
                     f"pop3s://localhost:{self.server.pop3s[1]}/1"],
                    capture_output=True, check=False, timeout=WAIT_SECONDS, text=True)
                self.assertEqual(fetched.returncode, 60, fetched.stderr)
                self.assertIn(words, fetched.stderr)

    def test_every_way_is_known(self) -> None:
        """What the table of kinds asks of TLS is what the harness can do, and the other way round."""
        self.assertEqual({kind.tls for kind in KINDS.values() if kind.tls} | {"tls_renegotiate"},
                         {*BAD, *WAYS})


class HandshakeTests(FaultCase):
    """Versions, ciphers, and handshakes that are broken off or answered by something else."""

    def test_versions(self) -> None:
        """Each version alone: careful clients refuse the two old ones, a lax one takes all."""
        context = self.lax()
        for version in ("1.0", "1.1", "1.2", "1.3"):
            with self.subTest(version), self.server.fault("tls_version", version=version):
                client = self.secure(context)
                self.assertEqual(client.version(), {"1.0": "TLSv1"}.get(version, f"TLSv{version}"))
                client.close()
                if version < "1.2":
                    refused = self.assertRaises(ssl.SSLError, self.fetch)
                    self.assertEqual(refused.reason, "TLSV1_ALERT_PROTOCOL_VERSION")
                    self.assertEqual(self.record().end, "no TLS: unsupported protocol")
                else:
                    self.assertEqual(self.fetch(), BODY)
                    self.assertIn(f"inside TLS: TLSv{version}", self.notes()[-1])

    def test_weak_ciphers(self) -> None:
        """No encryption at all, or none that a careful client offers."""
        for ciphers, chosen in (("eNULL", "NULL"), ("AECDH", "AECDH"), ("ECDHE-ECDSA-AES128-SHA", "AES128")):
            with self.subTest(ciphers), self.server.fault("tls_ciphers", ciphers=ciphers):
                client = self.secure(self.lax())
                self.assertIn(chosen, (client.cipher() or ("",))[0])
                client.close()
                refused = self.assertRaises(ssl.SSLError, self.fetch)
                self.assertEqual(refused.reason, "SSLV3_ALERT_HANDSHAKE_FAILURE")
                self.assertEqual(self.record().end, "no TLS: no shared cipher")

    def test_no_common_cipher(self) -> None:
        """Not even a lax client finds one."""
        with self.server.fault("tls_no_common_cipher"):
            refused = self.assertRaises(ssl.SSLError, self.secure, self.lax())
        self.assertEqual(refused.reason, "SSLV3_ALERT_HANDSHAKE_FAILURE")

    def test_resumption_refused(self) -> None:
        """A session is not taken up again but refused with an alert, in both versions; a new one is good."""
        for version in ("1.2", "1.3"):
            context = self.trusting()
            context.maximum_version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
            with self.subTest(version), self.server.fault("tls_resumption_refused"):
                first = self.secure(context)
                self.assertTrue(first.recv(100).startswith(b"+OK"))     # tickets come before it
                session = first.session
                first.close()
                refused = self.assertRaises(ssl.SSLError, self.secure, context, session=session)
                self.assertEqual(refused.reason, "TLSV1_ALERT_INTERNAL_ERROR")
                self.assertIn("session id context uninitialized", self.record().end)
                self.assertEqual(self.fetch(), BODY)
            again = self.secure(context)
            again.recv(100)
            self.assertTrue(self.secure(context, session=again.session).session_reused)    # without the fault

    def test_alert(self) -> None:
        """An alert in place of the handshake; a warning goes before it, and it goes on."""
        with self.server.fault("tls_alert", alert=80):
            refused = self.assertRaises(ssl.SSLError, self.fetch)
            self.assertEqual(refused.reason, "TLSV1_ALERT_INTERNAL_ERROR")
            self.assertEqual(self.record().end, "closed by fault tls_alert")
        with self.server.fault("tls_alert", alert=112, warning=True):
            context = self.trusting(maximum_version=ssl.TLSVersion.TLSv1_2)
            self.assertEqual(self.fetch(context), BODY)

    def test_no_tls(self) -> None:
        """Garbage, or a server that knows no TLS: the client says that this is none."""
        for do, settings in (("tls_garbage", {}), ("tls_garbage", {"octets": "HTTP/1.1 400\r\n\r\n"}),
                             ("tls_plaintext", {}), ("error", {"command": "tls"})):
            for stls in (False, True):
                with self.subTest(do, stls=stls, **settings), self.server.fault(do, **settings):
                    refused = self.assertRaises(ssl.SSLError, self.fetch, stls=stls)
                    self.assertIn(refused.reason, ("WRONG_VERSION_NUMBER", "BAD_RECORD_TYPE",
                                                   "RECORD_LAYER_FAILURE"))
                    self.assertIn("no TLS: ", self.notes()[-1])
        curl = needs("curl")
        with self.server.fault("tls_plaintext"):
            fetched = subprocess.run(
                [curl, "-sS", "-k", f"pop3s://localhost:{self.server.pop3s[1]}/1"], capture_output=True,
                check=False, timeout=WAIT_SECONDS)
        self.assertEqual(fetched.returncode, 35, fetched.stderr)

    def test_no_tls_before_the_client_speaks(self) -> None:
        """A server that knows no TLS greets whoever connects, before anything is said to it."""
        for do, settings, greeting in (("tls_plaintext", {}, b"+OK POP3 server ready\r\n"),
                                       ("error", {"command": "tls"}, b"-ERR ")):
            with (self.subTest(do), self.server.fault(do, **settings),
                  socket.create_connection(self.server.pop3s, WAIT_SECONDS) as client):
                self.assertEqual(client.recv(1024)[:len(greeting)], greeting)
            with self.subTest(do, memory=True), MemoryServer() as server, server.fault(do, **settings):
                talker = server.talk("pop3s")
                self.assertEqual(talker.received[:len(greeting)], greeting)

    def test_broken_off(self) -> None:
        """Closed, or torn, at an octet of the server's first flight; before it, or in its middle."""
        for stls in (False, True):
            for at in (0, 100):
                with self.subTest(at=at, stls=stls), self.server.fault("close", command="tls", at=at):
                    self.assertRaises(ssl.SSLEOFError, self.fetch, stls=stls)
                    self.assertEqual(self.record().end, "closed by fault close")
            with self.subTest(stls=stls), self.server.fault("reset", command="tls", at=100):
                self.assertRaises(ConnectionResetError, self.fetch, stls=stls)
                self.assertEqual(self.record().end, "reset by fault reset")

    def test_stall_and_delay(self) -> None:
        """A handshake that stands still, which the client's own timeout ends; and one that is only late."""
        with self.server.fault("stall", command="tls", at=100):
            self.assertRaises(socket.timeout, self.fetch, seconds=SOON_SECONDS)
            self.assertEqual(self.record().end, "no TLS: the client hung up")
        with MemoryServer() as server, server.fault("delay", command="tls", seconds=30):
            client = server.talk("pop3s", tls=server.trusting())
            server.advance(29)
            self.assertEqual(client.received, b"")
            server.advance(1)
            self.assertTrue(client.received.startswith(b"+OK mailgate ready"))

    def test_ended_without_farewell(self) -> None:
        """Only TLS's own farewell tells an end from a cut: a strict client sees which it was."""
        ends: dict[str, bytes | str] = {}
        for do in ("close", "tls_truncate"):
            with self.server.fault(do, command="RETR", at=3000):
                context = self.trusting()
                client = self.secure(context, suppress_ragged_eofs=False)
                client.sendall(b"USER mrose\r\nPASS secret\r\nRETR 1\r\n")
                got = b""
                try:
                    while piece := client.recv(4096):
                        got += piece
                    ends[do] = piece
                except ssl.SSLEOFError as fault:
                    ends[do] = fault.reason
                client.close()
                self.assertEqual(self.record().end, f"closed by fault {do}")
                said = got.partition(b"octets)\r\n")[2]
                self.assertEqual(said, (b"+OK %d octets\r\n" % len(BODY) + BODY)[:3000])
        self.assertEqual(ends, {"close": b"", "tls_truncate": "UNEXPECTED_EOF_WHILE_READING"})

    def test_truncated_behind_stls(self) -> None:
        """The same behind STLS: curl gets so much of the message and no more (7.88 takes it for all)."""
        curl = needs("curl")
        with self.server.fault("tls_truncate", command="RETR", at=3000):
            fetched = subprocess.run(
                [curl, "-sS", "--ssl-reqd", "--cacert", self.server.ca_file, "-u", "mrose:secret",
                 f"pop3://localhost:{self.server.pop3[1]}/1"], capture_output=True, check=False,
                timeout=WAIT_SECONDS)
        self.assertEqual(fetched.stdout, BODY[:2982])
        self.assertEqual(self.record().end, "closed by fault tls_truncate")

    def test_renegotiation(self) -> None:
        """A client of OpenSSL agrees to another handshake in the middle of a session, or breaks it off."""
        for stls in (False, True):
            with self.subTest(stls=stls), self.server.fault("tls_renegotiate", command="RETR"):
                self.assertEqual(self.fetch(stls=stls), BODY)
                self.assertIn("inside TLS: TLSv1.2", " ".join(self.notes()))
                self.assertEqual(self.notes()[-2:], ["another handshake is asked for",
                                                     "another handshake is done"])
            with self.subTest("refused", stls=stls), self.server.fault("tls_renegotiate", command="RETR"):
                context = self.trusting()
                context.options |= ssl.OP_NO_RENEGOTIATION
                self.assertRaises((ssl.SSLError, poplib.error_proto, OSError), self.fetch, context, stls=stls)
                self.assertIn("TLS broke off: no renegotiation", self.notes())

    def test_good_beside_bad(self) -> None:
        """What meets no session changes nothing: TLS is as good as ever, and recorded."""
        with self.server.fault("certificate_expired", session=99):
            self.assertEqual(self.fetch(), BODY)
        record = self.record()
        self.assertTrue(record.tls_details.startswith("TLSv1.3 "))
        self.assertEqual(record.server_name, "localhost")
