"""The stores that a configuration names, each built from one row of a table a scheme.

A row is a function that imports its driver itself: nobody needs what he does not use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mailgate.config import Config, StoreSection
from mailgate.config.buckets import parse_bucket
from mailgate.config.stores import MAIN, sections
from mailgate.errors import ConfigurationError
from mailgate.formats.paths import PathPattern
from mailgate.interfaces import IBlobStore, ISpool

if TYPE_CHECKING:
    from mailgate.stores.spools.places import Places

Store = Any     # an IMaildropStore with `accounts`, an IAccountStore


class Order(NamedTuple):
    """What a store is built after."""

    section: StoreSection   # [store] or one [stores.NAME]
    folder: Path            # what its relative paths start from
    reactor: Any
    create: bool            # whether the store is made where it is missing
    process: str            # a word for this process, see `SqliteStore`; or empty
    hostname: str = "localhost"


def _files(order: Order) -> IBlobStore:
    from mailgate.stores.files import FileBlobStore

    return FileBlobStore(str(order.folder / order.section.bodies.path))


def _bucket(order: Order) -> IBlobStore:
    section = order.section
    try:
        from mailgate.stores.s3 import Bucket, S3BlobStore
    except ImportError as fault:
        raise ConfigurationError([f"store.bodies: {fault.name or fault} is missing, which s3: needs;"
                                  " install it with: pip install 'mailgate[s3]'"]) from fault

    def path(setting: str | None) -> str | None:
        return None if setting is None else str(order.folder / setting)

    address = parse_bucket(section.bodies.path)
    return S3BlobStore(Bucket(
        address.name, address.prefix, address.endpoint, address.region, address.virtual_host,
        credentials_file=path(section.s3_credentials), ca_file=path(section.s3_ca_file)))


def _sqlite(order: Order, blobs: IBlobStore) -> Store:
    from mailgate.stores.sqlite import SqliteStore

    section = order.section
    return SqliteStore(
        str(order.folder / section.metadata.path), blobs, reactor=order.reactor,
        lease_seconds=section.lease_seconds, quota_octets=section.quota_octets,
        inline_octets=section.inline_octets, create=order.create or belongs_to_folder(order.folder, section),
        process=order.process)


def _postgres(order: Order, blobs: IBlobStore) -> Store:
    section = order.section
    try:
        from mailgate.stores.postgres import PostgresStore
    except ImportError as fault:
        raise ConfigurationError([f"store.metadata: {fault.name or fault} is missing, which"
                                  f" {section.metadata.scheme}: needs; install it with:"
                                  " pip install 'mailgate[postgresql]'"]) from fault
    return PostgresStore(
        f"{section.metadata.scheme}:{section.metadata.path}", blobs, reactor=order.reactor,
        lease_seconds=section.lease_seconds, quota_octets=section.quota_octets,
        inline_octets=section.inline_octets, create=order.create, process=order.process)


def _maildir(order: Order, metadata: Store, blobs: IBlobStore) -> Store:
    from mailgate.stores.spools.foldering import MaildirStore
    from mailgate.stores.spools.maildir import Habits
    from mailgate.stores.spools.maildir_index import Addresses

    section = order.section
    return MaildirStore(metadata, blobs, _places(order),
                        Habits(Addresses(section.envelope_recipient), section.unique_ids),
                        reactor=order.reactor, quota_octets=section.quota_octets)


def _mbox(order: Order, metadata: Store, blobs: IBlobStore) -> Store:
    from mailgate.stores.spools.maildir_index import Addresses
    from mailgate.stores.spools.mbox import MboxHabits, MboxSpool

    section = order.section
    habits = MboxHabits(Addresses(section.envelope_recipient), section.unique_ids)
    places = _places(order)
    return _spools(order, metadata, blobs, lambda maildrop: MboxSpool(places.of(maildrop), habits),
                   lambda: habits.lockable.findings(places))


def _places(order: Order) -> Places:
    """Return where maildrops lie that other programs have a hand in."""
    from mailgate.stores.spools.places import Places

    assert order.section.maildrops is not None
    return Places(PathPattern(order.section.maildrops.path), order.folder, order.hostname)


def _spools(order: Order, metadata: Store, blobs: IBlobStore, spool_of: Callable[[str], ISpool],
            probe: Callable[[], list[str]] = list) -> Store:
    from mailgate.stores.spools.store import SpoolStore

    return SpoolStore(metadata, blobs, spool_of, reactor=order.reactor,
                      quota_octets=order.section.quota_octets, probe=probe)


BODIES: Mapping[str, Callable[[Order], IBlobStore]] = {
    "file": _files,
    "s3": _bucket,
}
METADATA: Mapping[str, Callable[[Order, IBlobStore], Store]] = {
    "sqlite": _sqlite,
    "postgresql": _postgres,
    "postgres": _postgres,
}
# Given the metadata's own store and the bodies beside it, these answer for the mail itself.
MAILDROPS: Mapping[str, Callable[[Order, Store, IBlobStore], Store]] = {
    "maildir": _maildir,
    "mbox": _mbox,
}


def make_store(config: Config, reactor: Any, *, create: bool = False, process: str = "") -> Store:
    """Return the configured store, with its `accounts`; `start` opens it.

    A missing database is an outage, so that an empty mount point does not turn into an empty store
    that refuses everybody's mail for good. It is made where `create` asks for it, and where it
    stands beside the configuration: what holds the one file can hold the other. `process`: see SqliteStore.
    """
    known = sections(config)

    def one(name: str) -> Store:
        return build(Order(known[name], config.folder, reactor, create, process, config.hostname))

    return one(MAIN) if config.store.merge is None else _merged(config, one, reactor)


def _merged(config: Config, one: Callable[[str], Store], reactor: Any) -> Store:
    from mailgate.stores.merging.store import MergedStore, Source

    known, names = sections(config), config.store.merge or ()
    sources = {name: Source(name, one(name), known[name].optional) for name in dict.fromkeys((MAIN, *names))}
    return MergedStore(sources[MAIN], [sources[name] for name in names], clock=reactor,
                       deliver_to=config.store.deliver_to)


def build(order: Order) -> Store:
    """Return the store of one section, with its `accounts`."""
    section = order.section
    blobs = BODIES[section.bodies.scheme](order)
    store = METADATA[section.metadata.scheme](order, blobs)
    if section.maildrops is None:
        return store
    return MAILDROPS[section.maildrops.scheme](order, store, blobs)


def make_blobs(section: StoreSection, folder: Path) -> IBlobStore:
    """Return the bodies of one section by themselves. Raises: ConfigurationError."""
    return BODIES[section.bodies.scheme](Order(section, folder, None, False, ""))


def belongs_to_folder(folder: Path, section: StoreSection) -> bool:
    """Return whether the database is to lie in the configuration's own folder: not below, behind no link."""
    path = folder / section.metadata.path
    return path.parent == folder and not path.is_symlink()
