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
from instep.operations.service import OperationService
from instep.operations.workflow import Operation

AccessListResolver = Callable[[Principal], Awaitable[Sequence[OrganizationAccess]]]


class OperationResponse(BaseModel):
    """A change that involves both Clerk and the database.

    `steps` are the finished ones; `impersonator` is the person who acted as the actor.
    """

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
    """Query parameters of a list; without an organization it covers the whole installation (instance admins)."""

    organization: str | None = None
    state: list[Literal["open", "settled", "refused", "attention", "given_up"]] = []
    cursor: str = ""
    limit: Annotated[int, Field(ge=1, le=200)] = 50


def make_operations_router(
    *, principal: PrincipalResolver, access: AccessResolver, accesses: AccessListResolver, operations: OperationService
) -> APIRouter:
    """Return the routes of operations. `principal` and `access` return the 401, 403 or 404 response themselves."""
    router = InputLimitRouter(prefix="/v1/operations", tags=["operations"], responses=ADMIN_ERROR_RESPONSES)

    async def find_operation(request: Request, operation_id: str) -> Operation | Response:
        caller = await principal(request)
        if isinstance(caller, Response):
            return caller
        access_by_organization = {each.organization_id: each for each in await accesses(caller)}
        return await operations.get(caller, access_by_organization, operation_id)

    @router.get("", response_model=OperationList, summary="List operations", operation_id="listOperations")
    async def list_operations(request: Request, params: Annotated[OperationQueryParams, Query()]) -> Any:
        """Return operations, newest first."""
        scope = await resolve_request_scope(request, params.organization, principal, access)
        if isinstance(scope, Response):
            return scope
        found = await operations.list(scope.id, states=tuple(params.state), before=params.cursor, limit=params.limit)
        return OperationList(
            data=[to_operation_response(operation) for operation in found],
            next_cursor=next_cursor(found, params.limit),
        )

    @router.get(
        "/{operation_id}", response_model=OperationResponse, summary="Get an operation", operation_id="getOperation"
    )
    async def get_operation(request: Request, operation_id: str) -> Any:
        """Return the state of an operation, and the time of its next attempt."""
        found = await find_operation(request, operation_id)
        return found if isinstance(found, Response) else to_operation_response(found)

    @router.post(
        "/{operation_id}/retry",
        response_model=OperationResponse,
        summary="Retry an operation",
        operation_id="retryOperation",
    )
    async def retry_operation(request: Request, operation_id: str) -> Any:
        """Reopen an operation that needs attention. The worker resumes it within a second."""
        found = await find_operation(request, operation_id)
        return found if isinstance(found, Response) else to_operation_response(await operations.retry(found))

    @router.post(
        "/{operation_id}/give-up",
        response_model=OperationResponse,
        summary="Give up an operation",
        operation_id="giveUpOperation",
    )
    async def give_up_operation(request: Request, operation_id: str) -> Any:
        """End an operation as it is. Steps that are done stay done; no further attempt is made."""
        found = await find_operation(request, operation_id)
        return found if isinstance(found, Response) else to_operation_response(await operations.give_up(found))

    return router


def to_operation_response(operation: Operation) -> OperationResponse:
    """Return the API representation of an operation."""
    return OperationResponse(
        id=operation.id,
        kind=operation.kind,
        target=operation.target,
        organization_id=operation.organization_id,
        actor=operation.actor,
        impersonator=operation.impersonator,
        state=operation.state,
        reason=operation.reason,
        code=operation.code,
        steps=list(operation.done),
        attempts=operation.attempts,
        asked_at=to_iso(operation.asked_at) or "",
        changed_at=to_iso(operation.changed_at) or "",
        next_try_at=to_iso(operation.due_at),
        request_id=operation.request_id,
    )
