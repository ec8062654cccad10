"""REST schemas of members and of the list of members and invitations."""

from typing import Annotated, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from instep.core.clock import to_iso
from instep.domain.models import LostInvitation
from instep.members.models import (
    MAX_BULK_MEMBERS,
    STATUSES,
    BulkMemberAction,
    InvitationRow,
    MemberChangeImpact,
    MemberChangeOutcome,
    MemberListPage,
    MemberOutcomes,
    MemberRow,
)


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


class ChangedMember(BaseModel):
    """The member as they are now. `notices` say what Clerk did not do of it; `is_open`: it is still being done.

    `operation` is null where there was nothing to change.
    """

    member: Member
    operation: str | None
    is_open: bool
    notices: list[str]


class BulkMemberUpdateItem(BaseModel):
    """What became of one. `open`: not known yet, or still being done; `refused`: nothing was changed, see `message`."""

    user_id: str
    outcome: Literal["done", "unchanged", "open", "refused"]
    code: str | None
    message: str
    operation: str | None


class BulkMemberUpdateResult(BaseModel):
    """What became of each, in the order in which they were named."""

    data: list[BulkMemberUpdateItem]
    done: int
    refused: int


class MemberImpact(BaseModel):
    """What removing or deactivating someone will do; null while Clerk does not say.

    `sessions` all end; the `invitations` that they sent stay; `organizations` are the others they belong to, as far
    as you may see them. `no_removal` and `no_deactivation` say why it can't be done.
    """

    member: Member
    sessions: int | None
    invitations: list[str] | None
    organizations: list[str]
    no_removal: str | None
    no_deactivation: str | None


_dump_changed_member = TypeAdapter(ChangedMember).dump_json


def dump_changed_member(changed: MemberChangeOutcome) -> str:
    """A change as the API tells it."""
    return _dump_changed_member(build_changed_member(changed)).decode()


def build_changed_member(changed: MemberChangeOutcome) -> ChangedMember:
    """A change."""
    return ChangedMember(
        member=build_member(changed.member),
        operation=changed.operation_id,
        is_open=changed.is_open,
        notices=list(changed.notices),
    )


def build_bulk_result(result: MemberOutcomes) -> BulkMemberUpdateResult:
    """Many changes."""
    rows = [
        BulkMemberUpdateItem(
            user_id=it.member, outcome=it.outcome, code=it.code, message=it.message, operation=it.operation_id
        )
        for it in result.rows
    ]
    return BulkMemberUpdateResult(
        data=rows, done=result.count("done", "unchanged", "open"), refused=result.count("refused")
    )


def build_impact(it: MemberChangeImpact) -> MemberImpact:
    """Consequences."""
    return MemberImpact(
        member=build_member(it.member),
        sessions=it.sessions,
        invitations=None if it.invitations is None else list(it.invitations),
        organizations=list(it.organizations),
        no_removal=it.no_removal,
        no_deactivation=it.no_deactivation,
    )


RoleKey = Annotated[str, Field(min_length=1, max_length=200, examples=["org:admin"])]
NO_NUL_PATTERN = r"^[^\x00]*$"  # no database holds one in a text


class PeopleQuery(BaseModel):
    """What can be asked of the list; `status` and `role` may be repeated, or hold several parted by commas."""

    limit: Annotated[int, Field(ge=1, le=500)] = 25
    cursor: str | None = None
    query: Annotated[
        str, Field(max_length=200, pattern=NO_NUL_PATTERN, description="Any words of a name or an address.")
    ] = ""
    status: Annotated[
        list[str], Field(description=f"Of {', '.join(STATUSES)}; pending is another word for invited.")
    ] = []
    role: Annotated[list[Annotated[str, Field(pattern=NO_NUL_PATTERN)]], Field(description="Such as org:admin.")] = []
    source: Annotated[
        Literal["clerk", "local"] | None,
        Field(description="clerk: with a Clerk account, and invitations; local: without one."),
    ] = None
    last_active: Annotated[
        Literal["7d", "30d", "idle", "never"] | None,
        Field(description="In the last 7 or 30 days, not for 30 days, or never; leaves invitations out."),
    ] = None


