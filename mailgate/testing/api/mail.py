"""Operations on maildrops and what is in them."""

from __future__ import annotations

import base64
import binascii
from typing import Any
from urllib.parse import quote

from mailgate.model import Listed
from mailgate.testing import samples
from mailgate.testing.api.operations import MESSAGE, Answer, Call
from mailgate.testing.api.problems import Problem, Refused
from mailgate.testing.api.shapes import message

MOST_SAMPLES = 10_000


async def get_maildrops(call: Call) -> Answer:
    """Answer with what there is, and how much of it."""
    found = []
    for name in await call.harness.store.maildrops():
        listed = await call.harness.messages(name)
        found.append({"name": name, "messages": len(listed), "octets": sum(one.octets for one in listed)})
    return Answer({"maildrops": found})


async def get_messages(call: Call) -> Answer:
    """Answer with a maildrop's messages: those whose number is past `after`."""
    listed = await call.harness.messages(call.path["name"])
    behind = [one for one in listed if one.number > (call.query["after"] or 0)]
    limit = call.query["limit"]
    return Answer({"messages": [message(one) for one in behind[:limit]], "more": len(behind) > limit})


async def post_message(call: Call) -> Answer:
    """Put a message in."""
    name = call.path["name"]
    if call.media == MESSAGE:
        content, about = call.body, {key: value for key, value in call.query.items() if value is not None}
    else:
        content, about = content_of(call.body), dict(call.body)
    unique_id = about.get("unique_id")
    if unique_id is not None and any(one.unique_id == unique_id.encode()
                                     for one in await call.harness.messages(name)):
        raise Refused(409, f"a message of {name} has the unique-id {unique_id}")
    added = await call.harness.add_message(
        name, content, sender=about.get("sender", ""), recipient=about.get("recipient"),
        unique_id=unique_id, arrived=about.get("arrived"))
    one = await find(call, name, added)
    return Answer(message(one), 201, headers={
        "Location": f"{call.base}/maildrops/{quote(name, '')}/messages/{quote(added, '')}"})


def content_of(body: Any) -> bytes:
    """Return the octets of a message that was given as JSON. Raises: Refused."""
    if ("content" in body) == ("content_base64" in body):
        raise Refused(422, problems=[Problem("content", "either this or content_base64 is expected")])
    if "content" in body:
        text: str = body["content"]
        return text.encode()
    try:
        return base64.b64decode(body["content_base64"], validate=True)
    except (binascii.Error, ValueError):
        raise Refused(422, problems=[Problem("content_base64", "this is no Base64")]) from None


async def post_samples(call: Call) -> Answer:
    """Put samples in, by name."""
    name = call.path["name"]
    sample = call.body["sample"]
    count = sample.rpartition(" x ")[2]
    if count.isdecimal() and (len(count) > len(str(MOST_SAMPLES)) or int(count) > MOST_SAMPLES):
        raise Refused(422, problems=[Problem("sample", f"{MOST_SAMPLES} at a time are the most")])
    try:
        contents = samples.contents(sample)
    except LookupError as fault:
        raise Refused(422, problems=[Problem("sample", str(fault.args[0]))]) from None
    added = {await call.harness.add_message(name, content) for content in contents}
    listed = await call.harness.messages(name)
    return Answer({"messages": [message(one) for one in listed if one.unique_id.decode() in added],
                   "more": False}, 201)


def get_samples(call: Call) -> Answer:
    """Answer with the names of samples."""
    return Answer({"samples": [{"name": name, "told": samples.told(name)} for name in samples.names()]})


async def find(call: Call, name: str, unique_id: str) -> Listed:
    """Return a message. Raises: Refused."""
    for one in await call.harness.messages(name):
        if one.unique_id == unique_id.encode():
            return one
    raise Refused(404, f"{name} has no message {unique_id}")


async def get_message(call: Call) -> Answer:
    """Answer with a message: as JSON, or alone where only that is accepted."""
    name, unique_id = call.path["name"], call.path["unique_id"]
    one = await find(call, name, unique_id)
    content = call.harness.store.octets_of(name)[one.unique_id]
    accepted = call.request.getHeader(b"accept") or b""
    if accepted.startswith(MESSAGE.encode()):
        return Answer(content, media=MESSAGE)
    return Answer(message(one, content))


async def delete_message(call: Call) -> Answer:
    """Remove a message, also from under a session."""
    await find(call, call.path["name"], call.path["unique_id"])
    await call.harness.remove_message(call.path["name"], call.path["unique_id"])
    return Answer(status=204)


async def delete_messages(call: Call) -> Answer:
    """Remove all."""
    await call.harness.clear_maildrop(call.path["name"])
    return Answer(status=204)
