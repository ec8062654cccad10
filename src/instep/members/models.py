"""Values of the members slice: rows, filters, cursors, results of changes. Pure."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from instep.domain.emails import make_invitation_target
from instep.domain.models import LostInvitation
from instep.domain.roles import UNKNOWN_ROLES, RoleCatalog


class ActivityFilter(Struct, frozen=True, kw_only=True):
    """When somebody was last active: `since` or after it, before `until` (Unix milliseconds), or never at all."""

    since: int | None = None
    until: int | None = None
    is_never: bool = False


class RowAnnotations(Struct, frozen=True, kw_only=True):
    """`under_way` is how the unfinished operation of a target stands: open, or attention.

    `cooling` are addresses (lower case) whose invitation can't be sent again before a time.
    """

    lost: tuple[LostInvitation, ...] = ()
    under_way: Mapping[str, str] = {}
    cooling: Mapping[str, int] = {}

    def find_member_state(self, id: str) -> str | None:
        """How the unfinished change of a member stands; one that needs a person goes first."""
        found = {self.under_way.get(f"membership:{id}"), self.under_way.get(f"standing:{id}")}
        return "attention" if "attention" in found else "open" if "open" in found else None

    def find_invitation_state(self, organization: str | None, email: str) -> str | None:
        """How the unfinished change of an invitation stands."""
        return self.under_way.get(make_invitation_target(organization, email))


NO_ANNOTATIONS = RowAnnotations()
BulkMemberAction = Literal["role", "deactivate", "reactivate", "remove"]
MemberOutcomeStatus = Literal["done", "unchanged", "open", "refused"]
MAX_BULK_MEMBERS = 500


class MemberOutcome(Struct, frozen=True, kw_only=True):
    """What became of one person. `member` is who was asked for; `message` says why not, or what Clerk did not do."""

    member: str
    outcome: MemberOutcomeStatus
    code: str | None = None
    message: str = ""
    operation_id: str | None = None


class MemberOutcomes(Struct, frozen=True, kw_only=True):
    """What became of each, in the order in which they were named, and in how many words it can be said."""

    rows: tuple[MemberOutcome, ...]

    def count(self, *outcomes: MemberOutcomeStatus) -> int:
        """How many ended so."""
        return sum(row.outcome in outcomes for row in self.rows)


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


DeactivationPolicy = Literal["database", "membership", "ban"]


class MemberRecord(MemberRow, frozen=True, kw_only=True):
    """One person's place in one organization, whatever became of it.

    `status` is active, banned, deprovisioned, deactivated or removed; `deactivation` is how far Clerk followed;
    `is_live` whether the person is neither deleted nor barred.
    """

    deactivation: DeactivationPolicy | None
    is_live: bool

    @property
    def name(self) -> str:
        """What to call them."""
        whole = " ".join(part for part in (self.first_name, self.last_name) if part)
        return whole or self.username or self.email or "This person"


class MemberChangeOutcome(Struct, frozen=True, kw_only=True):
    """A change that stands. `notices` say what Clerk did not do of it; `is_open`: the rest is still being done.

    `operation_id` is None where there was nothing to change.
    """

    member: MemberRecord
    operation_id: str | None = None
    is_open: bool = False
    notices: tuple[str, ...] = ()


class MemberChangeImpact(Struct, frozen=True, kw_only=True):
    """What will happen. `sessions` and `invitations` are None while Clerk does not say.

    `sessions`: how many of the person's are open, all of which end; `invitations`: the addresses of those they
    invited who have not answered; these stay. `organizations`: the others they belong to, as far as the reader may
    see them. `is_admin`: their role makes an admin. `no_removal` and `no_deactivation` say why not, where it can't be
    done.
    """

    member: MemberRecord
    sessions: int | None
    invitations: tuple[str, ...] | None
    organizations: tuple[str, ...]
    no_removal: str | None
    no_deactivation: str | None
    is_admin: bool = False


MemberExportFormat = Literal["csv", "json"]


@dataclass(frozen=True)
class MemberExport:
    """An export under way. `warnings` say what could not be read, and so is missing."""

    warnings: tuple[str, ...]
    parts: AsyncIterator[str]


MEMBER_STATUSES = ("active", "banned", "deactivated", "deprovisioned")
INVITATION_STATUSES = ("invited", "expired")
STATUSES = (*MEMBER_STATUSES, *INVITATION_STATUSES)


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


class MemberFilter(Struct, frozen=True, kw_only=True):
    """What a reader asked of the list. Empty `statuses` or `roles` mean all; each word of `query` is any part of name
    or address. `source` is clerk (with a Clerk account, and invitations), local (without one), or empty for both;
    an `activity` leaves invitations out.
    """

    limit: int = 25
    query: str = ""
    statuses: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    source: str = ""
    activity: ActivityFilter | None = None
    cursor: "MemberCursor | None" = None

    def includes_invitations(self) -> bool:
        """Whether Clerk must be read at all for this page."""
        if self.cursor is not None and self.cursor.member is not None:
            return False
        if self.source == "local" or self.activity is not None:
            return False
        return not self.statuses or not self.statuses.isdisjoint(INVITATION_STATUSES)

    def includes_lost_invitations(self) -> bool:
        """Return whether invitations that got lost belong on this page: the first one, by nothing but words."""
        return self.cursor is None and not self.statuses and not self.roles and self.includes_invitations()

    def member_statuses(self) -> tuple[str, ...]:
        """The statuses of members to show, in the order of the list."""
        return tuple(s for s in MEMBER_STATUSES if not self.statuses or s in self.statuses)


class MemberCursor(Struct, frozen=True, array_like=True):
    """Where a page ended: in the invitations (after one), or in the members (after one, with the totals carried on)."""

    invitation: tuple[int, str] | None = None
    member: tuple[str, str, str] | None = None
    invited: int | None = None
    expired: int | None = None


class InvitationsUnavailable(Struct, frozen=True):
    """Clerk could not be read; `reason` is for the log and the operator, not for the list."""

    reason: str


class MemberCounts(Struct, frozen=True, kw_only=True):
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


class MemberListPage(Struct, frozen=True, kw_only=True):
    """One page of the list: invitations first, newest on top, then members by name, deactivated ones last.

    `lost`, above all of them and on the first page alone, are invitations that were revoked and not made anew.
    """

    rows: tuple[InvitationRow | MemberRow, ...]
    totals: MemberCounts
    warnings: tuple[str, ...]
    next_cursor: str | None
    lost: tuple[LostInvitation, ...] = ()


class MemberQueryResult(Struct, frozen=True, kw_only=True):
    """What the database gave: up to `limit + 1` members, counts by (status, role), seats, and roles."""

    rows: Sequence[MemberRow]
    counts: Mapping[tuple[str, str], int]
    seats: int | None
    roles: RoleCatalog = UNKNOWN_ROLES


class InvalidMemberCursorError(ValueError):
    """The cursor was not made by this list."""
