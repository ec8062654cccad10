"""HTTP edge of the control API: origin check, JSON bodies and error responses."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from clerk_emulator.control.service import ControlService
from clerk_emulator.wire.responses import JsonResponse, read_json
from clerk_emulator.wire.site_config import is_loopback

ControlHandler = Callable[[ControlService, Request], Awaitable[Any]]


class NotFoundError(LookupError):
    """Nothing has this id."""


def as_endpoint(desk: ControlService, view: ControlHandler) -> Callable[[Request], Awaitable[Response]]:
    """Return a view as an endpoint."""

    async def answer(request: Request) -> Response:
        if is_cross_site(request):
            return JsonResponse({"error": "the desk is not for pages of other sites"}, status_code=403)
        try:
            return JsonResponse(await view(desk, request))
        except NotFoundError as missing:
            return JsonResponse({"error": f"there is no such {missing}"}, status_code=404)
        except ValueError as wrong:
            return JsonResponse({"error": str(wrong)}, status_code=422)

    return answer


def is_cross_site(request: Request) -> bool:
    """Say whether a page of another site sent this."""
    origin = request.headers.get("origin")
    if origin and origin != "null":
        host = origin.partition("://")[2].rpartition(":")[0] or origin.partition("://")[2]
        return not is_loopback(host.strip("[]"))
    return request.headers.get("sec-fetch-site") == "cross-site"


async def read_json_body(request: Request) -> Any:
    """Return the body, read as JSON; nothing: an empty object."""
    data = await request.body()
    if not data.strip():
        return {}
    try:
        return read_json(data)
    except (ValueError, RecursionError) as wrong:
        raise ValueError(f"the body is not JSON: {wrong}") from None


async def read_json_object(request: Request) -> dict[str, Any]:
    """Return the body, which has to be an object."""
    found = await read_json_body(request)
    if not isinstance(found, dict):
        raise ValueError("the body must be a JSON object")
    return found


def read_query_integer(request: Request, name: str, default: int) -> int:
    """Return a whole number of the query."""
    value = request.query_params.get(name)
    if value is None:
        return default
    if not value.isdecimal():
        raise ValueError(f"{name} must be a whole number, 0 or more")
    return int(value)
