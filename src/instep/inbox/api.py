"""The door for Clerk's webhooks: plain ASGI, since it is the busiest one; and looking at what came, over REST."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

import msgspec
import structlog
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from instep.access.principal import Principal
from instep.identity.refusals import Refused
from instep.inbox.receive import MAX_BODY, Receiver
from instep.inbox.review import Deliveries
from instep.inbox.store import Filter, Row
from instep.kit.clock import to_iso
from instep.kit.db import DatabaseRefused
from instep.kit.errors import PermanentError, TemporaryError, described
from instep.kit.incoming import BoundedRouter

log = structlog.get_logger(__name__)
PATHS = frozenset({"/webhooks/clerk", "/api/webhooks/clerk"})
STATUSES = {"bad_signature": 401, "stale": 401, "bad_delivery": 400}
JSON = (b"content-type", b"application/json")
Scope = Any
Receive = Any
Send = Any


class TooLarge(Exception):
    """The body is over the limit."""


class Webhooks:
    """Answers `POST /webhooks/clerk`: 202 once a delivery is safe, else a status that says whose fault it is.

    413 over 1 MiB, 401 a bad or stale signature, 400 malformed, 503 the database, or a fault of ours: then Clerk sends
    it again. A delivery of another Clerk instance (a test from the dashboard) is kept and answered like any other.
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["method"] != "POST":
            await _answer(send, 405, "Deliveries are sent by POST.", (b"allow", b"POST"))
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            body = await _body(headers, receive)
            delivery = await self._receiver.receive(headers, body)
        except ClientDisconnect:
            log.debug("client_disconnected", path=scope.get("path"))
        except TooLarge:
            await _answer(send, 413, "A delivery is at most 1 MiB.")
        except DatabaseRefused as error:
            log.warning("delivery_refused", code=error.code, svix_id=headers.get("svix-id"), error=described(error))
            await _answer(send, 400, "The database can't store this.")
        except PermanentError as error:
            log.info("delivery_refused", code=error.code, svix_id=headers.get("svix-id"))
            await _answer(send, STATUSES.get(error.code, 400), str(error))
        except TemporaryError as error:
            log.warning("delivery_not_kept", error=described(error))
            await _answer(send, 503, "Not kept; send it again.", (b"retry-after", b"5"))
        except Exception:
            log.exception("delivery_broke", svix_id=headers.get("svix-id"))
            await _answer(send, 503, "Not kept; send it again.", (b"retry-after", b"5"))
        else:
            await _answer(send, 202, delivery.id)


async def _body(headers: dict[str, str], receive: Receive) -> bytes:
    length = headers.get("content-length", "0")
    if length.isascii() and length.isdigit() and int(length) > MAX_BODY:
        raise TooLarge
    chunks, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY:
            raise TooLarge
        chunks.append(chunk)
        more = message.get("more_body", False)
    return b"".join(chunks)


async def _answer(send: Send, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
    body = msgspec.json.encode({"received" if status < 300 else "error": text})
    sized = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [JSON, sized, *headers]})
    await send({"type": "http.response.body", "body": body})


AdminOf = Callable[[Request], Awaitable[Principal | Response]]
State = Literal["new", "waiting", "settled", "parked"]
FAILURES: dict[int | str, dict[str, Any]] = {
    401: {"description": "Nobody is signed in."},
    403: {"description": "The key may only read, or the request came from another site."},
    404: {"description": "No such delivery, or not an instance admin."},
    409: {"description": "It still waits to be worked (`not_ended`)."},
    422: {"description": "The cursor is none of ours."},
}


class DeliveryAnswer(BaseModel):
    """A delivery: what it said, what became of it, and how often it was tried. `id` is the svix-id."""

    id: str
    type: str
    received_at: str
    state: State
    attempts: int
    outcome: str | None
    due_at: str | None
    settled_at: str | None


class DeliveryPage(BaseModel):
    """Deliveries, newest first."""

    deliveries: list[DeliveryAnswer]
    next_cursor: str | None


def make_router(*, admin: AdminOf, deliveries: Deliveries) -> APIRouter:
    """What came from Clerk, for instance admins. `admin` answers 401, 403 and 404 by itself."""
    router = BoundedRouter(prefix="/v1/deliveries", tags=["deliveries"], responses=FAILURES)

    @router.get("", response_model=DeliveryPage, summary="What came from Clerk", operation_id="list_deliveries")
    async def list_(
        request: Request,
        state: Annotated[list[State] | None, Query()] = None,
        cursor: Annotated[str | None, Query(max_length=300)] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> Any:
        """Newest first; `state` can be repeated."""
        who = await admin(request)
        if isinstance(who, Response):
            return who
        page = await deliveries.list(Filter(states=state or ()), before=_place(cursor), limit=limit)
        after = f"{page.next[0]}.{page.next[1]}" if page.next else None
        return {"deliveries": [_as_json(it) for it in page.rows], "next_cursor": after}

    @router.post("/{id}/replay", response_model=DeliveryAnswer, summary="Work it once more", operation_id="replay")
    async def replay(request: Request, id: str) -> Any:
        """One that is parked or settled is decided again by the law; it touches nothing but the mirror."""
        who = await admin(request)
        return who if isinstance(who, Response) else _as_json(await deliveries.replay(id, actor=who.id))

    return router


def _place(cursor: str | None) -> tuple[int, str] | None:
    if not cursor:
        return None
    at, _, id = cursor.partition(".")
    if not (at.isascii() and at.isdigit()) or len(at) > 15 or not id or "\0" in id:
        raise Refused("This cursor is none of ours.", code="bad_cursor", field="cursor")
    return int(at), id


def _as_json(row: Row) -> dict[str, Any]:
    times = {name: to_iso(getattr(row, name)) for name in ("received_at", "due_at", "settled_at")}
    return {**msgspec.structs.asdict(row), **times}
