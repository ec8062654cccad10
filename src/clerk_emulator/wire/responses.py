"""HTTP responses: JSON with Clerk's exact content type, errors and injected faults."""

import asyncio
import json
import secrets
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from clerk_emulator.state.errors import ErrorDetail
from clerk_emulator.state.settings import Settings
from clerk_emulator.wire.omitted_fields import remove_omitted, remove_omitted_headers

STATUS_CODES = {
    429: "too_many_requests",
    500: "internal_clerk_error",
    503: "service_unavailable",
    504: "gateway_timeout",
}


class JsonResponse(Response):
    """A JSON response; no charset in the content type, or @clerk/backend would treat it as text."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def read_json(data: bytes) -> Any:
    """Return the parsed body. A lone surrogate, which no response could contain, becomes U+FFFD, as in Go.

    Raises ValueError or RecursionError if it is not JSON.
    """
    found = json.loads(data)
    if b"\\ud" in data.lower():
        text = json.dumps(found, ensure_ascii=False).encode("utf-16-le", "surrogatepass")
        found = json.loads(text.decode("utf-16-le", "replace"))
    return found


def error_response(
    status: int,
    *problems: ErrorDetail,
    headers: Mapping[str, str] | None = None,
    is_bare: bool = False,
    settings: Settings | None = None,
) -> JsonResponse:
    """Return an error response, without the fields that the settings omit."""
    trace_id = secrets.token_hex(16)
    more = {"x-clerk-trace-id": trace_id, **(headers or {})}
    body = bare_error_body(problems) if is_bare else error_body(problems, trace_id)
    if settings is not None:
        body, more = remove_omitted(settings, body), remove_omitted_headers(settings, more)
    return JsonResponse(body, status_code=status, headers=more)


def fault_response(status: int | None, body: Any, retry_after: int | None) -> Response:
    """Return the response of a fault."""
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    status = status or 200
    if body is None and status >= 400:
        problem = ErrorDetail(
            STATUS_CODES.get(status, "emulator_fault"), "fault", "This response was injected by a fault."
        )
        return error_response(status, problem, headers=headers)
    if isinstance(body, str):
        return Response(body, status_code=status, headers=headers, media_type="text/html")
    return JsonResponse(body, status_code=status, headers=headers)


async def hang_response(request: Request, milliseconds: int) -> Response:
    """Send no response until the client disconnects or the time is over."""
    try:
        async with asyncio.timeout(milliseconds / 1000):
            while (await request.receive())["type"] != "http.disconnect":
                continue
    except TimeoutError:
        pass
    return error_response(504, ErrorDetail("gateway_timeout", "timeout", "This request hung because of a fault."))


JsonObject = dict[str, Any]


def error_body(problems: tuple[ErrorDetail, ...], trace_id: str) -> JsonObject:
    """Return the body of an error response."""
    return {"errors": [_error_json(problem) for problem in problems], "clerk_trace_id": trace_id}


def bare_error_body(problems: tuple[ErrorDetail, ...]) -> JsonObject:
    """Return the body of an error response in the format of Clerk's machine and API key endpoints."""
    return {"errors": [_without_meta(problem) for problem in problems]}


def _error_json(problem: ErrorDetail) -> JsonObject:
    result: JsonObject = {
        "message": problem.message,
        "long_message": problem.long_message or problem.message,
        "code": problem.code,
    }
    if problem.meta:
        result["meta"] = dict(problem.meta)
    return result


def _without_meta(problem: ErrorDetail) -> JsonObject:
    return {name: value for name, value in _error_json(problem).items() if name != "meta"}
