"""By no mechanism does a refusal tell its reason: one reply, and times that nobody can tell apart."""

from __future__ import annotations

import shutil
import ssl
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing.certificates import Authority
from tests.auth.tokens import AUDIENCE, ISSUER, Issuer
from tests.interop.measures import tell
from tests.interop.refused import MECHANISMS, Caller, Refusal, differ, likelihood
from tests.interop.talk import PASSWORD
from tests.services import HOSTNAME, Service, Site

pytestmark = pytest.mark.alone

DELAY_SECONDS = 0.5
TRIALS = 15             # of each mechanism and reason
AT_ONCE = 20            # connections: few enough that no password check waits for a second beat
SEED = 14
CONFIGURATION = """\
[[listen]]
protocol = "pop3"
endpoint = "tcp:0:interface=127.0.0.1"
plaintext_login = true
{mechanisms}
[[listen]]
protocol = "pop3s"
endpoint = "tcp:0:interface=127.0.0.1"
client_certificates = "request"
client_ca = "ca.pem"
certificate_name = "common-name"
{mechanisms}
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
COMMANDS = ("USER", "APOP")
WANTED = f"mechanisms = {[name for name in MECHANISMS if name not in COMMANDS]}"


class Reason(NamedTuple):
    """Why a login is refused: who comes, with what, and with whose certificate."""

    name: bytes
    secret: bytes
    certificate: str = ""


class House:
    """A service with a delay and one without."""

    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mailgate-times-"))
        authority, self.issuer = Authority(), Issuer()
        authority.issue(HOSTNAME, "localhost").write(self.folder)
        (self.folder / "ca.pem").write_bytes(authority.pem)
        self.issuer.write(self.folder / "keys.json")
        self.site = Site(self.folder, further=CONFIGURATION.format(
            mechanisms=WANTED, issuer=ISSUER, audience=AUDIENCE))
        for name, keeping in (("apop", ("--apop", "--scram")), ("hashed", ("--hash-only",)),
                              ("cram", ("--cram", "--scram")), ("off", ("--apop", "--scram"))):
            self.site.succeed("account", "add", name, *keeping, "--password-stdin", stdin=PASSWORD.encode())
        self.site.succeed("account", "disable", "off")
        self.contexts = {}
        for name in ("", "ghost", "off", "hashed"):
            context = self.contexts[name] = ssl.create_default_context(cafile=self.folder / "ca.pem")
            context.check_hostname = False
            if name:
                authority.issue(name, client=True).write(self.folder, f"{name}.pem", f"{name}.key")
                context.load_cert_chain(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        self.quick = self.site.start()          # refuses at once
        text = self.site.file.read_text()
        self.site.file.write_text(text.replace("failure_delay_seconds = 0\n",
                                               f"failure_delay_seconds = {DELAY_SECONDS}\n"))
        self.service = self.site.start()

    def close(self) -> None:
        for one in ("quick", "service"):
            if hasattr(self, one):
                getattr(self, one).end()
        shutil.rmtree(self.folder)

    def reasons(self, mechanism: str) -> dict[str, Reason]:
        """Return every reason for which a login by this mechanism can be refused."""
        good, wrong = PASSWORD.encode(), b"wrong"
        if mechanism == "EXTERNAL":
            return {"unknown": Reason(b"", b"", "ghost"), "disabled": Reason(b"", b"", "off"),
                    "somebody else's certificate": Reason(b"apop", b"", "hashed")}
        if mechanism in ("OAUTHBEARER", "XOAUTH2"):
            return {"not signed by the issuer": Reason(b"apop", Issuer().token("apop")),
                    "expired": Reason(b"apop", self.issuer.token("apop", exp=1)),
                    "unknown": Reason(b"nobody", self.issuer.token("apop")),
                    "disabled": Reason(b"off", self.issuer.token("off"))}
        return {"unknown": Reason(b"nobody", good), "disabled": Reason(b"off", good),
                "wrong": Reason(b"cram" if mechanism == "CRAM-MD5" else b"apop", wrong),
                "wrong, and nothing kept but a hash": Reason(b"hashed", wrong)}

    def refused(self, mechanism: str, reason: Reason, service: Service | None = None) -> Refusal:
        """Let one login be refused."""
        tls = mechanism.endswith("-PLUS") or mechanism in ("EXTERNAL", "OAUTHBEARER", "XOAUTH2")
        ports = dict((service or self.service).ports) if tls else {
            "pop3": [port for protocol, port in (service or self.service).ports if protocol == "pop3"][1]}
        caller = Caller(ports["pop3s" if tls else "pop3"], self.contexts[reason.certificate] if tls else None)
        try:
            answers = MECHANISMS[mechanism](caller, reason.name, reason.secret)
            return Refusal(tuple(answers), caller.seconds)
        finally:
            caller.close()


house = House()
setUpModule, tearDownModule = house.open, house.close


class RefusalTests(SynchronousTestCase):
    """All mechanisms and reasons in one seeded, shuffled run, so that the machine's mood is shared by all."""

    def samples(self) -> dict[str, dict[str, list[Refusal]]]:
        trials = [(mechanism, why, reason) for mechanism in MECHANISMS
                  for why, reason in house.reasons(mechanism).items() for _ in range(TRIALS)]
        Random(SEED).shuffle(trials)
        found: dict[str, dict[str, list[Refusal]]] = {one: {} for one in MECHANISMS}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            refusals = pool.map(lambda trial: house.refused(trial[0], trial[2]), trials)
            for (mechanism, why, _), refusal in zip(trials, refusals, strict=True):
                found[mechanism].setdefault(why, []).append(refusal)
        return found

    def test_nothing_tells_the_reason(self) -> None:
        """The same lines; never before the time; no two reasons whose times differ."""
        told = {}
        for mechanism, reasons in self.samples().items():
            lines = {refusal.lines for refusals in reasons.values() for refusal in refusals}
            self.assertEqual(len(lines), 1, (mechanism, lines))
            self.assertTrue(lines.pop()[-1].startswith(b"-ERR [AUTH] "), mechanism)
            times = {why: [refusal.seconds for refusal in refusals] for why, refusals in reasons.items()}
            self.assertGreaterEqual(min(map(min, times.values())), DELAY_SECONDS - 0.01, mechanism)
            whys = sorted(times)
            for at, one in enumerate(whys):
                for other in whys[at + 1:]:
                    self.assertFalse(differ(times[one], times[other]), (mechanism, one, other, times))
            medians = [statistics.median(values) for values in times.values()]
            told[mechanism] = 1000 * (max(medians) - min(medians))
        tell("medians of refusals lie apart by at most", f"{max(told.values()):.2f} ms {told}")

    def test_a_difference_would_be_seen(self) -> None:
        """The same measure, without the delay: what a slow hash costs stands out."""
        trials = [name for name in (b"apop", b"hashed") for _ in range(TRIALS)]
        Random(SEED).shuffle(trials)
        found: dict[bytes, list[float]] = {b"apop": [], b"hashed": []}
        for name in trials:
            found[name].append(house.refused("PLAIN", Reason(name, b"wrong"), house.quick).seconds)
        self.assertTrue(differ(found[b"apop"], found[b"hashed"]), found)


class MeasureTests(SynchronousTestCase):
    """The measure itself, on times that are made up."""

    def test_shifted(self) -> None:
        """Four milliseconds show through noise of one; nothing, and a tenth of one, do not."""
        for seed in range(200):
            random = Random(seed)
            one, other = ([0.3 + abs(random.gauss(0, 0.001)) for _ in range(TRIALS)] for _ in range(2))
            self.assertFalse(differ(one, other), seed)
            self.assertTrue(differ(one, [value + 0.004 for value in other]), seed)
            self.assertFalse(differ(one, [value + 0.0001 for value in other]), seed)

    def test_likelihood(self) -> None:
        """Against a known table: of 3 against 3 without a mix, U is 0 and p about 0.05 (normal: 0.0495)."""
        self.assertAlmostEqual(likelihood([1, 2, 3], [4, 5, 6]), 0.0495, places=3)
        self.assertAlmostEqual(likelihood([1, 4], [2, 3]), 1.0)
