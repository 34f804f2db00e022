"""The OpenAPI document (3.1), written from the table of operations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from mailgate.testing.api.access import COOKIE
from mailgate.testing.api.events import QUERY
from mailgate.testing.api.operations import Operation, Query
from mailgate.testing.api.problems import MEDIA
from mailgate.testing.api.schemas import SCHEMAS, ref

REFUSALS: Mapping[int, str] = {
    400: "The request cannot be read, or has a parameter that is unknown or out of range.",
    401: "The token is missing or wrong.",
    403: "A page of another origin asks.",
    404: "There is no such thing.",
    409: "It is in the way of what is there.",
    413: "The body is too large.",
    415: "The body's media type is none of these.",
    421: "The request names another host.",
    422: "The body can be read, but says what cannot be.",
}
ABOUT = """Fill, break and watch the mail server of a test.

Every request shows the token of the harness. Problems are told with their places. See the manual for what
faults and scenarios do."""


def document(operations: Iterable[Operation], url: str, version: str) -> dict[str, Any]:
    """Return the document. `url`: where the API begins."""
    paths: dict[str, Any] = {}
    for one in operations:
        paths.setdefault(one.path, {})[one.method.lower()] = described(one)
    paths["/events"] = {"get": {**EVENTS, "parameters": parameters_of(QUERY)}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "The mailgate harness", "version": version, "description": ABOUT},
        "servers": [{"url": url}],
        "security": [{"token": []}, {"cookie": []}],
        "paths": paths,
        "components": {
            "schemas": {name: dict(schema) for name, schema in SCHEMAS.items()},
            "responses": {str(status): {"description": told, "content": {MEDIA: {"schema": ref("Problem")}}}
                          for status, told in REFUSALS.items()},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": COOKIE.decode()}}}}


def described(one: Operation) -> dict[str, Any]:
    """Return what the document says of an operation."""
    answers: dict[str, Any] = {}
    for status in one.statuses:
        if status not in one.answers:
            answers[str(status)] = {"$ref": f"#/components/responses/{status}"}
            continue
        content = one.answers[status]
        answers[str(status)] = {"description": HTTPStatus(status).phrase}
        if content is not None:
            answers[str(status)]["content"] = {media: {"schema": dict(schema)}
                                               for media, schema in content.items()}
    parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                  for name in re.findall(r"\{(\w+)\}", one.path)]
    found = {"operationId": one.name, "summary": one.told, "responses": answers,
             "parameters": [*parameters, *parameters_of(one.query)]}
    if one.body is not None:
        found["requestBody"] = {"required": True, "content": {
            media: {"schema": dict(schema)} for media, schema in one.body.items()}}
    return found


def parameters_of(queries: Mapping[str, Query]) -> list[dict[str, Any]]:
    """Return what the document says of parameters behind the question mark."""
    return [{"name": name, "in": "query", "required": False, "description": one.told,
             "schema": dict(one.schema) if one.default is None else {**one.schema, "default": one.default}}
            for name, one in queries.items()]


EVENTS: dict[str, Any] = {
    "operationId": "getNotices",
    "summary": "A WebSocket: each event as it happens, one Notice a text message.",
    "description": "Who does not read is cut off (1013), and so is who says something (1008).",
    "responses": {
        "101": {"description": "The WebSocket begins.", "content": {
            "application/json": {"schema": ref("Notice")}}},
        "426": {"description": "This is no WebSocket handshake.", "content": {
            MEDIA: {"schema": ref("Problem")}}},
        "501": {"description": "The package wsproto is not installed.", "content": {
            MEDIA: {"schema": ref("Problem")}}},
        **{str(status): {"$ref": f"#/components/responses/{status}"} for status in (400, 401, 403, 421)}}}
