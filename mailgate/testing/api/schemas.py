"""The shapes of what the API takes and gives: JSON Schema, for the document and for judging requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
SWITCH: Schema = {"type": "boolean"}
TEXTS: Schema = {"type": "array", "items": TEXT}
TABLE: Schema = {"type": "object"}
OCTETS: Schema = {"type": "string", "description": "Octets, in Base64."}
SHOWN: Schema = {"type": "string", "description": "Octets as text; what is no text stands as an escape."}
MOMENT: Schema = {"type": "number", "description": "Seconds since 1970 by the harness's clock."}
PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}


def ref(name: str) -> Schema:
    """Return a reference to a schema of SCHEMAS."""
    return {"$ref": f"#/components/schemas/{name}"}


def some(items: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


def maybe(schema: Schema) -> Schema:
    """Return the schema of something that may be null."""
    if "$ref" in schema:
        return {"oneOf": [schema, {"type": "null"}]}
    return {**schema, "type": [schema["type"], "null"]}


def shape(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """Return the schema of an object that has these members and no others."""
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required),
            "additionalProperties": False}


ARRIVED: Schema = {**MOMENT, "minimum": 0, "maximum": 253402300799}     # the last second that a date can name
PATH: Schema = {"type": "string", "pattern": "^[^\\x00-\\x1f\\x7f]*$", "description": "Of the envelope."}
UNIQUE_ID: Schema = {"type": "string", "pattern": "^[\\x21-\\x7e]{1,70}$"}
WHEN: Mapping[str, Schema] = {
    "command": {"type": "string", "description": "A verb, `RETR 2`, `greeting` or `tls`; empty: any."},
    "session": {"type": "array", "items": {"type": "integer", "minimum": 1}},
    "occurrence": {"type": "array", "items": {"type": "integer", "minimum": 1}},
    "user": maybe(TEXT), "protocol": maybe(TEXT), "tls": maybe(SWITCH),
    "probability": {"type": "number", "minimum": 0, "maximum": 1},
    "times": maybe({"type": "integer", "minimum": 1}), "name": TEXT}
SCENARIO: Mapping[str, Schema] = {
    "description": TEXT, "finds": TEXT, "right": TEXT, "sources": TEXTS, "messages": TEXTS, "seed": WHOLE,
    "settings": TABLE}

SCHEMAS: Mapping[str, Schema] = {
    "Problem": shape({"type": TEXT, "title": TEXT, "status": WHOLE, "detail": TEXT, "problems": some(
        shape({"path": {"type": "string", "description": "Where: `fault[0].at`, `query.limit`."},
               "message": TEXT}))}),
    "Server": shape({
        "version": TEXT, "pid": WHOLE, "host": TEXT, "hostname": TEXT,
        "ports": {"type": "object", "additionalProperties": PORT, "description": "By protocol."},
        "ca_file": TEXT, "ca_pem": TEXT, "seed": WHOLE, "clock": ref("Clock")}),
    "Clock": shape({"now": MOMENT, "held": SWITCH}),
    "NewAccount": shape({"name": {"type": "string", "minLength": 1}}, {
        "password": TEXT, "passwords": TEXTS, "addresses": TEXTS, "domains": TEXTS,
        "sdps": {"type": "boolean", "description": "It is an SDPS host: mail for all its users."}}),
    "Account": shape({"name": TEXT, "sdps": SWITCH, "addresses": TEXTS, "domains": TEXTS,
                      "last_login": maybe(MOMENT)}),
    "Accounts": shape({"accounts": some(ref("Account"))}),
    "Maildrops": shape({"maildrops": some(shape({"name": TEXT, "messages": WHOLE, "octets": WHOLE}))}),
    "NewMessage": shape({}, {
        "content": {"type": "string", "description": "The message as text: it is put in as UTF-8."},
        "content_base64": {"type": "string", "description": "The message's octets, in place of `content`."},
        "sender": PATH, "recipient": PATH, "unique_id": UNIQUE_ID, "arrived": ARRIVED}),
    "Message": shape({
        "number": {"type": "integer", "minimum": 1}, "unique_id": TEXT,
        "octets": {"type": "integer", "description": "With CRLF line ends, before byte-stuffing."},
        "sender": TEXT, "recipient": TEXT, "arrived": MOMENT,
        "user": {"type": ["string", "null"], "description": "Whose it is at an SDPS host."}},
        {"content": {"type": ["string", "null"], "description": "As text; null, where it is no UTF-8."},
         "content_base64": OCTETS}),
    "Messages": shape({"messages": some(ref("Message")), "more": SWITCH}),
    "NewSamples": shape({"sample": {"type": "string", "description": "`dots`, or `plain x 50`."}}),
    "Samples": shape({"samples": some(shape({"name": TEXT, "told": TEXT}))}),
    "NewFault": {
        "type": "object", "required": ["do"],
        "description": "As a [[fault]] of a scenario: what the kind is told stands beside the rest.",
        "properties": {
            "do": {"type": "string", "description": "The kind; see kinds."},
            **WHEN, "session": {"description": "A number from 1, or several."},
            "occurrence": {"description": "A number from 1, or several."}},
        "additionalProperties": True},
    "Fault": shape({
        "id": WHOLE, "do": TEXT, "label": TEXT, "acted": WHOLE, **WHEN, "settings": TABLE}),
    "Faults": shape({"faults": some(ref("Fault"))}),
    "Kinds": shape({"kinds": some(shape({
        "name": TEXT, "told": TEXT, "commands": TEXTS,
        "settings": some(shape({"name": TEXT, "required": SWITCH, "default": {}}))}))}),
    "Scenario": shape({"name": TEXT, **SCENARIO, "fault": some(TABLE)}),
    "Scenarios": shape({"scenarios": some(shape({
        "name": TEXT, "description": TEXT, "finds": TEXT, "right": TEXT, "sources": TEXTS,
        "messages": TEXTS}))}),
    "NewScenario": {
        "type": "object", "description": "`name` alone: that of the library. Otherwise the scenario itself.",
        "properties": {"name": TEXT, **SCENARIO, "fault": some(ref("NewFault"))},
        "additionalProperties": False},
    "ActiveScenario": shape({"scenario": maybe(ref("Scenario")), "faults": some(ref("Fault"))}),
    "Command": shape({"verb": TEXT, "argument": SHOWN, "at": MOMENT, "reply": SHOWN, "succeeded": SWITCH}),
    "Session": shape({
        "number": {"type": "integer", "minimum": 1}, "protocol": TEXT, "peer": TEXT, "began": MOMENT,
        "ended": maybe(MOMENT), "open": SWITCH, "end": TEXT, "user": maybe(TEXT), "tls": SWITCH,
        "verbs": TEXTS, "commands": some(ref("Command")),
        "logins": some(shape({"name": TEXT, "mechanism": TEXT, "succeeded": SWITCH})),
        "tls_details": TEXT, "server_name": maybe(TEXT), "retrieved": TEXTS, "deleted": TEXTS,
        "events": WHOLE, "octets_heard": WHOLE, "octets_said": WHOLE, "octets_left_out": WHOLE,
        "events_left_out": WHOLE, "commands_left_out": WHOLE}),
    "Sessions": shape({"sessions": some(ref("Session")), "count": WHOLE, "open": WHOLE, "more": SWITCH}),
    "Deliveries": shape({"deliveries": some(ref("Session")), "count": WHOLE, "open": WHOLE, "more": SWITCH}),
    "Event": shape({
        "at": MOMENT, "after_seconds": {"type": "number", "description": "Since the session began."},
        "who": {"type": "string", "enum": ["C", "S", "*"], "description": "Client, server, neither."},
        "octets": OCTETS, "shown": SHOWN, "text": TEXT, "tls": SWITCH, "faults": TEXTS}),
    "Events": shape({"events": some(ref("Event")), "next": WHOLE, "more": SWITCH}),
    "Notice": {"oneOf": [
        shape({"type": {"const": "begin"}, "session": ref("Session")}),
        shape({"type": {"const": "event"}, "session": WHOLE, "index": WHOLE, "event": ref("Event")}),
        shape({"type": {"const": "end"}, "session": ref("Session")}),
        shape({"type": {"const": "changed"}, "what": TEXT})]},
    "Held": shape({"held": SWITCH}),
    "Advance": shape({"seconds": {"type": "number", "minimum": 0, "maximum": 1e9}}),
}
