"""Render the list of members and invitations as CSV or JSON, in chunks."""

from collections.abc import AsyncIterator
from typing import Annotated, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from instep.core.clock import to_iso
from instep.core.csv_export import format_csv_line
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

EXPORT_COLUMNS = [
    "kind",
    "email",
    "first_name",
    "last_name",
    "username",
    "role",
    "status",
    "joined_at",
    "last_active_at",
    "invited_at",
    "expires_at",
    "user_id",
    "clerk_user_id",
    "id",
]
_BYTE_ORDER_MARK = "\ufeff"  # spreadsheets recognize UTF-8 by it


async def stream_csv(pages: AsyncIterator[MemberListPage]) -> AsyncIterator[str]:
    """Yield the header and then the rows of each page as CSV."""
    yield _BYTE_ORDER_MARK + format_csv_line(EXPORT_COLUMNS)
    async for page in pages:
        yield "".join(format_csv_line(_format_cells(row)) for row in page.rows)


async def stream_json(first_page: MemberListPage, pages: AsyncIterator[MemberListPage]) -> AsyncIterator[str]:
    """Yield one JSON object: the warnings of the first page, and the rows of all `pages` as in the REST API."""
    warnings = [str(warning) for warning in first_page.warnings]
    yield '{"warnings":' + msgspec.json.encode(warnings).decode() + ',"data":['
    separator = ""
    async for page in pages:
        if page.rows:
            yield separator + ",\n".join(map(dump_row, page.rows))
            separator = ",\n"
    yield "]}\n"


def _format_cells(row: MemberRow | InvitationRow) -> list[str | None]:
    """Return the cells of a row in the order of EXPORT_COLUMNS."""
    if isinstance(row, InvitationRow):
        status = "pending" if row.status == "invited" else "expired"
        cells = ["invitation", row.email, None, None, None, row.role, status]
        return [*cells, None, None, to_iso(row.created_at), to_iso(row.expires_at), None, None, row.id]
    cells = ["member", row.email, row.first_name, row.last_name, row.username, row.role, row.status]
    times = [to_iso(row.joined_at), to_iso(row.last_active_at), None, None]
    return [*cells, *times, row.user_id, row.clerk_user_id, row.id]


RoleKey = Annotated[str, Field(min_length=1, max_length=200, examples=["org:admin"])]
NO_NUL_PATTERN = r"^[^\x00]*$"  # databases cannot store a NUL in a text


class Member(BaseModel):
    """An accepted member, from the database. `clerk_id` is Clerk's id of the membership.

    Status `removed` appears only in the answer to a change; the list leaves removed members out.
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
    """A member after a change. `notices` name what Clerk did not do; `is_open`: the rest is still in progress.

    `operation` is null where there was nothing to change.
    """

    member: Member
    operation: str | None
    is_open: bool
    notices: list[str]


class BulkMemberUpdateItem(BaseModel):
    """Outcome for one member. `open`: still in progress; `refused`: nothing was changed, see `message`."""

    user_id: str
    outcome: Literal["done", "unchanged", "open", "refused"]
    code: str | None
    message: str
    operation: str | None


class BulkMemberUpdateResult(BaseModel):
    """Outcomes of a bulk change, in the order of the request."""

    data: list[BulkMemberUpdateItem]
    done: int
    refused: int


class MemberImpact(BaseModel):
    """Expected effects of removing or deactivating a member. Values of Clerk are null if Clerk does not answer.

    All `sessions` end; pending `invitations` that the member sent stay. `organizations` are the member's other
    organizations, as far as you may see them. `no_removal` and `no_deactivation` give the reason where it is not
    possible.
    """

    member: Member
    sessions: int | None
    invitations: list[str] | None
    organizations: list[str]
    no_removal: str | None
    no_deactivation: str | None


class PeopleQuery(BaseModel):
    """Query of the list; `status` and `role` may be repeated, or contain several values separated by commas."""

    limit: Annotated[int, Field(ge=1, le=500)] = 25
    cursor: str | None = None
    query: Annotated[
        str, Field(max_length=200, pattern=NO_NUL_PATTERN, description="Words, each any part of a name or an address.")
    ] = ""
    status: Annotated[
        list[str], Field(description=f"Any of {', '.join(STATUSES)}; pending is a synonym of invited.")
    ] = []
    role: Annotated[
        list[Annotated[str, Field(pattern=NO_NUL_PATTERN)]], Field(description="Role keys, such as org:admin.")
    ] = []
    source: Annotated[
        Literal["clerk", "local"] | None,
        Field(description="clerk: members with a Clerk account, and invitations; local: members without one."),
    ] = None
    last_active: Annotated[
        Literal["7d", "30d", "idle", "never"] | None,
        Field(description="Active in the last 7 or 30 days, not in the last 30 days, or never; excludes invitations."),
    ] = None


class RoleUpdate(BaseModel):
    """The new role of a member."""

    model_config = ConfigDict(extra="forbid")

    role: RoleKey


class OwnershipTransfer(BaseModel):
    """The member who becomes the admin in place of the caller: instep's id or Clerk's."""

    model_config = ConfigDict(extra="forbid")

    user_id: Annotated[str, Field(min_length=1, max_length=200)]


class BulkMemberUpdate(BaseModel):
    """An action and the members it applies to (instep's ids or Clerk's); `role` only with the action `role`."""

    model_config = ConfigDict(extra="forbid")

    action: BulkMemberAction
    user_ids: Annotated[list[str], Field(min_length=1, max_length=MAX_BULK_MEMBERS)]
    role: RoleKey | None = None


class InvitationSummary(BaseModel):
    """An invitation, read live from Clerk. `id` is Clerk's; it can be accepted until `expires_at`.

    Status `lost`: it was revoked to be resent, and its replacement was not created. `operation` is then the operation
    to retry or to give up. Only admins see lost invitations, on the first page.
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
    """Row with a member."""

    kind: Literal["member"] = "member"
    member: Member


