"""REST API of deliveries: `/v1/deliveries`."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from instep.auth.principal import Principal
from instep.core.clock import to_iso
from instep.core.request_limits import InputLimitRouter
from instep.domain.errors import ChangeRejectedError
from instep.webhooks.filters import DeliveryFilter
from instep.webhooks.repository import DeliveryRow
from instep.webhooks.service import DeliveryService

AdminResolver = Callable[[Request], Awaitable[Principal | Response]]
DeliveryState = Literal["new", "waiting", "settled", "parked"]
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    401: {"description": "Nobody is signed in."},
    403: {"description": "The key may only read, or the request came from another site."},
    404: {"description": "No such delivery, or not an instance admin."},
    409: {"description": "It still waits to be worked (`not_ended`)."},
    422: {"description": "The cursor is none of ours."},
}


class Delivery(BaseModel):
    """A delivery: what it said, what became of it, and how often it was tried. `id` is the svix-id."""

    id: str
    type: str
    received_at: str
    state: DeliveryState
    attempts: int
    outcome: str | None
    due_at: str | None
    settled_at: str | None


class DeliveryList(BaseModel):
    """Deliveries, newest first."""

    deliveries: list[Delivery]
    next_cursor: str | None


def make_deliveries_router(*, admin: AdminResolver, deliveries: DeliveryService) -> APIRouter:
    """What came from Clerk, for instance admins. `admin` answers 401, 403 and 404 by itself."""
    router = InputLimitRouter(prefix="/v1/deliveries", tags=["deliveries"], responses=ERROR_RESPONSES)

    @router.get("", response_model=DeliveryList, summary="What came from Clerk", operation_id="list_deliveries")
    async def list_(
        request: Request,
        state: Annotated[list[DeliveryState] | None, Query()] = None,
        cursor: Annotated[str | None, Query(max_length=300)] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> Any:
        """Newest first; `state` can be repeated."""
        who = await admin(request)
        if isinstance(who, Response):
            return who
        page = await deliveries.list(DeliveryFilter(states=state or ()), before=_parse_cursor(cursor), limit=limit)
        after = f"{page.next[0]}.{page.next[1]}" if page.next else None
        return {"deliveries": [_to_delivery(it) for it in page.rows], "next_cursor": after}

    @router.post("/{id}/replay", response_model=Delivery, summary="Work it once more", operation_id="replay")
    async def replay(request: Request, id: str) -> Any:
        """One that is parked or settled is decided again by the law; it touches nothing but the mirror."""
        who = await admin(request)
        return who if isinstance(who, Response) else _to_delivery(await deliveries.replay(id, actor=who.id))

    return router


def _parse_cursor(cursor: str | None) -> tuple[int, str] | None:
    if not cursor:
        return None
    at, _, id = cursor.partition(".")
    if not (at.isascii() and at.isdigit()) or len(at) > 15 or not id or "\0" in id:
        raise ChangeRejectedError("This cursor is none of ours.", code="bad_cursor", field="cursor")
    return int(at), id


def _to_delivery(row: DeliveryRow) -> dict[str, Any]:
    times = {name: to_iso(getattr(row, name)) for name in ("received_at", "due_at", "settled_at")}
    return {**msgspec.structs.asdict(row), **times}
