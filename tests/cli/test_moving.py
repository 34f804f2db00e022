"""Moves from servers of all kinds, over real sockets, into a store in memory."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, LoopingCall, deferLater
from twisted.trial.unittest import TestCase
from zope.interface import providedBy

from mailgate.cli.moving import Wishes, pour
from mailgate.cli.moving_many import MOST_OUTAGES, Job, Many, Shown
from mailgate.config import load
from mailgate.importing.matching import UNCOUNTED
from mailgate.model import Account, Admission, Envelope, Placement
from mailgate.net.pop3_source import Credentials, Door
from mailgate.stores.memory import MemoryStore
from mailgate.wire.headers import preamble
from tests.cli.base import CONFIGURATION
from tests.net.source_server import Mail, SourceServer
from tests.ports import held_port

reactor: Any = installed
ARRIVED_MS = 1_600_000_000_000


def text(number: int, body: bytes = b"body\r\n", *, received: bytes = b"a") -> bytes:
    return (b"Received: from %b by b; Mon, 2 Nov 2020 10:00:00 +0000\r\nMessage-ID: <%d@x>\r\n"
            b"Subject: message %d\r\n\r\n%b" % (received, number, number, body))


TEXTS = [text(1), text(2, b"..dots\r\n.\r\n\r\nend\r\n"), text(3, b"x" * 200_000 + b"\r\n"), text(4)]


class TimeHeld:
    """The reactor with real sockets, and a time that passes only by `clock`."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.callLater, self.seconds = self.clock.callLater, self.clock.seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    @property
    def __provides__(self) -> Any:
        return providedBy(reactor)


class MovingCase(TestCase):
    timeout = 120
    reactor: Any = reactor

    async def asynchronous_set_up(self) -> None:
        self.store: Any = MemoryStore(clock=Clock())
        await self.store.start()
        await self.store.accounts.add([Account("mrose", addresses=("mrose@mail.example.org",))])

    def setUp(self) -> Any:
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "mailgate.toml").write_text(CONFIGURATION)
        self.config = load(folder / "mailgate.toml")
        self.out, self.err = "", ""
        return Deferred.fromCoroutine(self.asynchronous_set_up())

    def source(self, texts: Mapping[bytes, bytes] | list[tuple[bytes, bytes]],
               **options: Any) -> SourceServer:
        """Begin to serve messages, by unique-id."""
        pairs = texts.items() if isinstance(texts, Mapping) else texts
        server = SourceServer([Mail(unique_id, content) for unique_id, content in pairs], **options)
        self.addCleanup(server.port.stopListening)
        return server

    async def deliver(self, *messages: bytes, name: str = "mrose", front: bytes = b"") -> None:
        """Deliver messages here, as LMTP would, or with other lines in front."""
        envelope = Envelope(b"sender@example.org", b"mrose@mail.example.org", ARRIVED_MS)
        front = front or preamble(envelope) + b"Received: by mail.example.org; today\r\n"
        for message in messages:
            delivery = self.store.deliver()
            delivery.write(message)
            outcome = await delivery.commit([Placement(name, "mrose", envelope, front)])
            self.assertEqual(outcome, [None])

    async def run_jobs(self, server: SourceServer, *names: str, code: int = 0, parallel: int = 1,
                       timeout: float = 60, password: bytes = b"secret", apop: bool = False,
                       **wishes: Any) -> list[str]:
        """Move accounts; return the lines on standard output."""
        door = Door("127.0.0.1", server.number, "none", None, timeout)
        many = Many(self.store, self.config, self.reactor, door, Wishes(**wishes), Shown(False, len(names)))
        with self.written():
            found = await many.carry_out(
                [Job(name, Credentials(name.encode(), password, apop)) for name in names], parallel)
        self.assertEqual(found, code, self.out + self.err)
        return self.out.splitlines()

    async def move(self, server: SourceServer, code: int = 0, **options: Any) -> dict[str, str]:
        """Move mrose; return the counts that are not 0."""
        lines = await self.run_jobs(server, "mrose", code=code, **options)
        name, state, *columns = lines[0].split("\t")
        self.assertEqual(name, "mrose")
        counts = dict(column.split("=") for column in columns)
        return {"state": state, **{key: value for key, value in counts.items() if value != "0"}}

    @contextlib.contextmanager
    def written(self) -> Iterator[None]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield
        self.out, self.err = out.getvalue(), err.getvalue()

    async def open(self, name: str) -> Any:
        account = await self.store.accounts.get(name)
        return await self.store.open(Admission(name, None, name, account.version))

    async def ids(self) -> list[bytes]:
        return [one.unique_id for one in await self.store.scan("mrose")]

    async def contents(self) -> list[bytes]:
        maildrop = await self.store.peek("mrose")
        found = []
        for number in range(1, len(maildrop.listing) + 1):
            pieces: list[bytes] = []
            await pour(maildrop, number, None, pieces.append)
            found.append(b"".join(pieces))
        return found


