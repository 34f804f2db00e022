"""Credentials for S3 out of a file as Amazon's tools keep it, read again while the service runs."""

from __future__ import annotations

from configparser import ConfigParser, Error
from datetime import datetime, timedelta, timezone
from typing import Any

from mailgate.errors import StoreUnavailable

READ_AGAIN_SECONDS = 60     # changed keys are taken up within that time
PROFILE = "default"


class CredentialsFile:
    """What the driver calls when it needs credentials; the file is read no more often than once a minute."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self) -> Any:
        """Return a dictionary as obstore wants it. Raises: StoreUnavailable, without a secret in its text."""
        key, secret, token = read_credentials(self._path)
        return {"access_key_id": key, "secret_access_key": secret, "token": token,
                "expires_at": datetime.now(timezone.utc) + timedelta(seconds=READ_AGAIN_SECONDS)}


def read_credentials(path: str) -> tuple[str, str, str | None]:
    """Return key id, secret and token (None: there is none) of a file's [default], or of its only section.

    Raises: StoreUnavailable, with words for an operator and nothing out of the file.
    """
    parser = ConfigParser(interpolation=None, default_section="")
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except OSError as error:
        raise StoreUnavailable(f"{error.strerror}: {path}") from None
    except (Error, UnicodeDecodeError):
        raise StoreUnavailable(f"{path} is no file of credentials: [{PROFILE}], then lines NAME = VALUE"
                               ) from None
    sections = parser.sections()
    name = PROFILE if PROFILE in sections or len(sections) != 1 else sections[0]
    values = dict(parser[name]) if name in sections else {}
    for wanted in ("aws_access_key_id", "aws_secret_access_key"):
        if not values.get(wanted):
            raise StoreUnavailable(f"{path} has no {wanted} in [{name}]")
    token = values.get("aws_session_token") or None
    return values["aws_access_key_id"], values["aws_secret_access_key"], token
