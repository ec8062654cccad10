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
    """A form field contains text that cannot be stored (422). `field` is its name."""

    status = 422

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message, code="invalid_text")
        self.field = field


class InputLimitRoute(APIRoute):
    """A route that rejects input which cannot be stored, before any other code reads it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler behind the input limits.

        Raises RequestValidationError; HTTPException 404 for a path.
        """
        handle = super().get_route_handler()
        has_body = self.body_field is not None

        async def handle_within_limits(request: Request) -> Response:
            reject_unstorable_path(request)
            error = find_query_error(request) or (find_body_error(await request.body()) if has_body else None)
            if error is not None:
                location, message = error
                raise RequestValidationError([{"type": "value_error", "loc": location, "msg": message, "input": None}])
            return await handle(request)

        return handle_within_limits


class InputLimitRouter(APIRouter):
    """A router whose routes all enforce the input limits."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"route_class": InputLimitRoute, **options})


class InputLimitRequest(Request):
    """A request of the console whose forms are checked against the input limits."""

    async def _get_form(self, **limits: Any) -> FormData:
        form = await super()._get_form(**limits)
        for name, value in form.multi_items():
            message = find_text_error(value) if isinstance(value, str) else None
            if message is not None and is_storable_text(name):
                raise UnstorableTextError(message, field=name)
        return form


def enforce_input_limits(routes: Iterable[Route]) -> list[Route]:
    """Return the console's routes with input limits: 404 for a path, 422 for a form that cannot be stored."""
    return [
        Route(
            route.path,
            _limit_endpoint(route.endpoint),
            methods=list(route.methods or ()),
            name=route.name,
            include_in_schema=False,
        )
        for route in routes
    ]


def _limit_endpoint(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def handle_within_limits(request: Request) -> Response:
        reject_unstorable_path(request)
        return await endpoint(InputLimitRequest(request.scope, request.receive, request._send))

    return handle_within_limits


def reject_unstorable_path(request: Request) -> None:
    """Raise HTTPException 404 if a path parameter contains text that no identifier contains."""
    if not all(is_storable_text(str(value)) for value in request.path_params.values()):
        raise HTTPException(404)


def find_query_error(request: Request) -> LocatedInputError | None:
    """Return the location and the reason if a query parameter or idempotency key cannot be stored."""
    for name, value in request.query_params.multi_items():
        if message := find_text_error(value):
            return ("query", name if is_storable_text(name) else ""), message
    message = find_text_error(request.headers.get(IDEMPOTENCY_KEY_HEADER, ""))
    return (("header", "Idempotency-Key"), message) if message else None


def find_body_error(body: bytes) -> LocatedInputError | None:
    """Return the location and the reason if a JSON body cannot be stored; None for invalid JSON."""
    try:
        found = find_json_error(json.loads(body)) if body else None
    except RecursionError:
        return ("body",), NESTING_MESSAGE
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    except ValueError:  # more digits than Python converts to a number
        return ("body",), NUMBER_MESSAGE
    return (("body", *found[0]), found[1]) if found else None