class TakingTests(MovingCase):
    async def test_other_delivery(self) -> None:
        """Messages that came here another way, in another order, get the ids that they have there."""
        await self.deliver(TEXTS[2], TEXTS[0], text(9), TEXTS[1])
        server = self.source({b"a": TEXTS[0], b"b": TEXTS[1], b"c": TEXTS[2], b"d": TEXTS[3]})
        fresh = (await self.ids())[2]
        self.assertEqual(await self.move(server), {
            "state": "done", "source": "4", "taken": "3", "missing": "1", "only-here": "1"})
        self.assertEqual(await self.ids(), [b"c", b"a", fresh, b"b"])

    async def test_again(self) -> None:
        """The second time costs a login and UIDL: no LIST, no TOP, nothing changes."""
        await self.deliver(*TEXTS)
        server = self.source({b"%d" % n: text for n, text in enumerate(TEXTS)})
        await self.move(server)
        del server.commands[:]
        self.assertEqual(await self.move(server), {"state": "done", "source": "4", "kept": "4"})
        self.assertEqual(server.verbs("LIST", "TOP", "RETR"), [])
        self.assertEqual(server.commands, ["CAPA", "USER mrose", "PASS secret", "UIDL", "RSET", "QUIT"])

    async def test_nothing_is_removed_there(self) -> None:
        """Every command of a move is one that removes nothing; QUIT comes behind RSET."""
        await self.deliver(TEXTS[0])
        server = self.source({b"a": TEXTS[0], b"b": TEXTS[1]})
        await self.move(server, copy=True)
        self.assertEqual({line.split()[0] for line in server.commands},
                         {"CAPA", "USER", "PASS", "UIDL", "LIST", "TOP", "RETR", "RSET", "QUIT"})
        self.assertEqual(server.commands[-2:], ["RSET", "QUIT"])

    async def test_a_server_that_removes_what_was_read(self) -> None:
        """It says so by EXPIRE 0, and does so at QUIT: the connection is left without."""
        await self.deliver(TEXTS[0])
        for word, end in (("EXPIRE 0", "RSET"), ("EXPIRE 0 USER", "RSET"), ("EXPIRE 30", "QUIT"),
                          ("EXPIRE NEVER", "QUIT")):
            server = self.source({b"a": TEXTS[0], b"b": TEXTS[1]}, capabilities=["UIDL", "USER", word])
            self.assertEqual((await self.move(server, copy=True))["state"], "done")
            self.assertEqual(server.commands[-1], end, word)

    async def test_pipelining(self) -> None:
        """TOPs go out many at a time where that is announced, one by one where not."""
        texts = [text(number) for number in range(200)]
        await self.deliver(*texts)
        for capabilities, least, most in ((("TOP", "UIDL", "PIPELINING"), 10, 64), (("TOP", "UIDL"), 1, 1),
                                          (None, 1, 1)):
            server = self.source({b"%s%d" % (str(capabilities is None).encode(), n): one
                                  for n, one in enumerate(texts)}, capabilities=capabilities)
            self.assertEqual((await self.move(server, dry_run=True))["taken"], "200")
            self.assertTrue(least <= server.most_waiting <= most, server.most_waiting)

    async def test_dry_run(self) -> None:
        """Nothing changes here; the counts are those that would come."""
        await self.deliver(TEXTS[0])
        before = await self.ids()
        server = self.source({b"a": TEXTS[0], b"b": TEXTS[1]})
        self.assertEqual(await self.move(server, dry_run=True, copy=True), {
            "state": "would-do", "source": "2", "taken": "1", "missing": "1"})
        self.assertEqual(await self.ids(), before)

    async def test_bad_ids(self) -> None:
        """Illegal ids are passed over, and of equal ones all but the first."""
        await self.deliver(*TEXTS)
        server = self.source(list(zip([b"x" * 71, b"a b", b"same", b"same"], TEXTS, strict=True)))
        fresh = await self.ids()
        self.assertEqual(await self.move(server), {
            "state": "done", "source": "4", "taken": "1", "bad-ids": "3", "only-here": "3"})
        self.assertEqual(await self.ids(), [*fresh[:2], b"same", fresh[3]])

    async def test_ids_that_were_others(self) -> None:
        """An id that a message here had once is given to no other."""
        await self.deliver(*TEXTS[:2])
        await self.move(self.source({b"a": TEXTS[0]}))
        await self.remove(1)
        self.assertEqual(await self.move(self.source({b"a": TEXTS[1]})), {
            "state": "done", "source": "1", "refused": "1"})
        self.assertNotIn(b"a", await self.ids())

    async def remove(self, *numbers: int) -> None:
        maildrop = await self.open("mrose")
        await maildrop.commit(numbers)

    async def test_in_use(self) -> None:
        """An open maildrop keeps its ids: 75, before a header was read."""
        await self.deliver(TEXTS[0])
        maildrop = await self.open("mrose")
        server = self.source({b"a": TEXTS[0]})
        self.assertEqual(await self.move(server, code=75), {"state": "failed", "exit": "75"})
        self.assertEqual(self.err, "mailgate: mrose: maildrop in use: mrose\n")
        self.assertEqual(server.verbs("TOP"), [])
        await maildrop.release()
        self.assertEqual((await self.move(server))["taken"], "1")

    async def test_other_names(self) -> None:
        """No account: 67. A maildrop that another checker's user has is one to move to, too."""
        server = self.source({b"a": TEXTS[0]})
        await self.run_jobs(server, "nobody", code=67)
        self.assertEqual(server.commands, [])
        await self.deliver(TEXTS[0], name="guest")
        lines = await self.run_jobs(server, "guest")
        self.assertIn("taken=1", lines[0])

    async def test_empty(self) -> None:
        """Nothing there, or nothing here: no header is read."""
        self.assertEqual(await self.move(self.source({})), {"state": "done"})
        server = self.source({b"a": TEXTS[0]})
        self.assertEqual(await self.move(server), {"state": "done", "source": "1", "missing": "1"})
        self.assertEqual(server.verbs("TOP", "RETR"), [])

    async def test_only_candidates(self) -> None:
        """Headers of messages whose size is nowhere near any here stay unread."""
        await self.deliver(TEXTS[0])
        server = self.source({b"a": TEXTS[0], b"b": TEXTS[2]})
        await self.move(server)
        self.assertEqual(server.verbs("TOP"), ["TOP 1 0"])

    async def test_long_header(self) -> None:
        """A header of any length ends no move: it is nobody's, and the others are found."""
        await self.deliver(TEXTS[0], TEXTS[1])
        long = b"".join(b"X-%d: %b\r\n" % (number, b"x" * 900) for number in range(2000)) + TEXTS[2]
        server = self.source({b"long": long, b"a": TEXTS[0], b"b": TEXTS[1]})
        self.assertEqual(await self.move(server, copy=True), {
            "state": "done", "source": "3", "taken": "2", "copied": "1"})
        self.assertEqual(await self.move(server, copy=True), {"state": "done", "source": "3", "kept": "3"})
        await self.deliver(long)
        server = self.source({b"other": long}, size=lambda mail: len(mail.content) + 150)
        self.assertEqual((await self.move(server))["missing"], "1")
        self.assertEqual(server.verbs("TOP"), ["TOP 1 0"])

    async def test_fields_of_filters(self) -> None:
        """A field that a filter adds on one side makes a difference until it is told of."""
        await self.deliver(b"X-Spam: no\r\n" + TEXTS[0])
        server = self.source({b"a": TEXTS[0]})
        self.assertEqual((await self.move(server))["missing"], "1")
        self.assertEqual((await self.move(server, uncounted={*UNCOUNTED, b"x-spam"}))["taken"], "1")


