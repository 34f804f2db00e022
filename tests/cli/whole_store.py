"""A store with something of everything that stores keep, and all of it as one value that can be compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.defer import maybeDeferred

from mailgate.interfaces import IFolderStore, IImportRecords
from mailgate.model import Account, Admission, AppPassword, Envelope, Placement
from mailgate.wire.headers import preamble

LARGE = b"Subject: large\r\n\r\n" + b".0123456789abc\r\n" * 6_000      # a stream, every line of it stuffed
TEXTS = [b"Subject: hello\r\n\r\nline\r\n", b"", b".\r\n..\r\n", b"no header\r\n",
         b"Subject: bare\rCR\r\n\r\n\0\r\n", LARGE, b"\r\nempty header\r\n"]


async def deliver(store: Any, content: bytes, *placements: Placement) -> None:
    """Deliver one message to all placements. Raises: the first fault."""
    delivery = store.deliver()
    for at in range(0, len(content), 50_000):
        waiting = delivery.write(content[at:at + 50_000])
        if waiting is not None:
            await waiting
    for outcome in await delivery.commit(list(placements)):
        if outcome is not None:
            raise outcome


async def fill(store: Any) -> None:
    """Put something of everything into a store."""
    await store.accounts.add([
        Account("ann", verifiers=("{PLAIN}a", "{SHA512-CRYPT}b"),
                addresses=("ann@example.org", "a@example.net")),
        Account("xyz", sdps=True, verifiers=("{PLAIN}1", "{PLAIN}2"), domains=("xyz.example.org",)),
        Account("gone", disabled=True), Account("new")])
    await store.accounts.restore(replace(await store.accounts.get("ann"), last_login_ms=1_600_000_000_000), [
        AppPassword("phone", "{SSHA512}x", True, 1_500_000_000_000, 1_600_000_000_000, "192.0.2.1"),
        AppPassword("Desk", "{SSHA512}y", False, 1_500_000_000_001)])
    for number, text in enumerate(TEXTS):
        both = [Envelope(b"" if number % 2 else b"s@example.net", recipient, 1_650_000_000_000 + number)
                for recipient in (b"Fred@xyz.example.org", b"ann@example.org")]
        await deliver(store, text, Placement("xyz", "fred", both[0], preamble(both[0]), account=True),
                      Placement("ann", None, both[1], preamble(both[1]), account=True, flags="FS"))
    for number in (b"1", b"2", b"3"):       # of an old server, by an import
        await deliver(store, b"old %s\r\n" % number, Placement(
            "ann", None, Envelope(b"", b"ann@example.org", 5), unique_id=number,
            identity=b"identity " + number, account=True))
    guests = Placement("guest", None, Envelope(b"", b"guest", 6), account=False)
    await deliver(store, b"a guest's\r\n", guests)
    for number in (b"7", b"8"):
        await deliver(store, b"filed\r\n", Placement("xyz", "jim", Envelope(b"j@example.org", b"jim", 7),
                                                    unique_id=number, folder="Sent/2024", flags="RS"))
    await store.make_folder("xyz", "Empty")
    session = await store.open(Admission("ann", judged=True))
    listing = session.listing
    await session.commit([number for number in range(1, len(listing) + 1)
                          if listing.unique_id(number - 1) == b"2"])


async def everything(store: Any) -> dict[str, Any]:
    """Return all that a store holds, apart from versions and whatever else is its own affair."""
    accounts = [(replace(one, version=0), tuple(await store.accounts.app_passwords(one.name)))
                for one in await store.accounts.list()]
    mail = {}
    for name in await store.maildrops():
        folders = await store.folders(name) if IFolderStore.providedBy(store) else ["INBOX"]
        for folder in folders:
            found = await messages(store, name, folder)
            if found or folder != "INBOX":
                mail[name, folder] = found
    records = {}
    for name in await store.maildrops() if IImportRecords.providedBy(store) else ():
        imported = {one for one in await store.imported(name) if one[0] != one[1]}
        if imported:
            records[name] = imported
    return {"accounts": accounts, "mail": mail, "records": records}


async def messages(store: Any, name: str, folder: str = "INBOX") -> list[tuple[Any, ...]]:
    """Return what a folder holds: what is listed of each message, and its wire form."""
    peeked = await store.peek(name, folder)
    found = []
    for one in await store.scan(name, folder):
        content: Any = await maybeDeferred(peeked.fetch, one.number)
        if not isinstance(content, bytes):
            pieces = []
            while piece := await content.read():
                pieces.append(piece)
            content.close()
            content = b"".join(pieces)
        found.append((*one, content))
    await peeked.release()
    return found
