"""Entities of Clerk, sessions, and parameters of new entities."""

from typing import Any, Literal, NewType

import msgspec
from msgspec import Struct

ClerkId = NewType("ClerkId", str)
EntityKind = Literal["user", "organization", "membership"]
ADMIN_ROLE = "org:admin"
MEMBER_ROLE = "org:member"
EMPTY_METADATA = msgspec.Raw(b"{}")
BLOCKED_STATUSES = ("banned", "deprovisioned")
"""Statuses of a membership whose user is blocked in Clerk: still a member there, without any permission."""

PRESENT_STATUSES = ("active", *BLOCKED_STATUSES)
"""Statuses of a membership that was neither deactivated nor ended by the database."""


class EntityKey(Struct, frozen=True, gc=False):
    """The identity of an entity: its kind and Clerk's id."""

    kind: EntityKind
    id: ClerkId


class ClerkUser(Struct, frozen=True, kw_only=True, gc=False):
    """A user as Clerk describes it. Times are Unix milliseconds.

    `email` is the primary address (None if Clerk has none). An address is not an identity: it moves between people, the
    Clerk id does not. `is_banned` and `is_deprovisioned` (by a directory: SCIM) block the user in Clerk; Clerk's
    `locked` does not, since failed sign-ins set it too.
    """

    clerk_id: ClerkId
    email: str | None = None
    is_email_verified: bool = False
    first_name: str | None = None
    last_name: str | None = None
    username: str | None = None
    image_url: str | None = None
    external_id: str | None = None
    is_banned: bool = False
    is_deprovisioned: bool = False
    public_metadata: msgspec.Raw = EMPTY_METADATA
    joined_at: int = 0
    last_sign_in_at: int | None = None
    last_active_at: int | None = None

    def content(self) -> tuple[Any, ...]:
        """Return the values that must be equal on both sides, without those that Clerk changes without an event."""
        return (
            self.email,
            self.is_email_verified,
            self.first_name,
            self.last_name,
            self.username,
            self.external_id,
            self.is_banned,
            self.is_deprovisioned,
            self.public_metadata,
        )

    def digest_content(self) -> tuple[Any, ...]:
        """Return the content for the digest.

        `is_deprovisioned` was added later and is included only if true, so that stored digests stay equal.
        """
        content = self.content()
        return content if self.is_deprovisioned else (*content[:-2], content[-1])


class ClerkOrganization(Struct, frozen=True, kw_only=True, gc=False):
    """An organization as Clerk describes it.

    `max_members` counts members and pending invitations; None: no limit.
    """

    clerk_id: ClerkId
    name: str
    slug: str | None = None
    image_url: str | None = None
    max_members: int | None = None
    public_metadata: msgspec.Raw = EMPTY_METADATA
    joined_at: int = 0

    def content(self) -> tuple[Any, ...]:
        """Return the values that must be equal on both sides (no counts, no image)."""
        return (self.name, self.slug, self.max_members, self.public_metadata)


class ClerkMembership(Struct, frozen=True, kw_only=True, gc=False):
    """A membership of a user in an organization, from joining to leaving; rejoining creates another one."""

    clerk_id: ClerkId
    organization: ClerkId
    user: ClerkId
    role: str
    joined_at: int = 0

    def content(self) -> tuple[Any, ...]:
        """Return the values that must be equal on both sides."""
        return (self.organization, self.user, self.role)


Entity = ClerkUser | ClerkOrganization | ClerkMembership


class ClerkInvitation(Struct, frozen=True, kw_only=True):
    """An invitation to an organization, read live from Clerk and never mirrored.

    `status` is Clerk's; whether it can still be accepted also depends on `expires_at` (Unix milliseconds). `user`
    accepted it, if Clerk reports that; `inviter_id` sent it; `updated_at` is its last change. The accept link is a
    secret and not part of this.
    """

    clerk_id: ClerkId
    email: str
    role: str
    status: str
    created_at: int
    expires_at: int | None = None
    inviter: str | None = None
    public_metadata: dict[str, Any] = {}
    private_metadata: dict[str, Any] = {}
    user: ClerkId | None = None
    inviter_id: ClerkId | None = None
    updated_at: int = 0


