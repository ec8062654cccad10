"""Problem details (RFC 9457): how the API says that something failed."""

from typing import Any

import msgspec
from starlette.responses import Response

from instep.kit.headers import retry_headers


def problem(
    status: int, title: str, *, code: str, detail: str | None = None, headers: dict[str, str] | None = None, **more: Any
) -> Response:
    """An answer of type application/problem+json. `code` is stable and made for programs; `more` are extensions."""
    body = {"type": "about:blank", "title": title, "status": status, "code": code}
    if detail:
        body["detail"] = detail
    body |= {name: value for name, value in more.items() if value is not None}
    return Response(
        msgspec.json.encode(body),
        status,
        media_type="application/problem+json",
        headers=retry_headers(status) | (headers or {}),
    )
