"""A maildrop's mail of many kinds, as a Maildir and as an mbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

_RECEIVED = (b"Received: from relay.example.net (relay.example.net [192.0.2.1])\n\tby mx.example.org with"
             b" ESMTP id %d\n        for <peer@example.org>; Sat, 1 Jun 2024 12:00:%02d +0000\n")

MESSAGES: Sequence[bytes] = (
    b"Return-Path: <a@example.net>\nDelivered-To: peer@example.org\n" + _RECEIVED % (1, 1) +
    b"Message-ID: <1@example.net>\nDate: Sat, 1 Jun 2024 12:00:00 +0000\nSubject: plain\n\nhello\n",
    b"Date: Sat, 1 Jun 2024 12:00:01 +0000\nMessage-Id:  <2@example.net> \t\n" + _RECEIVED % (2, 2) +
    _RECEIVED % (22, 3) + b"X-Delivery-ID: 17\nSubject: dates above\n folded\n\nhello\n.\n..\n",
    b"subject:no space, no more\n\n",
    b"Subject: x\nTHIS LINE IS NO FIELD\nDATE\t: Sat, 1 Jun 2024\nDelivered-to:\n\tpeer@example.org\n"
    b"\n\n\nx\n",
    b"Message-ID:\n <5@example.net>\nX-UIDL: 0123456789abcdef0123456789abcdef\nSubject: has an id\n\nx\n",
    b"Subject: equal\nMessage-ID: <6@example.net>\n\nthe same\n",
    b"Subject: equal\nMessage-ID: <6@example.net>\n\nthe same\n",
    b"Subject: =?utf-8?q?=C3=BCber?=\nFrom: \xfcber@example.net\nDate: Sat, 1 Jun 2024 12:00:08 +0000\n"
    b"\n8-bit: \xe9\n",
    b"Delivered-To: peer@example.org\nDelivered-To: other@example.org\nMessage-ID: <9@example.net>\n"
    b"Date: Sat, 1 Jun 2024 12:00:09 +0000\nDate: Sat, 1 Jun 2024 12:00:10 +0000\n\n" + b"x" * 5000 + b"\n",
    b"X-UIDL: with space\nStatus: RO\nContent-Length: 3\nMessage-ID: <10@example.net>\n\nx\n",
    b"Received: short\nMessage-ID: <11@example.net>\nX-UIDL: 0123456789abcdef0123456789abcdef\n\nlast\n")
LATER = b"Received: later\nMessage-ID: <12@example.net>\nDate: Sun, 2 Jun 2024 12:00:00 +0000\n\nlater\n"
_LATER_NAME = "1717330000.M12P7.mx.example.org"


def maildir_names() -> list[str]:
    """Return names for the messages: of several programs, with sizes, flags and what is strange in them."""
    sizes = [f"S={len(one)},W={len(one) + one.count(10)}" for one in MESSAGES]
    return ["new/1717243201.M1P7.mx.example.org", f"cur/1717243202.M2P7.mx.example.org,{sizes[1]}:2,S",
            "cur/1717243203.V802Ic0021M3.mx.example.org:2,", "new/1717243204.7_1.mx.example.org",
            "cur/1717243205.M5P7.mx.example.org:2,FRS", "cur/1717243206.M6P7.mx.example.org:2,",
            "new/1717243206.M7P7.mx.example.org", f"cur/1717243208.M8P7.mx.example.org,{sizes[7]}:2,",
            "cur/1717243209.M9P7.m+x'.example.org:2,S", "new/1717243210.M10P7.mx.example.org",
            "cur/1717243199.M11P7.mx.example.org:2,T"]


def make_maildir(path: Path, messages: Mapping[str, bytes] | None = None) -> Path:
    """Make a Maildir; without messages said, of all there are."""
    for folder in ("cur", "new", "tmp"):
        (path / folder).mkdir(parents=True)
    for name, content in (messages or dict(zip(maildir_names(), MESSAGES, strict=True))).items():
        (path / name).write_bytes(content)
    return path


def deliver_to_maildir(path: Path) -> Path:
    """Deliver one more; return the file."""
    file = path / "new" / _LATER_NAME
    file.write_bytes(LATER)
    return file


def mbox(messages: Sequence[bytes] = MESSAGES, *, day: int = 1) -> bytes:
    """Return an mbox with messages."""
    return b"".join(
        b"From sender%d@example.net Sat Jun  %d 12:00:%02d 2024\n%b%b"
        % (number, day, number, content, b"\n" if content.endswith(b"\n") else b"\n\n")
        for number, content in enumerate(messages, 1))
