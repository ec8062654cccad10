"""Invitations over REST: `/v1/organizations/{id}/invitations...` and `/v1/batches/{id}`."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Header, Query, Request
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag
from starlette.responses import JSONResponse, Response

from instep.access.principal import Access
from instep.identity import model
from instep.identity.roles import Roles
from instep.invitations import batch, many
from instep.invitations.desk import Desk
from instep.invitations.flows import Wanted
from instep.invitations.preview import MOST_ROWS, Wish, read
from instep.invitations.rules import EXPIRES_IN_DAYS, LONGEST_NAME, MOST_DAYS, checked_role
from instep.invitations.tracing import Story
from instep.kit.clock import to_iso
from instep.kit.incoming import BoundedRouter
from instep.kit.sheet import line

AccessTo = Callable[[Request, str], Awaitable[Access | Response]]
Email = Annotated[str, Field(min_length=3, max_length=320, examples=["maya@example.com"])]
Role = Annotated[str, Field(min_length=1, max_length=200)]
Name = Annotated[str | None, Field(max_length=LONGEST_NAME)]
Days = Annotated[int, Field(ge=1, le=MOST_DAYS)]
Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)]


class NewInvitation(BaseModel):
    """One address and the role it is invited to (none: the instance's default one).

    `notify` false: only make the link, send no mail.
    """

    model_config = ConfigDict(extra="forbid")

    email: Email
    role: Role | None = None
    name: Name = None
    expires_in_days: Days = EXPIRES_IN_DAYS
    notify: bool = True


class Invitee(BaseModel):
    """One of many."""

    model_config = ConfigDict(extra="forbid")

    email: Annotated[str, Field(max_length=320)]
    role: Role | None = None
    name: Name = None


class Invitees(BaseModel):
    """Many people: `invitations`, or `text` (addresses separated by space, comma, semicolon or line; or CSV with the
    columns email, role, name). `role` is for those who have none of their own."""

    model_config = ConfigDict(extra="forbid")

    invitations: Annotated[list[Invitee] | None, Field(min_length=1, max_length=MOST_ROWS)] = None
    text: Annotated[str | None, Field(max_length=200_000)] = None
    role: Role | None = None

    def wishes(self, roles: Roles) -> list[Wish]:
        """The people, in the order of the list. Raises InviteRefused."""
        role = checked_role(roles, self.role)
        if self.invitations is None:
            return read(self.text or "", role=role, roles=roles)
        return [Wish(email=it.email, role=it.role or role, name=it.name) for it in self.invitations]


class NewInvitations(Invitees):
    """Many people who are to be invited."""

    expires_in_days: Days = EXPIRES_IN_DAYS
    notify: bool = True


class Resending(BaseModel):
    """How to send again. `notify` false: only make the new link."""

    model_config = ConfigDict(extra="forbid")

    notify: bool = True


class Invitation(BaseModel):
    """An invitation as Clerk made it."""

    id: str
    email: str
    role: str
    status: Literal["pending", "accepted", "revoked", "expired"]
    created_at: str | None
    expires_at: str | None


class Link(BaseModel):
    """The secret address by which an invitation is accepted. Whoever has it can join."""

    url: str


class PreviewLine(BaseModel):
    """What would become of one."""

    email: str
    role: str
    name: str | None
    verdict: Literal["new", "former", "member", "invited", "invalid", "duplicate", "over_seats"]
    note: str


class Preview(BaseModel):
    """What a list would do. `refusal` says why it can't be sent now, where it can't."""

    lines: list[PreviewLine]
    sent: int
    seats: int | None
    seats_used: int
    refusal: str | None


class BatchRow(BaseModel):
    """What became of one row."""

    email: str
    role: str
    name: str | None
    status: Literal["queued", "sent", "refused", "skipped"]
    invitation_id: str | None
    code: str | None
    reason: str | None


class Batch(BaseModel):
    """Many invitations, and how far they are: `done` of `total`."""

    id: str
    organization_id: str
    state: Literal["queued", "done"]
    asked_at: str | None
    total: int
    done: int
    sent: int
    rows: list[BatchRow]


class TimelineEvent(BaseModel):
    """One thing that happened. `actor` is who did it, where it was done here."""

    at: str | None
    what: Literal[
        "asked", "sent", "link_copied", "resent", "lost", "revoked", "expired", "accepted", "member_made", "first_seen"
    ]
    actor: str | None
    actor_name: str | None
    invitation_id: str | None
    previous_invitation_id: str | None


class Timeline(BaseModel):
    """The story of an invitation across its resends, oldest first."""

    email: str
    events: list[TimelineEvent]


def _kind_of(body: Any) -> str:
    names = body if isinstance(body, dict) else vars(body) if isinstance(body, BaseModel) else {}
    return "many" if "invitations" in names or "text" in names else "one"


OneOrMany = Annotated[
    Annotated[NewInvitation, Tag("one")] | Annotated[NewInvitations, Tag("many")], Discriminator(_kind_of)
]


def make_router(*, access: AccessTo, desk: Desk) -> APIRouter:
    """The routes of invitations. `access` answers 401 or 404 by itself."""
    router = BoundedRouter(prefix="/v1", tags=["invitations"])
    _add_inviting(router, access, desk)
    _add_changing(router, access, desk)
    _add_reading(router, access, desk)
    return router


def _add_inviting(router: APIRouter, access: AccessTo, desk: Desk) -> None:
    many_answer: Any = {202: {"model": Batch, "description": "Many: kept, and sent as fast as Clerk takes them."}}

    @router.post(
        "/organizations/{id}/invitations",
        response_model=Invitation,
        status_code=201,
        summary="Invite one person, or many",
        operation_id="invite",
        responses={**many_answer, **_FAILURES},
    )
    async def invite(request: Request, id: str, body: Annotated[OneOrMany, Body()], idempotency_key: Key = None) -> Any:
        """Clerk makes the invitation and sends the mail; the person becomes a member when they accept.

        Of many, those who can't be invited are skipped, and the answer is a batch: `GET /v1/batches/{id}`.
        """
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        if isinstance(body, NewInvitation):
            wanted = Wanted(**body.model_dump())
            return _invitation(await desk.invite.send(found, wanted, idempotency_key=idempotency_key))
        kept = await desk.invite_many.send(
            found,
            body.wishes(found.roles),
            expires_in_days=body.expires_in_days,
            notify=body.notify,
            idempotency_key=idempotency_key,
        )
        return JSONResponse(_batch(kept).model_dump(), 202, headers={"Location": f"/v1/batches/{kept.id}"})

    @router.post(
        "/organizations/{id}/invitations/preview",
        response_model=Preview,
        summary="Say what inviting a list would do",
        operation_id="previewInvitations",
        responses=_FAILURES,
    )
    async def preview(request: Request, id: str, body: Invitees) -> Any:
        """For each: new, a former member, already a member, already invited, invalid, twice in the list, or over the
        seats. Nothing is sent."""
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        return _preview(await desk.invite_many.preview(found, body.wishes(found.roles)))


def _add_changing(router: APIRouter, access: AccessTo, desk: Desk) -> None:
    path = "/organizations/{id}/invitations/{invitation_id}"

    @router.post(
        f"{path}/resend",
        response_model=Invitation,
        summary="Send an invitation again",
        operation_id="resendInvitation",
        responses=_FAILURES,
    )
    async def resend(
        request: Request, id: str, invitation_id: str, body: Resending | None = None, idempotency_key: Key = None
    ) -> Any:
        """The old one is revoked and its link dead; the new one, with another id, is the answer."""
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        notify = body.notify if body else True
        made = await desk.resend(found, invitation=invitation_id, notify=notify, idempotency_key=idempotency_key)
        return _invitation(made)

    @router.post(
        f"{path}/revoke",
        response_model=Invitation,
        summary="Take an invitation back",
        operation_id="revokeInvitation",
        responses=_FAILURES,
    )
    async def revoke(request: Request, id: str, invitation_id: str, idempotency_key: Key = None) -> Any:
        """Its link is dead from then on."""
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        return _invitation(await desk.revoke(found, invitation=invitation_id, idempotency_key=idempotency_key))


def _add_reading(router: APIRouter, access: AccessTo, desk: Desk) -> None:
    path = "/organizations/{id}/invitations/{invitation_id}"

    @router.get(
        f"{path}/link", response_model=Link, summary="The link of an invitation", operation_id="copyInvitationLink",
        responses=_FAILURES,
    )  # fmt: skip
    async def link(request: Request, id: str, invitation_id: str) -> Any:
        """For admins; every reading is in the audit."""
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        url = await desk.copy_link(found, invitation=invitation_id)
        return JSONResponse({"url": url}, headers={"Cache-Control": "no-store"})

    @router.get(
        f"{path}/timeline", response_model=Timeline, summary="The story of an invitation", operation_id="timeline",
        responses=_FAILURES,
    )  # fmt: skip
    async def timeline(request: Request, id: str, invitation_id: str) -> Any:
        """Across its resends: asked, sent, link copied, resent, expired, accepted, member row made, first seen."""
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        return _timeline(await desk.timeline(found, invitation=invitation_id))

    @router.get(
        "/batches/{id}", response_model=Batch, summary="How far a batch is", operation_id="getBatch",
        responses=_FAILURES,
    )  # fmt: skip
    async def get_batch(request: Request, id: str, format: Annotated[Literal["json", "csv"], Query()] = "json") -> Any:
        """What became of each row; `format=csv` to open it in a spreadsheet."""
        kept = await desk.invite_many.find(id)
        found = await access(request, kept.organization_id if kept else id)
        if isinstance(found, Response):
            return found
        shown = await desk.invite_many.get(found, id)
        return _csv(shown) if format == "csv" else _batch(shown)


def _invitation(made: model.Invitation) -> Invitation:
    return Invitation(
        id=made.clerk_id,
        email=made.email,
        role=made.role,
        status=made.status,  # type: ignore[arg-type]  # checked by pydantic
        created_at=to_iso(made.created_at),
        expires_at=to_iso(made.expires_at),
    )


def _preview(found: many.Preview) -> Preview:
    names = PreviewLine.model_fields
    lines = [PreviewLine(**{name: getattr(it, name) for name in names}) for it in found.lines]
    return Preview(lines=lines, sent=found.sent, seats=found.seats, seats_used=found.seats_used, refusal=found.refusal)


def _batch(found: batch.Batch) -> Batch:
    names = BatchRow.model_fields
    return Batch(
        id=found.id,
        organization_id=found.organization_id,
        state="done" if found.is_done else "queued",
        asked_at=to_iso(found.asked_at),
        total=found.total,
        done=found.done,
        sent=found.sent,
        rows=[BatchRow(**{name: getattr(it, name) for name in names}) for it in found.rows],
    )


def _csv(found: batch.Batch) -> Response:
    names = tuple(BatchRow.model_fields)
    lines = [line(names), *(line([getattr(it, name) for name in names]) for it in found.rows)]
    disposition = f'attachment; filename="{found.id}.csv"'
    return Response("".join(lines), media_type="text/csv", headers={"Content-Disposition": disposition})


def _timeline(story: Story) -> Timeline:
    events = [
        TimelineEvent(
            at=to_iso(it.at),
            what=it.what,
            actor=it.actor,
            actor_name=story.names.get(it.actor) if it.actor else None,
            invitation_id=it.invitation,
            previous_invitation_id=it.previous,
        )
        for it in story.events
    ]
    return Timeline(email=story.email, events=events)


_FAILURES: dict[int | str, dict[str, Any]] = {
    401: {"description": "Nobody is signed in."},
    403: {"description": "Only admins may do this."},
    404: {"description": "No such organization or invitation, or not one you may see."},
    409: {"description": "Already invited, already a member, no seat is left, or the invitation is over."},
    422: {"description": "The address, the role or something else can't be used. Nothing was changed."},
    429: {"description": "Too many invitations, or sent again too soon; the detail says when it works again."},
    503: {"description": "Clerk did not answer, or is not configured."},
}
