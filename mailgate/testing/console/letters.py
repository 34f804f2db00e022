"""A message as a page may show it: header, text, what is attached. Reads anything, believes nothing.

The message under test may be hostile on purpose. What cannot be read is told; nothing that was said in a
message leaves here as anything but text, or as octets to be saved.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from email import policy
from email.errors import MessageError
from email.header import decode_header
from email.message import Message
from email.parser import BytesParser

SHOWN_OCTETS = 256 * 1024       # of text or source in a page; all of it can be saved
MOST_PARTS = 200                # of a message; the others are not looked for
NAME_CHARACTERS = 120
PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp")
_WORD_END = re.compile(r"\r?\n[ \t]")


@dataclass
class Part:
    """A leaf of a message's structure."""

    number: int             # 0, 1, ... in the order of the message
    type: str               # of MIME, in lower case
    name: str               # of the file, or empty
    content_id: str
    attached: bool
    octets: bytes
    charset: str = "utf-8"

    @property
    def text(self) -> str:
        """The content as text; octets of no such character set are shown as U+FFFD."""
        try:
            return self.octets.decode(self.charset, "replace")
        except (LookupError, ValueError):
            return self.octets.decode("utf-8", "replace")


@dataclass
class Letter:
    """A message that was read as far as it can be."""

    fields: list[tuple[str, str]] = field(default_factory=list)     # of the header, as they stand there
    parts: list[Part] = field(default_factory=list)
    problem: str = ""                                               # why no structure was found

    def first(self, name: str) -> str:
        """Return a field's text, decoded; empty where there is none."""
        return next((decoded(value) for key, value in self.fields if key.lower() == name), "")

    def shown(self, kind: str) -> Part | None:
        """Return the first part of a type that is not attached."""
        return next((part for part in self.parts if part.type == kind and not part.attached), None)

    @property
    def attachments(self) -> list[Part]:
        """What is neither the text nor its HTML form."""
        bodies = [self.shown("text/plain"), self.shown("text/html")]
        return [part for part in self.parts if part not in bodies]


def read_letter(content: bytes) -> Letter:
    """Return a message, whatever it is."""
    letter = Letter(fields_of(content))
    try:
        message = BytesParser(policy=policy.compat32).parsebytes(content)
        for leaf in _leaves(message):
            letter.parts.append(_part(len(letter.parts), leaf))
            if len(letter.parts) == MOST_PARTS:
                letter.problem = f"there may be more parts than the {MOST_PARTS} that were read"
                break
    except (MessageError, ValueError, LookupError, RecursionError, AttributeError, TypeError) as fault:
        letter.problem = f"the structure cannot be read to its end ({type(fault).__name__}): see the source"
    return letter


def _leaves(message: Message) -> list[Message]:
    found: list[Message] = []
    waiting = [message]
    while waiting and len(found) < MOST_PARTS:
        one = waiting.pop(0)
        content = one.get_payload()
        if isinstance(content, list) and one.get_content_maintype() == "multipart":
            waiting[:0] = [inner for inner in content if isinstance(inner, Message)]
        else:
            found.append(one)
    return found


def _part(number: int, leaf: Message) -> Part:
    payload = leaf.get_payload(decode=True)
    if not isinstance(payload, bytes):      # a message within: as it stands
        payload = b"".join(inner.as_bytes() for inner in leaf.get_payload() if isinstance(inner, Message))
    name = visible(decoded(str(leaf.get_filename() or "")))[:NAME_CHARACTERS]
    kind = leaf.get_content_type().lower()
    return Part(number, kind, name, str(leaf.get("Content-ID", "")).strip().strip("<>"),
                leaf.get_content_disposition() == "attachment" or bool(name), payload,
                str(leaf.get_content_charset() or "utf-8"))


def fields_of(content: bytes) -> list[tuple[str, str]]:
    """Return the header's fields as they stand, whatever comes in between."""
    head = re.split(rb"\r?\n\r?\n", content[:SHOWN_OCTETS], maxsplit=1)[0].decode("utf-8", "replace")
    fields: list[tuple[str, str]] = []
    for line in re.split(r"\r?\n", head):
        name, colon, value = line.partition(":")
        if line[:1] in (" ", "\t") and fields:
            fields[-1] = fields[-1][0], f"{fields[-1][1]}\n{line}"
        elif colon and name and name.isprintable() and " " not in name:
            fields.append((name, value.strip(" ")))
        elif line:
            fields.append(("", line))
    return fields


def decoded(value: str) -> str:
    """Return a field's text with its encoded words (RFC 2047) decoded, in one line."""
    line = _WORD_END.sub(" ", value)
    try:
        return "".join(piece if isinstance(piece, str) else piece.decode(charset or "utf-8", "replace")
                       for piece, charset in decode_header(line))
    except (MessageError, ValueError, LookupError):
        return line


def visible(text: str) -> str:
    """Return text with all that cannot be seen, or turns the direction of reading, told by its number."""
    return "".join(one if one in "\n\t" or one.isprintable() or unicodedata.category(one) == "Zs"
                   else f"\u27e8U+{ord(one):04X}\u27e9" for one in text.replace("\r\n", "\n"))
