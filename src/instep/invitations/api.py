"""REST routes of invitations, batches and application invitations."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query, Request
from starlette.responses import JSONResponse, Response

from instep.auth.principal import OrganizationAccess, Principal
from instep.core.clock import to_iso
from instep.core.csv_export import format_csv_line
from instep.core.request_limits import InputLimitRouter
from instep.domain import models
from instep.invitations import models as invitations_models
from instep.invitations.application_service import ApplicationInvitationService
from instep.invitations.models import ApplicationInvitationRequest, InvitationHistory, InvitationRequest
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


def make_invitations_router(*, access: AccessResolver, desk: InvitationService) -> APIRouter:
    """The routes of invitations. `access` answers 401 or 404 by itself."""
    router = InputLimitRouter(prefix="/v1", tags=["invitations"])
    _add_create_routes(router, access, desk)
    _add_change_routes(router, access, desk)
    _add_read_routes(router, access, desk)
    return router


def _add_create_routes(router: APIRouter, access: AccessResolver, desk: InvitationService) -> None:
    many_answer: Any = {
        202: {"model": InvitationBatch, "description": "Many: kept, and sent as fast as Clerk takes them."}
    }

    @router.post(
        "/organizations/{id}/invitations",
        response_model=Invitation,
        status_code=201,
        summary="Invite one person, or many",
        operation_id="invite",
        responses={**many_answer, **_ERROR_RESPONSES},
    )
    async def invite(
        request: Request, id: str, body: Annotated[InvitationBody, Body()], idempotency_key: IdempotencyKey = None
    ) -> Any:
        """Clerk makes the invitation and sends the mail; the person becomes a member when they accept.

        Of many, those who can't be invited are skipped, and the answer is a batch: `GET /v1/batches/{id}`.
        """
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        if isinstance(body, InvitationCreate):
            wanted = InvitationRequest(**body.model_dump())
            return _to_invitation(await desk.invite.send(found, wanted, idempotency_key=idempotency_key))
        kept = await desk.invite_many.send(
            found,
            body.wishes(found.roles),
            expires_in_days=body.expires_in_days,
            notify=body.notify,
            idempotency_key=idempotency_key,
        )
        return JSONResponse(_to_batch(kept).model_dump(), 202, headers={"Location": f"/v1/batches/{kept.id}"})

    @router.post(
        "/organizations/{id}/invitations/preview",
        response_model=InvitationPreview,
        summary="Say what inviting a list would do",
        operation_id="previewInvitations",
        responses=_ERROR_RESPONSES,
    )
    async def preview(request: Request, id: str, body: InviteeList) -> Any:
        """For each: new, a former member, already a member, already invited, invalid, twice in the list, or over the
        seats. Nothing is sent."""
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        return _to_preview(await desk.invite_many.preview(found, body.wishes(found.roles)))


def _add_change_routes(router: APIRouter, access: AccessResolver, desk: InvitationService) -> None:
    path = "/organizations/{id}/invitations/{invitation_id}"

    @router.post(
        f"{path}/resend",
        response_model=Invitation,
        summary="Send an invitation again",
        operation_id="resendInvitation",
        responses=_ERROR_RESPONSES,
    )
    async def resend(
        request: Request,
        id: str,
        invitation_id: str,
        body: InvitationResendOptions | None = None,
        idempotency_key: IdempotencyKey = None,
    ) -> Any:
        """The old one is revoked and its link dead; the new one, with another id, is the answer."""
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        notify = body.notify if body else True
        made = await desk.resend(found, invitation=invitation_id, notify=notify, idempotency_key=idempotency_key)
        return _to_invitation(made)

    @router.post(
        f"{path}/revoke",
        response_model=Invitation,
        summary="Take an invitation back",
        operation_id="revokeInvitation",
        responses=_ERROR_RESPONSES,
    )
    async def revoke(request: Request, id: str, invitation_id: str, idempotency_key: IdempotencyKey = None) -> Any:
        """Its link is dead from then on."""
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        return _to_invitation(await desk.revoke(found, invitation=invitation_id, idempotency_key=idempotency_key))


def _add_read_routes(router: APIRouter, access: AccessResolver, desk: InvitationService) -> None:
    path = "/organizations/{id}/invitations/{invitation_id}"

    @router.get(
        f"{path}/link", response_model=InvitationLink, summary="The link of an invitation",
        operation_id="copyInvitationLink",
        responses=_ERROR_RESPONSES,
    )  # fmt: skip
    async def link(request: Request, id: str, invitation_id: str) -> Any:
        """For admins; every reading is in the audit."""
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        url = await desk.copy_link(found, invitation=invitation_id)
        return JSONResponse({"url": url}, headers={"Cache-Control": "no-store"})

    @router.get(
        f"{path}/timeline", response_model=InvitationTimeline, summary="The story of an invitation",
        operation_id="timeline",
        responses=_ERROR_RESPONSES,
    )  # fmt: skip
    async def timeline(request: Request, id: str, invitation_id: str) -> Any:
        """Across its resends: asked, sent, link copied, resent, expired, accepted, member row made, first seen."""
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        return _to_timeline(await desk.timeline(found, invitation=invitation_id))

    @router.get(
        "/batches/{id}", response_model=InvitationBatch, summary="How far a batch is", operation_id="getBatch",
        responses=_ERROR_RESPONSES,
    )  # fmt: skip
    async def get_batch(request: Request, id: str, format: Annotated[Literal["json", "csv"], Query()] = "json") -> Any:
        """What became of each row; `format=csv` to open it in a spreadsheet."""
        kept = await desk.invite_many.find(id)
        found = await access(request, kept.organization_id if kept else id)
        if isinstance(found, Response):
            return found
        shown = await desk.invite_many.get(found, id)
        return _to_csv_response(shown) if format == "csv" else _to_batch(shown)


def _to_invitation(made: models.ClerkInvitation) -> Invitation:
    return Invitation(
        id=made.clerk_id,
        email=made.email,
        role=made.role,
        status=made.status,  # type: ignore[arg-type]  # checked by pydantic
        created_at=to_iso(made.created_at),
        expires_at=to_iso(made.expires_at),
    )


def _to_preview(found: invitations_models.InvitationBatchPreview) -> InvitationPreview:
    names = InvitationPreviewRow.model_fields
    lines = [InvitationPreviewRow(**{name: getattr(it, name) for name in names}) for it in found.lines]
    return InvitationPreview(
        lines=lines, sent=found.sent, seats=found.seats, seats_used=found.seats_used, refusal=found.refusal
    )


def _to_batch(found: invitations_models.InvitationBatchProgress) -> InvitationBatch:
    names = InvitationBatchRow.model_fields
    return InvitationBatch(
        id=found.id,
        organization_id=found.organization_id,
        state="done" if found.is_done else "queued",
        asked_at=to_iso(found.asked_at),
        total=found.total,
        done=found.done,
        sent=found.sent,
        rows=[InvitationBatchRow(**{name: getattr(it, name) for name in names}) for it in found.rows],
    )


def _to_csv_response(found: invitations_models.InvitationBatchProgress) -> Response:
    names = tuple(InvitationBatchRow.model_fields)
    lines = [format_csv_line(names), *(format_csv_line([getattr(it, name) for name in names]) for it in found.rows)]
    disposition = f'attachment; filename="{found.id}.csv"'
    return Response("".join(lines), media_type="text/csv", headers={"Content-Disposition": disposition})


def _to_timeline(story: InvitationHistory) -> InvitationTimeline:
    events = [
        InvitationTimelineEvent(
            at=to_iso(it.at),
            what=it.what,
            actor=it.actor,
            actor_name=story.names.get(it.actor) if it.actor else None,
            invitation_id=it.invitation,
            previous_invitation_id=it.previous,
        )
        for it in story.events
    ]
    return InvitationTimeline(email=story.email, events=events)


_ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    401: {"description": "Nobody is signed in."},
    403: {"description": "Only admins may do this."},
    404: {"description": "No such organization or invitation, or not one you may see."},
    409: {"description": "Already invited, already a member, no seat is left, or the invitation is over."},
    422: {"description": "The address, the role or something else can't be used. Nothing was changed."},
    429: {"description": "Too many invitations, or sent again too soon; the detail says when it works again."},
    503: {"description": "Clerk did not answer, or is not configured."},
}
InstanceAdminResolver = Callable[[Request], Awaitable[Principal | Response]]


def make_application_invitations_router(
    *, admin: InstanceAdminResolver, applications: ApplicationInvitationService
) -> APIRouter:
    """The routes, for instance admins alone. `admin` answers 401, and 404 to everyone else, by itself."""
    router = InputLimitRouter(prefix="/v1/invitations", tags=["invitations"])

    @router.post(
        "",
        response_model=ApplicationInvitation,
        status_code=201,
        summary="Invite someone to the application",
        operation_id="inviteToApp",
        responses=_APPLICATION_ERROR_RESPONSES,
    )
    async def invite(
        request: Request, body: ApplicationInvitationCreate, idempotency_key: IdempotencyKey = None
    ) -> Any:
        """Clerk makes the invitation; the role and the organization are the person's from the moment they sign up."""
        found = await admin(request)
        if isinstance(found, Response):
            return found
        wanted = ApplicationInvitationRequest(**body.model_dump())
        return _to_application_invitation(await applications.invite(found, wanted, idempotency_key=idempotency_key))

    @router.get(
        "",
        response_model=ApplicationInvitationList,
        summary="The invitations to the application",
        operation_id="listAppInvitations",
        responses=_APPLICATION_ERROR_RESPONSES,
    )
    async def list_(
        request: Request, status: InvitationStatus | None = None, query: Annotated[str, Query(max_length=320)] = ""
    ) -> Any:
        """Newest first, at most 500; revoked ones only when asked for. `query` is an id or a part of an address."""
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
        summary="Take an invitation to the application back",
        operation_id="revokeAppInvitation",
        responses=_APPLICATION_ERROR_RESPONSES,
    )
    async def revoke(request: Request, invitation_id: str, idempotency_key: IdempotencyKey = None) -> Any:
        """Its link is dead; where sign-up is open to all, the person can still sign up without it."""
        found = await admin(request)
        if isinstance(found, Response):
            return found
        return _to_application_invitation(
            await applications.revoke(found, invitation=invitation_id, idempotency_key=idempotency_key)
        )

    @router.post(
        "/{invitation_id}/resend",
        response_model=ApplicationInvitation,
        summary="Send an invitation to the application again",
        operation_id="resendAppInvitation",
        responses=_APPLICATION_ERROR_RESPONSES,
    )
    async def resend(request: Request, invitation_id: str, idempotency_key: IdempotencyKey = None) -> Any:
        """The old one is revoked, and a new one with the same role and organization is made; an expired one too."""
        found = await admin(request)
        if isinstance(found, Response):
            return found
        return _to_application_invitation(
            await applications.resend(found, invitation=invitation_id, idempotency_key=idempotency_key)
        )


def _to_application_invitation(it: models.ClerkApplicationInvitation) -> ApplicationInvitation:
    role, organization = it.public_metadata.get("role"), it.public_metadata.get("organization")
    return ApplicationInvitation(
        id=it.clerk_id,
        email=it.email,
        status=it.status,  # type: ignore[arg-type]  # checked by pydantic
        role=role if isinstance(role, str) else None,
        organization_id=organization if isinstance(organization, str) else None,
        created_at=to_iso(it.created_at),
        expires_at=to_iso(it.expires_at),
    )


_APPLICATION_ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    401: {"description": "Nobody is signed in."},
    404: {"description": "Not an admin of this installation, or no such invitation or organization."},
    409: {"description": "Already invited, has an account already, or the invitation is over."},
    422: {"description": "The address, the role or something else can't be used. Nothing was changed."},
    429: {"description": "Too many invitations; the detail says when it works again."},
    503: {"description": "Clerk did not answer, or is not configured."},
}
