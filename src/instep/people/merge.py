"""The unified list, decided: accepted members from the database, pending invitations straight from Clerk.

Two kinds that are never mixed up. Pure: what was read comes in as values, so does the time.
"""

from collections.abc import Collection, Mapping, Sequence

import msgspec
from msgspec import Struct

from instep.identity.addresses import canonical, other_form
from instep.identity.model import Invitation
from instep.identity.roles import UNREAD, Roles
from instep.kit.clock import DAY, HOUR
from instep.kit.said import said
from instep.kit.sought import is_found
from instep.people.activity import Activity
from instep.people.around import Lost

UNAVAILABLE = str(said("Pending invitations could not be loaded. Accepted members are still shown."))
EXPIRED_SHOWN_FOR = 30 * DAY
EXPIRES_SOON = 48 * HOUR
MEMBER_STATUSES = ("active", "banned", "deactivated", "deprovisioned")
INVITATION_STATUSES = ("invited", "expired")
STATUSES = (*MEMBER_STATUSES, *INVITATION_STATUSES)


class MemberRow(Struct, frozen=True):
    """An accepted member, from the database. `status` is one of MEMBER_STATUSES; times are Unix milliseconds.

    By position it is the columns of a page in `store`, in their order: a page is made of many.
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
    status: str
    sort_name: str
    joined_at: int
    last_active_at: int | None


class InvitationRow(Struct, frozen=True, kw_only=True):
    """An invitation, from Clerk. `status` is invited or expired: computed by the clock, not by Clerk's word alone."""

    id: str
    email: str
    role: str
    status: str
    created_at: int
    expires_at: int | None
    inviter: str | None
    is_expiring: bool


class Ask(Struct, frozen=True, kw_only=True):
    """What a reader asked of the list. Empty `statuses` or `roles` mean all; each word of `query` is any part of name
    or address. `source` is clerk (with a Clerk account, and invitations), local (without one), or empty for both;
    an `activity` leaves invitations out.
    """

    limit: int = 25
    query: str = ""
    statuses: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    source: str = ""
    activity: Activity | None = None
    cursor: "Cursor | None" = None

    def wants_invitations(self) -> bool:
        """Whether Clerk must be read at all for this page."""
        if self.cursor is not None and self.cursor.member is not None:
            return False
        if self.source == "local" or self.activity is not None:
            return False
        return not self.statuses or not self.statuses.isdisjoint(INVITATION_STATUSES)

    def wants_lost(self) -> bool:
        """Return whether invitations that got lost belong on this page: the first one, by nothing but words."""
        return self.cursor is None and not self.statuses and not self.roles and self.wants_invitations()

    def member_statuses(self) -> tuple[str, ...]:
        """The statuses of members to show, in the order of the list."""
        return tuple(s for s in MEMBER_STATUSES if not self.statuses or s in self.statuses)


class Cursor(Struct, frozen=True, array_like=True):
    """Where a page ended: in the invitations (after one), or in the members (after one, with the totals carried on)."""

    invitation: tuple[int, str] | None = None
    member: tuple[str, str, str] | None = None
    invited: int | None = None
    expired: int | None = None


class Unavailable(Struct, frozen=True):
    """Clerk could not be read; `reason` is for the log and the operator, not for the list."""

    reason: str


class Totals(Struct, frozen=True, kw_only=True):
    """Counts for the header, whatever the filter. Invitations are None while Clerk can't be read or was not asked."""

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


class People(Struct, frozen=True, kw_only=True):
    """One page of the list: invitations first, newest on top, then members by name, deactivated ones last.

    `lost`, above all of them and on the first page alone, are invitations that were revoked and not made anew.
    """

    rows: tuple[InvitationRow | MemberRow, ...]
    totals: Totals
    warnings: tuple[str, ...]
    next_cursor: str | None
    lost: tuple[Lost, ...] = ()


class Members(Struct, frozen=True, kw_only=True):
    """What the database gave: up to `limit + 1` members, counts by (status, role), seats, and roles."""

    rows: Sequence[MemberRow]
    counts: Mapping[tuple[str, str], int]
    seats: int | None
    roles: Roles = UNREAD


class BadCursor(ValueError):
    """The cursor was not made by this list."""


def encode_cursor(cursor: Cursor) -> str:
    """A cursor as opaque text for a URL."""
    return msgspec.json.encode(cursor).hex()


def decode_cursor(text: str) -> Cursor:
    """The cursor that `encode_cursor` made. Raises BadCursor for anything else."""
    try:
        packed = bytes.fromhex(text)
        if rb"\u0000" in packed:
            raise ValueError("no database holds a NUL in a text")
        return msgspec.json.decode(packed, type=Cursor)
    except (ValueError, msgspec.MsgspecError) as error:
        raise BadCursor("The cursor is not one of this list; start again without it.") from error


