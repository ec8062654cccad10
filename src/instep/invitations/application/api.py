"""Invitations to the application over REST: `/v1/invitations`."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from instep.access.principal import Principal
from instep.identity import model
from instep.invitations.application.flows import Applications, WantedInApp
from instep.invitations.rules import EXPIRES_IN_DAYS, MOST_DAYS
from instep.kit.clock import to_iso
from instep.kit.incoming import BoundedRouter

AdminOf = Callable[[Request], Awaitable[Principal | Response]]
Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)]
Status = Literal["pending", "accepted", "revoked", "expired"]


class NewAppInvitation(BaseModel):
    """Someone who is to be invited to the application.

    Without `organization`, `role` is theirs in the application (`admin`: of this installation); with it, a local
    organization's id or slug, they become a member there, with this role, when they sign up.
    """

    model_config = ConfigDict(extra="forbid")

    email: Annotated[str, Field(min_length=3, max_length=320, examples=["maya@example.com"])]
    role: Annotated[str, Field(min_length=1, max_length=64)] = "member"
    organization: Annotated[str | None, Field(max_length=200)] = None
    expires_in_days: Annotated[int, Field(ge=1, le=MOST_DAYS)] = EXPIRES_IN_DAYS
    notify: bool = True


class AppInvitation(BaseModel):
    """An invitation to the application."""

    id: str
    email: str
    status: Status
    role: str | None
    organization_id: str | None
    created_at: str | None
    expires_at: str | None


class AppInvitations(BaseModel):
    """The newest invitations to the application."""

    data: list[AppInvitation]


def make_router(*, admin: AdminOf, applications: Applications) -> APIRouter:
    """The routes, for instance admins alone. `admin` answers 401, and 404 to everyone else, by itself."""
    router = BoundedRouter(prefix="/v1/invitations", tags=["invitations"])

    @router.post(
        "",
        response_model=AppInvitation,
        status_code=201,
        summary="Invite someone to the application",
        operation_id="inviteToApp",
        responses=_FAILURES,
    )
    async def invite(request: Request, body: NewAppInvitation, idempotency_key: Key = None) -> Any:
        """Clerk makes the invitation; the role and the organization are the person's from the moment they sign up."""
        found = await admin(request)
        if isinstance(found, Response):
            return found
        wanted = WantedInApp(**body.model_dump())
        return _shape(await applications.invite(found, wanted, idempotency_key=idempotency_key))

    @router.get(
        "",
        response_model=AppInvitations,
        summary="The invitations to the application",
        operation_id="listAppInvitations",
        responses=_FAILURES,
    )
    async def list_(
        request: Request, status: Status | None = None, query: Annotated[str, Query(max_length=320)] = ""
    ) -> Any:
        """Newest first, at most 500; revoked ones only when asked for. `query` is an id or a part of an address."""
        found = await admin(request)
        if isinstance(found, Response):
            return found
        listed = await applications.list(found, status=status, query=query)
        return AppInvitations(data=[_shape(it) for it in listed])

    _add_changes(router, admin, applications)
    return router


def _add_changes(router: APIRouter, admin: AdminOf, applications: Applications) -> None:
    @router.post(
        "/{invitation_id}/revoke",
        response_model=AppInvitation,
        summary="Take an invitation to the application back",
        operation_id="revokeAppInvitation",
        responses=_FAILURES,
    )
    async def revoke(request: Request, invitation_id: str, idempotency_key: Key = None) -> Any:
        """Its link is dead; where sign-up is open to all, the person can still sign up without it."""
        found = await admin(request)
        if isinstance(found, Response):
            return found
        return _shape(await applications.revoke(found, invitation=invitation_id, idempotency_key=idempotency_key))

    @router.post(
        "/{invitation_id}/resend",
        response_model=AppInvitation,
        summary="Send an invitation to the application again",
        operation_id="resendAppInvitation",
        responses=_FAILURES,
    )
    async def resend(request: Request, invitation_id: str, idempotency_key: Key = None) -> Any:
        """The old one is revoked, and a new one with the same role and organization is made; an expired one too."""
        found = await admin(request)
        if isinstance(found, Response):
            return found
        return _shape(await applications.resend(found, invitation=invitation_id, idempotency_key=idempotency_key))


def _shape(it: model.AppInvitation) -> AppInvitation:
    role, organization = it.public_metadata.get("role"), it.public_metadata.get("organization")
    return AppInvitation(
        id=it.clerk_id,
        email=it.email,
        status=it.status,  # type: ignore[arg-type]  # checked by pydantic
        role=role if isinstance(role, str) else None,
        organization_id=organization if isinstance(organization, str) else None,
        created_at=to_iso(it.created_at),
        expires_at=to_iso(it.expires_at),
    )


_FAILURES: dict[int | str, dict[str, Any]] = {
    401: {"description": "Nobody is signed in."},
    404: {"description": "Not an admin of this installation, or no such invitation or organization."},
    409: {"description": "Already invited, has an account already, or the invitation is over."},
    422: {"description": "The address, the role or something else can't be used. Nothing was changed."},
    429: {"description": "Too many invitations; the detail says when it works again."},
    503: {"description": "Clerk did not answer, or is not configured."},
}
