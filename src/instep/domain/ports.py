"""Protocols of the Clerk API that the product depends on."""

from collections.abc import Sequence
from typing import Any, Protocol

from instep.domain.events import EntityState, LookupResult, Observation, Tombstone
from instep.domain.models import (
    ActiveSession,
    ClerkApplicationInvitation,
    ClerkEmailAddress,
    ClerkId,
    ClerkInvitation,
    ClerkInvitationList,
    ClerkUserUpdate,
    NewClerkApplicationInvitation,
    NewClerkInvitation,
    NewClerkUser,
    VerificationCode,
)
from instep.domain.reconcile import NeedsRefetch
from instep.domain.roles import InstanceRoles


class ClerkReader(Protocol):
    """Reading. Each method raises ClerkUnavailableError or ClerkRejectedError."""

    async def find_instance(self) -> str | None:
        """The id of the instance that the secret key belongs to, None where Clerk does not tell it."""

    async def look(self, asks: Sequence[NeedsRefetch]) -> list[LookupResult]:
        """The present state of each thing asked for, in any order; one that Clerk does not show is Absent.

        UnreadableEntity for one of which Clerk shows something that can't be read: it fails no other.
        """

    async def list_user_memberships(self, user: ClerkId) -> list[EntityState]:
        """The organizations that a user belongs to and their memberships, organizations first."""

    async def list_invitations(
        self, organization: ClerkId, *, statuses: Sequence[str], email: str | None = None
    ) -> ClerkInvitationList:
        """The invitations of one organization in these statuses, newest first; of one address where it is given."""

    async def find_user_ids_by_email(self, emails: Sequence[str]) -> dict[str, ClerkId]:
        """Return whose these addresses are, primary or not: Clerk's user ids by canonical address."""


class RolesApi(Protocol):
    """Reading the roles of the instance. Raises ClerkUnavailableError or ClerkRejectedError."""

    async def list_roles(self) -> InstanceRoles:
        """Every role with its permissions, and which one is given by default."""


class OrganizationsApi(Protocol):
    """Changing organizations. ClerkRejectedError: nothing was done. ClerkUnavailableError: see there."""

    async def invite(self, organization: ClerkId, wanted: NewClerkInvitation) -> ClerkInvitation:
        """Create one invitation to an organization; Clerk sends the mail unless `notify` is off."""

    async def invite_many(self, organization: ClerkId, wanted: Sequence[NewClerkInvitation]) -> list[ClerkInvitation]:
        """Create up to ten at once."""

    async def find_invitation(self, organization: ClerkId, id: ClerkId) -> ClerkInvitation | None:
        """An invitation's present state, None where Clerk has no such one."""

    async def find_accept_url(self, organization: ClerkId, id: ClerkId) -> str | None:
        """The secret address by which a pending invitation is accepted."""

    async def revoke(self, organization: ClerkId, id: ClerkId, *, by: ClerkId | None) -> ClerkInvitation:
        """End a pending invitation; refused with `organization_invitation_not_pending` (404) where it is not."""

    async def find_membership(self, organization: ClerkId, user: ClerkId) -> Observation | None:
        """A person's present membership."""

    async def set_role(self, organization: ClerkId, user: ClerkId, role: str) -> Observation:
        """Change a member's role; gives the membership as it is now."""

    async def add_member(self, organization: ClerkId, user: ClerkId, role: str) -> Observation:
        """Make a user a member at once, without an invitation."""

    async def remove_member(self, organization: ClerkId, user: ClerkId) -> Tombstone:
        """Take a member out."""


class UsersApi(Protocol):
    """Changing users. Failures as in Actor."""

    async def find_user(self, id: ClerkId) -> Observation | None:
        """A user's present state."""

    async def find_user_by(self, *, email: str | None = None, external_id: str | None = None) -> Observation | None:
        """The user with this address, or with this external id."""

    async def create_user(self, wanted: NewClerkUser) -> Observation:
        """Make a user, with a verified address and no password."""

    async def update_user(self, id: ClerkId, change: ClerkUserUpdate) -> Observation:
        """Change names, username or external id."""

    async def merge_public_metadata(self, id: ClerkId, public: dict[str, Any]) -> Observation:
        """Merge into the public metadata; a None removes a key."""

    async def set_password(self, id: ClerkId, password: str) -> Observation:
        """Set a password, checked by Clerk's own rules; it is kept nowhere else."""

    async def replace_email(self, id: ClerkId, email: str) -> Observation:
        """Replace every address by this one, verified; the old one is told."""

    async def list_emails(self, id: ClerkId) -> list[ClerkEmailAddress]:
        """Every address of a user; none where Clerk has no such user."""

    async def add_email(self, id: ClerkId, email: str) -> ClerkEmailAddress:
        """Give a user one more address, which is not verified yet."""

    async def send_code(self, email: ClerkId) -> VerificationCode:
        """Send a code to an address; its older codes count no longer."""

    async def verify_code(self, email: ClerkId, verification: str, code: str) -> str:
        """Verify an address by its code: "verified"; or "unverified" (another code), "expired", "failed"."""

    async def make_primary(self, id: ClerkId, email: ClerkId) -> Observation:
        """Make one of a user's verified addresses the primary one; the old one is told."""

    async def remove_email(self, email: ClerkId) -> None:
        """Take an address away; one that is gone already is fine."""

    async def delete_user(self, id: ClerkId) -> Tombstone:
        """Delete a user; one that is gone already is fine."""

    async def ban_user(self, id: ClerkId) -> Observation:
        """Ban: every session ends and no sign-in works; refused with status 402 where the plan has no bans."""

    async def unban_user(self, id: ClerkId) -> Observation:
        """Lift a ban."""

    async def count_sessions(self, id: ClerkId) -> int:
        """How many active sessions a user has; 500 stands for that many or more."""

    async def list_sessions(self, id: ClerkId) -> list[ActiveSession]:
        """A user's active sessions, the latest activity first."""

    async def revoke_session(self, id: str) -> None:
        """End one session; one that is over already is fine."""

    async def end_sessions(self, id: ClerkId) -> int:
        """Revoke every active session of a user; gives how many there were."""


class ApplicationInvitationsApi(Protocol):
    """Inviting people to the application as a whole. Failures as in Actor."""

    async def create_application_invitation(self, wanted: NewClerkApplicationInvitation) -> ClerkApplicationInvitation:
        """Create one; Clerk sends the mail unless `notify` is off. Refused where the address has an account."""

    async def list_application_invitations(
        self, *, status: str | None = None, query: str = ""
    ) -> list[ClerkApplicationInvitation]:
        """The newest ones, in one status or in all but `revoked`; `query` is an id or a part of an address."""

    async def revoke_application_invitation(self, id: ClerkId) -> ClerkApplicationInvitation:
        """End a pending one; refused with `invitation_already_accepted` or `_revoked` where it is over."""
