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
    """No object has this id."""


def as_endpoint(control: ControlService, handler: ControlHandler) -> Callable[[Request], Awaitable[Response]]:
    """Wrap a handler as an HTTP endpoint."""

    async def answer(request: Request) -> Response:
        if is_cross_site(request):
            return JsonResponse(
                {"error": "the control API rejects requests from pages of other sites"}, status_code=403
            )
        try:
            return JsonResponse(await handler(control, request))
        except NotFoundError as error:
            return JsonResponse({"error": f"there is no such {error}"}, status_code=404)
        except ValueError as error:
            return JsonResponse({"error": str(error)}, status_code=422)

    return answer


def is_cross_site(request: Request) -> bool:
    """Return whether a page of another site sent the request."""
    origin = request.headers.get("origin")
    if origin and origin != "null":
        host = origin.partition("://")[2].rpartition(":")[0] or origin.partition("://")[2]
        return not is_loopback(host.strip("[]"))
    return request.headers.get("sec-fetch-site") == "cross-site"


async def read_json_body(request: Request) -> Any:
    """Return the parsed JSON body; an empty object if there is none."""
    data = await request.body()
    if not data.strip():
        return {}
    try:
        return read_json(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the body is not JSON: {error}") from None


async def read_json_object(request: Request) -> dict[str, Any]:
    """Return the body; raise a ValueError if it is not an object."""
    found = await read_json_body(request)
    if not isinstance(found, dict):
        raise ValueError("the body must be a JSON object")
    return found


def read_query_integer(request: Request, name: str, default: int) -> int:
    """Return a query parameter as a whole number."""
    value = request.query_params.get(name)
    if value is None:
        return default
    if not value.isdecimal():
        raise ValueError(f"{name} must be a whole number, 0 or more")
    return int(value)
