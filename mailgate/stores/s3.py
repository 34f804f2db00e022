"""Bodies as objects of a bucket that speaks S3, through obstore. Everything here blocks; call it in threads.

Asked of the bucket is what every S3 of today does: what was put is there for every reader once the put is
answered, whole or not at all, and a listing shows it. Nothing is put under a condition, no key is written
twice (of blobs), nothing is removed in batches, no listing decides what exists: the database does.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store
from zope.interface import implementer

from mailgate.errors import MailgateError, StoreUnavailable
from mailgate.interfaces import IBlobReader, IBlobStore, IBlobWriter
from mailgate.stores.s3_credentials import CredentialsFile
from mailgate.stores.s3_faults import s3_fault

if TYPE_CHECKING:
    from obstore.store import ClientConfig

OWNER_OBJECT = "STORE"          # the id of the store that the blobs belong to
CLAIMS = "claims"               # where stores say that they are about to become the owner
TRIALS = "trials"               # what `mailgate check` writes, and removes
CLOCK_OBJECT = "CLOCK"          # written to learn the bucket's time
FIRST_OCTETS = 65_536           # read of a blob when it is opened
MOST_AHEAD_OCTETS = 1 << 20     # read at once of a blob that is read in order
PART_OCTETS = 5 << 20           # a larger blob goes in parts of this; S3 takes none smaller
LISTED_AT_ONCE = 1000           # as many as S3 gives with one answer
NO_SUCH_RANGE = "416 Range"      # in the driver's text
OVERTAKEN = "ETag Header missing"   # the same, where Swift answers 202: a later put of the object came first
CALLS_AT_ONCE = 32              # each is a thread that waits, and no more

CONNECT_SECONDS = 5             # for a connection
REQUEST_SECONDS = 30            # for one request with its answer: a part, a piece
RETRIES = 4                     # after an error of the server or the network ...
RETRY_SECONDS = 30              # ... that came within so long of the first attempt

_KEY = re.compile(r"[0-9A-Za-z]{8,100}")     # no dots or slashes, and longer than the names above


class Bucket(NamedTuple):
    """Where blobs lie, and how that is reached. Secrets are not in it."""

    name: str
    prefix: str = ""                    # in front of every object's name, without slashes at its ends
    endpoint: str | None = None         # URL of the service; None: Amazon's of the region
    region: str | None = None           # None: what the environment says, or us-east-1
    virtual_host: bool = False          # the bucket's name is part of the host's
    credentials_file: str | None = None  # None: what the environment or the machine's role gives
    ca_file: str | None = None          # PEM of further authorities whose certificates are good

    @property
    def url(self) -> str:
        """Where the blobs are, for an operator."""
        return f"s3://{self.name}/{self.prefix}".rstrip("/")


@implementer(IBlobStore)
class S3BlobStore:
    """Blobs in one bucket, below a prefix. Several processes of several machines may share it.

    Made without a connection or a thread; the first call makes what it needs.
    """

    calls_at_once = CALLS_AT_ONCE

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self._store: S3Store | None = None
        self._opening = Lock()
        self._marking = Lock()
        self._store_id: str | None = None         # whose bucket it is to be
        self._marked = False                      # the bucket says so

    # Whose it is ------------------------------------------------------------------------------

    def owner(self) -> str | None:
        with self._faults():
            owner = self._content(OWNER_OBJECT)
            if owner is not None or next(self._listed(), None) is None:
                return owner
            # another process may have begun between the two looks: its mark comes before its bodies
            owner = self._content(OWNER_OBJECT)
            if owner is not None:
                return owner
        raise StoreUnavailable(f"{self.bucket.url} has bodies, and no object {OWNER_OBJECT} that tells whose")

    def belong_to(self, store_id: str) -> None:
        owner = self.owner()
        if owner not in (None, store_id):
            raise self._of_another(owner, store_id)
        self._store_id = store_id

    def _of_another(self, owner: str | None, store_id: str) -> StoreUnavailable:
        return StoreUnavailable(f"{self.bucket.url} has the bodies of another store: of {owner!r},"
                                f" where the database is {store_id!r}")

    def _mark(self, store_id: str) -> None:
        """Leave the store's id in the bucket, unless it is there.

        Each of two stores that begin at once first writes a claim, then looks for others': the later
        one sees the earlier's, whoever it is, and gives way. Both may; then an operator decides.
        """
        if self.owner() is None:
            with self._faults():
                self._put_too(f"{CLAIMS}/{store_id}", f"{store_id}\n".encode())
                rivals = [name for name, _ in self._objects(CLAIMS) if name != f"{CLAIMS}/{store_id}"]
                if rivals:
                    obstore.delete(self._open(), f"{CLAIMS}/{store_id}")
                    raise StoreUnavailable(f"{self.bucket.url}: another store is beginning there, too:"
                                           f" {rivals[0]}")
                if self._content(OWNER_OBJECT) is None:
                    self._put_too(OWNER_OBJECT, f"{store_id}\n".encode())
        self.belong_to(store_id)
        self._marked = True

    # Blobs ------------------------------------------------------------------------------------

    def create(self, key: str) -> S3BlobWriter:
        name = self._name(key)
        if self._store_id is not None and not self._marked:
            with self._marking:         # of deliveries that begin side by side, one does it for all
                if not self._marked:
                    self._mark(self._store_id)
        with self._faults():
            return S3BlobWriter(self._open(), name, self._fault)

    def open(self, key: str) -> S3BlobReader:
        name = self._name(key)
        with self._faults(f"{self.bucket.url}/{name}"):
            try:
                answer = obstore.get(self._open(), name, options={"range": (0, FIRST_OCTETS)})
                first, size = bytes(answer.bytes()), answer.meta["size"]
            except BaseError as error:
                if NO_SUCH_RANGE not in str(error) or obstore.head(self._open(), name)["size"]:
                    raise
                first, size = b"", 0        # S3 has no range of what is empty
        return S3BlobReader(self._open(), name, first, size, self._fault)

    def remove(self, key: str) -> None:
        with self._faults():
            try:
                obstore.delete(self._open(), self._name(key))
            except FileNotFoundError as error:
                _see_bucket(error)

    def keys(self) -> list[tuple[str, int]]:
        """Return every blob's key and its age in seconds, by the bucket's own clock.

        Uploads in parts that were never finished are no objects, and S3 lists them only to who signs
        his requests himself: a rule of the bucket has to remove them.
        """
        with self._faults():
            now = self._now()
            return [(key, max(0, int(now - written))) for key, written in self._listed()]

    def try_out(self) -> None:
        """Do once what is done with blobs, and leave nothing. Raises: StoreUnavailable, saying at what."""
        self.owner()
        name, store = f"{TRIALS}/{secrets.token_hex(8)}", self._open()
        for doing, call in (("writing", lambda: obstore.put(store, name, b"a trial\n")),
                            ("reading", lambda: obstore.get_range(store, name, start=0, end=1)),
                            ("listing", lambda: next(self._objects(TRIALS), None)),
                            ("removing", lambda: obstore.delete(store, name))):
            with self._faults(f"{self.bucket.url}: {doing}"):
                call()

    def _listed(self) -> Iterator[tuple[str, float]]:
        return ((name, written) for name, written in self._objects() if _KEY.fullmatch(name))

    def _objects(self, below: str | None = None) -> Iterator[tuple[str, float]]:
        """Give names and times of writing (seconds since 1970, by the bucket's clock), as they are listed."""
        for some in obstore.list(self._open(), below, chunk_size=LISTED_AT_ONCE):
            for one in some:
                yield one["path"], one["last_modified"].timestamp()

    def _now(self) -> float:
        """Return the bucket's time: when something was written just now."""
        self._put_too(CLOCK_OBJECT, b"now\n")
        return obstore.head(self._open(), CLOCK_OBJECT)["last_modified"].timestamp()

    def _put_too(self, name: str, content: bytes) -> None:
        """Write what other processes may be writing as well: who is overtaken has nothing to add."""
        try:
            obstore.put(self._open(), name, content)
        except BaseError as error:
            if OVERTAKEN not in str(error):
                raise

    def _content(self, name: str) -> str | None:
        """Return a short object's text; None if it is not there, but the bucket is."""
        try:
            return bytes(obstore.get(self._open(), name).bytes()).decode("ascii", "replace").strip()[:100]
        except FileNotFoundError as error:
            _see_bucket(error)
            return None

    def _name(self, key: str) -> str:
        if not _KEY.fullmatch(key):
            raise StoreUnavailable(f"{key!r} cannot be the key of a blob")
        return key

    # The driver -------------------------------------------------------------------------------

    def _open(self) -> S3Store:
        with self._opening:
            if self._store is None:
                self._store = _driver(self.bucket)
            return self._store

    def _fault(self, error: Exception) -> StoreUnavailable:
        return s3_fault(error, self.bucket.url)

    @contextmanager
    def _faults(self, where: str | None = None) -> Iterator[None]:
        try:
            yield
        except MailgateError:
            raise
        except (BaseError, OSError, ValueError) as error:
            raise s3_fault(error, where or self.bucket.url) from None   # the driver's texts quote too much


def _see_bucket(error: FileNotFoundError) -> None:
    """Raise it again, if it is the bucket that is not there: only then it is a fault."""
    if "NoSuchBucket" in str(error):
        raise error


def _driver(bucket: Bucket) -> S3Store:
    """Return the driver's own store: it connects with its first call."""
    settings: dict[str, Any] = {"disable_bulk_delete": True,
                                "virtual_hosted_style_request": bucket.virtual_host}
    client: ClientConfig = {"connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                            "timeout": timedelta(seconds=REQUEST_SECONDS)}
    if bucket.endpoint is not None:
        settings["endpoint"] = _endpoint(bucket)
        client["allow_http"] = bucket.endpoint.startswith("http:")
    if bucket.region is not None:
        settings["region"] = bucket.region
    if bucket.ca_file is not None:
        with open(bucket.ca_file, "rb") as file:
            client["root_certificate"] = file.read()
    if bucket.credentials_file is not None:
        settings["credential_provider"] = CredentialsFile(bucket.credentials_file)
    return S3Store(bucket.name, prefix=bucket.prefix or None, client_options=client, **settings,
                   retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_SECONDS)})


