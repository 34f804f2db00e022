"""`mailgate deliver`: a delivery agent for Postfix `pipe`, Exim, procmail and their like."""

from __future__ import annotations

import os
import re
import secrets
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click

from mailgate.cli.commands import Settings, pass_settings
from mailgate.cli.running import SIGNALS, with_store
from mailgate.cli.telling import Refusal
from mailgate.config import Config
from mailgate.errors import BadAddress, MailgateError, MailLoop, MessageTooLarge, StoreUnavailable
from mailgate.lmtp.paths import path_key, read_forward_path, read_reverse_path
from mailgate.model import Envelope, Placement
from mailgate.routing.router import Router
from mailgate.wire.faults import answer_for
from mailgate.wire.headers import IncomingHeader, preamble, received_line

PIECE_OCTETS = 65_536
_FROM_LINES = re.compile(rb"(?:>*From [^\n]*\n)+")   # mbox separators, and UUCP's marks of further hops


@click.command()
@click.option("--from", "sender", required=True, metavar="SENDER",
              help="The envelope sender; '' for the null sender of a bounce.")
@click.argument("recipients", nargs=-1, required=True, metavar="RCPT...")
@pass_settings
def deliver(settings: Settings, sender: str, recipients: tuple[str, ...]) -> None:
    """Deliver the message on standard input to all recipients, or to none.

    Lines in front of the header that begin with From or >From are dropped, so is a Return-Path
    field. Exit codes: 0 stored, 65 bad address or message, 67 no such recipient, 75 try again later.
    """
    config = settings.config
    envelope_sender = read_sender(os.fsencode(sender))
    paths = read_recipients(os.fsencode(recipient) for recipient in recipients)

    async def work(store: Any) -> None:
        await deliver_message(store, _router(config, store), config, envelope_sender, paths, stdin_pieces())

    with_store(config, work)


def stdin_pieces() -> Iterator[bytes]:
    """Give standard input as it comes."""
    while piece := SIGNALS.read(sys.stdin.fileno(), PIECE_OCTETS):
        yield piece


def _router(config: Config, store: Any) -> Router:
    """Return the service's router; other checkers than the store are loaded only where there are any."""
    if not any(one.kind != "store" for one in config.checkers):
        return Router(store.accounts, config.hostname, postmaster=config.postmaster)
    from mailgate.assembly.auth import Doors
    from mailgate.auth.hashing import Inline

    return Doors(config, store, Inline(), None).router()


def read_sender(text: bytes) -> bytes:
    """Return a reverse-path; a local user's name will do. Raises: BadAddress."""
    if text in (b"", b"<>"):
        return b""
    bracketed = text if text.startswith(b"<") else b"<%b>" % text
    try:
        path, rest = read_reverse_path(bracketed)
    except BadAddress:
        path, rest = read_forward_path(bracketed)
    if rest:
        raise BadAddress(f"{os.fsdecode(text)!r} is more than an address")
    return path


def read_recipients(texts: Iterable[bytes]) -> list[bytes]:
    """Return forward-paths, each once. Raises: Refusal, naming every bad one."""
    paths: dict[bytes, bytes] = {}
    wrong = []
    for text in texts:
        try:
            path, rest = read_forward_path(text if text.startswith(b"<") else b"<%b>" % text)
            if rest:
                raise BadAddress("more than an address")
            paths.setdefault(path_key(path), path)
        except BadAddress as fault:
            wrong.append(f"{os.fsdecode(text)}: {fault}")
    if wrong:
        raise Refusal(*wrong, code=os.EX_DATAERR)
    return list(paths.values())


async def deliver_message(store: Any, router: Any, config: Config, sender: bytes, paths: Sequence[bytes],
                          pieces: Iterable[bytes]) -> None:
    """Store one message for all recipients or for none. Raises: the MailgateError that kept it out."""
    arrived_ms = time.time_ns() // 1_000_000
    placements = await _placements(router, sender, paths, arrived_ms)
    delivery = store.deliver()
    try:
        await _write(delivery, received_line(
            hostname=config.hostname, protocol="local", delivery_id=secrets.token_hex(8),
            arrived_ms=arrived_ms, recipient=paths[0] if len(paths) == 1 else None))
        for piece in _checked(pieces, config.limits.size_octets, config.limits.received_fields):
            await _write(delivery, piece)
        outcomes = await delivery.commit(placements, all_or_nothing=True)
    except BaseException:
        delivery.abort()
        raise
    faults = [outcome for outcome in outcomes if outcome is not None]
    if faults:      # what kept all out is told, not what it meant for the others
        raise min(faults, key=lambda fault: type(fault) is StoreUnavailable)


async def _write(delivery: Any, octets: bytes) -> None:
    waiting = delivery.write(octets)
    if waiting is not None:
        await waiting


async def _placements(router: Any, sender: bytes, paths: Sequence[bytes], arrived_ms: int) -> list[Placement]:
    """Return where each copy goes. Raises: Refusal, naming every recipient that is not known."""
    placements, wrong, code = [], [], os.EX_OK
    for path in paths:
        try:
            target = await router.route(path)
        except StoreUnavailable:
            raise
        except MailgateError as fault:
            wrong.append(f"{os.fsdecode(path)}: {answer_for(fault).words.decode()}")
            code = code or answer_for(fault).exit
            continue
        envelope = Envelope(sender, path, arrived_ms)
        placements.append(Placement(target.maildrop, target.user, envelope, preamble(envelope),
                                    account=target.account))
    if wrong:
        raise Refusal(*wrong, code=code)
    return placements


def _checked(pieces: Iterable[bytes], size_octets: int, received_fields: int) -> Iterator[bytes]:
    """Give a message without From lines and Return-Path. Raises: MessageTooLarge, MailLoop."""
    header = IncomingHeader()
    octets = 0
    for piece in _without_from_lines(pieces):
        octets += len(piece)
        if size_octets and octets > size_octets:
            raise MessageTooLarge(f"the message is longer than {size_octets} octets")
        yield header.feed(piece)
        if header.received_fields >= received_fields:
            raise MailLoop(f"{received_fields} Received fields: a mail loop")
    yield header.finish()


def _without_from_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Drop the From lines in front; a first line may come in several pieces."""
    source = iter(pieces)
    start = b""
    for piece in source:
        start += piece
        rest = _FROM_LINES.sub(b"", start, count=1) if _FROM_LINES.match(start) else start
        if not _may_be_from(rest) or len(rest) > PIECE_OCTETS:
            yield rest
            break
        start = rest
    else:
        yield b"" if start.lstrip(b">").startswith(b"From ") else start
        return
    yield from source


def _may_be_from(start: bytes) -> bool:
    """Return whether the beginning of a From line may stand here, its end still to come."""
    text = start.lstrip(b">")
    return b"\n" not in start and (text.startswith(b"From ") or b"From ".startswith(text))
