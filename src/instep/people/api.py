"""The list over REST: `GET /v1/organizations/{id}/people`."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field, TypeAdapter
from starlette.responses import Response

from instep.access.principal import Access
from instep.kit.clock import to_iso
from instep.kit.problem import problem
from instep.people.merge import (
    STATUSES,
    Ask,
    BadCursor,
    InvitationRow,
    MemberRow,
    People,
    decode_cursor,
)

MediaJson = "application/json"
AccessTo = Callable[[Request, str], Awaitable[Access | Response]]
ListPeople = Callable[[Access, Ask], Awaitable[People]]


class Member(BaseModel):
    """An accepted member, from the database. `clerk_id` is Clerk's id of the membership."""

    id: str
    clerk_id: str | None
    user_id: str
    clerk_user_id: str | None
    email: str | None
    first_name: str | None
    last_name: str | None
    username: str | None
    image_url: str | None
    role: str
    status: Literal["active", "deactivated"]
    joined_at: str
    last_active_at: str | None


class Invitation(BaseModel):
    """An invitation, read live from Clerk. `id` is Clerk's; it can be accepted until `expires_at`."""

    id: str
    email: str
    role: str
    status: Literal["pending", "expired"]
    is_expiring: bool
    invited_by: str | None
    created_at: str
    expires_at: str | None


class MemberItem(BaseModel):
    """A row that is a member."""

    kind: Literal["member"] = "member"
    member: Member


class InvitationItem(BaseModel):
    """A row that is an invitation."""

    kind: Literal["invitation"] = "invitation"
    invitation: Invitation


class Totals(BaseModel):
    """Counts of the whole organization, whatever the filter; null where Clerk was not asked or did not answer."""

    members: int
    active: int
    deactivated: int
    admins: int
    invitations: int | None
    expired_invitations: int | None
    seats: int | None
    seats_used: int | None


class PeoplePage(BaseModel):
    """One page: invitations newest first, then members by name. `warnings` are sentences for people."""

    data: list[InvitationItem | MemberItem]
    totals: Totals
    warnings: list[str]
    next_cursor: str | None


_dump = TypeAdapter(PeoplePage).dump_json


class PeopleQuery(BaseModel):
    """What can be asked of the list; `status` and `role` may be repeated, or hold several parted by commas."""

    limit: Annotated[int, Field(ge=1, le=500)] = 25
    cursor: str | None = None
    query: Annotated[str, Field(max_length=200, description="Any part of a name or an address.")] = ""
    status: Annotated[
        list[str], Field(description=f"Of {', '.join(STATUSES)}; pending is another word for invited.")
    ] = []
    role: Annotated[list[str], Field(description="Such as org:admin.")] = []


def make_router(*, access: AccessTo, list_people: ListPeople) -> APIRouter:
    """The route of the list. `access` answers 401 or 404 by itself."""
    router = APIRouter(prefix="/v1/organizations", tags=["people"])

    @router.get(
        "/{id}/people",
        response_model=PeoplePage,
        summary="Members and pending invitations of an organization",
        operation_id="list_people",
        responses={status: {"description": text} for status, text in _FAILURES.items()},
    )
    async def list_(request: Request, id: str, wish: Annotated[PeopleQuery, Query()]) -> Any:
        """Invitations newest first, above members by name. `id` is instep's id, Clerk's id or the slug.

        If Clerk can't be read within 2 s the members still come, with a warning; if the database can't, it is a 503.
        """
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        try:
            ask = _ask(wish)
        except BadCursor as error:
            return problem(400, "Bad cursor", code="bad_cursor", detail=str(error))
        except ValueError as error:
            return problem(422, "Unknown status", code="unknown_status", detail=str(error))
        return Response(_dump(_page(await list_people(found, ask))), media_type=MediaJson)

    return router


_FAILURES = {
    400: "The cursor is not one of this list.",
    401: "Nobody is signed in.",
    404: "No such organization, or not one you may see.",
    503: "The database can't be read.",
}


def _ask(wish: PeopleQuery) -> Ask:
    wanted = {("invited" if word == "pending" else word) for text in wish.status for word in text.split(",")} - {""}
    if unknown := wanted.difference(STATUSES):
        raise ValueError(f"{sorted(unknown)[0]} is not a status; there are: {', '.join(STATUSES)}.")
    return Ask(
        limit=wish.limit,
        query=wish.query.strip(),
        statuses=frozenset(wanted),
        roles=frozenset(role for text in wish.role for role in text.split(",") if role),
        cursor=decode_cursor(wish.cursor) if wish.cursor else None,
    )


def _page(people: People) -> PeoplePage:
    totals = people.totals
    return PeoplePage.model_construct(
        data=[_member(row) if isinstance(row, MemberRow) else _invitation(row) for row in people.rows],
        totals=Totals.model_construct(**{name: getattr(totals, name) for name in totals.__struct_fields__}),
        warnings=list(people.warnings),
        next_cursor=people.next_cursor,
    )


def _member(row: MemberRow) -> MemberItem:
    member = Member.model_construct(
        id=row.id,
        clerk_id=row.clerk_id,
        user_id=row.user_id,
        clerk_user_id=row.clerk_user_id,
        email=row.email,
        first_name=row.first_name,
        last_name=row.last_name,
        username=row.username,
        image_url=row.image_url,
        role=row.role,
        status=row.status,
        joined_at=to_iso(row.joined_at),
        last_active_at=to_iso(row.last_active_at),
    )
    return MemberItem.model_construct(kind="member", member=member)


def _invitation(row: InvitationRow) -> InvitationItem:
    invitation = Invitation.model_construct(
        id=row.id,
        email=row.email,
        role=row.role,
        status="pending" if row.status == "invited" else "expired",
        is_expiring=row.is_expiring,
        invited_by=row.inviter,
        created_at=to_iso(row.created_at),
        expires_at=to_iso(row.expires_at),
    )
    return InvitationItem.model_construct(kind="invitation", invitation=invitation)


def as_json(people: People) -> str:
    """The page as the API gives it."""
    return _dump(_page(people)).decode()
