"""User profiles, filters, cursors, permissions and the results of user operations."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Literal, get_args

from msgspec import UNSET, Struct, UnsetType, field

from instep.core.i18n import lazy_gettext
from instep.domain.errors import ChangeRejectedError
from instep.domain.last_admin import ADMIN_LOSS_KEY, USER_REMOVAL_KEY
from instep.domain.models import ActiveSession, ClerkId, ClerkInvitation
from instep.mirror.user_repository import UserRow
from instep.operations.workflow import JsonObject, OperationIntent

EmailChangePolicy = Literal["reinvite", "verify", "force"]
ClerkRemoval = Literal["delete", "ban", "keep"]
UserStatus = Literal["active", "deactivated", "deleted", "banned", "deprovisioned", "local"]
USER_STATUSES: tuple[UserStatus, ...] = get_args(UserStatus)
DEFAULT_STATUSES = frozenset(USER_STATUSES) - {"deleted"}


class SharedOrganization(Struct, frozen=True, kw_only=True):
    """An organization that the caller and the user both belong to.

    `is_caller_admin`: the caller is an admin there; `role` is the user's role in it.
    """

    organization_id: str
    is_caller_admin: bool
    role: str


class UserPermissions(Struct, frozen=True, kw_only=True):
    """Permissions of the caller on a user.

    `shared_organization_ids`: the organizations that both belong to; `managed_organization_ids`: those of them in which
    the caller may manage the user.
    """

    is_admin: bool = False
    is_self: bool = False
    shared_organization_ids: frozenset[str] = frozenset()
    managed_organization_ids: frozenset[str] = frozenset()

    @property
    def can_see(self) -> bool:
        """Return whether the caller may know that this user exists."""
        return self.is_admin or self.is_self or bool(self.shared_organization_ids)


class TargetUser(Struct, frozen=True, kw_only=True):
    """The user a command is about, and the caller's permissions on them."""

    user: UserRow
    permissions: UserPermissions


class UserMembership(Struct, frozen=True, kw_only=True):
    """One organization that a user belongs to, or is deactivated in."""

    membership_id: str
    organization_id: str
    organization_clerk_id: str | None
    name: str
    slug: str | None
    role: str
    status: str


class UserProfile(Struct, frozen=True, kw_only=True):
    """A user with the organizations that the caller may see.

    `is_complete`: includes the fields that only instance admins see.
    """

    user: UserRow
    memberships: tuple[UserMembership, ...]
    is_complete: bool

    @property
    def status(self) -> UserStatus:
        """Return the status of the user."""
        return determine_status(self.user)

    @property
    def role(self) -> str | None:
        """Return the role in the application, None unless the public metadata contain one."""
        metadata = self.user.public_metadata
        role = metadata.get("role") if isinstance(metadata, dict) else None
        return role if isinstance(role, str) else None


class UserDetails(Struct, frozen=True, kw_only=True):
    """Details of a user that are read live from Clerk.

    `sessions` are the active ones, latest activity first; `sent_invitations` are pending. Each is None where Clerk did
    not answer in time. `can_see_sessions` and `can_see_invitations`: permissions of the caller.
    """

    can_see_sessions: bool
    can_see_invitations: bool
    sessions: Sequence[ActiveSession] | None = ()
    sent_invitations: Sequence[ClerkInvitation] | None = ()


