"""The address of a PostgreSQL database as it may be read by anybody. Needs no driver."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, urlencode, urlsplit

SECRETS = ("password", "sslpassword", "oauth_client_secret")


def shown(url: str) -> str:
    """Return an address without the passwords in it."""
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        return "postgresql:..."
    if "@" in parts.path:       # a / in a password: what is in front of it is no host
        return "postgresql:..."
    user, at, hosts = parts.netloc.rpartition("@")
    kept = [(name, value) for name, value in query if name not in SECRETS]
    search = urlencode(kept, quote_via=quote, safe="/:,")
    return (f"{parts.scheme}://{user.partition(':')[0]}{at}{hosts}{parts.path}"
            f"{'?' if search else ''}{search}")
