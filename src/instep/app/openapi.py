"""OpenAPI document: problem responses, and the reference page built from it. Pure."""

from collections.abc import Iterator
from typing import Any

from msgspec import Struct

Json = dict[str, Any]
PROBLEM_SCHEMA: Json = {
    "title": "Problem",
    "description": "How a request failed (RFC 9457). `code` is stable and made for programs; `detail` is for people.",
    "type": "object",
    "required": ["type", "title", "status", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "reason": {
            "type": "string",
            "description": "With 401: the rule that refused the credentials, such as `missing`, `expired`, `party` (a "
            "token for an origin that is not in INSTEP_AUTHORIZED_PARTIES), `issuer`, `signature`, `session_over`, "
            "`unknown_api_key` or `wrong_key`.",
        },
        "detail": {"type": "string"},
        "request_id": {"type": "string"},
    },
    "additionalProperties": True,
}
COMMON_RESPONSES = {
    "401": "Nobody is signed in.",
    "413": "The body is over 1 MiB.",
    "422": "The request makes no sense, or is refused. Nothing was changed.",
    "429": "Too much at once; try again later.",
    "503": "The database, or Clerk, did not answer.",
}
REPLACED_SCHEMAS = ("HTTPValidationError", "ValidationError")


def add_problem_responses(document: Json) -> Json:
    """Return the document with every failure of every operation as a Problem, including the common ones."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in REPLACED_SCHEMAS:
        schemas.pop(name, None)
    schemas["Problem"] = PROBLEM_SCHEMA
    for path in document["paths"].values():
        for operation in path.values():
            _describe_failures(operation["responses"])
    return document


def _describe_failures(responses: Json) -> None:
    for status, description in COMMON_RESPONSES.items():
        responses.setdefault(status, {"description": description})
    for status, response in responses.items():
        if status[0] in "45":
            response["content"] = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


class FieldReference(Struct, frozen=True, kw_only=True):
    """A parameter or a property of a body. `where` is path, query, header or body."""

    name: str
    where: str
    type: str
    text: str
    is_required: bool


class ResponseReference(Struct, frozen=True, kw_only=True):
    """A possible response. `schema_name` names a schema of the page, "" where there is none."""

    status: str
    text: str
    schema_name: str


class OperationReference(Struct, frozen=True, kw_only=True):
    """One operation."""

    id: str
    method: str
    path: str
    summary: str
    text: str
    fields: tuple[FieldReference, ...]
    body: str
    responses: tuple[ResponseReference, ...]


class SchemaReference(Struct, frozen=True, kw_only=True):
    """A named schema of a request or response."""

    name: str
    text: str
    fields: tuple[FieldReference, ...]


class ApiReference(Struct, frozen=True, kw_only=True):
    """The reference page: operations by tag in document order, and the schemas they use."""

    version: str
    text: str
    groups: dict[str, list[OperationReference]]
    schemas: tuple[SchemaReference, ...]


def build_reference(document: Json) -> ApiReference:
    """Build the reference page of an OpenAPI 3.1 document."""
    groups: dict[str, list[OperationReference]] = {}
    for path, method, operation in _iterate_operations(document):
        groups.setdefault(operation.get("tags", ["other"])[0], []).append(_build_operation(path, method, operation))
    schemas = tuple(_build_schema(name, it) for name, it in sorted(document["components"]["schemas"].items()))
    info = document["info"]
    return ApiReference(version=info["version"], text=info.get("description", ""), groups=groups, schemas=schemas)


def _iterate_operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _build_operation(path: str, method: str, operation: Json) -> OperationReference:
    return OperationReference(
        id=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation.get("summary", ""),
        text=operation.get("description", ""),
        fields=tuple(_build_parameter(it) for it in operation.get("parameters", [])),
        body=_format_type(_find_body_schema(operation.get("requestBody", {}))),
        responses=tuple(_build_response(status, it) for status, it in sorted(operation["responses"].items())),
    )


def _build_parameter(parameter: Json) -> FieldReference:
    return FieldReference(
        name=parameter["name"],
        where=parameter["in"],
        type=_format_type(parameter["schema"]),
        text=parameter.get("description", ""),
        is_required=parameter.get("required", False),
    )


def _build_response(status: str, response: Json) -> ResponseReference:
    return ResponseReference(
        status=status, text=response.get("description", ""), schema_name=_format_type(_find_body_schema(response))
    )


def _find_body_schema(body: Json) -> Json:
    """Return the schema of a body; all media types of a body have the same."""
    return next((form.get("schema", {}) for form in body.get("content", {}).values()), {})


def _build_schema(name: str, schema: Json) -> SchemaReference:
    required = schema.get("required", [])
    fields = tuple(
        FieldReference(
            name=key, where="body", type=_format_type(it), text=it.get("description", ""), is_required=key in required
        )
        for key, it in schema.get("properties", {}).items()
    )
    return SchemaReference(name=_shorten_name(name), text=schema.get("description", ""), fields=fields)


def _format_type(schema: Json) -> str:
    """Format a schema as a short type: `string`, `Member[]`, `"member" | "invitation"`, `integer | null`."""
    if "$ref" in schema:
        return _shorten_name(schema["$ref"].rsplit("/", 1)[-1])
    if "const" in schema:
        return f'"{schema["const"]}"'
    if "enum" in schema:
        return " | ".join(f'"{it}"' for it in schema["enum"])
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return " | ".join(dict.fromkeys(_format_type(it) for it in choices))
    if schema.get("type") == "array":
        return f"{_format_type(schema.get('items', {}))}[]"
    return str(schema.get("type", "")) + _format_limits(schema)


def _format_limits(schema: Json) -> str:
    """Format the bounds of a number, and the default."""
    low, high, default = (schema.get(name) for name in ("minimum", "maximum", "default"))
    bounds = f" {low} to {high}" if low is not None and high is not None else ""
    return bounds + (f", {default} by default" if default not in (None, "", []) else "")


def _shorten_name(name: str) -> str:
    """Remove the module that FastAPI puts before a name used twice; the name stays unique."""
    *path, last = name.split("__")
    return f"{last} ({path[1]})" if len(path) > 1 else last
