"""REST API of the audit log: `/v1/audit`."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from instep.audit.entries import AuditEntryRow
from instep.audit.filters import AuditFilter
from instep.audit.service import AuditService, make_csv_response
from instep.auth.admin_scope import (
    ADMIN_ERROR_RESPONSES,
    AccessResolver,
    PrincipalResolver,
    next_cursor,
    resolve_request_scope,
)
from instep.core.clock import to_iso
from instep.core.request_limits import InputLimitRouter


class AuditEntry(BaseModel):
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


class AuditEntryList(BaseModel):
    """Entries, newest first."""

    data: list[AuditEntry]
    next_cursor: str | None


class AuditQueryParams(BaseModel):
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

    def filter(self, scope: str | None) -> AuditFilter:
        """The filter within what the reader may see."""
        return AuditFilter(
            organization_id=scope,
            person=self.person,
            action=self.action,
            cause=self.cause,
            since=self.since,
            until=self.until,
            words=self.query,
            is_unclosed=self.unclosed,
        )


def make_audit_router(*, principal: PrincipalResolver, access: AccessResolver, audit: AuditService) -> APIRouter:
    """The routes of the audit."""
    router = InputLimitRouter(prefix="/v1/audit", tags=["audit"], responses=ADMIN_ERROR_RESPONSES)

    @router.get("", response_model=AuditEntryList, summary="What happened")
    async def list_audit(request: Request, wish: Annotated[AuditQueryParams, Query()]) -> Any:
        """Newest first."""
        scope = await resolve_request_scope(request, wish.organization, principal, access)
        if isinstance(scope, Response):
            return scope
        found = await audit.list(wish.filter(scope.id), before=wish.cursor, limit=wish.limit)
        return AuditEntryList(data=[to_audit_entry(it) for it in found], next_cursor=next_cursor(found, wish.limit))

    @router.get("/export", response_class=Response, summary="What happened, as CSV")
    async def export_audit(request: Request, wish: Annotated[AuditQueryParams, Query()]) -> Any:
        """Every entry that the filter lets through, newest first; cells that a spreadsheet would run are defused."""
        scope = await resolve_request_scope(request, wish.organization, principal, access)
        if isinstance(scope, Response):
            return scope
        return make_csv_response(audit.export(wish.filter(scope.id)))

    return router


def to_audit_entry(it: AuditEntryRow) -> AuditEntry:
    """An entry as it is answered."""
    fields = {name: getattr(it, name) for name in it.__struct_fields__}
    return AuditEntry(**{**fields, "at": to_iso(it.at)})
