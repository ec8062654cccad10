"""Answers over HTTP: JSON with exactly the content type that Clerk's clients insist on."""

import json
import secrets
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from clerk_emulator.state.refusals import Problem
from clerk_emulator.wire.errors import bare_errors, errors


class Json(Response):
    """A JSON answer; no charset in the content type, or @clerk/backend would take it for text."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def refusal(status: int, *problems: Problem, headers: Mapping[str, str] | None = None, is_bare: bool = False) -> Json:
    """Return the answer that says no."""
    trace_id = secrets.token_hex(16)
    more = {"x-clerk-trace-id": trace_id, **(headers or {})}
    body = bare_errors(problems) if is_bare else errors(problems, trace_id)
    return Json(body, status_code=status, headers=more)
