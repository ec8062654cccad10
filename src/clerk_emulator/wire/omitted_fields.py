"""Remove fields, headers and claims that the settings omit."""

from collections.abc import Mapping
from typing import Any

from clerk_emulator.state.omittable import OMITTED_AS_NULL, OMITTED_ONLY_IF_EMPTY, select_omitted
from clerk_emulator.state.settings import Settings

JsonObject = dict[str, Any]
OPAQUE_FIELDS = {
    "public_metadata",
    "private_metadata",
    "unsafe_metadata",
    "claims",
    "actor",
}  # data of the customer, returned unchanged


def remove_omitted(settings: Settings, value: Any) -> Any:
    """Return a Backend API response or a webhook body without the omitted fields."""
    if not settings.omitted:
        return value
    omitted = select_omitted(tuple(settings.omitted))
    if not isinstance(value, dict) or value.get("object") != "event":
        omitted = {
            **omitted,
            "embedded_organization": frozenset(),
        }  # API responses contain what the specification requires
    return _remove_fields(value, "", omitted)


def remove_omitted_headers(settings: Settings, headers: Mapping[str, str]) -> dict[str, str]:
    """Return response headers without the omitted ones."""
    omitted = select_omitted(tuple(settings.omitted))["header"]
    return {name: value for name, value in headers.items() if name.lower() not in omitted}


def remove_omitted_claims(settings: Settings, claims: JsonObject) -> JsonObject:
    """Return the claims of a session token without the omitted ones."""
    omitted = select_omitted(tuple(settings.omitted))["session_token"]
    return {name: value for name, value in claims.items() if name not in omitted}


def _remove_fields(value: Any, path: str, omitted: dict[str, frozenset[str]]) -> Any:
    """Return a value without omitted fields; `path` is the name of the field that contains it."""
    if isinstance(value, list):
        return [_remove_fields(item, path, omitted) for item in value]
    if not isinstance(value, dict):
        return value
    kind = _kind_of(value, path)
    fields = omitted.get(kind, frozenset())
    if kind == "organization" and path == "organization":
        fields |= omitted["embedded_organization"]
    left: JsonObject = {}
    for name, inner in value.items():
        full_name = f"{kind}.{name}"
        if name not in fields or (full_name in OMITTED_ONLY_IF_EMPTY and inner):
            left[name] = inner if name in OPAQUE_FIELDS else _remove_fields(inner, name, omitted)
        elif full_name in OMITTED_AS_NULL:
            left[name] = None
    return left


def _kind_of(value: JsonObject, path: str) -> str:
    if value.get("deleted") is True:
        return "deleted"
    if path == "public_user_data":
        return path
    if path == "errors":
        return "error"
    return "error_body" if "errors" in value else str(value.get("object", ""))
