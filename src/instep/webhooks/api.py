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
from instep.webhooks.filters import DeliveryFilter, parse_cursor
from instep.webhooks.repository import DeliveryRow
from instep.webhooks.service import DeliveryService

AdminResolver = Callable[[Request], Awaitable[Principal | Response]]
DeliveryState = Literal["new", "waiting", "settled", "parked"]
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    401: {"description": "Not signed in."},
    403: {"description": "The API key is read-only, or the request came from another site."},
    404: {"description": "The delivery does not exist, or the caller is not an instance admin."},
    409: {"description": "The delivery has not been processed yet (`not_ended`)."},
    422: {"description": "The cursor is invalid."},
}


class Delivery(BaseModel):
    """A webhook delivery from Clerk: its event type, its outcome, and the number of attempts. `id` is the svix-id."""

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
    """Return the routes of deliveries, for instance admins. `admin` returns the 401, 403 or 404 response itself."""
    router = InputLimitRouter(prefix="/v1/deliveries", tags=["deliveries"], responses=ERROR_RESPONSES)

    @router.get(
        "", response_model=DeliveryList, summary="List webhook deliveries", operation_id="listWebhookDeliveries"
    )
    async def list_deliveries(
        request: Request,
        state: Annotated[list[DeliveryState] | None, Query()] = None,
        cursor: Annotated[str | None, Query(max_length=300)] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> Any:
        """Return deliveries, newest first. `state` can be repeated."""
        caller = await admin(request)
        if isinstance(caller, Response):
            return caller
        page = await deliveries.list(DeliveryFilter(states=state or ()), before=_parse_cursor(cursor), limit=limit)
        next_cursor = f"{page.next[0]}.{page.next[1]}" if page.next else None
        return {"deliveries": [_to_delivery(row) for row in page.rows], "next_cursor": next_cursor}

    @router.post(
        "/{delivery_id}/replay",
        response_model=Delivery,
        summary="Replay a webhook delivery",
        operation_id="replayWebhookDelivery",
    )
    async def replay_delivery(request: Request, delivery_id: str) -> Any:
        """Process a delivery again that was processed or has failed. It changes instep's database only."""
        caller = await admin(request)
        if isinstance(caller, Response):
            return caller
        return _to_delivery(await deliveries.replay(delivery_id, actor=caller.id))

    return router


def _parse_cursor(cursor: str | None) -> tuple[int, str] | None:
    if not cursor:
        return None
    found = parse_cursor(cursor)
    if found is None:
        raise ChangeRejectedError("The cursor is invalid.", code="bad_cursor", field="cursor")
    return found


def _to_delivery(row: DeliveryRow) -> dict[str, Any]:
    times = {name: to_iso(getattr(row, name)) for name in ("received_at", "due_at", "settled_at")}
    return {**msgspec.structs.asdict(row), **times}
