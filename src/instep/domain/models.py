"""Entities of Clerk, sessions, and parameters of new entities."""

from typing import Any, Literal, NewType

import msgspec
from msgspec import Struct

UserId = NewType("UserId", str)
OrganizationId = NewType("OrganizationId", str)
MembershipId = NewType("MembershipId", str)
ClerkId = NewType("ClerkId", str)
EntityKind = Literal["user", "organization", "membership"]
ADMIN_ROLE = "org:admin"
MEMBER_ROLE = "org:member"
EMPTY_METADATA = msgspec.Raw(b"{}")
BLOCKED_STATUSES = ("banned", "deprovisioned")


"""Statuses of a membership whose person Clerk bars: still a member there, without any right."""


PRESENT_STATUSES = ("active", *BLOCKED_STATUSES)


"""Statuses of a membership that the database itself has neither deactivated nor ended."""


class EntityKey(Struct, frozen=True, gc=False):
    """What a piece of news is about: a kind of thing and Clerk's id of it."""

    kind: EntityKind
    id: ClerkId


class ClerkUser(Struct, frozen=True, kw_only=True, gc=False):
    """A person as Clerk describes them. Times are Unix milliseconds.

    `email` is the primary address (None where Clerk has none); an address is not an identity: it moves between
    people, the Clerk id does not. `is_banned` and `is_deprovisioned` (by a directory: SCIM) bar the person in Clerk;
    Clerk's `locked` does not, since failed sign-ins set it too.
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
        """What must be equal on both sides; leaves out what Clerk changes without telling (activity, images)."""
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
        """Return the content as its digest has it: `is_deprovisioned`, which is newer than the rest, only where it
        is true, so that the digests of rows that were stored before stay equal.
        """
        content = self.content()
        return content if self.is_deprovisioned else (*content[:-2], content[-1])


class ClerkOrganization(Struct, frozen=True, kw_only=True, gc=False):
    """An organization as Clerk describes it. `max_members` counts members and pending invitations; None: no limit."""

    clerk_id: ClerkId
    name: str
    slug: str | None = None
    image_url: str | None = None
    max_members: int | None = None
    public_metadata: msgspec.Raw = EMPTY_METADATA
    joined_at: int = 0

    def content(self) -> tuple[Any, ...]:
        """What must be equal on both sides (no counts, no image)."""
        return (self.name, self.slug, self.max_members, self.public_metadata)


class ClerkMembership(Struct, frozen=True, kw_only=True, gc=False):
    """One person's belonging to one organization, from joining to leaving; a re-join is another membership."""

    clerk_id: ClerkId
    organization: ClerkId
    user: ClerkId
    role: str
    joined_at: int = 0

    def content(self) -> tuple[Any, ...]:
        """What must be equal on both sides."""
        return (self.organization, self.user, self.role)


Entity = ClerkUser | ClerkOrganization | ClerkMembership


class ClerkInvitation(Struct, frozen=True, kw_only=True):
    """An invitation to an organization, read live from Clerk and never mirrored.

    `status` is Clerk's word; whether it can still be accepted also depends on `expires_at` (Unix milliseconds).
    `user` is who accepted it, where Clerk tells; `inviter_id` who sent it; `updated_at` is when it last changed.
    The accept link is a secret and is not part of this.
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
    """Invitations that could be read; `unreadable` is how many more there are that could not."""

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
    """An invitation to be made. `inviter` is Clerk's id of a member; `redirect_url` is where accepting leads."""

    email: str
    role: str
    expires_in_days: int
    inviter: ClerkId | None = None
    redirect_url: str | None = None
    notify: bool = True
    public_metadata: dict[str, Any] = {}
    private_metadata: dict[str, Any] = {}


class ClerkApplicationInvitation(Struct, frozen=True, kw_only=True):
    """An invitation to the application as a whole, read live from Clerk. Its link is a secret, and not part of this.

    Whoever signs up by it has its `public_metadata` from then on.
    """

    clerk_id: ClerkId
    email: str
    status: str
    created_at: int
    expires_at: int | None = None
    public_metadata: dict[str, Any] = {}


class NewClerkApplicationInvitation(Struct, frozen=True, kw_only=True):
    """An invitation to the application that is to be made."""

    email: str
    expires_in_days: int
    redirect_url: str | None = None
    notify: bool = True
    public_metadata: dict[str, Any] = {}


class ClerkUserUpdate(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What to change of a person; None leaves a field as it is, an empty text clears it."""

    first_name: str | None = None
    last_name: str | None = None
    username: str | None = None
    external_id: str | None = None


class NewClerkUser(Struct, frozen=True, kw_only=True):
    """A user to be made. `external_id` is ours: by it a user that was made already is found again."""

    email: str
    external_id: str
    first_name: str | None = None
    last_name: str | None = None
    username: str | None = None
    public_metadata: dict[str, Any] = {}


class ClerkEmailAddress(Struct, frozen=True, kw_only=True):
    """One of a user's addresses."""

    clerk_id: ClerkId
    email: str
    is_verified: bool
    is_primary: bool


class VerificationCode(Struct, frozen=True, kw_only=True):
    """A code that was sent: by which verification it is tried, and until when (Unix milliseconds)."""

    verification: str
    expires_at: int | None = None


class SessionClaims(Struct, frozen=True, kw_only=True):
    """What a verified session token says, whichever version it is written in.

    `role` has its prefix (`org:admin`), `permissions` are whole (`org:invoices:create`); both speak of
    `organization`, the one that is active in the session. `actor` is who acts as this user (impersonation).
    `expires_at` is in Unix milliseconds.
    """

    user: str
    session: str
    organization: str | None = None
    role: str | None = None
    permissions: frozenset[str] = frozenset()
    expires_at: int = 0
    actor: str | None = None


class ClerkSession(Struct, frozen=True):
    """A session as Clerk has it now. Only `status` "active" is a person who is signed in."""

    id: str
    user_id: str
    status: str
    last_active_organization_id: str | None = None


class ActiveSession(Struct, frozen=True, kw_only=True):
    """An active session, for people to know it by. Times are Unix milliseconds; `device` and `place` may be empty."""

    id: str
    created_at: int
    last_active_at: int
    device: str = ""
    place: str = ""
    ip_address: str = ""


class HandshakeSignedIn(Struct, frozen=True, kw_only=True):
    """A sign-in ended well. `dev_browser` is the browser's token at a development instance, to be kept."""

    claims: SessionClaims
    dev_browser: str | None = None


class HandshakeSignedOut(Struct, frozen=True, kw_only=True):
    """The provider says that nobody is signed in in this browser."""

    dev_browser: str | None = None


ENTITY_KINDS: tuple[EntityKind, ...] = ("organization", "user", "membership")
