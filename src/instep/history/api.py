"""What happened, over REST: `/v1/operations` and `/v1/audit`."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from instep.access.principal import Access, Principal
from instep.audit.store import Filter, Kept
from instep.history.export import as_csv
from instep.history.flows import Audit, Operations, scope_of
from instep.journal import model
from instep.kit.clock import to_iso
from instep.kit.incoming import BoundedRouter

PrincipalOf = Callable[[Request], Awaitable[Principal | Response]]
AccessTo = Callable[[Request, str], Awaitable[Access | Response]]
AccessesOf = Callable[[Principal], Awaitable[Sequence[Access]]]
FAILURES: dict[int | str, dict[str, Any]] = {
    401: {"description": "Nobody is signed in."},
    403: {"description": "Only admins can see this."},
    404: {"description": "No such thing, or not one you may see."},
    503: {"description": "The database can't be read."},
}


class Operation(BaseModel):
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


class OperationPage(BaseModel):
    """Operations, newest first."""

    data: list[Operation]
    next_cursor: str | None


class Entry(BaseModel):
    """One thing that happened. `cause` is the operation or delivery behind it; `impersonator` acted as the actor."""

    id: str
    at: str
    actor: str
    impersonator: str | None = None
    action: str
    target: str
    outcome: str
    organization_id: str | None
    cause: str | None
    request_id: str | None
    origin: str | None
    details: dict[str, Any]


class AuditPage(BaseModel):
    """Entries, newest first."""

    data: list[Entry]
    next_cursor: str | None


class OperationQuery(BaseModel):
    """Which operations; without an organization, those of the whole installation (instance admins)."""

    organization: str | None = None
    state: list[Literal["open", "settled", "refused", "attention", "given_up"]] = []
    cursor: str = ""
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class AuditQuery(BaseModel):
    """Which entries; `person` is who did it or to whom, `action` such as `member` or `member.role`."""

    organization: str | None = None
    person: str | None = None
    action: str | None = None
    cause: str | None = None
    since: Annotated[int | None, Field(ge=0, le=2**53, description="Unix milliseconds")] = None
    until: Annotated[int | None, Field(ge=0, le=2**53, description="Unix milliseconds")] = None
    query: Annotated[str, Field(max_length=200)] = ""
    unclosed: Annotated[bool, Field(description="Only what was asked for and has not ended.")] = False
    cursor: str = ""
    limit: Annotated[int, Field(ge=1, le=200)] = 50

    def filter(self, scope: str | None) -> Filter:
        """The filter within what the reader may see."""
        return Filter(
            organization_id=scope,
            person=self.person,
            action=self.action,
            cause=self.cause,
            since=self.since,
            until=self.until,
            words=self.query,
            is_unclosed=self.unclosed,
        )


def make_operations_router(
    *, principal: PrincipalOf, access: AccessTo, accesses: AccessesOf, operations: Operations
) -> APIRouter:
    """The routes of operations. `principal` and `access` answer 401, 403 and 404 by themselves."""
    router = BoundedRouter(prefix="/v1/operations", tags=["operations"], responses=FAILURES)

    async def one(request: Request, id: str) -> model.Operation | Response:
        who = await principal(request)
        if isinstance(who, Response):
            return who
        theirs = {it.organization_id: it for it in await accesses(who)}
        return await operations.find(who, theirs, id)

    @router.get("", response_model=OperationPage, summary="What is open and what has ended")
    async def list_operations(request: Request, wish: Annotated[OperationQuery, Query()]) -> Any:
        """Newest first."""
        scope = await _scope(request, wish.organization, principal, access)
        if isinstance(scope, Response):
            return scope
        found = await operations.list(scope.id, states=tuple(wish.state), before=wish.cursor, limit=wish.limit)
        return OperationPage(data=[operation_answer(it) for it in found], next_cursor=_next(found, wish.limit))

    @router.get("/{id}", response_model=Operation, summary="How an operation stands")
    async def get_operation(request: Request, id: str) -> Any:
        """Its state, and what it waits for."""
        found = await one(request, id)
        return found if isinstance(found, Response) else operation_answer(found)

    @router.post("/{id}/retry", response_model=Operation, summary="Try again one that needs attention")
    async def retry_operation(request: Request, id: str) -> Any:
        """The worker takes it on within a second."""
        found = await one(request, id)
        return found if isinstance(found, Response) else operation_answer(await operations.retry(found))

    @router.post("/{id}/give-up", response_model=Operation, summary="End one as it stands")
    async def give_up_operation(request: Request, id: str) -> Any:
        """Nothing more is tried; what was done stays done."""
        found = await one(request, id)
        return found if isinstance(found, Response) else operation_answer(await operations.give_up(found))

    return router


def make_audit_router(*, principal: PrincipalOf, access: AccessTo, audit: Audit) -> APIRouter:
    """The routes of the audit."""
    router = BoundedRouter(prefix="/v1/audit", tags=["audit"], responses=FAILURES)

    @router.get("", response_model=AuditPage, summary="What happened")
    async def list_audit(request: Request, wish: Annotated[AuditQuery, Query()]) -> Any:
        """Newest first."""
        scope = await _scope(request, wish.organization, principal, access)
        if isinstance(scope, Response):
            return scope
        found = await audit.list(wish.filter(scope.id), before=wish.cursor, limit=wish.limit)
        return AuditPage(data=[entry_answer(it) for it in found], next_cursor=_next(found, wish.limit))

    @router.get("/export", response_class=Response, summary="What happened, as CSV")
    async def export_audit(request: Request, wish: Annotated[AuditQuery, Query()]) -> Any:
        """Every entry that the filter lets through, newest first; cells that a spreadsheet would run are defused."""
        scope = await _scope(request, wish.organization, principal, access)
        if isinstance(scope, Response):
            return scope
        return as_csv(audit.export(wish.filter(scope.id)))

    return router


class _Scope(BaseModel):
    id: str | None


async def _scope(
    request: Request, organization: str | None, principal: PrincipalOf, access: AccessTo
) -> _Scope | Response:
    who = await principal(request)
    if isinstance(who, Response):
        return who
    found = await access(request, organization) if organization else None
    return found if isinstance(found, Response) else _Scope(id=scope_of(who, found))


def operation_answer(it: model.Operation) -> Operation:
    """An operation as it is answered."""
    return Operation(
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


def entry_answer(it: Kept) -> Entry:
    """An entry as it is answered."""
    fields = {name: getattr(it, name) for name in it.__struct_fields__}
    return Entry(**{**fields, "at": to_iso(it.at)})


def _next(found: Sequence[Any], limit: int) -> str | None:
    return found[-1].id if len(found) == limit else None
