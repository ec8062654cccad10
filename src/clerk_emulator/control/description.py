"""The desk described as OpenAPI, out of its own table."""

import re
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from clerk_emulator.control.door import View
from clerk_emulator.control.provisioning import TEXTS
from clerk_emulator.lab.faults import DOINGS, HANGS, Fault
from clerk_emulator.state.instance import CHOICES, Settings
from clerk_emulator.wire.events import TYPES

Json = dict[str, Any]
NUMBER: Json = {"type": "integer", "minimum": 0}
TEXT: Json = {"type": "string"}
FLAG: Json = {"type": "boolean"}
ANY: Json = {"type": "object"}
TIME: Json = {"description": "Milliseconds, RFC 3339, `now`, or an offset such as `-3d`.", "oneOf": [NUMBER, TEXT]}
AMOUNT: Json = {"type": "number"}
QUERIES = {
    "state": {"limit": NUMBER},
    "mail": {"to": TEXT, "limit": NUMBER},
    "list_deliveries": {"event": TEXT, "status": TEXT, "endpoint_id": TEXT, "message_id": TEXT, "limit": NUMBER},
    "list_events": {"type": TEXT, "after": TEXT, "limit": NUMBER},
    "list_requests": {"operationId": TEXT, "after": NUMBER, "limit": NUMBER},
}
CLASSES: dict[type, Json] = {bool: FLAG, int: NUMBER, str: TEXT, list: {"type": "array", "items": TEXT}, dict: ANY}


def document(url: str, table: Iterable[tuple[str, str, View]]) -> Json:
    """Return the description."""
    paths: dict[str, Json] = {}
    for method, path, view in table:
        paths.setdefault(f"/_emulator{path}", {})[method.lower()] = _operation(method, path, view)
    about = {"title": "The desk of the Clerk emulator", "version": "1", "description": "Moves, breaks and shows."}
    error = {"type": "object", "required": ["error"], "properties": {"error": TEXT}}
    return {
        "openapi": "3.0.3",
        "info": about,
        "servers": [{"url": url}],
        "paths": paths,
        "components": {"schemas": {"Error": error}},
    }


def _operation(method: str, path: str, view: View) -> Json:
    name = view.__name__
    places = [{"name": one, "in": "path", "required": True, "schema": TEXT} for one in re.findall(r"{(\w+)}", path)]
    queries = [{"name": one, "in": "query", "schema": schema} for one, schema in QUERIES.get(name, {}).items()]
    problem = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    shape: Json = {
        "operationId": f"{method.lower()}{re.sub(r'[^a-zA-Z]+', '_', path.removesuffix('.json')).rstrip('_')}",
        "summary": (view.__doc__ or "").strip(),
        "parameters": [*places, *queries],
        "responses": {
            "200": {"description": "Done.", "content": {"application/json": {"schema": ANY}}},
            "403": {"description": "A page of another site asks.", "content": problem},
            "404": {"description": "There is no such thing.", "content": problem},
            "422": {"description": "That makes no sense; `error` says why.", "content": problem},
        },
    }
    wish = _bodies().get(name) if method in ("POST", "PATCH") else None
    if wish is not None:
        shape["requestBody"] = {"content": {"application/json": {"schema": {"type": "object", "properties": wish}}}}
    return shape


def _bodies() -> dict[str, Json]:
    units = ("weeks", "days", "hours", "minutes", "seconds", "milliseconds")
    endpoint = {"url": TEXT, "secret": TEXT, "events": {"type": "array", "items": TEXT}, "enabled": FLAG}
    many = {"type": "array", "items": ANY}
    seed = dict.fromkeys(("roles", "users", "organizations", "invitations", "endpoints"), many)
    return {
        "reset": {"endpoints": FLAG},
        "sow": {**seed, "settings": ANY, "events": FLAG},
        "settings": _settings(),
        "set_clock": {"now": TIME, "stopped": FLAG},
        "advance_clock": dict.fromkeys(units, AMOUNT),
        "add_endpoint": endpoint,
        "add_directory": {"name": TEXT},
        "change_directory": {"enabled": FLAG},
        "provision": dict.fromkeys(TEXTS, TEXT) | {"active": FLAG},
        "assign_role": dict.fromkeys(("user", "organization", "role"), TEXT),
        "send_example": {"type": {"type": "string", "enum": list(TYPES)}},
        "add_fault": _fault(),
        "grow": dict.fromkeys(("users", "organizations", "memberships"), NUMBER),
        "keep": {"name": TEXT},
        "restore": {},
    }


def _settings() -> Json:
    current = Settings()
    shapes = {one.name: CLASSES[type(getattr(current, one.name))] for one in fields(Settings)}
    return shapes | {name: {"type": "string", "enum": list(words)} for name, words in CHOICES.items()}


def _fault() -> Json:
    numbers = ("count", "status", "latency_ms", "hang_ms", "retry_after", "delay_ms")
    known = {one.name: TEXT for one in fields(Fault) if one.name not in ("id", "hits", "body")}
    words = {"hang": {"type": "string", "enum": list(HANGS)}, "do": {"type": "string", "enum": list(DOINGS)}}
    return known | dict.fromkeys(numbers, NUMBER) | words | {"after_effect": FLAG, "body": {}}
