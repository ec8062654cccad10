"""REST API of operations: `/v1/operations`."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from instep.auth.admin_scope import (
    ADMIN_ERROR_RESPONSES,
    AccessResolver,
    PrincipalResolver,
    next_cursor,
    resolve_request_scope,
)
from instep.auth.principal import OrganizationAccess, Principal
from instep.core.clock import to_iso
from instep.core.request_limits import InputLimitRouter
from instep.operations import workflow
from instep.operations.service import OperationService

AccessListResolver = Callable[[Principal], Awaitable[Sequence[OrganizationAccess]]]


class OperationResponse(BaseModel):
    """A change that touches both sides. `steps` are those that are done; `impersonator` acted as the actor."""

    id: str
    kind: str
    target: str
    organization_id: str | None
    actor: str
    impersonator: str | None = None
    state: Literal["open", "settled", "refused", "attention", "given_up"]
    reason: str | None
    code: str | None
    steps: list[str]
    attempts: int
    asked_at: str
    changed_at: str
    next_try_at: str | None
    request_id: str | None


class OperationList(BaseModel):
    """Operations, newest first."""

    data: list[OperationResponse]
    next_cursor: str | None


class OperationQueryParams(BaseModel):
    """Which operations; without an organization, those of the whole installation (instance admins)."""

    organization: str | None = None
    state: list[Literal["open", "settled", "refused", "attention", "given_up"]] = []
    cursor: str = ""
    limit: Annotated[int, Field(ge=1, le=200)] = 50


def make_operations_router(
    *, principal: PrincipalResolver, access: AccessResolver, accesses: AccessListResolver, operations: OperationService
) -> APIRouter:
    """The routes of operations. `principal` and `access` answer 401, 403 and 404 by themselves."""
    router = InputLimitRouter(prefix="/v1/operations", tags=["operations"], responses=ADMIN_ERROR_RESPONSES)

    async def one(request: Request, id: str) -> workflow.Operation | Response:
        who = await principal(request)
        if isinstance(who, Response):
            return who
        theirs = {it.organization_id: it for it in await accesses(who)}
        return await operations.find(who, theirs, id)

    @router.get("", response_model=OperationList, summary="What is open and what has ended")
    async def list_operations(request: Request, wish: Annotated[OperationQueryParams, Query()]) -> Any:
        """Newest first."""
        scope = await resolve_request_scope(request, wish.organization, principal, access)
        if isinstance(scope, Response):
            return scope
        found = await operations.list(scope.id, states=tuple(wish.state), before=wish.cursor, limit=wish.limit)
        return OperationList(
            data=[to_operation_response(it) for it in found], next_cursor=next_cursor(found, wish.limit)
        )

    @router.get("/{id}", response_model=OperationResponse, summary="How an operation stands")
    async def get_operation(request: Request, id: str) -> Any:
        """Its state, and what it waits for."""
        found = await one(request, id)
        return found if isinstance(found, Response) else to_operation_response(found)

    @router.post("/{id}/retry", response_model=OperationResponse, summary="Try again one that needs attention")
    async def retry_operation(request: Request, id: str) -> Any:
        """The worker takes it on within a second."""
        found = await one(request, id)
        return found if isinstance(found, Response) else to_operation_response(await operations.retry(found))

    @router.post("/{id}/give-up", response_model=OperationResponse, summary="End one as it stands")
    async def give_up_operation(request: Request, id: str) -> Any:
        """Nothing more is tried; what was done stays done."""
        found = await one(request, id)
        return found if isinstance(found, Response) else to_operation_response(await operations.give_up(found))

    return router


def to_operation_response(it: workflow.Operation) -> OperationResponse:
    """An operation as it is answered."""
    return OperationResponse(
        id=it.id,
        kind=it.kind,
        target=it.target,
        organization_id=it.organization_id,
        actor=it.actor,
        impersonator=it.impersonator,
        state=it.state,
        reason=it.reason,
        code=it.code,
        steps=list(it.done),
        attempts=it.attempts,
        asked_at=to_iso(it.asked_at) or "",
        changed_at=to_iso(it.changed_at) or "",
        next_try_at=to_iso(it.due_at),
        request_id=it.request_id,
    )
