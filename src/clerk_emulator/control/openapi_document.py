"""OpenAPI document of the control API, generated from its routes."""

import inspect
import re
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from clerk_emulator.control.directory_handlers import STRING_FIELDS
from clerk_emulator.control.http import ControlHandler
from clerk_emulator.state.settings import SETTING_CHOICES, Settings
from clerk_emulator.wire.fault_injection import DELIVERY_FAULTS, HANG_POINTS, Fault
from clerk_emulator.wire.webhook_payloads import EVENT_TYPES

JsonObject = dict[str, Any]
INTEGER: JsonObject = {"type": "integer", "minimum": 0}
STRING: JsonObject = {"type": "string"}
BOOLEAN: JsonObject = {"type": "boolean"}
OBJECT: JsonObject = {"type": "object"}
TIME: JsonObject = {
    "description": "Milliseconds, RFC 3339, `now`, or an offset such as `-3d`.",
    "oneOf": [INTEGER, STRING],
}
DECIMAL: JsonObject = {"type": "number"}
QUERY_PARAMETERS = {
    "get_state": {"limit": INTEGER},
    "list_mail": {"to": STRING, "limit": INTEGER},
    "list_deliveries": {
        "event": STRING,
        "status": STRING,
        "endpoint_id": STRING,
        "message_id": STRING,
        "limit": INTEGER,
    },
    "list_events": {"type": STRING, "after": STRING, "limit": INTEGER},
    "list_requests": {"operationId": STRING, "after": INTEGER, "limit": INTEGER},
}
TYPE_SCHEMAS: dict[type, JsonObject] = {
    bool: BOOLEAN,
    int: INTEGER,
    str: STRING,
    list: {"type": "array", "items": STRING},
    dict: OBJECT,
}


def build_document(url: str, table: Iterable[tuple[str, str, ControlHandler]]) -> JsonObject:
    """Return the OpenAPI document of the control API."""
    paths: dict[str, JsonObject] = {}
    for method, path, handler in table:
        paths.setdefault(f"/_emulator{path}", {})[method.lower()] = _operation(method, path, handler)
    info = {
        "title": "Clerk emulator control API",
        "version": "1",
        "description": "Change, break and inspect the emulator in development and tests.",
    }
    error = {"type": "object", "required": ["error"], "properties": {"error": STRING}}
    return {
        "openapi": "3.0.3",
        "info": info,
        "servers": [{"url": url}],
        "paths": paths,
        "components": {"schemas": {"Error": error}},
    }


def _operation(method: str, path: str, handler: ControlHandler) -> JsonObject:
    name, description = handler.__name__, inspect.getdoc(handler) or ""
    path_parameters = [
        {"name": one, "in": "path", "required": True, "schema": STRING} for one in re.findall(r"{(\w+)}", path)
    ]
    query_parameters = [
        {"name": one, "in": "query", "schema": schema} for one, schema in QUERY_PARAMETERS.get(name, {}).items()
    ]
    error_content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    operation: JsonObject = {
        "operationId": f"{method.lower()}{re.sub(r'[^a-zA-Z]+', '_', path.removesuffix('.json')).rstrip('_')}",
        "summary": re.split("[.:;]", description, maxsplit=1)[0],
        "description": description,
        "parameters": [*path_parameters, *query_parameters],
        "responses": {
            "200": {"description": "Success.", "content": {"application/json": {"schema": OBJECT}}},
            "403": {"description": "Rejected: sent by a page of another site.", "content": error_content},
            "404": {"description": "Not found.", "content": error_content},
            "422": {"description": "Invalid input; `error` explains it.", "content": error_content},
        },
    }
    properties = _request_bodies().get(name) if method in ("POST", "PATCH") else None
    if properties is not None:
        operation["requestBody"] = {
            "content": {"application/json": {"schema": {"type": "object", "properties": properties}}}
        }
    return operation


def _request_bodies() -> dict[str, JsonObject]:
    units = ("weeks", "days", "hours", "minutes", "seconds", "milliseconds")
    endpoint = {"url": STRING, "secret": STRING, "events": {"type": "array", "items": STRING}, "enabled": BOOLEAN}
    object_list = {"type": "array", "items": OBJECT}
    seed = dict.fromkeys(("roles", "users", "organizations", "invitations", "endpoints"), object_list)
    return {
        "reset": {"endpoints": BOOLEAN},
        "load_seed": {**seed, "settings": OBJECT, "events": BOOLEAN},
        "change_settings": _settings_properties(),
        "set_clock": {"now": TIME, "stopped": BOOLEAN},
        "advance_clock": dict.fromkeys(units, DECIMAL),
        "add_endpoint": endpoint,
        "add_directory": {"name": STRING},
        "update_directory": {"enabled": BOOLEAN},
        "provision_user": dict.fromkeys(STRING_FIELDS, STRING) | {"active": BOOLEAN},
        "assign_role": dict.fromkeys(("user", "organization", "role"), STRING),
        "send_example": {"type": {"type": "string", "enum": list(EVENT_TYPES)}},
        "add_fault": _fault_properties(),
        "generate_data": dict.fromkeys(("users", "organizations", "memberships"), INTEGER),
        "save_named_snapshot": {"name": STRING},
        "restore_snapshot": {},
    }


def _settings_properties() -> JsonObject:
    current = Settings()
    properties = {one.name: TYPE_SCHEMAS[type(getattr(current, one.name))] for one in fields(Settings)}
    return properties | {name: {"type": "string", "enum": list(choices)} for name, choices in SETTING_CHOICES.items()}


def _fault_properties() -> JsonObject:
    numbers = ("count", "status", "latency_ms", "hang_ms", "retry_after", "delay_ms")
    known = {one.name: STRING for one in fields(Fault) if one.name not in ("id", "hits", "body")}
    choices = {
        "hang": {"type": "string", "enum": list(HANG_POINTS)},
        "do": {"type": "string", "enum": list(DELIVERY_FAULTS)},
    }
    return known | dict.fromkeys(numbers, INTEGER) | choices | {"after_effect": BOOLEAN, "body": {}}
