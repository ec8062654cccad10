"""Inviting over REST: `POST /v1/organizations/{id}/invitations`."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from instep.access.principal import Access
from instep.identity import model
from instep.identity.model import MEMBER
from instep.invitations.rules import EXPIRES_IN_DAYS
from instep.kit.clock import to_iso

AccessTo = Callable[[Request, str], Awaitable[Access | Response]]


class NewInvitation(BaseModel):
    """One address and the role it is invited to."""

    model_config = ConfigDict(extra="forbid")

    email: Annotated[str, Field(min_length=3, max_length=320, examples=["maya@example.com"])]
    role: Annotated[str, Field(min_length=1, max_length=200)] = MEMBER
    expires_in_days: Annotated[int, Field(ge=1, le=365)] = EXPIRES_IN_DAYS


class Invitation(BaseModel):
    """An invitation as Clerk made it."""

    id: str
    email: str
    role: str
    status: Literal["pending", "accepted", "revoked", "expired"]
    created_at: str | None
    expires_at: str | None


class Invites(Protocol):
    """Sends one invitation; see flows.Invite."""

    async def __call__(self, access: Access, *, email: str, role: str, expires_in_days: int) -> model.Invitation: ...


def make_router(*, access: AccessTo, invite: Invites) -> APIRouter:
    """The route for inviting. `access` answers 401 or 404 by itself."""
    router = APIRouter(prefix="/v1/organizations", tags=["invitations"])

    @router.post(
        "/{id}/invitations",
        response_model=Invitation,
        status_code=201,
        summary="Invite one person",
        operation_id="invite",
        responses={status: {"description": text} for status, text in _FAILURES.items()},
    )
    async def invite_(request: Request, id: str, body: NewInvitation) -> Any:
        """Clerk makes the invitation and sends the mail; the person becomes a member when they accept."""
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        made = await invite(found, email=body.email, role=body.role, expires_in_days=body.expires_in_days)
        return Invitation(
            id=made.clerk_id,
            email=made.email,
            role=made.role,
            status=made.status,  # type: ignore[arg-type]  # checked by pydantic
            created_at=to_iso(made.created_at),
            expires_at=to_iso(made.expires_at),
        )

    return router


_FAILURES = {
    401: "Nobody is signed in.",
    403: "Only admins can invite people.",
    404: "No such organization, or not one you may see.",
    409: "Already invited, already a member, or no seat is left. Nothing was changed.",
    422: "The address or the role can't be used. Nothing was changed.",
    503: "Clerk did not answer, or is not configured.",
}
