"""REST routes of invitations, batches and application invitations."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query, Request
from starlette.responses import JSONResponse, Response

from instep.auth.principal import OrganizationAccess, Principal
from instep.core.clock import to_iso
from instep.core.csv_export import format_csv_line
from instep.core.request_limits import InputLimitRouter
from instep.domain.models import ClerkApplicationInvitation, ClerkInvitation
from instep.domain.roles import RoleCatalog
from instep.invitations.application_service import ApplicationInvitationService
from instep.invitations.bulk_service import BulkInvitationService, parse_invitees
from instep.invitations.models import (
    ApplicationInvitationRequest,
    InvitationBatchPreview,
    InvitationBatchProgress,
    InvitationBatchRowResult,
    InvitationHistory,
    InviteeDecision,
    InviteeInput,
)
from instep.invitations.policies import validate_role
from instep.invitations.schemas import (
    ApplicationInvitation,
    ApplicationInvitationCreate,
    ApplicationInvitationList,
    IdempotencyKey,
    Invitation,
    InvitationBatch,
    InvitationBatchRow,
    InvitationBody,
    InvitationCreate,
    InvitationLink,
    InvitationPreview,
    InvitationPreviewRow,
    InvitationResendOptions,
    InvitationStatus,
    InvitationTimeline,
    InvitationTimelineEvent,
    InviteeList,
)
from instep.invitations.service import InvitationService

AccessResolver = Callable[[Request, str], Awaitable[OrganizationAccess | Response]]
InstanceAdminResolver = Callable[[Request], Awaitable[Principal | Response]]
_INVITATION_PATH = "/organizations/{organization_id}/invitations/{invitation_id}"
_ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    401: {"description": "Not signed in."},
    403: {"description": "Only admins can do this."},
    404: {"description": "No such organization or invitation, or you cannot see it."},
    409: {"description": "Already invited, already a member, no seat left, or the invitation is not pending."},
    422: {"description": "The address, the role or another value is invalid. Nothing was changed."},
    429: {"description": "Too many invitations, or resent too soon. The detail says when to try again."},
    503: {"description": "Clerk did not answer, or is not configured."},
}
_APPLICATION_ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    401: {"description": "Not signed in."},
    404: {"description": "Not an instance admin, or no such invitation or organization."},
    409: {"description": "Already invited, already has an account, or the invitation is not pending."},
    422: {"description": "The address, the role or another value is invalid. Nothing was changed."},
    429: {"description": "Too many invitations. The detail says when to try again."},
    503: {"description": "Clerk did not answer, or is not configured."},
}


def make_invitations_router(
    *, access: AccessResolver, invitations: InvitationService, bulk: BulkInvitationService
) -> APIRouter:
    """Return the routes of organization invitations and batches. `access` itself answers with 401 or 404."""
    router = InputLimitRouter(prefix="/v1", tags=["invitations"])
    _add_create_routes(router, access, invitations, bulk)
    _add_change_routes(router, access, invitations)
    _add_read_routes(router, access, invitations)
    _add_batch_routes(router, access, bulk)
    return router


def _add_create_routes(
    router: APIRouter, access: AccessResolver, invitations: InvitationService, bulk: BulkInvitationService
) -> None:
    batch_response: Any = {
        202: {"model": InvitationBatch, "description": "A list: the batch was created, and is sent as Clerk allows."}
    }

    @router.post(
        "/organizations/{organization_id}/invitations",
        response_model=Invitation,
        status_code=201,
        summary="Invite one person or a list of people",
        operation_id="createInvitation",
        responses={**batch_response, **_ERROR_RESPONSES},
    )
    async def create_invitation(
        request: Request,
        organization_id: str,
        body: Annotated[InvitationBody, Body()],
        idempotency_key: IdempotencyKey = None,
    ) -> Any:
        """Clerk creates the invitation and sends the email. The person becomes a member when they accept.

        For a list, the answer is a batch: `GET /v1/batches/{batch_id}`. People who cannot be invited are skipped.
        """
        found = await access(request, organization_id)
        if isinstance(found, Response):
            return found
        if isinstance(body, InvitationCreate):
            created = await invitations.invite(found, **body.model_dump(), idempotency_key=idempotency_key)
            return _to_invitation(created)
        batch = await bulk.send(
            found,
            _parse_invitee_list(body, found.roles),
            expires_in_days=body.expires_in_days,
            notify=body.notify,
            idempotency_key=idempotency_key,
        )
        return JSONResponse(_to_batch(batch).model_dump(), 202, headers={"Location": f"/v1/batches/{batch.id}"})

    @router.post(
        "/organizations/{organization_id}/invitations/preview",
        response_model=InvitationPreview,
        summary="Preview inviting a list of people",
        operation_id="previewInvitations",
        responses=_ERROR_RESPONSES,
    )
    async def preview_invitations(request: Request, organization_id: str, body: InviteeList) -> Any:
        """Decide for each person: new, former member, already a member, already invited, invalid, duplicate, or over
        the seats. Nothing is sent."""
        found = await access(request, organization_id)
        if isinstance(found, Response):
            return found
        return _to_preview(await bulk.preview(found, _parse_invitee_list(body, found.roles)))


def _add_change_routes(router: APIRouter, access: AccessResolver, invitations: InvitationService) -> None:
    @router.post(
        f"{_INVITATION_PATH}/resend",
        response_model=Invitation,
        summary="Resend an invitation",
        operation_id="resendInvitation",
        responses=_ERROR_RESPONSES,
    )
    async def resend_invitation(
        request: Request,
        organization_id: str,
        invitation_id: str,
        body: InvitationResendOptions | None = None,
        idempotency_key: IdempotencyKey = None,
    ) -> Any:
        """Revoke the invitation, so that its link stops working, and create a new one. Returns the new one, which has
        another id."""
        found = await access(request, organization_id)
        if isinstance(found, Response):
            return found
        notify = body.notify if body else True
        created = await invitations.resend(found, invitation_id, notify=notify, idempotency_key=idempotency_key)
        return _to_invitation(created)

    @router.post(
        f"{_INVITATION_PATH}/revoke",
        response_model=Invitation,
        summary="Revoke an invitation",
        operation_id="revokeInvitation",
        responses=_ERROR_RESPONSES,
    )
    async def revoke_invitation(
        request: Request, organization_id: str, invitation_id: str, idempotency_key: IdempotencyKey = None
    ) -> Any:
        """Its link stops working immediately."""
        found = await access(request, organization_id)
        if isinstance(found, Response):
            return found
        return _to_invitation(await invitations.revoke(found, invitation_id, idempotency_key=idempotency_key))


def _add_read_routes(router: APIRouter, access: AccessResolver, invitations: InvitationService) -> None:
    @router.get(
        f"{_INVITATION_PATH}/link",
        response_model=InvitationLink,
        summary="Copy the link of an invitation",
        operation_id="copyInvitationLink",
        responses=_ERROR_RESPONSES,
    )
    async def get_invitation_link(request: Request, organization_id: str, invitation_id: str) -> Any:
        """For admins. Every access is recorded in the audit log."""
        found = await access(request, organization_id)
        if isinstance(found, Response):
            return found
        url = await invitations.copy_link(found, invitation_id)
        return JSONResponse({"url": url}, headers={"Cache-Control": "no-store"})

    @router.get(
        f"{_INVITATION_PATH}/timeline",
        response_model=InvitationTimeline,
        summary="Get the timeline of an invitation",
        operation_id="getInvitationTimeline",
        responses=_ERROR_RESPONSES,
    )
    async def get_invitation_timeline(request: Request, organization_id: str, invitation_id: str) -> Any:
        """History across resends: requested, sent, link copied, resent, revoked, expired, accepted, member created,
        first sign-in."""
        found = await access(request, organization_id)
        if isinstance(found, Response):
            return found
        return _to_timeline(await invitations.get_timeline(found, invitation_id))


def _add_batch_routes(router: APIRouter, access: AccessResolver, bulk: BulkInvitationService) -> None:
    @router.get(
        "/batches/{batch_id}",
        response_model=InvitationBatch,
        summary="Get a batch of invitations",
        operation_id="getBatch",
        responses=_ERROR_RESPONSES,
    )
    async def get_batch(
        request: Request, batch_id: str, format: Annotated[Literal["json", "csv"], Query()] = "json"
    ) -> Any:
        """Progress of the batch and result of each row. Use `format=csv` for a spreadsheet."""
        batch = await bulk.find_batch(batch_id)
        found = await access(request, batch.organization_id if batch else batch_id)
        if isinstance(found, Response):
            return found
        batch = await bulk.get_batch(found, batch_id)
        return _to_csv_response(batch) if format == "csv" else _to_batch(batch)


def make_application_invitations_router(
    *, admin: InstanceAdminResolver, applications: ApplicationInvitationService
) -> APIRouter:
    """Return the routes of application invitations, for instance admins.

    `admin` itself answers with 401, or 404 to everyone else.
    """
    router = InputLimitRouter(prefix="/v1/invitations", tags=["invitations"])

    @router.post(
        "",
        response_model=ApplicationInvitation,
        status_code=201,
        summary="Invite a person to the application",
        operation_id="createApplicationInvitation",
        responses=_APPLICATION_ERROR_RESPONSES,
    )
    async def create_application_invitation(
        request: Request, body: ApplicationInvitationCreate, idempotency_key: IdempotencyKey = None
    ) -> Any:
        """Clerk creates the invitation. The person has the role and the organization from the moment they sign up."""
        found = await admin(request)
        if isinstance(found, Response):
            return found
        invitation = ApplicationInvitationRequest(**body.model_dump())
        return _to_application_invitation(await applications.invite(found, invitation, idempotency_key=idempotency_key))

    @router.get(
        "",
        response_model=ApplicationInvitationList,
        summary="List invitations to the application",
        operation_id="listApplicationInvitations",
        responses=_APPLICATION_ERROR_RESPONSES,
    )
    async def list_application_invitations(
        request: Request, status: InvitationStatus | None = None, query: Annotated[str, Query(max_length=320)] = ""
    ) -> Any:
        """Newest first, at most 500; revoked ones only with `status=revoked`. `query` is an id or a part of an
        address."""
        found = await admin(request)
        if isinstance(found, Response):
            return found
        listed = await applications.list(found, status=status, query=query)
        return ApplicationInvitationList(data=[_to_application_invitation(it) for it in listed])

    _add_application_change_routes(router, admin, applications)
    return router


def _add_application_change_routes(
    router: APIRouter, admin: InstanceAdminResolver, applications: ApplicationInvitationService
) -> None:
    @router.post(
        "/{invitation_id}/revoke",
        response_model=ApplicationInvitation,
        summary="Revoke an invitation to the application",
        operation_id="revokeApplicationInvitation",
        responses=_APPLICATION_ERROR_RESPONSES,
    )
    async def revoke_application_invitation(
        request: Request, invitation_id: str, idempotency_key: IdempotencyKey = None
    ) -> Any:
        """Its link stops working. Where sign-up is open to all, the person can still sign up without it."""
        found = await admin(request)
        if isinstance(found, Response):
            return found
        revoked = await applications.revoke(found, invitation_id, idempotency_key=idempotency_key)
        return _to_application_invitation(revoked)

    @router.post(
        "/{invitation_id}/resend",
        response_model=ApplicationInvitation,
        summary="Resend an invitation to the application",
        operation_id="resendApplicationInvitation",
        responses=_APPLICATION_ERROR_RESPONSES,
    )
    async def resend_application_invitation(
        request: Request, invitation_id: str, idempotency_key: IdempotencyKey = None
    ) -> Any:
        """Revoke a pending or expired invitation and create a new one with the same role and organization."""
        found = await admin(request)
        if isinstance(found, Response):
            return found
        created = await applications.resend(found, invitation_id, idempotency_key=idempotency_key)
        return _to_application_invitation(created)


def _parse_invitee_list(body: InviteeList, roles: RoleCatalog) -> list[InviteeInput]:
    """Return the people of a request body, in order. Raises InvitationRefusedError."""
    role = validate_role(roles, body.role)
    if body.invitations is None:
        return parse_invitees(body.text or "", role=role, roles=roles)
    return [InviteeInput(email=it.email, role=it.role or role, name=it.name) for it in body.invitations]


def _to_invitation(invitation: ClerkInvitation) -> Invitation:
    return Invitation(
        id=invitation.clerk_id,
        email=invitation.email,
        role=invitation.role,
        status=invitation.status,  # type: ignore[arg-type]  # checked by pydantic
        created_at=to_iso(invitation.created_at),
        expires_at=to_iso(invitation.expires_at),
    )


def _to_preview(preview: InvitationBatchPreview) -> InvitationPreview:
    return InvitationPreview(
        lines=[_to_preview_row(line) for line in preview.lines],
        sent=preview.sent,
        seats=preview.seats,
        seats_used=preview.seats_used,
        refusal=None if preview.refusal is None else str(preview.refusal),
    )


def _to_preview_row(line: InviteeDecision) -> InvitationPreviewRow:
    return InvitationPreviewRow(
        email=line.email, role=line.role, name=line.name, verdict=line.verdict, note=str(line.note)
    )


def _to_batch(batch: InvitationBatchProgress) -> InvitationBatch:
    return InvitationBatch(
        id=batch.id,
        organization_id=batch.organization_id,
        state="done" if batch.is_done else "queued",
        asked_at=to_iso(batch.asked_at),
        total=batch.total,
        done=batch.done,
        sent=batch.sent,
        rows=[_to_batch_row(row) for row in batch.rows],
    )


def _to_batch_row(row: InvitationBatchRowResult) -> InvitationBatchRow:
    return InvitationBatchRow(
        email=row.email,
        role=row.role,
        name=row.name,
        status=row.status,
        invitation_id=row.invitation_id,
        code=row.code,
        reason=row.reason,
    )


def _to_csv_response(batch: InvitationBatchProgress) -> Response:
    lines = [format_csv_line(["email", "role", "name", "status", "invitation_id", "code", "reason"])]
    lines += [
        format_csv_line([row.email, row.role, row.name, row.status, row.invitation_id, row.code, row.reason])
        for row in batch.rows
    ]
    disposition = f'attachment; filename="{batch.id}.csv"'
    return Response("".join(lines), media_type="text/csv", headers={"Content-Disposition": disposition})


def _to_timeline(history: InvitationHistory) -> InvitationTimeline:
    events = [
        InvitationTimelineEvent(
            at=to_iso(event.at),
            what=event.what,
            actor=event.actor,
            actor_name=history.names.get(event.actor) if event.actor else None,
            invitation_id=event.invitation_id,
            previous_invitation_id=event.previous_invitation_id,
        )
        for event in history.events
    ]
    return InvitationTimeline(email=history.email, events=events)


def _to_application_invitation(invitation: ClerkApplicationInvitation) -> ApplicationInvitation:
    public = invitation.public_metadata
    role, organization_id = public.get("role"), public.get("organization")
    return ApplicationInvitation(
        id=invitation.clerk_id,
        email=invitation.email,
        status=invitation.status,  # type: ignore[arg-type]  # checked by pydantic
        role=role if isinstance(role, str) else None,
        organization_id=organization_id if isinstance(organization_id, str) else None,
        created_at=to_iso(invitation.created_at),
        expires_at=to_iso(invitation.expires_at),
    )
