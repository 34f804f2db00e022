"""Operations on faults and scenarios."""

from __future__ import annotations

from typing import Any

from mailgate.errors import ConfigurationError
from mailgate.testing import scenarios
from mailgate.testing.api import shapes
from mailgate.testing.api.operations import TOML, Answer, Call
from mailgate.testing.api.problems import Problem, Refused
from mailgate.testing.trouble.kinds import KINDS
from mailgate.testing.trouble.model import Fault, Scenario
from mailgate.testing.trouble.reading import parse_scenario, read_fault, read_scenario

WHERE = "fault"     # what problems begin with; here the whole body is the fault


def get_kinds(call: Call) -> Answer:
    """Answer with every kind of fault."""
    return Answer({"kinds": [shapes.kind(one) for one in KINDS.values()]})


def get_faults(call: Call) -> Answer:
    """Answer with what is switched on."""
    return Answer({"faults": shapes.faults(call.harness)})


def post_fault(call: Call) -> Answer:
    """Switch a fault on."""
    try:
        fault = read_fault(call.body, WHERE)
    except ConfigurationError as refusal:
        raise ConfigurationError([words.removeprefix(WHERE + ".") for words in refusal.problems]) from None
    fault_id = call.harness.add_fault(fault)
    return Answer(_shown(call, fault_id), 201, headers={"Location": f"{call.base}/faults/{fault_id}"})


def get_fault(call: Call) -> Answer:
    """Answer with one."""
    return Answer(_shown(call, _id(call)))


def delete_fault(call: Call) -> Answer:
    """Switch one off."""
    call.harness.trouble.remove(_id(call))
    return Answer(status=204)


def delete_faults(call: Call) -> Answer:
    """Switch all off, and with them the scenario."""
    call.harness.trouble.clear(call.harness.seed)
    call.harness.scenario = None
    return Answer(status=204)


def _id(call: Call) -> int:
    written = call.path["id"]
    for fault_id in call.harness.trouble.faults():
        if str(fault_id) == written:
            return fault_id
    raise Refused(404, f"no fault {written} is switched on")


def _shown(call: Call, fault_id: int) -> dict[str, Any]:
    fault: Fault = call.harness.trouble.faults()[fault_id]
    return shapes.fault(fault_id, fault, call.harness.trouble.acted(fault_id))


# Scenarios ----------------------------------------------------------------------------------------


def get_scenarios(call: Call) -> Answer:
    """Answer with the library."""
    found = [scenarios.load(name) for name in scenarios.names()]
    return Answer({"scenarios": [{
        "name": one.name, "description": one.description, "finds": one.finds, "right": one.right,
        "sources": list(one.sources), "messages": list(one.messages)} for one in found]})


def get_library_scenario(call: Call) -> Answer:
    """Answer with one of the library."""
    try:
        return Answer(shapes.scenario(scenarios.load(call.path["name"])))
    except LookupError as fault:
        raise Refused(404, str(fault.args[0])) from None


def get_scenario(call: Call) -> Answer:
    """Answer with the scenario that is on."""
    one = call.harness.scenario
    return Answer({"scenario": None if one is None else shapes.scenario(one),
                   "faults": shapes.faults(call.harness)})


def put_scenario(call: Call) -> Answer:
    """Switch a scenario on, in place of all faults that are on."""
    call.harness.make(_given(call))
    return get_scenario(call)


def _given(call: Call) -> Scenario:
    if call.media == TOML:
        try:
            return parse_scenario(call.body.decode())
        except UnicodeDecodeError:
            raise Refused(422, "the body is no UTF-8") from None
    if set(call.body) == {"name"}:
        try:
            return scenarios.load(call.body["name"])
        except LookupError as fault:
            raise Refused(422, problems=[Problem("name", str(fault.args[0]))]) from None
    return read_scenario(call.body)
