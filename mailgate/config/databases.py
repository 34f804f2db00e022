"""`metadata = "postgresql://user@h1,h2/db"`: what it says, or what is wrong with it."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

SCHEMES = ("postgresql", "postgres")
SECRETS = ("password", "sslpassword", "oauth_client_secret")


class DatabaseAddress(NamedTuple):
    """Where a database is. There are no secrets in it."""

    hosts: str              # with ports, as written; may be empty: where libpq looks then
    name: str               # may be empty
    settings: tuple[tuple[str, str], ...]


def parse_database(address: str) -> DatabaseAddress:
    """Read what is behind `postgresql:`. Raises: ValueError, whose words repeat nothing secret.

    What libpq makes of it is seen when it connects; this finds what can be no address at all.
    """
    try:
        parts = urlsplit(address)
        settings = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError("postgresql://USER@HOST/DATABASE is expected") from None
    if not address.startswith("//") or parts.fragment or not address.isprintable() or " " in address:
        raise ValueError("postgresql://USER@HOST,HOST/DATABASE is expected; a # or a blank in it is written"
                         " %23, %20")
    if "@" in parts.path:
        raise ValueError("postgresql://USER@HOST/DATABASE is expected; a / in a password is written %2F")
    hosts = parts.netloc.rpartition("@")[2]
    kept = tuple(sorted((name, value) for name, value in settings if name not in SECRETS))
    return DatabaseAddress(hosts, parts.path.strip("/"), kept)
