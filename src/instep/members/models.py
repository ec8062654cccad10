"""Values of the members slice: rows, filters, cursors, results of changes. Pure."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec import UNSET, Struct, UnsetType, field

from instep.domain.emails import make_invitation_target
from instep.domain.last_admin import ADMIN_GAIN_KEY, ADMIN_LOSS_KEY
from instep.domain.models import ClerkId, LostInvitation
from instep.domain.roles import UNKNOWN_ROLES, RoleCatalog
from instep.operations.workflow import JsonObject, OperationIntent

MEMBER_STATUSES = ("active", "banned", "deactivated", "deprovisioned")
INVITATION_STATUSES = ("invited", "expired")
STATUSES = (*MEMBER_STATUSES, *INVITATION_STATUSES)
MAX_BULK_MEMBERS = 500

BulkMemberAction = Literal["role", "deactivate", "reactivate", "remove"]
DeactivationPolicy = Literal["database", "membership", "ban"]
MemberExportFormat = Literal["csv", "json"]
MemberOutcomeStatus = Literal["done", "unchanged", "open", "refused"]


class MemberRow(Struct, frozen=True):
    """An accepted member, from the database. `status` is one of MEMBER_STATUSES; times are Unix milliseconds.

    The fields are the columns of `repository` in the same order: rows are built by position, for speed.
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


class MemberRecord(MemberRow, frozen=True, kw_only=True):
    """A membership in any state. `status` is active, banned, deprovisioned, deactivated or removed.

    `deactivation`: how far Clerk followed a deactivation. `is_live`: the user is active, and neither deleted, banned
    nor deprovisioned.
    """

    deactivation: DeactivationPolicy | None
    is_live: bool

    @property
    def name(self) -> str:
        """Display name of the member."""
        full_name = " ".join(part for part in (self.first_name, self.last_name) if part)
        return full_name or self.username or self.email or "This person"


class InvitationRow(Struct, frozen=True, kw_only=True):
    """An invitation, from Clerk. `status` is invited or expired: computed from the clock, not Clerk's status alone."""

    id: str
    email: str
    role: str
    status: str
    created_at: int
    expires_at: int | None
    inviter: str | None
    is_expiring: bool


class ActivityFilter(Struct, frozen=True, kw_only=True):
    """Range of the last activity: at or after `since`, before `until` (Unix milliseconds), or never."""

    since: int | None = None
    until: int | None = None
    is_never: bool = False


class MemberCursor(Struct, frozen=True, array_like=True):
    """End of a page: after an invitation, or after a member (then with the counts of invitations carried on)."""

    invitation: tuple[int, str] | None = None
    member: tuple[str, str, str] | None = None
    invited: int | None = None
    expired: int | None = None


class InvalidMemberCursorError(ValueError):
    """A cursor that this list did not create."""


class MemberFilter(Struct, frozen=True, kw_only=True):
    """Parsed query of the list.

    Empty `statuses` or `roles` mean all; each word of `query` is any part of a name or an address. `source` is clerk
    (with a Clerk account, and invitations), local (without one), or empty for both. An `activity` excludes invitations.
    """

    limit: int = 25
    query: str = ""
    statuses: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    source: str = ""
    activity: ActivityFilter | None = None
    cursor: MemberCursor | None = None

    def includes_invitations(self) -> bool:
        """Return whether this page needs invitations, and so a request to Clerk."""
        if self.cursor is not None and self.cursor.member is not None:
            return False
        if self.source == "local" or self.activity is not None:
            return False
        return not self.statuses or not self.statuses.isdisjoint(INVITATION_STATUSES)

    def includes_lost_invitations(self) -> bool:
        """Return whether lost invitations belong on this page: the first one, filtered by words at most."""
        return self.cursor is None and not self.statuses and not self.roles and self.includes_invitations()

    def member_statuses(self) -> tuple[str, ...]:
        """Return the statuses of members to show, in the order of the list."""
        return tuple(status for status in MEMBER_STATUSES if not self.statuses or status in self.statuses)


class MemberQueryResult(Struct, frozen=True, kw_only=True):
    """Result of the database query: up to `limit + 1` members, counts by (status, role), seats, and roles."""

    rows: Sequence[MemberRow]
    counts: Mapping[tuple[str, str], int]
    seats: int | None
    roles: RoleCatalog = UNKNOWN_ROLES


class InvitationsUnavailable(Struct, frozen=True):
    """Marker that Clerk's invitations could not be read; `reason` is for the log, not for the list."""

    reason: str


class MemberCounts(Struct, frozen=True, kw_only=True):
    """Counts of the organization, whatever the filter. Those of invitations are None where Clerk was not read."""

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
    """One page of the list: invitations first, newest first, then members by status and name.

    `lost_invitations` come before both, on the first page only.
    """

    rows: tuple[InvitationRow | MemberRow, ...]
    totals: MemberCounts
    warnings: tuple[str, ...]
    next_cursor: str | None
    lost_invitations: tuple[LostInvitation, ...] = ()


