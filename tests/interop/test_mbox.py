"""A service over mboxes that procmail and Dovecot's delivery agent write to, and clients fetch from."""

from __future__ import annotations

import os
import poplib
import pwd
import random
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.needs import needs, unavailable
from tests.services import Service, Site, wait_for

LDA = "/usr/lib/dovecot/dovecot-lda"
FROM = b"From joe@example.org Thu Jan  1 00:00:01 1970\n"
# The locks in the order that procmail takes them in: those two block each other otherwise.
CONFIGURATION = """\
mail_location = mbox:{folder}/mbox:INBOX={folder}/spool/mrose
mbox_write_locks = dotlock fcntl
log_path = {folder}/run/lda.log
ssl = no
protocols =
base_dir = {folder}/run
state_dir = {folder}/run
"""
RECIPE = """\
LOCKSLEEP=1
:0:
{folder}/spool/mrose
"""
AGENTS_MAILS = {"procmail": 3, "lda": 15, "deliver": 3}
MOST_TRIES = 400            # Dovecot's refuses to add to what is half rewritten, until a service mends it
RETRY_SECONDS = 0.5
MOST_SECONDS = 300          # of it all
KILLS = 2
LEAST_GONE = 4              # messages, by sessions that were not killed, before the first is
PAUSE_SECONDS = 0.2         # between sessions: delivery agents look for locks seldom

_TOKEN = re.compile(rb"^Subject: (\S+)$", re.MULTILINE)


