"""What the contract tests of a store ask of its adapter, and how they read a maildrop."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Sequence

from twisted.internet.defer import Deferred, maybeDeferred

from mailgate.errors import NoSuchAccount
from mailgate.interfaces import IMaildrop, IMaildropStore, IMessageStream
from mailgate.model import INBOX, Account, Admission, Envelope, Placement, ScanListing

PIECE_OCTETS = 65536
MIME = b"From: a@example.org\r\nSubject: hello\r\n\r\nline one\r\nline two\r\n"


class StoreHooks:
    """Mixed into a trial TestCase beside a contract; the adapter's test gives the hooks.

    Every hook may be a coroutine. A store is known by `accounts` for its IAccountStore. The tests
    may stop a store before the clean-up does, and start none that they did not get by a hook.
    """

    lease_seconds: float = 60       # that of the stores that the hooks make

    async def make_store(self, *, quota_octets: int | None = None) -> IMaildropStore:
        """Return a fresh, empty, started store; its stop is registered with addCleanup."""
        raise NotImplementedError

    async def make_second(self, store: IMaildropStore) -> IMaildropStore:
        """Return another started store over the same data, as a second process would open it."""
        raise NotImplementedError

    async def expire_holder(self, store: IMaildropStore) -> None:
        """Let this store's holder (not the others') expire, as if its process had slept and woken."""
        raise NotImplementedError

    def now_ms(self) -> int:
        """Return the time by which the stores judge the age of messages, in ms since 1970."""
        return int(time.time() * 1000)

    # Putting in ---------------------------------------------------------------------------

    def placement(self, maildrop: str, user: str | None = None, *, sender: bytes = b"sender@example.org",
                  recipient: bytes | None = None, age_seconds: int = 0, preamble: bytes = b"",
                  unique_id: bytes | None = None, identity: bytes | None = None,
                  account: bool | None = None, folder: str = INBOX, flags: str = "") -> Placement:
        """Return a placement with an envelope that fits it."""
        if recipient is None:
            recipient = f"{user or 'any'}@{maildrop}.example.org".encode()
        envelope = Envelope(sender, recipient, self.now_ms() - age_seconds * 1000)
        return Placement(maildrop, user, envelope, preamble, unique_id, identity, account, folder, flags)

    async def deliver(self, store: IMaildropStore, content: bytes | Sequence[bytes],
                      *placements: Placement, **options: object) -> list[Exception | None]:
        """Deliver a message, whole or in the given pieces; return the outcomes."""
        delivery = store.deliver()
        for piece in [content] if isinstance(content, bytes) else content:
            waiting = delivery.write(piece)
            if waiting is not None:
                await waiting
        return await delivery.commit(placements, **options)

    async def put(self, store: IMaildropStore, maildrop: str, *contents: bytes,
                  user: str | None = None, age_seconds: int = 0) -> None:
        """Deliver messages one after the other into one maildrop."""
        for content in contents:
            place = self.placement(maildrop, user, age_seconds=age_seconds)
            self.assertEqual(await self.deliver(store, content, place), [None])

    # Reading ------------------------------------------------------------------------------

    async def login(self, store: IMaildropStore, maildrop: str, view: str | None = None) -> IMaildrop:
        """Open a maildrop: an account's if there is one of this name, else as another checker's user."""
        try:
            admission = await self.admission(store, maildrop, view)
        except NoSuchAccount:
            admission = Admission(maildrop, view)
        return await store.open(admission)

    async def wire(self, maildrop: IMaildrop, number: int, body_lines: int | None = None) -> bytes:
        """Return what fetch gives, collected from its stream if it is one."""
        content = await maybeDeferred(maildrop.fetch, number, body_lines)
        if isinstance(content, bytes):
            return content
        self.assertTrue(IMessageStream.providedBy(content))
        pieces = []
        while piece := await content.read():
            self.assertLessEqual(len(piece), PIECE_OCTETS)
            pieces.append(piece)
        content.close()
        content.close()
        return b"".join(pieces)

    async def text(self, maildrop: IMaildrop, number: int, body_lines: int | None = None) -> bytes:
        """Return a message as a client reads it, byte-stuffing undone."""
        return self.as_client(await self.wire(maildrop, number, body_lines))

    async def texts(self, maildrop: IMaildrop) -> list[bytes]:
        """Return every message, in order of number, and see that its size is exact."""
        texts = [await self.text(maildrop, index + 1) for index in range(len(maildrop.listing))]
        self.assertEqual([len(text) for text in texts], list(maildrop.listing.sizes))
        self.assertEqual(sum(map(len, texts)), maildrop.listing.octets)
        return texts

    async def held(self, store: IMaildropStore, maildrop: str, view: str | None = None) -> list[bytes]:
        """Return what a session of this view would read now; leaves nothing behind."""
        session = await self.login(store, maildrop, view)
        texts = await self.texts(session)
        await session.release()
        return texts

    def as_client(self, wire: bytes) -> bytes:
        """Read a multi-line reply as RFC 1939 section 3 tells a client; it must end where it ends."""
        lines = (wire + b".\r\n").split(b"\r\n")
        self.assertEqual(lines.pop(), b"", "the last line lacks its end")
        self.assertEqual(lines.index(b"."), len(lines) - 1, "content ends the reply")
        self.assertFalse([line for line in lines[:-1] if line[:1] == b"." != line[1:2]], "unstuffed dot")
        return b"".join(line.removeprefix(b".") + b"\r\n" for line in lines[:-1])

    async def fault(self, expected: type[Exception] | tuple[type[Exception], ...],
                    outcome: Deferred[object]) -> Exception:
        """Return the fault that a Deferred must fail with."""
        kinds = expected if isinstance(expected, tuple) else (expected,)
        return await self.assertFailure(outcome, *kinds)

    async def admission(self, store: IMaildropStore, name: str, view: str | None = None,
                        login_delay_seconds: int = 0) -> Admission:
        """Return what a checker would vouch for just now."""
        account = await store.accounts.get(name)
        return Admission(account.name, view, account.name, account.version, login_delay_seconds)

    async def add_account(self, store: IMaildropStore, name: str, **fields: object) -> Account:
        """Add one account and return it as it is stored."""
        await store.accounts.add([Account(name, **{"verifiers": ("{PLAIN}secret",), **fields})])
        return await store.accounts.get(name)


def unique_ids(listing: ScanListing) -> list[bytes]:
    """Return the unique-ids of a listing in order."""
    return [listing.unique_id(index) for index in range(len(listing))]


def crlf_form(content: bytes) -> bytes:
    """Return what a store makes of a message: bare LF to CRLF, a missing last line end added."""
    text = re.sub(rb"\r?\n", b"\r\n", content)
    return text if not text or text.endswith(b"\r\n") else text + b"\r\n"


def top_of(text: bytes, body_lines: int) -> bytes:
    """Return header, blank line and that many lines of the body of a message in CRLF form."""
    lines = [line + b"\r\n" for line in text.split(b"\r\n")[:-1]]
    head = lines.index(b"\r\n") + 1 if b"\r\n" in lines else len(lines)
    return b"".join(lines[:head + body_lines])


def without(numbers: Collection[int], texts: Sequence[bytes]) -> list[bytes]:
    """Return the texts that are left when these message-numbers are removed."""
    return [text for number, text in enumerate(texts, 1) if number not in numbers]