class UserChanges(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Requested changes of a user.

    None leaves a field unchanged, an empty text clears it. Objects are merged; a None in them removes a key.
    """

    first_name: str | None = None
    last_name: str | None = None
    username: str | None = None
    email: str | None = None
    public_metadata: dict[str, Any] | None = None
    attributes: dict[str, Any] | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """Return the values to change by field name."""
        return {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}


class Reinvitation(Struct, frozen=True, kw_only=True):
    """Result for one organization when a user is invited under a new address.

    `state`: invited (the old membership is deactivated), checking (the outcome of `operation_id` is not known yet),
    refused, or kept (the organization does not exist in Clerk).
    """

    organization_id: str
    name: str
    role: str
    state: Literal["invited", "checking", "refused", "kept"]
    detail: str | None = None
    operation_id: str | None = None


class EmailChange(Struct, frozen=True, kw_only=True):
    """Result of an email change, or the step that is required first.

    `same`: the user has this address already, perhaps in another spelling; nothing was changed. `verification` belongs
    to the code and is valid until `expires_at` (Unix ms). `consequences` are sentences about the effects of a new
    invitation; `note` is an additional remark.
    """

    outcome: Literal["changed", "same", "requires_invitation", "requires_verification", "invited"]
    email: str
    verification: str | None = None
    expires_at: int | None = None
    consequences: tuple[str, ...] = ()
    organizations: tuple[Reinvitation, ...] = ()
    note: str | None = None


class EndedSessions(Struct, frozen=True):
    """Number of sessions that were revoked."""

    count: int


class UserCursor(Struct, frozen=True):
    """Position of the last user of a page."""

    joined_at: int
    user_id: str


class UserFilter(Struct, frozen=True, kw_only=True):
    """Filter of the user list, newest first; empty `statuses` means all but deleted."""

    limit: int = 50
    query: str = ""
    statuses: frozenset[UserStatus] = frozenset()
    organization: str | None = None
    cursor: UserCursor | None = None


class UserSearchResult(Struct, frozen=True, kw_only=True):
    """A page of users."""

    rows: list[UserProfile]
    next_cursor: str | None


def determine_status(user: UserRow) -> UserStatus:
    """Return the status of a user. Deleted comes before banned, deprovisioned and deactivated."""
    if user.is_deleted:
        return "deleted"
    if user.is_banned:
        return "banned"
    if user.is_deprovisioned:
        return "deprovisioned"
    if not user.is_active:
        return "deactivated"
    return "active" if user.clerk_id else "local"


def encode_cursor(cursor: UserCursor) -> str:
    """Encode a cursor as opaque text."""
    return base64.urlsafe_b64encode(f"{cursor.joined_at}:{cursor.user_id}".encode()).decode().rstrip("=")


def decode_cursor(text: str) -> UserCursor:
    """Decode a cursor. Raises ChangeRejectedError (`bad_cursor`)."""
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True).decode()
        joined_at, _, user_id = decoded.partition(":")
        if user_id and user_id.isprintable() and 0 <= int(joined_at) < 2**62:
            return UserCursor(int(joined_at), user_id)
    except (binascii.Error, UnicodeError, ValueError):
        pass
    raise ChangeRejectedError(lazy_gettext("This cursor is not valid."), code="bad_cursor", field="cursor")


# Intents of operations


class UserIntent(OperationIntent, frozen=True, kw_only=True):
    """Fields of every change to a user: `user` is our id, `clerk_id` Clerk's, None for one who is not in Clerk."""

    user: str
    clerk_id: ClerkId | None


class EditProfileIntent(UserIntent, frozen=True, kw_only=True):
    """Change the fields of `profile`; `before` is for the audit."""

    profile: JsonObject
    before: JsonObject | UnsetType = UNSET


class SetPasswordIntent(UserIntent, frozen=True, kw_only=True):
    """Set a password; `secret` is its name in EphemeralSecrets."""

    secret: str


class EndSessionsIntent(UserIntent, frozen=True, kw_only=True):
    """End `session` (Clerk's id), or every session for None."""

    session: str | None


class CreateUserIntent(UserIntent, frozen=True, kw_only=True):
    """Create a user with the fields of `profile`. Our id becomes Clerk's external id."""

    in_clerk: bool
    profile: JsonObject


class RemovalIntent(UserIntent, frozen=True, kw_only=True):
    """A change that takes every membership from a user; the last-admin guard reads `removed_user_id`."""

    removed_user_id: str | UnsetType = field(default=UNSET, name=USER_REMOVAL_KEY)


class DeleteUserIntent(RemovalIntent, frozen=True, kw_only=True):
    """Delete a user; `clerk` is what happens to the account there."""

    clerk: ClerkRemoval


class RestoreUserIntent(UserIntent, frozen=True, kw_only=True):
    """Restore a deleted user."""


class BanUserIntent(RemovalIntent, frozen=True, kw_only=True):
    """Ban a user."""


class UnbanUserIntent(UserIntent, frozen=True, kw_only=True):
    """Lift a user's ban."""


class EmailIntent(UserIntent, frozen=True, kw_only=True):
    """A change of a user's address to `email`."""

    email: str


class ReplaceEmailIntent(EmailIntent, frozen=True, kw_only=True):
    """Replace the address `old`, None for a user without one."""

    old: str | None


class SendEmailCodeIntent(EmailIntent, frozen=True, kw_only=True):
    """Add an address in Clerk and send a code to it."""


class VerifyEmailIntent(ReplaceEmailIntent, frozen=True, kw_only=True):
    """Verify `address` (Clerk's id) by the code of `verification`; `secret` is its name in EphemeralSecrets."""

    address: ClerkId
    verification: str
    secret: str


class ReinviteToApplicationIntent(EmailIntent, frozen=True, kw_only=True):
    """Invite a user without an organization under a new address."""

    expires_in_days: int
    redirect_url: str | None


class ReinviteMemberIntent(ReinviteToApplicationIntent, frozen=True, kw_only=True):
    """Move `membership` (our id) in `organization` (Clerk's id) to a new address."""

    membership: str
    organization: ClerkId
    role: str
    inviter: ClerkId | None
    demoted_membership_id: str | UnsetType = field(default=UNSET, name=ADMIN_LOSS_KEY)