class MboxService(SynchronousTestCase):
    """Makes a folder of mailboxes, and a site over it."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mailgate-test-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.folder.chmod(0o755)
        self.spool = self.folder / "spool"
        for name in ("spool", "mbox", "run"):
            (self.folder / name).mkdir()
            (self.folder / name).chmod(0o777)
        self.site = Site(self.folder / "site", accounts={"mrose": "tanstaaf"},
                         store=f'maildrops = "mbox:{self.spool}/{{name}}"\nlease_seconds = 2')

    def login(self, service: Service) -> poplib.POP3:
        client = poplib.POP3("127.0.0.1", service.pop3_port, timeout=60)
        self.addCleanup(client.close)
        client.user("mrose")
        client.pass_("tanstaaf")
        return client

    def write(self, *messages: bytes) -> Path:
        path = self.spool / "mrose"
        path.write_bytes(b"".join(FROM + one + b"\n" for one in messages))
        return path


class SessionTests(MboxService):
    def test_a_session(self) -> None:
        """STAT to QUIT over the mail that is there; what comes meanwhile is there afterwards."""
        service = self.site.start()
        self.addCleanup(service.end)
        self.assertEqual(service.messages_seen("mrose", "tanstaaf"), 0)
        path = self.write(b"Subject: 1\nStatus: RO\n\n.one\n", b"Subject: 2\n\n>From two\n",
                          b"Subject: 3\n\n3\n")
        client = self.login(service)
        self.assertEqual(client.stat(), (3, 20 + 25 + 17))
        self.assertEqual(client.retr(1)[1:], ([b"Subject: 1", b"", b".one"], 20))
        self.assertEqual(client.top(2, 0)[1], [b"Subject: 2", b""])
        ids = [line.split()[1] for line in client.uidl()[1]]
        with path.open("ab") as file:
            file.write(FROM + b"Subject: 4\n\n4\n\n")
        self.site.deliver(b"Subject: 5\n\n5\n", "mrose@mail.example.org", sender="a@b.example")
        client.dele(1)
        client.dele(3)
        client.quit()
        client = self.login(service)
        self.assertEqual([client.top(number, 0)[1][0] for number in (1, 2)], [b"Subject: 2", b"Subject: 4"])
        self.assertIn(b"Subject: 5", client.retr(3)[1])
        self.assertEqual([line.split()[1] for line in client.uidl()[1]][:1], ids[1:2])
        client.quit()
        listed = self.site.succeed("maildrop", "list", "mrose").splitlines()
        self.assertEqual([line.split(b"\t")[3] for line in listed],
                         [b"joe@example.org", b"joe@example.org", b"a@b.example"])
        self.assertEqual(sorted(os.listdir(self.spool)), [".mrose.mailgate", "mrose"])

    def test_where_locking_cannot_work(self) -> None:
        """The service does not start, and `check` says why."""
        self.spool.rename(self.folder / "away")
        checked = self.site.command("check")
        self.assertEqual(checked.returncode, 65)
        self.assertIn(str(self.spool).encode(), checked.stderr + checked.stdout)
        with self.assertRaises(AssertionError):
            self.addCleanup(self.site.start().end)


class PeerTests(MboxService):
    """Delivery agents and sessions at the same time, and kill -9 among them."""

    def setUp(self) -> None:
        needs("procmail")
        if not os.access(LDA, os.X_OK):
            unavailable("missing: dovecot-lda; install with: apt-get install dovecot-core")
        self.prefix = [needs("setpriv"), "--reuid=nobody", "--regid=nogroup", "--clear-groups"] \
            if os.geteuid() == 0 else []
        super().setUp()
        if self.prefix:
            for name in ("spool", "mbox", "run"):
                os.chown(self.folder / name, pwd.getpwnam("nobody").pw_uid, -1)
        self.delivered: Counter[str] = Counter()
        self.gone: set[str] = set()             # QUIT was answered
        self.doubtful: set[str] = set()         # QUIT was not
        for name, text in (("lda.conf", CONFIGURATION), ("procmailrc", RECIPE)):
            (self.folder / name).write_text(text.format(folder=self.folder))
            (self.folder / name).chmod(0o644)
        self.agents = {
            "procmail": ["procmail", "-f", "joe@example.org", str(self.folder / "procmailrc")],
            "lda": [LDA, "-c", str(self.folder / "lda.conf"), "-e", "-f", "joe@example.org"]}

    def run_agent(self, agent: str) -> None:
        """Deliver so many messages; an agent that cannot does it again, as its MTA would."""
        for number in range(AGENTS_MAILS[agent]):
            token = f"{agent}-{number}"
            text = f"Subject: {token}\n\n".encode() + b"line of text\n" * (number * 7 % 400)
            tries = 1
            while not self.hand_over(agent, text):
                tries += 1
                if tries > MOST_TRIES:
                    return      # the count at the end tells
                time.sleep(RETRY_SECONDS)
            self.delivered[token] += 1

    def hand_over(self, agent: str, text: bytes) -> bool:
        if agent == "deliver":
            ran = self.site.command("deliver", "--from", "a@b.example", "mrose@mail.example.org", stdin=text)
        else:
            ran = subprocess.run([*self.prefix, *self.agents[agent]], input=text, check=False,
                                 capture_output=True, timeout=MOST_SECONDS, env={
                                     "HOME": str(self.folder), "USER": "nobody", "PATH": os.environ["PATH"]})
        return ran.returncode == 0

    def fetch(self, service: Service, random_: random.Random, kill: bool) -> bool:
        """Read all, remove some; maybe kill the service while it does that. Return whether that was done."""
        try:
            client = self.login(service)
        except poplib.error_proto as refusal:
            self.assertRegex(str(refusal), "IN-USE|SYS/TEMP")
            time.sleep(0.1)
            return False
        tokens = {}
        for number in range(1, client.stat()[0] + 1):
            lines = client.retr(number)[1]
            [token] = [line[9:].decode() for line in lines if line.startswith(b"Subject: ")]
            _, count = token.split("-")
            self.assertEqual(lines.count(b"line of text"), int(count) * 7 % 400)
            self.assertNotIn(token, self.gone)
            tokens[number] = token
        self.assertEqual(len(set(tokens.values())), len(tokens))
        marked = [number for number in tokens if random_.random() < 0.5]
        for number in marked:
            client.dele(number)
        killer = threading.Timer(random_.uniform(0, 0.02), service.process.kill) if kill else None
        removed = {tokens[number] for number in marked}
        if killer is not None:
            killer.start()
        try:
            client.quit()
            self.gone |= removed
        except (poplib.error_proto, OSError, EOFError):
            self.doubtful |= removed
        finally:
            if killer is not None:
                killer.join()
        return kill

    def test_nothing_lost_nothing_doubled(self) -> None:
        service = self.site.start()
        self.addCleanup(lambda: service.end())
        threads = [threading.Thread(target=self.run_agent, args=(agent,)) for agent in AGENTS_MAILS]
        for thread in threads:
            thread.start()
        random_ = random.Random(1)
        kills = 0
        end = time.monotonic() + MOST_SECONDS
        while any(thread.is_alive() for thread in threads) or kills < KILLS:
            self.assertLess(time.monotonic(), end, (self.delivered, kills, os.listdir(self.spool)))
            kill = kills < KILLS and len(self.gone) >= LEAST_GONE and random_.random() < 0.4
            if self.fetch(service, random_, kill):
                service.process.wait(60)
                kills += 1
                service = self.site.start()
            time.sleep(PAUSE_SECONDS)
        for thread in threads:
            thread.join()
        counts: list[int | str] = []

        def seen() -> bool:     # once the lease of the dead is over; carries out what they left
            counts.append(service.messages_seen("mrose", "tanstaaf"))
            return isinstance(counts[-1], int)

        wait_for(seen, "a login")
        count = counts[-1]
        present = Counter(token.decode() for token in _TOKEN.findall((self.spool / "mrose").read_bytes()))
        self.assertEqual(count, sum(present.values()))
        self.assertEqual(set(present.values()) | {1}, {1})
        self.assertEqual(sum(self.delivered.values()), sum(AGENTS_MAILS.values()))
        self.assertEqual(set(present) & self.gone, set())
        self.assertEqual(set(present) | self.gone | self.doubtful, set(self.delivered))
        self.assertGreaterEqual(len(self.gone), LEAST_GONE)
        self.assertEqual(service.stop(), -15)
