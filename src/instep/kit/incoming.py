"""The edge to clients: what a request may hold. A text, a number or a nesting that can't be kept is refused, 422.

Routers of the REST API are `BoundedRouter`s and the console's routes go through `bounded`, so that no handler sees
such a value and nothing is opened for it: no operation, no call to Clerk. See `instep.kit.bounds` for the bounds.
"""

import json
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from instep.kit.bounds import DEEP, NUMBER, fault_of_json, fault_of_text, is_keepable
from instep.kit.errors import PermanentError

KEY = "idempotency-key"
Fault = tuple[tuple[str | int, ...], str]


class UnkeepableTextError(PermanentError):
    """A field of a form holds what can't be kept; answered with 422. `field` names it."""

    status = 422

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message, code="invalid_text")
        self.field = field


class BoundedRoute(APIRoute):
    """A route that refuses what can't be kept before anything else looks at it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of FastAPI's, behind the bounds. Raises RequestValidationError; HTTPException 404 for a path."""
        handle = super().get_route_handler()
        has_body = self.body_field is not None

        async def handle_bounded(request: Request) -> Response:
            refuse_path(request)
            fault = fault_of_query(request) or (fault_of_body(await request.body()) if has_body else None)
            if fault is not None:
                place, why = fault
                raise RequestValidationError([{"type": "value_error", "loc": place, "msg": why, "input": None}])
            return await handle(request)

        return handle_bounded


class BoundedRouter(APIRouter):
    """A router whose routes are all bounded."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"route_class": BoundedRoute, **options})


class BoundedRequest(Request):
    """A request of the console, whose forms are bounded."""

    async def _get_form(self, **limits: Any) -> FormData:
        form = await super()._get_form(**limits)
        for name, value in form.multi_items():
            why = fault_of_text(value) if isinstance(value, str) else None
            if why is not None and is_keepable(name):
                raise UnkeepableTextError(why, field=name)
        return form


def bounded(routes: Iterable[Route]) -> list[Route]:
    """Return the console's routes, bounded: 404 for a path, 422 for a form that holds what can't be kept."""
    return [
        Route(it.path, _bounded(it.endpoint), methods=list(it.methods or ()), name=it.name, include_in_schema=False)
        for it in routes
    ]


def _bounded(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def handle_bounded(request: Request) -> Response:
        refuse_path(request)
        return await endpoint(BoundedRequest(request.scope, request.receive, request._send))

    return handle_bounded


def refuse_path(request: Request) -> None:
    """Raise HTTPException 404 where the path holds what no id does: nothing is at such an address."""
    if not all(is_keepable(str(it)) for it in request.path_params.values()):
        raise HTTPException(404)


def fault_of_query(request: Request) -> Fault | None:
    """Return where a query, or an idempotency key, can't be kept, and why."""
    for name, value in request.query_params.multi_items():
        if why := fault_of_text(value):
            return ("query", name if is_keepable(name) else ""), why
    why = fault_of_text(request.headers.get(KEY, ""))
    return (("header", "Idempotency-Key"), why) if why else None


def fault_of_body(body: bytes) -> Fault | None:
    """Return where a JSON body can't be kept, and why. One that is no JSON is left to whoever reads it."""
    try:
        found = fault_of_json(json.loads(body)) if body else None
    except RecursionError:
        return ("body",), DEEP
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    except ValueError:  # digits that Python does not turn into a number
        return ("body",), NUMBER
    return (("body", *found[0]), found[1]) if found else None
