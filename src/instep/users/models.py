"""User profiles, filters, cursors, permissions and the results of user operations."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Literal, get_args

from msgspec import Struct

from instep.domain.errors import ChangeRejectedError
from instep.domain.models import ActiveSession, ClerkInvitation
from instep.mirror.user_repository import UserRow


class UserPermissions(Struct, frozen=True, kw_only=True):
    """What the asker may do with a person.

    `shared`: the organizations that both belong to; `led`: those of them in which the asker is above the person.
    """

    is_admin: bool = False
    is_self: bool = False
    shared: frozenset[str] = frozenset()
    led: frozenset[str] = frozenset()

    @property
    def can_see(self) -> bool:
        """Whether the asker may know that this person is here."""
        return self.is_admin or self.is_self or bool(self.shared)


class TargetUser(Struct, frozen=True, kw_only=True):
    """A person, and what the asker may do with them."""

    person: UserRow
    rights: UserPermissions


class UserDetails(Struct, frozen=True, kw_only=True):
    """`sessions` are the open ones, newest first; `sent` the invitations that wait for an answer. None where Clerk
    does not say; `may_sessions` and `may_sent`: whether the reader may see them at all.
    """

    can_see_sessions: bool
    can_see_invitations: bool
    sessions: Sequence[ActiveSession] | None = ()
    sent: Sequence[ClerkInvitation] | None = ()


UserStatus = Literal["active", "deactivated", "deleted", "banned", "deprovisioned", "local"]
USER_STATUSES: tuple[UserStatus, ...] = get_args(UserStatus)
DEFAULT_STATUSES = frozenset(USER_STATUSES) - {"deleted"}


class UserMembership(Struct, frozen=True, kw_only=True):
    """One organization that a person belongs to, or is deactivated in."""

    membership_id: str
    organization_id: str
    organization_clerk_id: str | None
    name: str
    slug: str | None
    role: str
    status: str


class UserProfile(Struct, frozen=True, kw_only=True):
    """A person with the organizations that the reader may know of; `is_whole`: with what only instance admins see."""

    person: UserRow
    memberships: tuple[UserMembership, ...]
    is_whole: bool

    @property
    def status(self) -> UserStatus:
        """Where the person stands."""
        return determine_status(self.person)

    @property
    def role(self) -> str | None:
        """Their role in the application, where the public metadata name one."""
        metadata = self.person.public_metadata
        role = metadata.get("role") if isinstance(metadata, dict) else None
        return role if isinstance(role, str) else None


class Reinvitation(Struct, frozen=True, kw_only=True):
    """What became of one organization when someone was invited again under a new address.

    `state`: invited (and the old membership deactivated), checking (the operation goes on), refused, or kept (the
    organization is not in Clerk).
    """

    organization_id: str
    name: str
    role: str
    state: Literal["invited", "checking", "refused", "kept"]
    detail: str | None = None
    operation: str | None = None


class EmailChange(Struct, frozen=True, kw_only=True):
    """What became of a change of address, or what has to happen first.

    `same` means that the person has this address already, perhaps in other letters: nothing was changed.
    `verification` is what the code is given with, until `expires_at` (Unix milliseconds); `consequences` is what
    inviting anew will do, in sentences; `note` is what else there is to know.
    """

    outcome: Literal["changed", "same", "requires_invitation", "requires_verification", "invited"]
    email: str
    verification: str | None = None
    expires_at: int | None = None
    consequences: tuple[str, ...] = ()
    organizations: tuple[Reinvitation, ...] = ()
    note: str | None = None


class UserCursor(Struct, frozen=True):
    """Where a page ended."""

    joined_at: int
    id: str


class UserFilter(Struct, frozen=True, kw_only=True):
    """What is asked of the list: newest first; no `statuses` means all but the deleted."""

    limit: int = 50
    query: str = ""
    statuses: frozenset[UserStatus] = frozenset()
    organization: str | None = None
    cursor: UserCursor | None = None


class UserSearchResult(Struct, frozen=True, kw_only=True):
    """A page of people."""

    rows: list[UserProfile]
    next_cursor: str | None


def determine_status(person: UserRow) -> UserStatus:
    """The one word for where a person stands; the gravest wins."""
    if person.is_deleted:
        return "deleted"
    if person.is_banned:
        return "banned"
    if person.is_deprovisioned:
        return "deprovisioned"
    if not person.is_active:
        return "deactivated"
    return "active" if person.clerk_id else "local"


def encode_cursor(cursor: UserCursor) -> str:
    """A cursor as it is handed out."""
    return base64.urlsafe_b64encode(f"{cursor.joined_at}:{cursor.id}".encode()).decode().rstrip("=")


def decode_cursor(text: str) -> UserCursor:
    """A cursor as it came back. Raises Refused."""
    try:
        joined_at, _, id = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True).decode().partition(":")
        if id and id.isprintable() and 0 <= int(joined_at) < 2**62:
            return UserCursor(int(joined_at), id)
    except (binascii.Error, UnicodeError, ValueError):
        pass
    raise ChangeRejectedError("This is no cursor of ours.", code="bad_cursor", field="cursor")


EmailChangePolicy = Literal["reinvite", "verify", "force"]
ClerkRemoval = Literal["delete", "ban", "keep"]


class SharedOrganization(Struct, frozen=True, kw_only=True):
    """An organization that the asker and the person both belong to. `is_admin`: the asker is one there; `theirs` is the
    person's role.
    """

    organization_id: str
    is_admin: bool
    theirs: str


class UserChanges(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What to change of a person: None leaves a field, an empty text clears it; objects are merged, None takes away."""

    first_name: str | None = None
    last_name: str | None = None
    username: str | None = None
    email: str | None = None
    public_metadata: dict[str, Any] | None = None
    attributes: dict[str, Any] | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """What is to be changed, by name."""
        return {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}


class EndedSessions(Struct, frozen=True):
    """How many sessions were ended."""

    count: int
