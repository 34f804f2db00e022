"""Operations on sessions and deliveries: what was said, and waiting until it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from mailgate.testing.api import shapes
from mailgate.testing.api.operations import PLAIN, Answer, Call
from mailgate.testing.api.problems import Refused
from mailgate.testing.harness.records import Records, SessionRecord
from mailgate.testing.harness.thread import MOST_TURNS, QUIET_TURNS
from mailgate.testing.showing import show

LATEST = "latest"


async def get_sessions(call: Call) -> Answer:
    """Answer with the sessions past `after`; with `wait=idle`, when none is open any more."""
    return Answer(await listed(call, call.harness.records, "sessions"))


async def get_deliveries(call: Call) -> Answer:
    """The same of deliveries."""
    return Answer(await listed(call, call.harness.deliveries, "deliveries"))


async def listed(call: Call, records: Records, name: str) -> dict[str, Any]:
    """Return a page of records, under their name."""
    await settled(call)
    if call.query["wait"] is not None:
        least = call.query["least"]
        await until(call, lambda: len(records) >= least and not any(one.open for one in records)
                    and not call.harness.connections())
    behind = [one for one in records if one.number > (call.query["after"] or 0)]
    limit = call.query["limit"]
    return {
        name: [shapes.session(one, call.query["secrets"]) for one in behind[:limit]],
        "count": len(records), "open": sum(one.open for one in records), "more": len(behind) > limit}


async def get_session(call: Call) -> Answer:
    """Answer with a session; with `wait=ended`, when it has begun and ended."""
    await settled(call)
    if call.query["wait"] is not None:
        await until(call, lambda: (one := find(call)) is not None and not one.open)
    return Answer(shapes.session(found(call), call.query["secrets"]))


async def get_events(call: Call) -> Answer:
    """Answer with a session's events, from the one with the index `after` on."""
    await settled(call)
    record, secrets = found(call), call.query["secrets"]
    events = record.events if secrets else record.masked_events()
    start = call.query["after"] or 0
    end = start + call.query["limit"]
    return Answer({"events": [shapes.event(record, one, secrets) for one in events[start:end]],
                   "next": min(end, len(events)), "more": end < len(events)})


async def get_transcript(call: Call) -> Answer:
    """Answer with what was said, as text."""
    await settled(call)
    text = show(found(call), call.query["secrets"])
    return Answer(text.encode(), media=PLAIN + "; charset=utf-8")


def find(call: Call) -> SessionRecord | None:
    """Return the session or delivery that is meant, None as long as there is none."""
    number = call.path.get("number")
    wanted = call.path["delivery"] if number is None else number
    records = list(call.harness.deliveries if number is None else call.harness.records)
    if wanted == LATEST:
        return records[-1] if records else None
    return next((one for one in records if str(one.number) == wanted), None)


def found(call: Call) -> SessionRecord:
    """Return the session or delivery that is meant. Raises: Refused."""
    one = find(call)
    if one is None:
        what, wanted = next(iter(call.path.items()))
        raise Refused(404, f"there is no {what if what == 'delivery' else 'session'} {wanted}")
    return one


async def until(call: Call, so: Callable[[], bool]) -> None:
    """Wait until something is so of the sessions, or the time that the request gives is over."""
    if so():
        return
    waiting: Deferred[None] = Deferred()

    def go_on(*_: Any) -> None:
        if not waiting.called:
            waiting.callback(None)

    def look(record: object = None, event: object = None) -> None:
        if event is None and so():      # what is said on a connection begins and ends none
            go_on()

    lists: Any = (call.harness.records.watchers, call.harness.deliveries.watchers, call.harness.watchers)
    for watchers in lists:
        watchers.append(look)
    late = call.reactor.callLater(call.query["timeout"], go_on)
    call.request.notifyFinish().addErrback(go_on)       # who asked is gone
    try:
        await waiting
    finally:
        for watchers in lists:
            watchers.remove(look)
        if late.active():
            late.cancel()


async def settled(call: Call) -> None:
    """Wait until what clients had sent before this request is read and answered."""
    seen, quiet, turns = -1, 0, 0
    while quiet < QUIET_TURNS and turns < MOST_TURNS:
        now = sum(len(one.events) for one in call.harness.every_record() if one.open)
        now += len(call.harness.records) + len(call.harness.deliveries)
        quiet = quiet + 1 if now == seen else 0
        seen, turns = now, turns + 1
        turn: Deferred[None] = Deferred()
        call.reactor.callLater(0, turn.callback, None)      # when every socket was looked at once
        await turn
