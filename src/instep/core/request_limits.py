"""Routes and requests that reject input which cannot be stored."""

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

from instep.core.errors import PermanentError
from instep.core.input_limits import NESTING_MESSAGE, NUMBER_MESSAGE, find_json_error, find_text_error, is_storable_text

IDEMPOTENCY_KEY_HEADER = "idempotency-key"
LocatedInputError = tuple[tuple[str | int, ...], str]


class UnstorableTextError(PermanentError):
    """A field of a form holds what can't be kept; answered with 422. `field` names it."""

    status = 422

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message, code="invalid_text")
        self.field = field


class InputLimitRoute(APIRoute):
    """A route that refuses what can't be kept before anything else looks at it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of FastAPI's, behind the bounds. Raises RequestValidationError; HTTPException 404 for a path."""
        handle = super().get_route_handler()
        has_body = self.body_field is not None

        async def handle_bounded(request: Request) -> Response:
            reject_unstorable_path(request)
            fault = find_query_error(request) or (find_body_error(await request.body()) if has_body else None)
            if fault is not None:
                place, why = fault
                raise RequestValidationError([{"type": "value_error", "loc": place, "msg": why, "input": None}])
            return await handle(request)

        return handle_bounded


class InputLimitRouter(APIRouter):
    """A router whose routes are all bounded."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"route_class": InputLimitRoute, **options})


class InputLimitRequest(Request):
    """A request of the console, whose forms are bounded."""

    async def _get_form(self, **limits: Any) -> FormData:
        form = await super()._get_form(**limits)
        for name, value in form.multi_items():
            why = find_text_error(value) if isinstance(value, str) else None
            if why is not None and is_storable_text(name):
                raise UnstorableTextError(why, field=name)
        return form


def enforce_input_limits(routes: Iterable[Route]) -> list[Route]:
    """Return the console's routes, bounded: 404 for a path, 422 for a form that holds what can't be kept."""
    return [
        Route(
            it.path, _limit_endpoint(it.endpoint), methods=list(it.methods or ()), name=it.name, include_in_schema=False
        )
        for it in routes
    ]


def _limit_endpoint(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def handle_bounded(request: Request) -> Response:
        reject_unstorable_path(request)
        return await endpoint(InputLimitRequest(request.scope, request.receive, request._send))

    return handle_bounded


def reject_unstorable_path(request: Request) -> None:
    """Raise HTTPException 404 where the path holds what no id does: nothing is at such an address."""
    if not all(is_storable_text(str(it)) for it in request.path_params.values()):
        raise HTTPException(404)


def find_query_error(request: Request) -> LocatedInputError | None:
    """Return where a query, or an idempotency key, can't be kept, and why."""
    for name, value in request.query_params.multi_items():
        if why := find_text_error(value):
            return ("query", name if is_storable_text(name) else ""), why
    why = find_text_error(request.headers.get(IDEMPOTENCY_KEY_HEADER, ""))
    return (("header", "Idempotency-Key"), why) if why else None


def find_body_error(body: bytes) -> LocatedInputError | None:
    """Return where a JSON body can't be kept, and why. One that is no JSON is left to whoever reads it."""
    try:
        found = find_json_error(json.loads(body)) if body else None
    except RecursionError:
        return ("body",), NESTING_MESSAGE
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    except ValueError:  # digits that Python does not turn into a number
        return ("body",), NUMBER_MESSAGE
    return (("body", *found[0]), found[1]) if found else None