def _endpoint(bucket: Bucket) -> str:
    assert bucket.endpoint is not None
    if not bucket.virtual_host:
        return bucket.endpoint
    parts = urlsplit(bucket.endpoint)
    return parts._replace(netloc=f"{bucket.name}.{parts.netloc}").geturl()


@implementer(IBlobWriter)
class S3BlobWriter:
    """A blob on its way: in one piece if it is small, else in parts that are nothing until the end."""

    def __init__(self, store: S3Store, name: str, fault: Callable[[Exception], StoreUnavailable]) -> None:
        self._store = store
        self._name = name
        self._fault = fault
        self._pieces: list[bytes] | None = []       # while it is small, and not ended
        self._octets = 0                            # of the pieces
        self._upload: Any = None                    # of what is larger
        self._doubtful = False      # it was to be finished, and no answer said that it is

    def write(self, data: bytes) -> None:
        if self._pieces is None and self._upload is None:
            raise StoreUnavailable("the blob has ended")
        if self._pieces is not None:
            self._pieces.append(data)
            self._octets += len(data)
            if self._octets <= PART_OCTETS:
                return
            data, self._pieces = b"".join(self._pieces), None
            self._upload = obstore.open_writer(
                self._store, self._name, buffer_size=PART_OCTETS, max_concurrency=1)
        if data:
            self._attempt(self._upload.write, data)

    def finish(self) -> None:
        pieces, self._pieces = self._pieces, None
        upload, self._upload = self._upload, None
        if pieces is None and upload is None:
            raise StoreUnavailable("the blob has ended")
        self._doubtful = True
        if pieces is None:
            self._attempt(upload.close)
        else:
            self._attempt(obstore.put, self._store, self._name, b"".join(pieces), use_multipart=False)
        self._doubtful = False

    def abandon(self) -> None:
        self._pieces = None
        upload, self._upload = self._upload, None
        if upload is not None:
            # leaving its block by an exception is the one way to tell it that the parts are to go
            with suppress(BaseError, OSError):
                upload.__exit__(StoreUnavailable, StoreUnavailable("abandoned"), None)
        elif self._doubtful:
            self._doubtful = False
            self._attempt(obstore.delete, self._store, self._name)

    def _attempt(self, function: Callable[..., Any], *args: Any, **options: Any) -> None:
        try:
            function(*args, **options)
        except (BaseError, OSError, ValueError) as error:
            raise self._fault(error) from None


