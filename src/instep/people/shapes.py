"""The list and its rows as JSON: what the API and the command line give."""

from typing import Literal

import msgspec
from pydantic import BaseModel, TypeAdapter

from instep.kit.clock import to_iso
from instep.people.around import Lost
from instep.people.merge import InvitationRow, MemberRow, People


class Member(BaseModel):
    """An accepted member, from the database. `clerk_id` is Clerk's id of the membership.

    `removed` is only in the answer to a change: the list leaves them out.
    """

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
    status: Literal["active", "banned", "deprovisioned", "deactivated", "removed"]
    joined_at: str | None
    last_active_at: str | None


class Invitation(BaseModel):
    """An invitation, read live from Clerk. `id` is Clerk's; it can be accepted until `expires_at`.

    `lost`: it was revoked to be sent again, and the new one was not made. `operation` is then the one to retry, or to
    give up; only admins see these, on the first page.
    """

    id: str
    email: str
    role: str
    status: Literal["pending", "expired", "lost"]
    is_expiring: bool
    invited_by: str | None
    created_at: str | None
    expires_at: str | None
    operation: str | None = None


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
    banned: int = 0
    deprovisioned: int = 0
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


_dump_page = TypeAdapter(PeoplePage).dump_json
_dump_item = TypeAdapter(InvitationItem | MemberItem).dump_json


def as_json(people: People) -> str:
    """A page as the API gives it."""
    return _dump_page(page_of(people)).decode()


def as_bytes(people: People) -> bytes:
    """The same as it is sent, several times as fast: nothing is asked for more often than this."""
    rows = [_sent(it) if isinstance(it, MemberRow) else msgspec.Raw(row_as_json(it).encode()) for it in people.rows]
    lost = [msgspec.Raw(_dump_item(_lost(it))) for it in people.lost]
    warnings = [str(it) for it in people.warnings]
    rest = {"totals": people.totals, "warnings": warnings, "next_cursor": people.next_cursor}
    page = {"data": [*lost, *rows], **rest}
    return _encode(page)


class _Sent(msgspec.Struct):
    """`Member`, for the encoder alone."""

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
    status: str
    joined_at: str | None
    last_active_at: str | None


class _SentItem(msgspec.Struct):
    """`MemberItem`, for the encoder alone."""

    member: _Sent
    kind: str = "member"


_encode = msgspec.json.Encoder().encode


def _sent(row: MemberRow) -> _SentItem:
    return _SentItem(
        _Sent(
            row.id,
            row.clerk_id,
            row.user_id,
            row.clerk_user_id,
            row.email,
            row.first_name,
            row.last_name,
            row.username,
            row.image_url,
            row.role,
            row.status,
            to_iso(row.joined_at),
            to_iso(row.last_active_at),
        )
    )


def row_as_json(row: MemberRow | InvitationRow) -> str:
    """A row as the API gives it."""
    return _dump_item(_item(row)).decode()


def page_of(people: People) -> PeoplePage:
    """A page."""
    totals = people.totals
    return PeoplePage.model_construct(
        data=[*(_lost(it) for it in people.lost), *(_item(row) for row in people.rows)],
        totals=Totals.model_construct(**{name: getattr(totals, name) for name in totals.__struct_fields__}),
        warnings=[str(it) for it in people.warnings],
        next_cursor=people.next_cursor,
    )


def _item(row: MemberRow | InvitationRow) -> MemberItem | InvitationItem:
    if isinstance(row, InvitationRow):
        return _invitation(row)
    return MemberItem.model_construct(kind="member", member=member_of(row))


def member_of(row: MemberRow) -> Member:
    """A member."""
    return Member.model_construct(
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
        operation=None,
    )
    return InvitationItem.model_construct(kind="invitation", invitation=invitation)


def _lost(lost: Lost) -> InvitationItem:
    invitation = Invitation.model_construct(
        id=lost.invitation,
        email=lost.email,
        role=lost.role,
        status="lost",
        is_expiring=False,
        invited_by=None,
        created_at=to_iso(lost.at),
        expires_at=None,
        operation=lost.operation,
    )
    return InvitationItem.model_construct(kind="invitation", invitation=invitation)
