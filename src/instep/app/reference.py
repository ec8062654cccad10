"""The API described on a page of our own, from the OpenAPI document: no script, nothing from outside. Pure."""

from collections.abc import Iterator
from typing import Any

from msgspec import Struct

Json = dict[str, Any]


class Field(Struct, frozen=True, kw_only=True):
    """A parameter, or a part of a body. `where` is path, query, header or body."""

    name: str
    where: str
    type: str
    text: str
    is_required: bool


class Answer(Struct, frozen=True, kw_only=True):
    """What may come back. `shape` names a shape of the page, "" where there is none."""

    status: str
    text: str
    shape: str


class Doing(Struct, frozen=True, kw_only=True):
    """One operation."""

    id: str
    method: str
    path: str
    summary: str
    text: str
    fields: tuple[Field, ...]
    body: str
    answers: tuple[Answer, ...]


class Shape(Struct, frozen=True, kw_only=True):
    """A named object, as it is sent or answered."""

    name: str
    text: str
    fields: tuple[Field, ...]


class Reference(Struct, frozen=True, kw_only=True):
    """The whole page: operations by their tag, in the document's order, and the shapes that they name."""

    version: str
    text: str
    groups: dict[str, list[Doing]]
    shapes: tuple[Shape, ...]


def read(document: Json) -> Reference:
    """The page of an OpenAPI 3.1 document."""
    groups: dict[str, list[Doing]] = {}
    for path, method, operation in _operations(document):
        groups.setdefault(operation.get("tags", ["other"])[0], []).append(_doing(path, method, operation))
    shapes = tuple(_shape(name, it) for name, it in sorted(document["components"]["schemas"].items()))
    info = document["info"]
    return Reference(version=info["version"], text=info.get("description", ""), groups=groups, shapes=shapes)


def _operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _doing(path: str, method: str, operation: Json) -> Doing:
    return Doing(
        id=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation.get("summary", ""),
        text=operation.get("description", ""),
        fields=tuple(_parameter(it) for it in operation.get("parameters", [])),
        body=_type(_content(operation.get("requestBody", {}))),
        answers=tuple(_answer(status, it) for status, it in sorted(operation["responses"].items())),
    )


def _parameter(it: Json) -> Field:
    return Field(
        name=it["name"],
        where=it["in"],
        type=_type(it["schema"]),
        text=it.get("description", ""),
        is_required=it.get("required", False),
    )


def _answer(status: str, it: Json) -> Answer:
    return Answer(status=status, text=it.get("description", ""), shape=_type(_content(it)))


def _content(it: Json) -> Json:
    """The schema of a body; what is described in several forms is described alike."""
    return next((form.get("schema", {}) for form in it.get("content", {}).values()), {})


def _shape(name: str, schema: Json) -> Shape:
    required = schema.get("required", [])
    fields = tuple(
        Field(name=key, where="body", type=_type(it), text=it.get("description", ""), is_required=key in required)
        for key, it in schema.get("properties", {}).items()
    )
    return Shape(name=_short(name), text=schema.get("description", ""), fields=fields)


def _type(schema: Json) -> str:
    """A schema in a few words: `string`, `Member[]`, `"member" | "invitation"`, `integer | null`."""
    if "$ref" in schema:
        return _short(schema["$ref"].rsplit("/", 1)[-1])
    if "const" in schema:
        return f'"{schema["const"]}"'
    if "enum" in schema:
        return " | ".join(f'"{it}"' for it in schema["enum"])
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return " | ".join(dict.fromkeys(_type(it) for it in choices))
    if schema.get("type") == "array":
        return f"{_type(schema.get('items', {}))}[]"
    return str(schema.get("type", "")) + _limits(schema)


def _limits(schema: Json) -> str:
    """What bounds a number, and what is taken where nothing is said."""
    low, high, default = (schema.get(name) for name in ("minimum", "maximum", "default"))
    bounds = f" {low} to {high}" if low is not None and high is not None else ""
    return bounds + (f", {default} by default" if default not in (None, "", []) else "")


def _short(name: str) -> str:
    """A shape's name without the module that FastAPI puts before names used twice, but still another name."""
    *path, last = name.split("__")
    return f"{last} ({path[1]})" if len(path) > 1 else last