@implementer(IBlobReader)
class S3BlobReader:
    """An open blob: what is asked for in order is read ahead, in ranges that grow."""

    __slots__ = ("_store", "_name", "_fault", "_size", "_start", "_piece", "_ahead")

    def __init__(self, store: S3Store, name: str, first: bytes, size: int,
                 fault: Callable[[Exception], StoreUnavailable]) -> None:
        self._store: S3Store | None = store
        self._name = name
        self._fault = fault
        self._size = size               # octets of the whole blob
        self._start = 0                 # offset of the piece that is here
        self._piece = memoryview(first)
        self._ahead = FIRST_OCTETS      # octets of the last range

    def read(self, offset: int, octets: int) -> bytes:
        end, pieces = min(offset + octets, self._size), []
        while offset < end:
            if not self._start <= offset < self._start + len(self._piece):
                self._fetch(offset, end)
            pieces.append(self._piece[offset - self._start:end - self._start])
            offset += len(pieces[-1])
        if self._store is None:
            raise StoreUnavailable("the blob was closed")
        return b"".join(pieces)

    def read_at_hand(self, offset: int, octets: int) -> bytes | None:
        """Return what has been read ahead already, if that is all that was asked for; else None."""
        end = min(offset + octets, self._size)
        if self._store is None or not self._start <= offset < end <= self._start + len(self._piece):
            return None
        return bytes(self._piece[offset - self._start:end - self._start])

    def close(self) -> None:
        self._store = None
        self._piece = memoryview(b"")

    def _fetch(self, offset: int, wanted_end: int) -> None:
        if self._store is None:
            raise StoreUnavailable("the blob was closed")
        in_order = offset == self._start + len(self._piece)
        self._ahead = min(self._ahead * 4, MOST_AHEAD_OCTETS) if in_order else FIRST_OCTETS
        end = min(max(wanted_end, offset + self._ahead), self._size)
        self._piece = memoryview(b"")
        try:
            piece = memoryview(obstore.get_range(self._store, self._name, start=offset, end=end))
        except (BaseError, OSError, ValueError) as error:
            raise self._fault(error) from None
        if len(piece) != end - offset:
            raise StoreUnavailable(f"blob {self._name} came short: {len(piece)} octets of {end - offset}")
        self._start, self._piece = offset, piece
