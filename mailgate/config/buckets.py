"""`bodies = "s3://bucket/prefix?endpoint=...&region=..."`: what it says, or what is wrong with it."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

QUERY = ("endpoint", "region", "style")
STYLES = ("path", "virtual")    # where the bucket's name goes: behind the host's, or in front of it

# Amazon S3, "General purpose bucket naming rules".
_BUCKET = re.compile(r"(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]")
_PREFIX = re.compile(r"(?:[A-Za-z0-9_=-][A-Za-z0-9_.=-]*/)*")
_REGION = re.compile(r"[A-Za-z0-9-]+")


class BucketAddress(NamedTuple):
    """Where a bucket is, and where in it the blobs are. There are no secrets in it."""

    name: str
    prefix: str             # without slashes at its ends; may be empty
    endpoint: str | None
    region: str | None
    virtual_host: bool


def parse_bucket(address: str) -> BucketAddress:
    """Read what is behind `s3:`. Raises: ValueError, whose words repeat nothing that could be a secret."""
    parts = urlsplit(address)
    if not address.startswith("//") or parts.fragment:
        raise ValueError("s3://BUCKET/PREFIX?endpoint=URL&region=NAME is expected")
    if "@" in parts.netloc:
        raise ValueError("keys have no place in an address: s3_credentials names a file for them")
    if not _BUCKET.fullmatch(parts.netloc):
        raise ValueError(f"{parts.netloc!r} is not a bucket's name: 3 to 63 lower-case letters, digits, . -")
    prefix = parts.path.strip("/")
    if not _PREFIX.fullmatch(f"{prefix}/" if prefix else ""):
        raise ValueError(f"{prefix!r} is not a prefix of letters, digits, . _ - = and single slashes")
    query = _query(parts.query)
    return BucketAddress(parts.netloc, prefix, query.get("endpoint"), query.get("region"),
                         query.get("style") == "virtual")


def _query(search: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in parse_qsl(search, keep_blank_values=True):
        if name not in QUERY:
            raise ValueError(f"unknown behind the ?: {name!r}; known: {', '.join(QUERY)}")
        if name in found:
            raise ValueError(f"{name} stands in it twice")
        if not value:
            raise ValueError(f"{name} is empty")
        found[name] = value
    if "endpoint" in found:
        _see_endpoint(found["endpoint"])
    if not _REGION.fullmatch(found.get("region", "x")):
        raise ValueError(f"{found['region']!r} is not a region's name")
    if found.get("style", "path") not in STYLES:
        raise ValueError(f"unknown style: {found['style']!r}; known: {', '.join(STYLES)}")
    return found


def _see_endpoint(url: str) -> None:
    try:
        parts = urlsplit(url)
        well_formed = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        well_formed = False
    if not well_formed or parts.query or parts.fragment:
        raise ValueError("endpoint is not http://HOST or https://HOST, with a port where it needs one")
    if "@" in parts.netloc:
        raise ValueError("keys have no place in an endpoint: s3_credentials names a file for them")
