"""The door of the desk: who may come in, what comes in as JSON, and refusals as a 4xx with an `error` that says why."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from clerk_emulator.control.desk import Desk
from clerk_emulator.wire.answers import Json, read_json
from clerk_emulator.wire.site import is_loopback

View = Callable[[Desk, Request], Awaitable[Any]]


class NotThere(LookupError):
    """Nothing has this id."""


def opened(desk: Desk, view: View) -> Callable[[Request], Awaitable[Response]]:
    """Return a view as an endpoint."""

    async def answer(request: Request) -> Response:
        if is_foreign(request):
            return Json({"error": "the desk is not for pages of other sites"}, status_code=403)
        try:
            return Json(await view(desk, request))
        except NotThere as missing:
            return Json({"error": f"there is no such {missing}"}, status_code=404)
        except ValueError as wrong:
            return Json({"error": str(wrong)}, status_code=422)

    return answer


def is_foreign(request: Request) -> bool:
    """Say whether a page of another site sent this."""
    origin = request.headers.get("origin")
    if origin and origin != "null":
        host = origin.partition("://")[2].rpartition(":")[0] or origin.partition("://")[2]
        return not is_loopback(host.strip("[]"))
    return request.headers.get("sec-fetch-site") == "cross-site"


async def body(request: Request) -> Any:
    """Return the body, read as JSON; nothing: an empty object."""
    data = await request.body()
    if not data.strip():
        return {}
    try:
        return read_json(data)
    except (ValueError, RecursionError) as wrong:
        raise ValueError(f"the body is not JSON: {wrong}") from None


async def object_(request: Request) -> dict[str, Any]:
    """Return the body, which has to be an object."""
    found = await body(request)
    if not isinstance(found, dict):
        raise ValueError("the body must be a JSON object")
    return found


def number(request: Request, name: str, default: int) -> int:
    """Return a whole number of the query."""
    value = request.query_params.get(name)
    if value is None:
        return default
    if not value.isdecimal():
        raise ValueError(f"{name} must be a whole number, 0 or more")
    return int(value)
