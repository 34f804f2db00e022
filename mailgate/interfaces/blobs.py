"""Bodies that are too large for a row of a database."""

from __future__ import annotations

from zope.interface import Interface


class IBlobStore(Interface):
    """Immutable bodies too large for a database row, by key. Calls block: they run in threads.

    Blobs belong to one store, whose id lies beside them: what another database does not name is no
    rubbish. The id is a short ASCII word. A store may have `calls_at_once`, if its calls wait for a
    network more than they work: how many a process should make at the same time.
    """

    def owner() -> str | None:
        """Return the id of the store that the blobs belong to; None while there is neither id nor blob.

        Raises: StoreUnavailable, also when there are blobs and no id.
        """

    def belong_to(store_id: str) -> None:
        """Say which store uses this one from now on: its id is on disk before its first blob is.

        Makes nothing yet. Raises: StoreUnavailable, also when the blobs belong to another store.
        """

    def create(key: str) -> IBlobWriter:
        """Begin a blob under a fresh key.

        Raises: StoreUnavailable, also when the blobs turn out to belong to another store.
        """

    def open(key: str) -> IBlobReader:
        """Raises: StoreUnavailable, when it is not there."""

    def remove(key: str) -> None:
        """Remove a blob; one that is not there is no error."""

    def keys() -> list[tuple[str, int]]:
        """Return every blob's key and its age in seconds (half-written ones too)."""


class IBlobWriter(Interface):
    """Blocking; used by one thread at a time."""

    def write(data: bytes) -> None:
        """Append. Raises: StoreFull, StoreUnavailable."""

    def finish() -> None:
        """Make the blob durable (file and folder synced) under its key."""

    def abandon() -> None:
        """Remove what was written."""


class IBlobReader(Interface):
    """Blocking; used by one thread at a time."""

    def read(offset: int, octets: int) -> bytes:
        """Return at most `octets`, fewer only at the end. Raises: StoreUnavailable."""

    def close() -> None:
        """Free the reader. May be called twice."""