class ClerkInvitationList(list[ClerkInvitation]):
    """Invitations that could be parsed; `unreadable` is the number of those that could not."""

    unreadable: int = 0


class LostInvitation(Struct, frozen=True, kw_only=True):
    """An invitation that was revoked to be resent, and whose replacement was not created. Times are Unix milliseconds.

    `is_retrying`: the worker retries; otherwise a person must retry the operation `operation_id`. `invitation_id` is
    Clerk's id of the revoked invitation.
    """

    operation_id: str
    invitation_id: str
    email: str
    role: str
    reason: str
    is_retrying: bool
    lost_at: int


class NewClerkInvitation(Struct, frozen=True, kw_only=True):
    """An invitation to create.

    `inviter` is Clerk's id of a member; `redirect_url` is opened after accepting.
    """

    email: str
    role: str
    expires_in_days: int
    inviter: ClerkId | None = None
    redirect_url: str | None = None
    notify: bool = True
    public_metadata: dict[str, Any] = {}
    private_metadata: dict[str, Any] = {}


class ClerkApplicationInvitation(Struct, frozen=True, kw_only=True):
    """An invitation to the whole application, read live from Clerk. Its link is a secret and not part of this.

    A user who signs up with it gets its `public_metadata`.
    """

    clerk_id: ClerkId
    email: str
    status: str
    created_at: int
    expires_at: int | None = None
    public_metadata: dict[str, Any] = {}


class NewClerkApplicationInvitation(Struct, frozen=True, kw_only=True):
    """An application invitation to create."""

    email: str
    expires_in_days: int
    redirect_url: str | None = None
    notify: bool = True
    public_metadata: dict[str, Any] = {}


class ClerkUserUpdate(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Changes of a user; None leaves a field unchanged, an empty text clears it."""

    first_name: str | None = None
    last_name: str | None = None
    username: str | None = None
    external_id: str | None = None


class NewClerkUser(Struct, frozen=True, kw_only=True):
    """A user to create. `external_id` is ours and identifies a user that was created already."""

    email: str
    external_id: str
    first_name: str | None = None
    last_name: str | None = None
    username: str | None = None
    public_metadata: dict[str, Any] = {}


class ClerkEmailAddress(Struct, frozen=True, kw_only=True):
    """An email address of a user."""

    clerk_id: ClerkId
    email: str
    is_verified: bool
    is_primary: bool


class VerificationCode(Struct, frozen=True, kw_only=True):
    """A code that was sent: the verification to try it with, and when it expires (Unix milliseconds)."""

    verification: str
    expires_at: int | None = None


class SessionClaims(Struct, frozen=True, kw_only=True):
    """Claims of a verified session token, normalized across token versions.

    `role` has its prefix (`org:admin`), `permissions` are complete (`org:invoices:create`); both are about
    `organization`, the active one of the session. `actor` is the impersonator. `expires_at` is in Unix milliseconds.
    """

    user: str
    session: str
    organization: str | None = None
    role: str | None = None
    permissions: frozenset[str] = frozenset()
    expires_at: int = 0
    actor: str | None = None


class ClerkSession(Struct, frozen=True):
    """The current state of a session in Clerk. Only `status` "active" is a signed-in user."""

    id: str
    user_id: str
    status: str
    last_active_organization_id: str | None = None


class ActiveSession(Struct, frozen=True, kw_only=True):
    """An active session, described for people. Times are Unix milliseconds; `device` and `place` may be empty."""

    id: str
    created_at: int
    last_active_at: int
    device: str = ""
    place: str = ""
    ip_address: str = ""


class HandshakeSignedIn(Struct, frozen=True, kw_only=True):
    """A completed sign-in. `dev_browser` is the browser's token at a development instance, to be stored."""

    claims: SessionClaims
    dev_browser: str | None = None


class HandshakeSignedOut(Struct, frozen=True, kw_only=True):
    """The result of a handshake in a browser without a signed-in user."""

    dev_browser: str | None = None


ENTITY_KINDS: tuple[EntityKind, ...] = ("organization", "user", "membership")