def rows_of(invitations: Sequence[Invitation], *, now: int, joined: Collection[str]) -> list[InvitationRow]:
    """The invitations worth showing, newest first.

    Left out: accepted and revoked ones; expired ones that are older than 30 days, whose address was invited again,
    or whose address has `joined` since (canonical).
    """
    rows = [row for it in invitations if (row := _row_of(it, now)) is not None]
    rows.sort(key=lambda row: (row.created_at, row.id), reverse=True)
    invited = {canonical(row.email) for row in rows if row.status == "invited"}
    seen: set[str] = set()
    shown = []
    for row in rows:
        address = canonical(row.email)
        if row.status == "expired" and (address in invited or address in seen or address in joined):
            continue
        seen.add(address)
        shown.append(row)
    return shown


def _row_of(it: Invitation, now: int) -> InvitationRow | None:
    if it.status not in ("pending", "expired"):
        return None
    is_over = it.status == "expired" or (it.expires_at is not None and it.expires_at <= now)
    if is_over and it.expires_at is not None and it.expires_at < now - EXPIRED_SHOWN_FOR:
        return None
    return InvitationRow(
        id=it.clerk_id,
        email=it.email,
        role=it.role,
        status="expired" if is_over else "invited",
        created_at=it.created_at,
        expires_at=it.expires_at,
        inviter=it.inviter,
        is_expiring=not is_over and it.expires_at is not None and it.expires_at - now < EXPIRES_SOON,
    )


def merge(
    ask: Ask,
    members: Members,
    invitations: Sequence[InvitationRow] | Unavailable | None,
    lost: Sequence[Lost] = (),
    *,
    unreadable: int = 0,
) -> People:
    """One page. `invitations` is None where they were not asked for, Unavailable where Clerk could not be read.

    `unreadable`: how many more Clerk has that can't be read.
    """
    listed = invitations if invitations is not None and not isinstance(invitations, Unavailable) else []
    wanted = [row for row in listed if _is_wanted(row, ask)]
    after = ask.cursor.invitation if ask.cursor else None
    if after is not None:
        wanted = [row for row in wanted if (row.created_at, row.id) < after]
    first = wanted[: ask.limit]
    then = members.rows[: ask.limit - len(first)]
    totals = _totals(ask, members, invitations)
    has_more = len(first) < len(wanted) or len(then) < len(members.rows)
    return People(
        rows=(*first, *then),
        totals=totals,
        warnings=_warnings(invitations, unreadable),
        next_cursor=encode_cursor(_cursor_after(first, then, totals)) if has_more else None,
        lost=tuple(it for it in lost if is_found(ask.query, (it.email, other_form(it.email)))),
    )


def _warnings(invitations: Sequence[InvitationRow] | Unavailable | None, unreadable: int) -> tuple[str, ...]:
    if isinstance(invitations, Unavailable):
        return (UNAVAILABLE,)
    if not unreadable:
        return ()
    if unreadable == 1:
        return (said("One invitation could not be read and is not shown. It is in Clerk."),)
    return (said("%(count)s invitations could not be read and are not shown. They are in Clerk.", count=unreadable),)


def _is_wanted(row: InvitationRow, ask: Ask) -> bool:
    if ask.statuses and row.status not in ask.statuses:
        return False
    if ask.roles and row.role not in ask.roles:
        return False
    return is_found(ask.query, (row.email, other_form(row.email)))


def _cursor_after(first: Sequence[InvitationRow], then: Sequence[MemberRow], totals: Totals) -> Cursor:
    invited, expired = totals.invitations, totals.expired_invitations
    if then:
        last = then[-1]
        return Cursor(None, (last.status, last.sort_name, last.id), invited, expired)
    return Cursor((first[-1].created_at, first[-1].id), None, invited, expired)


def _totals(ask: Ask, members: Members, invitations: Sequence[InvitationRow] | Unavailable | None) -> Totals:
    if invitations is None or isinstance(invitations, Unavailable):
        invited, expired = (ask.cursor.invited, ask.cursor.expired) if ask.cursor else (None, None)
    else:
        invited = sum(row.status == "invited" for row in invitations)
        expired = len(invitations) - invited
    by_status = {s: sum(n for (st, _), n in members.counts.items() if st == s) for s in MEMBER_STATUSES}
    total = sum(by_status.values())
    return Totals(
        members=total,
        active=by_status["active"],
        deactivated=by_status["deactivated"],
        banned=by_status["banned"],
        deprovisioned=by_status["deprovisioned"],
        admins=sum(n for (st, role), n in members.counts.items() if st == "active" and members.roles.is_admin(role)),
        invitations=invited,
        expired_invitations=expired,
        seats=members.seats,
        seats_used=None if invited is None else total + invited,
    )