class CarelessTests(MovingCase):
    async def test_sizes_in_lf(self) -> None:
        """Sizes counted with LF line ends."""
        same = [text(1, b"a\r\n" * 700), text(1, b"a\r\n" * 2500)]
        await self.deliver(*same)
        server = self.source({b"long": same[1], b"short": same[0]},
                             size=lambda mail: len(mail.content.replace(b"\r\n", b"\n")))
        self.assertEqual((await self.move(server))["taken"], "2")
        self.assertEqual(await self.ids(), [b"short", b"long"])

    async def test_wrong_sizes(self) -> None:
        """Sizes that mean nothing match by the fields alone, where that is asked for."""
        await self.deliver(*TEXTS)
        server = self.source({b"%d" % n: one for n, one in enumerate(TEXTS)}, size=lambda mail: 12_345)
        self.assertEqual((await self.move(server)).get("taken"), None)
        self.assertEqual((await self.move(server, ignore_sizes=True))["taken"], "4")

    async def test_line_ends(self) -> None:
        """A server that ends its lines in LF."""
        await self.deliver(*TEXTS)
        server = self.source({b"%d" % n: one for n, one in enumerate(TEXTS)}, end=b"\n")
        self.assertEqual((await self.move(server))["taken"], "4")

    async def test_no_top(self) -> None:
        """Where TOP is missing the messages are fetched to be looked at; their real sizes count."""
        await self.deliver(*TEXTS)
        for capabilities in (None, ["UIDL"]):
            server = self.source({b"%d" % n: one for n, one in enumerate(TEXTS)}, refused=["TOP"],
                                 capabilities=capabilities, size=lambda mail: len(mail.content) // 2 + 7000)
            self.assertEqual((await self.move(server, dry_run=True))["taken"], "4")
            self.assertEqual(server.verbs("TOP"), ["TOP 1 0"])
            self.assertEqual(len(server.verbs("RETR")), 4)

    async def test_announced_and_refused(self) -> None:
        """A TOP that was announced and fails is of that message: unreadable, and the others go on."""
        await self.deliver(*TEXTS)
        server = self.source({b"%d" % n: one for n, one in enumerate(TEXTS)}, refused=["TOP"])
        self.assertEqual(await self.move(server), {
            "state": "done", "source": "4", "unreadable": "4", "only-here": "4"})

    async def test_no_unique_ids(self) -> None:
        """Without UIDL there is nothing to take over: 69, in clear words."""
        server = self.source({b"a": TEXTS[0]}, refused=["UIDL"])
        self.assertEqual(await self.move(server, code=69), {"state": "failed", "exit": "69"})
        self.assertEqual(
            self.err, "mailgate: mrose: the server has no unique-ids to take over (UIDL): not here\n")

    async def test_plain(self) -> None:
        """AUTH PLAIN where USER is not announced, or the name has a blank."""
        server = self.source({}, capabilities=["SASL PLAIN", "UIDL", "PIPELINING"])
        await self.move(server)
        self.assertEqual(server.commands[1], "AUTH PLAIN AG1yb3NlAHNlY3JldA==")

    async def test_apop(self) -> None:
        """APOP when it is asked for; not without a timestamp."""
        server = self.source({}, greeting=b"+OK <1896.697170952@dbc.mtview.ca.us>")
        await self.move(server, apop=True, password=b"tanstaaf")
        self.assertIn("APOP mrose c4c9334bac560ecc979e58001b3e22fb", server.commands)
        server = self.source({})
        self.assertEqual((await self.move(server, apop=True, code=69))["exit"], "69")
        self.assertEqual(server.verbs("USER", "PASS", "APOP"), [])


class Slow:
    """A delivery that takes one piece at a time, and a while for each."""

    def __init__(self, delivery: Any) -> None:
        self.delivery = delivery
        self.pieces: list[int] = []
        self.at_once = self.most_at_once = 0

    def over(self, delivery: Any) -> Slow:
        self.delivery = delivery
        return self

    def write(self, piece: bytes) -> Deferred[None]:
        self.delivery.write(piece)
        self.pieces.append(len(piece))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        return deferLater(reactor, 0, self._taken)

    def _taken(self) -> None:
        self.at_once -= 1

    def commit(self, placements: Any) -> Any:
        return self.delivery.commit(placements)

    def abort(self) -> None:
        self.delivery.abort()


class CopyTests(MovingCase):
    async def test_copy(self) -> None:
        """What is missing comes along with its id, octet for octet, and its envelope as far as it is told."""
        await self.deliver(TEXTS[1])
        marked = b"Return-Path: <a@example.net>\r\nDelivered-To: mrose@mail.example.org\r\n" + TEXTS[2]
        server = self.source({b"a": TEXTS[0], b"b": TEXTS[1], b"c": marked})
        self.assertEqual(await self.move(server, copy=True), {
            "state": "done", "source": "3", "taken": "1", "copied": "2"})
        self.assertEqual(await self.ids(), [b"b", b"a", b"c"])
        contents = await self.contents()
        self.assertTrue(contents[1].endswith(b"\r\n" + TEXTS[0]))
        self.assertEqual(contents[2], marked)
        envelope = (await self.store.scan("mrose"))[2].envelope
        self.assertEqual(envelope, Envelope(b"a@example.net", b"mrose@mail.example.org", 1_604_311_200_000))
        self.assertEqual(await self.move(server, copy=True), {"state": "done", "source": "3", "kept": "3"})

    async def test_removed_since(self) -> None:
        """What was here, under its id, and was removed does not come back: neither taken nor copied mail."""
        await self.deliver(TEXTS[0])
        server = self.source({b"a": TEXTS[0], b"b": TEXTS[1]})
        await self.move(server, copy=True)
        maildrop = await self.open("mrose")
        await maildrop.commit([1, 2])
        await self.move(server, copy=True)
        self.assertEqual(await self.ids(), [])

    async def test_imported_and_removed_since(self) -> None:
        """Nor does what an import of files brought: it is known there by another identity."""
        envelope = Envelope(b"", b"mrose@mail.example.org", ARRIVED_MS)
        for unique_id, one in ((b"a", TEXTS[0]), (b"b", TEXTS[1])):
            delivery = self.store.deliver()
            delivery.write(one)
            await delivery.commit([Placement("mrose", None, envelope, unique_id=unique_id,
                                             identity=b"file " + unique_id)])
        maildrop = await self.open("mrose")
        await maildrop.commit([1])
        server = self.source({b"a": TEXTS[0], b"b": TEXTS[1], b"c": TEXTS[2]})
        self.assertEqual(await self.move(server, copy=True), {
            "state": "done", "source": "3", "kept": "2", "copied": "1"})
        self.assertEqual(await self.ids(), [b"b", b"c"])
        self.assertEqual(server.verbs("RETR"), ["RETR 3"])

    async def test_another_owner(self) -> None:
        """An account that is removed on the way gets nothing, and nobody else does in its place."""
        server = self.source({b"a": TEXTS[0]})
        begin = self.store.deliver

        def deliver() -> Any:
            self.store.accounts.remove("mrose")
            return begin()

        self.patch(self.store, "deliver", deliver)
        self.assertEqual(await self.move(server, copy=True, code=67), {
            "state": "failed", "exit": "67", "source": "1", "faults": "1"})
        self.assertEqual(await self.store.maildrops(), [])

    async def test_without_ids(self) -> None:
        """Messages whose id cannot be had come under fresh ones, once."""
        server = self.source([(b"a b", TEXTS[0]), (b"same", TEXTS[1]), (b"same", TEXTS[2]), (b"", TEXTS[0])])
        self.assertEqual(await self.move(server, copy=True), {
            "state": "done", "source": "4", "copied": "4", "bad-ids": "3"})
        self.assertEqual(await self.move(server, copy=True), {
            "state": "done", "source": "4", "kept": "1", "bad-ids": "3"})
        self.assertEqual(len(await self.ids()), 4)

    async def test_over_quota(self) -> None:
        """What has no room is told; the rest is there, and the next run goes on."""
        self.store._quota_octets = 1000
        server = self.source({b"a": TEXTS[0], b"c": TEXTS[2], b"d": TEXTS[3]})
        self.assertEqual(await self.move(server, copy=True, code=75), {
            "state": "failed", "exit": "75", "source": "3", "copied": "2", "faults": "1"})
        self.assertIn("over quota", self.err)
        self.assertEqual(await self.ids(), [b"a", b"d"])
        self.store._quota_octets = None
        self.assertEqual(await self.move(server, copy=True), {
            "state": "done", "source": "3", "kept": "2", "copied": "1"})

    async def test_back_pressure(self) -> None:
        """While the store has no room the server is not read: a large message is never held."""
        whole = text(1, b"line\r\n" * 2_000_000)
        server = self.source({b"a": whole})
        begin = self.store.deliver
        slow = Slow(None)
        self.patch(self.store, "deliver", lambda: slow.over(begin()))
        self.assertEqual((await self.move(server, copy=True))["copied"], "1")
        self.assertEqual(sum(slow.pieces), len(whole))
        self.assertLessEqual(max(slow.pieces), 1 << 17)
        self.assertEqual(slow.most_at_once, 1)
        self.assertTrue((await self.contents())[0].endswith(whole))


class HostileTests(MovingCase):
    async def failed(self, words: str, code: int = 75, *, silent_at: str = "",
                     **options: Any) -> SourceServer:
        """Move from a server with a fault: it fails in these words, and nothing has changed here."""
        await self.deliver(*TEXTS[:2])
        before = await self.ids()
        server = self.source({b"a": TEXTS[0], b"b": TEXTS[1]}, **options)
        if silent_at:       # time passes once the server has heard this verb
            self.reactor = TimeHeld()
            passing = LoopingCall(lambda: server.verbs(silent_at) and self.reactor.clock.advance(60))
            passing.start(0.01)
            self.addCleanup(passing.stop)
        self.assertEqual(await self.move(server, code=code), {"state": "failed", "exit": str(code)})
        self.assertIn(words, self.err)
        self.assertEqual(len(self.err.splitlines()), 1)
        self.assertEqual(await self.ids(), before)
        return server

    async def test_dies_in_the_middle(self) -> None:
        await self.failed("the connection ended before the reply to TOP ", dies_at="TOP 2 0")
        await self.failed("the connection ended before the reply to UIDL", dies_at="UIDL")
        await self.failed("the connection ended before the reply to PASS", dies_at="PASS secret")

    async def test_endless_line(self) -> None:
        await self.failed("a line of more than 4096 octets in the reply to UIDL",
                          answers={"UIDL": b"+OK\r\n1 " + b"x" * 100_000})

    async def test_endless_header(self) -> None:
        await self.failed("the reply to TOP 1 has more than",
                          answers={"TOP": b"+OK\r\n" + b"A: b\r\n" * 200_000})

    async def test_numbers_that_are_none(self) -> None:
        await self.failed('a line of LIST says "1 lots"', answers={"LIST": b"+OK\r\n1 lots\r\n.\r\n"})
        await self.failed('a line of UIDL says "x y"', answers={"UIDL": b"+OK\r\nx y\r\n.\r\n"})
        await self.failed("UIDL lists message 1 twice", answers={"UIDL": b"+OK\r\n1 a\r\n1 b\r\n.\r\n"})

    async def test_silence(self) -> None:
        await self.failed("no reply to UIDL for 60 seconds", answers={"UIDL": None}, silent_at="UIDL")

    async def test_trickle(self) -> None:
        """A few octets now and then are no progress."""
        server = await self.failed("no reply to LIST for 60 seconds",
                                   answers={"LIST": b"+OK\r\n1 2\r\n"}, silent_at="LIST")
        self.assertEqual(server.verbs("TOP"), [])

    async def test_no_pop3(self) -> None:
        await self.failed('the reply to the greeting is "220 hello"', code=69, greeting=b"220 hello")

    async def test_refused_at_the_door(self) -> None:
        await self.failed("too many connections", greeting=b"-ERR too many connections")

    async def test_logins(self) -> None:
        """Wrong: 77. Right, but not now: 75."""
        await self.failed("login refused: not here", code=77, refused=["PASS"])
        await self.failed("login refused: not here", code=77, refused=["USER"])
        await self.failed("[IN-USE] busy", answers={"PASS": b"-ERR [IN-USE] busy\r\n"})

    async def test_wrong_counts(self) -> None:
        """LIST and UIDL that disagree: what both know is looked at."""
        await self.deliver(*TEXTS[:2])
        server = self.source({b"a": TEXTS[0], b"b": TEXTS[1]},
                             answers={"LIST": b"+OK\r\n2 %d\r\n9 12\r\n.\r\n" % len(TEXTS[1])})
        self.assertEqual(await self.move(server), {
            "state": "done", "source": "2", "taken": "1", "missing": "1", "only-here": "1"})

    async def test_terminal_codes(self) -> None:
        """What a server says reaches no terminal as it is."""
        await self.failed(r"\x1b[2J", code=77, answers={"PASS": b"-ERR \x1b[2J\r\n"})


class ManyTests(MovingCase):
    async def test_many(self) -> None:
        """A line an account; some at a time; the exit code asks to try again where that helps."""
        names = [f"user{number}" for number in range(20)]
        for name in names:
            await self.store.accounts.add([Account(name)])
            await self.deliver(TEXTS[0], name=name)
        server = self.source({b"a": TEXTS[0]})
        lines = await self.run_jobs(server, *names, "nobody", parallel=5, code=67)
        self.assertEqual(sorted(line.split("\t")[0] for line in lines if "\tdone\t" in line), sorted(names))
        self.assertEqual([line for line in lines if "taken=1" not in line], ["nobody\tfailed\texit=67"])
        maildrop = await self.open(names[0])
        lines = await self.run_jobs(self.source({b"b": TEXTS[0]}), *names, "nobody", parallel=5, code=75)
        await maildrop.release()
        self.assertEqual(sum("\tdone\t" in line for line in lines), len(names) - 1)

    async def test_server_that_is_down(self) -> None:
        """After some accounts in a row no more are tried."""
        server = self.source({})
        server.number = held_port(self)
        lines = await self.run_jobs(server, *["mrose"] * 50, code=75)
        self.assertEqual(lines, ["mrose\tfailed\texit=69"] * MOST_OUTAGES)
        self.assertIn("given up: 10 accounts in a row failed; 40 were not tried", self.err)
