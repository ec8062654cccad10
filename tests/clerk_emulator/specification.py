"""Clerk's specification files, if available, and a check of responses against them."""

import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

VALIDATORS: dict[str, Draft202012Validator] = {}
FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "clerk"


@cache
def load(name: str) -> Any:
    """Return a specification, or skip the test."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"Clerk's specification files are not at hand: {path.name} in shared/clerk beside the repository")
    return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)


def specifications_are_here() -> bool:
    """Return whether Clerk's specification files are available."""
    return FOLDER.is_dir()


def schema_errors(document: Any, schema: Any, value: Any) -> list[str]:
    """Return the violations of a schema by a value: missing, wrongly typed and undefined fields."""
    key = json.dumps(schema, sort_keys=True, default=str) + str(id(document))
    if key not in VALIDATORS:
        VALIDATORS[key] = Draft202012Validator(as_json_schema(document, schema))
    invalid = [
        f"{format_path(error.absolute_path)}: {describe_error(error)}" for error in VALIDATORS[key].iter_errors(value)
    ]
    return [*invalid, *find_undefined(document, schema, value, "")]


def format_path(path: Iterable[Any]) -> str:
    """Return the path of a field; items of a list have the same path."""
    return "".join("[]" if isinstance(part, int) else f".{part}" for part in path)


def describe_error(error: Any) -> str:
    """Return the violation without the values of this response."""
    if error.validator == "required":
        return str(error.message)
    return f"does not fit {error.validator}"


def as_json_schema(document: Any, schema: Any) -> Any:
    """Return an OpenAPI 3.0 schema as JSON Schema, references resolved.

    `additionalProperties` is left to `find_undefined()`: the specification combines closed schemas with more fields.
    """
    if isinstance(schema, list):
        return [as_json_schema(document, part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return as_json_schema(document, follow(document, schema))
    kept = {
        name: as_json_schema(document, part)
        for name, part in schema.items()
        if name not in ("nullable", "discriminator", "example", "default", "additionalProperties")
    }
    if "properties" in kept:
        kept["properties"] = {name: as_json_schema(document, part) for name, part in schema["properties"].items()}
    if schema.get("nullable"):
        return {"anyOf": [{"type": "null"}, kept]}
    return kept


def follow(document: Any, schema: Any) -> Any:
    """Return the schema that a reference names."""
    while isinstance(schema, dict) and "$ref" in schema:
        found = document
        for part in schema["$ref"].split("/")[1:]:
            found = found[part]
        schema = found
    return schema


def find_undefined(document: Any, schema: Any, value: Any, path: str) -> Iterator[str]:
    """Iterate over the fields of a value that its schema does not define."""
    if isinstance(value, list):
        for item in value:
            for part in alternatives(document, schema):
                if "items" in part:
                    yield from find_undefined(document, part["items"], item, f"{path}[]")
    if not isinstance(value, dict):
        return
    parts = list(alternatives(document, schema))
    known: dict[str, Any] = {}
    for part in parts:
        known |= part.get("properties", {})
    if not known or any(part.get("additionalProperties") is True for part in parts):
        return
    for name, inner in value.items():
        if name not in known:
            yield f"{path}.{name} is defined nowhere"
        else:
            yield from find_undefined(document, known[name], inner, f"{path}.{name}")


def alternatives(document: Any, schema: Any) -> Iterator[Any]:
    """Iterate over a schema and the schemas combined in it."""
    schema = follow(document, schema)
    yield schema
    for kind in ("allOf", "oneOf", "anyOf"):
        for part in schema.get(kind, ()):
            yield from alternatives(document, part)


@cache
def divergences(part: str = "") -> dict[str, str]:
    """Return the known divergences from the specification, each with its reason; `part` is a folder beside this."""
    path = Path(__file__).parent / part / "divergences.yml"
    return dict(yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader) or {})


@cache
def error_codes() -> set[tuple[int, str]]:
    """Return every status and code of Clerk's error catalogue; status 0: the catalogue names none."""
    return {(int(entry["status"] or 0), entry["code"]) for entry in load("api_errors.json")}