class InvitationItem(BaseModel):
    """Row with an invitation."""

    kind: Literal["invitation"] = "invitation"
    invitation: InvitationSummary


class MemberTotals(BaseModel):
    """Counts of the whole organization, whatever the filter; null where Clerk was not read or did not answer."""

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
    """One page: invitations, newest first, then members by name. `warnings` are sentences to display."""

    data: list[InvitationItem | MemberItem]
    totals: MemberTotals
    warnings: list[str]
    next_cursor: str | None


_dump_changed_member = TypeAdapter(ChangedMember).dump_json
_dump_page = TypeAdapter(PeopleList).dump_json
_dump_item = TypeAdapter(InvitationItem | MemberItem).dump_json


def dump_changed_member(outcome: MemberChangeOutcome) -> str:
    """Encode a changed member as in the REST API."""
    return _dump_changed_member(build_changed_member(outcome)).decode()


def build_changed_member(outcome: MemberChangeOutcome) -> ChangedMember:
    """Build the answer to a change."""
    return ChangedMember(
        member=build_member(outcome.member),
        operation=outcome.operation_id,
        is_open=outcome.is_open,
        notices=[str(notice) for notice in outcome.notices],
    )


def build_bulk_result(outcomes: MemberOutcomes) -> BulkMemberUpdateResult:
    """Build the answer to a bulk change."""
    rows = [
        BulkMemberUpdateItem(
            user_id=row.member_id,
            outcome=row.status,
            code=row.code,
            message=" ".join(row.messages),
            operation=row.operation_id,
        )
        for row in outcomes.rows
    ]
    return BulkMemberUpdateResult(
        data=rows, done=outcomes.count("done", "unchanged", "open"), refused=outcomes.count("refused")
    )


def build_impact(impact: MemberChangeImpact) -> MemberImpact:
    """Build the answer to a request for the impact of a change."""
    return MemberImpact(
        member=build_member(impact.member),
        sessions=impact.sessions,
        invitations=None if impact.invitations is None else list(impact.invitations),
        organizations=list(impact.organizations),
        no_removal=str(impact.no_removal) if impact.no_removal else None,
        no_deactivation=str(impact.no_deactivation) if impact.no_deactivation else None,
    )


def dump_page(page: MemberListPage) -> str:
    """Encode a page as in the REST API, by its schema."""
    return _dump_page(build_page(page)).decode()


def encode_page(page: MemberListPage) -> bytes:
    """Encode a page to the same JSON as `dump_page`, several times as fast: the list is the most frequent request."""
    rows = [
        _build_encoded_item(row) if isinstance(row, MemberRow) else msgspec.Raw(dump_row(row).encode())
        for row in page.rows
    ]
    lost = [msgspec.Raw(_dump_item(_build_lost_item(each))) for each in page.lost_invitations]
    return _encode(
        {
            "data": [*lost, *rows],
            "totals": page.totals,
            "warnings": [str(warning) for warning in page.warnings],
            "next_cursor": page.next_cursor,
        }
    )


class _EncodedMember(msgspec.Struct):
    """The fields of `Member` in the same order, for `encode_page`."""

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
    """The fields of `MemberItem`, for `encode_page`."""

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
    """Encode a row as in the REST API."""
    return _dump_item(_build_item(row)).decode()


def build_page(page: MemberListPage) -> PeopleList:
    """Build the answer to a request for the list."""
    totals = page.totals
    return PeopleList.model_construct(
        data=[*map(_build_lost_item, page.lost_invitations), *map(_build_item, page.rows)],
        totals=MemberTotals.model_construct(**{name: getattr(totals, name) for name in totals.__struct_fields__}),
        warnings=[str(warning) for warning in page.warnings],
        next_cursor=page.next_cursor,
    )


def _build_item(row: MemberRow | InvitationRow) -> MemberItem | InvitationItem:
    if isinstance(row, InvitationRow):
        return _build_invitation_item(row)
    return MemberItem.model_construct(kind="member", member=build_member(row))


def build_member(row: MemberRow) -> Member:
    """Build the schema of a member."""
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