@dataclass(frozen=True)
class MemberExport:
    """An export being streamed. `warnings` name the data that could not be read and is missing."""

    warnings: tuple[str, ...]
    chunks: AsyncIterator[str]


class RowAnnotations(Struct, frozen=True, kw_only=True):
    """Pending operations, lost invitations and cooldowns, shown beside the rows of the list.

    `operation_states` maps the target of an unfinished operation to its state: open, or attention.
    `cooldowns` maps an address (lower case) to the time from which its invitation can be resent (Unix milliseconds).
    """

    lost_invitations: tuple[LostInvitation, ...] = ()
    operation_states: Mapping[str, str] = {}
    cooldowns: Mapping[str, int] = {}

    def find_member_state(self, membership_id: str) -> str | None:
        """Return the state of a member's unfinished operation; "attention" has priority over "open"."""
        states = {self.operation_states.get(f"{kind}:{membership_id}") for kind in ("membership", "standing")}
        return "attention" if "attention" in states else "open" if "open" in states else None

    def find_invitation_state(self, organization_id: str | None, email: str) -> str | None:
        """Return the state of an invitation's unfinished operation. `organization_id` is Clerk's."""
        return self.operation_states.get(make_invitation_target(organization_id, email))


NO_ANNOTATIONS = RowAnnotations()


class MemberChangeOutcome(Struct, frozen=True, kw_only=True):
    """A change that took effect. `notices` name what Clerk did not do; `is_open`: the rest is still in progress.

    `operation_id` is None where there was nothing to change.
    """

    member: MemberRecord
    operation_id: str | None = None
    is_open: bool = False
    notices: tuple[str, ...] = ()


class MemberOutcome(Struct, frozen=True, kw_only=True):
    """Outcome for one member of a bulk change.

    `member_id` is the id as requested; `messages` are the reason of a refusal, or what Clerk did not do.
    """

    member_id: str
    status: MemberOutcomeStatus
    code: str | None = None
    messages: tuple[str, ...] = ()
    operation_id: str | None = None


class MemberOutcomes(Struct, frozen=True, kw_only=True):
    """Outcomes of a bulk change, in the order of the request."""

    rows: tuple[MemberOutcome, ...]

    def count(self, *statuses: MemberOutcomeStatus) -> int:
        """Return the number of members with one of these outcomes."""
        return sum(row.status in statuses for row in self.rows)


class MemberChangeImpact(Struct, frozen=True, kw_only=True):
    """Expected effects of removing or deactivating a member. `sessions` and `invitations` are None if Clerk is down.

    `sessions`: the number of the user's sessions, all of which end. `invitations`: the addresses of pending invitations
    that the user sent; these stay. `organizations`: names of the user's other organizations that the reader may see.
    `is_admin`: the role is an admin's. `no_removal` and `no_deactivation`: the reason where it is not possible.
    """

    member: MemberRecord
    sessions: int | None
    invitations: tuple[str, ...] | None
    organizations: tuple[str, ...]
    no_removal: str | None
    no_deactivation: str | None
    is_admin: bool = False


# Intents of operations


class MemberIntent(OperationIntent, frozen=True, kw_only=True):
    """Fields of every change to a member.

    `membership` is our id; `clerk_membership`, `organization` and `user` are Clerk's, None where it has none. `before`
    is for the audit. The ids of memberships that lose or gain an admin are read by the last-admin guard.
    """

    membership: str
    clerk_membership: ClerkId | None
    organization: ClerkId | None
    user: ClerkId | None
    before: JsonObject | UnsetType = UNSET
    demoted_membership_id: str | UnsetType = field(default=UNSET, name=ADMIN_LOSS_KEY)
    promoted_membership_id: str | UnsetType = field(default=UNSET, name=ADMIN_GAIN_KEY)


class ChangeRoleIntent(MemberIntent, frozen=True, kw_only=True):
    """Set a member's role."""

    role: str


class DeactivateIntent(MemberIntent, frozen=True, kw_only=True):
    """Deactivate a member; `deactivation` is how far Clerk follows."""

    deactivation: DeactivationPolicy


class ReactivateIntent(MemberIntent, frozen=True, kw_only=True):
    """Reactivate a member with `role`.

    `is_out`: the membership in Clerk was removed, and is created again. `has_ban`: a ban in Clerk is lifted.
    """

    role: str
    is_out: bool
    has_ban: bool


class RemoveIntent(MemberIntent, frozen=True, kw_only=True):
    """Remove a member."""


class LeaveIntent(MemberIntent, frozen=True, kw_only=True):
    """Leave the organization."""


class RestoreIntent(ReactivateIntent, frozen=True, kw_only=True):
    """Restore a removed member with `role`."""


class TransferIntent(ChangeRoleIntent, frozen=True, kw_only=True):
    """Give a member `role`, an admin's, and then the membership `own_membership` of the requester `own_role`.

    `own_user` is Clerk's id of the requester.
    """

    own_role: str
    own_user: ClerkId | None
    own_membership: str
