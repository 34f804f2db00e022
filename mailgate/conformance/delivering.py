"""Ways to put the suite's own messages into the maildrop: LMTP, SMTP, or a command."""

from __future__ import annotations

import re
import shlex
import smtplib
import subprocess
from collections.abc import Callable
from urllib.parse import unquote

from mailgate.conformance.samples import Sample

DELIVERY_SECONDS = 60.0

Deliver = Callable[[Sample], None]
_URL = re.compile(r"(lmtp|smtp)://(\[[^\]/]+\]|[^:/\[\]]+):(\d{1,5})/(.+)")


class Undelivered(Exception):
    """This message could not be delivered: why."""


def by_url(url: str) -> Deliver:
    """Return the way that `lmtp://HOST:PORT/RECIPIENT` or `smtp://...` names. Raises: ValueError."""
    found = _URL.fullmatch(url)
    if found is None or not 0 < int(found[3]) < 65536:
        raise ValueError(f"{url!r} is not lmtp://HOST:PORT/RECIPIENT or smtp://HOST:PORT/RECIPIENT")
    kind = smtplib.LMTP if found[1] == "lmtp" else smtplib.SMTP
    host, port, recipient = found[2].strip("[]"), int(found[3]), unquote(found[4])

    def deliver(sample: Sample) -> None:
        try:
            with kind(host, port, timeout=DELIVERY_SECONDS) as client:
                client.ehlo_or_helo_if_needed()
                if sample.ends:
                    refused = client.sendmail("", [recipient], sample.content)
                    if refused:
                        raise Undelivered(f"refused: {refused}")
                else:
                    _in_one_chunk(client, recipient, sample.content)
        except (smtplib.SMTPException, OSError) as fault:
            raise Undelivered(f"{sample.name} by {url}: {fault}") from None

    return deliver


def _in_one_chunk(client: smtplib.SMTP, recipient: str, content: bytes) -> None:
    """Deliver by BDAT (RFC 3030): DATA cannot carry a last line without an end."""
    if not client.has_extn("chunking"):
        raise Undelivered("the delivery server has no CHUNKING, and DATA ends every line")
    for words in ("MAIL FROM:<>", f"RCPT TO:<{recipient}>"):
        code, text = client.docmd(words)
        if code != 250:
            raise Undelivered(f"{words} is answered by {code} {text.decode('latin-1')}")
    client.putcmd(f"BDAT {len(content)} LAST")
    client.send(content)
    code, text = client.getreply()
    if code != 250:
        raise Undelivered(f"BDAT is answered by {code} {text.decode('latin-1')}")


def by_command(command: str) -> Deliver:
    """Return a way that runs a command with the message, LF at its line ends, on standard input.

    Raises: ValueError.
    """
    words = shlex.split(command)
    if not words:
        raise ValueError("the command that delivers is empty")

    def deliver(sample: Sample) -> None:
        try:
            ran = subprocess.run(words, input=sample.content.replace(b"\r\n", b"\n"), capture_output=True,
                                 timeout=DELIVERY_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as fault:
            raise Undelivered(f"{sample.name} by {words[0]}: {fault}") from None
        if ran.returncode:
            said = ran.stderr.decode("utf-8", "replace").strip()[:200]
            raise Undelivered(f"{sample.name}: {words[0]} ended with {ran.returncode}: {said}")

    return deliver
