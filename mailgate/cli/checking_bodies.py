"""`mailgate check`: whether bodies can be kept in a bucket."""

from __future__ import annotations

from mailgate.assembly.store import make_blobs
from mailgate.config import Config
from mailgate.errors import ConfigurationError, MailgateError


def bucket_faults(config: Config) -> list[str]:
    """Return what keeps the bucket of [store] from being used, if it has one; leaves nothing in it."""
    if config.store.bodies.scheme != "s3":
        return []
    try:
        blobs = make_blobs(config.store, config.folder)
    except ConfigurationError as fault:
        return fault.problems
    from mailgate.stores.s3 import S3BlobStore  # and its driver, which is there, then

    assert isinstance(blobs, S3BlobStore)
    try:
        blobs.try_out()
    except MailgateError as fault:
        return [f"store.bodies: {fault}"]
    return []
