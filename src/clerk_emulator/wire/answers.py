"""Answers over HTTP: JSON with exactly the content type that Clerk's clients insist on."""

import asyncio
import json
import secrets
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from clerk_emulator.state.instance import Settings
from clerk_emulator.state.refusals import Problem
from clerk_emulator.wire.errors import bare_errors, errors
from clerk_emulator.wire.omission import headers_left, without_omitted

CODES = {
    429: "too_many_requests",
    500: "internal_clerk_error",
    503: "service_unavailable",
    504: "gateway_timeout",
}


class Json(Response):
    """A JSON answer; no charset in the content type, or @clerk/backend would take it for text."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def read_json(data: bytes) -> Any:
    """Return a body as JSON. Half a surrogate pair, which no answer could hold, becomes U+FFFD, as in Go.

    Raises ValueError or RecursionError where it is no JSON.
    """
    found = json.loads(data)
    if b"\\ud" in data.lower():
        text = json.dumps(found, ensure_ascii=False).encode("utf-16-le", "surrogatepass")
        found = json.loads(text.decode("utf-16-le", "replace"))
    return found


def refusal(
    status: int,
    *problems: Problem,
    headers: Mapping[str, str] | None = None,
    is_bare: bool = False,
    settings: Settings | None = None,
) -> Json:
    """Return the answer that says no, without what the settings omit where there are any."""
    trace_id = secrets.token_hex(16)
    more = {"x-clerk-trace-id": trace_id, **(headers or {})}
    body = bare_errors(problems) if is_bare else errors(problems, trace_id)
    if settings is not None:
        body, more = without_omitted(settings, body), headers_left(settings, more)
    return Json(body, status_code=status, headers=more)


def instead(status: int | None, body: Any, retry_after: int | None) -> Response:
    """Return the answer that a fault has in place of the real one."""
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    status = status or 200
    if body is None and status >= 400:
        problem = Problem(CODES.get(status, "emulator_fault"), "fault", "This answer is a fault by wish.")
        return refusal(status, problem, headers=headers)
    if isinstance(body, str):
        return Response(body, status_code=status, headers=headers, media_type="text/html")
    return Json(body, status_code=status, headers=headers)


async def hang(request: Request, milliseconds: int) -> Response:
    """Answer nothing until the caller gives up, or for a time."""
    try:
        async with asyncio.timeout(milliseconds / 1000):
            while (await request.receive())["type"] != "http.disconnect":
                continue
    except TimeoutError:
        pass
    return refusal(504, Problem("gateway_timeout", "timeout", "This request hung by wish."))
