"""Operations on the harness as a whole: what it is, its clock, a new beginning."""

from __future__ import annotations

import os

from mailgate.testing.api.operations import Answer, Call
from mailgate.testing.api.problems import Problem, Refused
from mailgate.testing.api.shapes import Shape
from mailgate.testing.harness.core import CA_FILE


def ports(harness: object) -> dict[str, int]:
    """Return the port of each protocol's first listener."""
    found: dict[str, int] = {}
    for listener in harness.listeners:      # type: ignore[attr-defined]
        if listener.port is not None:
            found.setdefault(listener.protocol, listener.address[1])
    return found


def clock(call: Call) -> Shape:
    """Return the clock."""
    return {"now": call.harness.clock.seconds(), "held": call.harness.clock.held}


def version() -> str:
    """Return the version of mailgate."""
    from importlib import metadata  # not loaded before somebody asks

    return metadata.version("mailgate")


def get_document(call: Call) -> Answer:
    """Answer with the OpenAPI document."""
    return Answer(call.document())


def get_server(call: Call) -> Answer:
    """Answer with what a client has to know."""
    harness = call.harness
    return Answer({
        "version": version(), "pid": os.getpid(), "host": harness.listeners[0].address[0],
        "hostname": harness.config.hostname, "ports": ports(harness),
        "ca_file": str((harness.folder / CA_FILE).absolute()), "ca_pem": harness.authority.pem.decode(),
        "seed": harness.seed, "clock": clock(call)})


async def post_reset(call: Call) -> Answer:
    """Begin anew."""
    call.harness.reset()
    if call.refill is not None:
        await call.refill()
    return Answer(status=204)


def get_clock(call: Call) -> Answer:
    """Answer with the time."""
    return Answer(clock(call))


def put_clock(call: Call) -> Answer:
    """Hold the clock, or let it run."""
    if call.body["held"]:
        call.harness.clock.hold()
    else:
        call.harness.clock.run()
    return Answer(clock(call))


async def post_advance(call: Call) -> Answer:
    """Move time on; what becomes due on the way has been done when this is answered."""
    seconds = call.body["seconds"]
    try:
        await call.harness.clock.let_pass(seconds)
    except ValueError as fault:
        raise Refused(422, problems=[Problem("seconds", str(fault))]) from fault
    return Answer(clock(call))