class RoleUpdate(BaseModel):
    """The role that a member shall have."""

    model_config = ConfigDict(extra="forbid")

    role: RoleKey


class OwnershipTransfer(BaseModel):
    """Who shall be the admin instead of whoever asks: instep's id or Clerk's."""

    model_config = ConfigDict(extra="forbid")

    user_id: Annotated[str, Field(min_length=1, max_length=200)]


class BulkMemberUpdate(BaseModel):
    """What to do with whom (instep's ids or Clerk's); `role` only where the action is `role`."""

    model_config = ConfigDict(extra="forbid")

    action: BulkMemberAction
    user_ids: Annotated[list[str], Field(min_length=1, max_length=MAX_BULK_MEMBERS)]
    role: RoleKey | None = None


class InvitationSummary(BaseModel):
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
    invitation: InvitationSummary


class MemberTotals(BaseModel):
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


class PeopleList(BaseModel):
    """One page: invitations newest first, then members by name. `warnings` are sentences for people."""

    data: list[InvitationItem | MemberItem]
    totals: MemberTotals
    warnings: list[str]
    next_cursor: str | None


_dump_page = TypeAdapter(PeopleList).dump_json
_dump_item = TypeAdapter(InvitationItem | MemberItem).dump_json


def dump_page(people: MemberListPage) -> str:
    """A page as the API gives it."""
    return _dump_page(build_page(people)).decode()


def encode_page(people: MemberListPage) -> bytes:
    """The same as it is sent, several times as fast: nothing is asked for more often than this."""
    rows = [
        _build_encoded_item(it) if isinstance(it, MemberRow) else msgspec.Raw(dump_row(it).encode())
        for it in people.rows
    ]
    lost = [msgspec.Raw(_dump_item(_build_lost_item(it))) for it in people.lost]
    warnings = [str(it) for it in people.warnings]
    rest = {"totals": people.totals, "warnings": warnings, "next_cursor": people.next_cursor}
    page = {"data": [*lost, *rows], **rest}
    return _encode(page)


class _EncodedMember(msgspec.Struct):
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


class _EncodedMemberItem(msgspec.Struct):
    """`MemberItem`, for the encoder alone."""

    member: _EncodedMember
    kind: str = "member"


_encode = msgspec.json.Encoder().encode


def _build_encoded_item(row: MemberRow) -> _EncodedMemberItem:
    return _EncodedMemberItem(
        _EncodedMember(
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


def dump_row(row: MemberRow | InvitationRow) -> str:
    """A row as the API gives it."""
    return _dump_item(_build_item(row)).decode()


def build_page(people: MemberListPage) -> PeopleList:
    """A page."""
    totals = people.totals
    return PeopleList.model_construct(
        data=[*(_build_lost_item(it) for it in people.lost), *(_build_item(row) for row in people.rows)],
        totals=MemberTotals.model_construct(**{name: getattr(totals, name) for name in totals.__struct_fields__}),
        warnings=[str(it) for it in people.warnings],
        next_cursor=people.next_cursor,
    )


def _build_item(row: MemberRow | InvitationRow) -> MemberItem | InvitationItem:
    if isinstance(row, InvitationRow):
        return _build_invitation_item(row)
    return MemberItem.model_construct(kind="member", member=build_member(row))


def build_member(row: MemberRow) -> Member:
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


def _build_invitation_item(row: InvitationRow) -> InvitationItem:
    invitation = InvitationSummary.model_construct(
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


def _build_lost_item(lost: LostInvitation) -> InvitationItem:
    invitation = InvitationSummary.model_construct(
        id=lost.invitation_id,
        email=lost.email,
        role=lost.role,
        status="lost",
        is_expiring=False,
        invited_by=None,
        created_at=to_iso(lost.lost_at),
        expires_at=None,
        operation=lost.operation_id,
    )
    return InvitationItem.model_construct(kind="invitation", invitation=invitation)
