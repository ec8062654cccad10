"""REST API of the audit log: `/v1/audit`."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from instep.audit.filters import AuditFilter
from instep.audit.repository import AuditEntryRow
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
    """An audit entry.

    `cause` is the operation or delivery that led to it; `impersonator` is the person who acted as the actor.
    """

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
    """Audit entries, newest first."""

    data: list[AuditEntry]
    next_cursor: str | None


class AuditQueryParams(BaseModel):
    """Query parameters of the list; `person`: an actor or a target; `action`: such as `member` or `member.role`."""

    organization: str | None = None
    person: str | None = None
    action: str | None = None
    cause: str | None = None
    since: Annotated[int | None, Field(ge=0, le=2**53, description="Unix milliseconds")] = None
    until: Annotated[int | None, Field(ge=0, le=2**53, description="Unix milliseconds")] = None
    query: Annotated[str, Field(max_length=200)] = ""
    unclosed: Annotated[bool, Field(description="Only operations that were requested and have not ended.")] = False
    cursor: str = ""
    limit: Annotated[int, Field(ge=1, le=200)] = 50

    def to_filter(self, organization_id: str | None) -> AuditFilter:
        """Return the filter, limited to the caller's scope."""
        return AuditFilter(
            organization_id=organization_id,
            person=self.person,
            action=self.action,
            cause=self.cause,
            since=self.since,
            until=self.until,
            query=self.query,
            is_unclosed=self.unclosed,
        )


def make_audit_router(*, principal: PrincipalResolver, access: AccessResolver, audit: AuditService) -> APIRouter:
    """Return the routes of the audit log. `principal` and `access` return the 401, 403 or 404 response themselves."""
    router = InputLimitRouter(prefix="/v1/audit", tags=["audit"], responses=ADMIN_ERROR_RESPONSES)

    @router.get("", response_model=AuditEntryList, summary="List audit log entries", operation_id="listAuditEntries")
    async def list_audit_entries(request: Request, params: Annotated[AuditQueryParams, Query()]) -> Any:
        """Return entries, newest first."""
        scope = await resolve_request_scope(request, params.organization, principal, access)
        if isinstance(scope, Response):
            return scope
        found = await audit.list(params.to_filter(scope.id), before=params.cursor, limit=params.limit)
        return AuditEntryList(
            data=[to_audit_entry(entry) for entry in found], next_cursor=next_cursor(found, params.limit)
        )

    @router.get(
        "/export", response_class=Response, summary="Export the audit log as CSV", operation_id="exportAuditLog"
    )
    async def export_audit_log(request: Request, params: Annotated[AuditQueryParams, Query()]) -> Any:
        """Return all matching entries, newest first. Cells that a spreadsheet would run as formulas are escaped."""
        scope = await resolve_request_scope(request, params.organization, principal, access)
        if isinstance(scope, Response):
            return scope
        return make_csv_response(audit.export(params.to_filter(scope.id)))

    return router


def to_audit_entry(row: AuditEntryRow) -> AuditEntry:
    """Return the API representation of an entry."""
    fields = {name: getattr(row, name) for name in row.__struct_fields__}
    return AuditEntry(**{**fields, "at": to_iso(row.at)})
