"""The OpenAPI document, made honest: every failure is described as what it is, an application/problem+json. Pure."""

from typing import Any

Json = dict[str, Any]
PROBLEM: Json = {
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
EVERYWHERE = {
    "401": "Nobody is signed in.",
    "413": "The body is over 1 MiB.",
    "422": "The request makes no sense, or is refused. Nothing was changed.",
    "429": "Too much at once; try again later.",
    "503": "The database, or Clerk, did not answer.",
}
REPLACED = ("HTTPValidationError", "ValidationError")


def with_problems(document: Json) -> Json:
    """The document with every failure of every operation as a Problem, also those that any operation can meet."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in REPLACED:
        schemas.pop(name, None)
    schemas["Problem"] = PROBLEM
    for path in document["paths"].values():
        for operation in path.values():
            _describe(operation["responses"])
    return document


def _describe(responses: Json) -> None:
    for status, description in EVERYWHERE.items():
        responses.setdefault(status, {"description": description})
    for status, response in responses.items():
        if status[0] in "45":
            response["content"] = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
