"""Hold a JSON value to a schema, as far as the schemas of this API go; tell every problem with its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from mailgate.testing.api.problems import Problem
from mailgate.testing.api.schemas import SCHEMAS, Schema

KINDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "string": (lambda value: isinstance(value, str), "a text"),
    "integer": (lambda value: isinstance(value, int) and not isinstance(value, bool), "a whole number"),
    "number": (lambda value: isinstance(value, (int, float)) and not isinstance(value, bool), "a number"),
    "boolean": (lambda value: isinstance(value, bool), "true or false"),
    "array": (lambda value: isinstance(value, list), "a list"),
    "object": (lambda value: isinstance(value, dict), "an object"),
    "null": (lambda value: value is None, "null"),
}


def problems_of(value: Any, schema: Schema, path: str = "") -> list[Problem]:
    """Return everything in which a value is not as the schema says."""
    schema = resolved(schema)
    types = schema.get("type", [])
    names = [types] if isinstance(types, str) else types
    if names and not any(KINDS[name][0](value) for name in names):
        return [Problem(path, f"{' or '.join(KINDS[name][1] for name in names)} is expected")]
    if isinstance(value, dict):
        return _of_object(value, schema, path)
    if isinstance(value, list):
        return [problem for index, one in enumerate(value)
                for problem in problems_of(one, schema.get("items", {}), f"{path}[{index}]")]
    words = _of_scalar(value, schema)
    return [Problem(path, words)] if words else []


def resolved(schema: Schema) -> Schema:
    """Return what a reference leads to."""
    reference = schema.get("$ref")
    return SCHEMAS[reference.rpartition("/")[2]] if reference else schema


def _of_object(value: dict[str, Any], schema: Schema, path: str) -> list[Problem]:
    known = schema.get("properties", {})
    lead = f"{path}." if path else ""
    found = [Problem(lead + name, "is missing") for name in schema.get("required", ()) if name not in value]
    for name, one in value.items():
        if name in known:
            found += problems_of(one, known[name], lead + name)
        elif schema.get("additionalProperties") is False:
            near = get_close_matches(name, known, 1)
            found.append(Problem(lead + name, f"unknown; did you mean {near[0]}?" if near else "unknown"))
    return found


def _of_scalar(value: Any, schema: Schema) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if "enum" in schema and value not in schema["enum"]:
        return f"one of {', '.join(schema['enum'])} is expected"
    if least is not None and value is not None and not value >= least:
        return f"{least} or more is expected"
    if most is not None and value is not None and not value <= most:
        return f"{most:g} or less is expected"
    if isinstance(value, str) and len(value) < schema.get("minLength", 0):
        return "must not be empty"
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        return f"has to match {schema['pattern']}"
    return ""
