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
    """Reads from Clerk. Each method raises ClerkUnavailableError or ClerkRejectedError."""

    async def find_instance(self) -> str | None:
        """Return the id of the instance that the secret key belongs to, None if Clerk does not report it."""

    async def fetch(self, requests: Sequence[NeedsRefetch]) -> list[LookupResult]:
        """Return the current state of each requested entity, in any order.

        Absence for an entity that Clerk does not have; UnreadableEntity for one that cannot be parsed, which fails no
        other.
        """

    async def list_user_memberships(self, user_id: ClerkId) -> list[EntityState]:
        """Return the organizations of a user and the memberships in them, organizations first."""

    async def list_invitations(
        self, organization_id: ClerkId, *, statuses: Sequence[str], email: str | None = None
    ) -> ClerkInvitationList:
        """Return an organization's invitations in these statuses, newest first; optionally of one address."""

    async def find_user_ids_by_email(self, emails: Sequence[str]) -> dict[str, ClerkId]:
        """Return Clerk's user ids by canonical address, primary or not."""


class RolesApi(Protocol):
    """Reads the roles of the instance. Raises ClerkUnavailableError or ClerkRejectedError."""

    async def list_roles(self) -> InstanceRoles:
        """Return every role with its permissions, and the key of the default one."""


class OrganizationsApi(Protocol):
    """Changes organizations.

    ClerkRejectedError: nothing was changed. ClerkUnavailableError: see there.
    """

    async def create_invitation(self, organization_id: ClerkId, invitation: NewClerkInvitation) -> ClerkInvitation:
        """Create an invitation to an organization; Clerk sends the email unless `notify` is off."""

    async def create_invitations(
        self, organization_id: ClerkId, invitations: Sequence[NewClerkInvitation]
    ) -> list[ClerkInvitation]:
        """Create up to ten invitations at once."""

    async def find_invitation(self, organization_id: ClerkId, invitation_id: ClerkId) -> ClerkInvitation | None:
        """Return the current state of an invitation, None if Clerk does not have it."""

    async def find_accept_url(self, organization_id: ClerkId, invitation_id: ClerkId) -> str | None:
        """Return the secret URL that accepts a pending invitation."""

    async def revoke_invitation(
        self, organization_id: ClerkId, invitation_id: ClerkId, *, revoked_by: ClerkId | None
    ) -> ClerkInvitation:
        """Revoke a pending invitation.

        Rejected with `organization_invitation_not_pending` (404) if it is not pending.
        """

    async def find_membership(self, organization_id: ClerkId, user_id: ClerkId) -> Observation | None:
        """Return the current membership of a user."""

    async def set_role(self, organization_id: ClerkId, user_id: ClerkId, role: str) -> Observation:
        """Change a member's role; return the membership afterwards."""

    async def add_member(self, organization_id: ClerkId, user_id: ClerkId, role: str) -> Observation:
        """Add a user to an organization immediately, without an invitation."""

    async def remove_member(self, organization_id: ClerkId, user_id: ClerkId) -> Tombstone:
        """Remove a member."""


class UsersApi(Protocol):
    """Changes users. Errors as in OrganizationsApi."""

    async def find_user(self, user_id: ClerkId) -> Observation | None:
        """Return the current state of a user."""

    async def find_user_by(self, *, email: str | None = None, external_id: str | None = None) -> Observation | None:
        """Return the user with this address, or with this external id."""

    async def create_user(self, user: NewClerkUser) -> Observation:
        """Create a user with a verified address and no password."""

    async def update_user(self, user_id: ClerkId, update: ClerkUserUpdate) -> Observation:
        """Change names, username or external id."""

    async def merge_public_metadata(self, user_id: ClerkId, metadata: dict[str, Any]) -> Observation:
        """Merge into the public metadata; None removes a key."""

    async def set_password(self, user_id: ClerkId, password: str) -> Observation:
        """Set a password, checked by Clerk's rules; it is stored nowhere else."""

    async def replace_email(self, user_id: ClerkId, email: str) -> Observation:
        """Replace all addresses by this one, verified; the old one is notified."""

    async def list_emails(self, user_id: ClerkId) -> list[ClerkEmailAddress]:
        """Return all addresses of a user; none if Clerk does not have the user."""

    async def add_email(self, user_id: ClerkId, email: str) -> ClerkEmailAddress:
        """Add an unverified address to a user."""

    async def send_code(self, email_id: ClerkId) -> VerificationCode:
        """Send a verification code to an address; older codes become invalid."""

    async def verify_code(self, email_id: ClerkId, verification_id: str, code: str) -> str:
        """Verify an address by a code: "verified", "unverified" (wrong code), "expired" or "failed"."""

    async def set_primary_email(self, user_id: ClerkId, email_id: ClerkId) -> Observation:
        """Make a verified address of a user the primary one; the old one is notified."""

    async def remove_email(self, email_id: ClerkId) -> None:
        """Remove an address; no error if it is gone already."""

    async def delete_user(self, user_id: ClerkId) -> Tombstone:
        """Delete a user; no error if it is gone already."""

    async def ban_user(self, user_id: ClerkId) -> Observation:
        """Ban a user, which ends every session; rejected with status 402 if the plan has no bans."""

    async def unban_user(self, user_id: ClerkId) -> Observation:
        """Lift a ban."""

    async def count_sessions(self, user_id: ClerkId) -> int:
        """Return the number of active sessions of a user; 500 means that many or more."""

    async def list_sessions(self, user_id: ClerkId) -> list[ActiveSession]:
        """Return the active sessions of a user, the latest activity first."""

    async def revoke_session(self, session_id: str) -> None:
        """Revoke one session; no error if it has ended already."""

    async def revoke_all_sessions(self, user_id: ClerkId) -> int:
        """Revoke every active session of a user; return their number."""


class ApplicationInvitationsApi(Protocol):
    """Invites people to the whole application. Errors as in OrganizationsApi."""

    async def create_application_invitation(
        self, invitation: NewClerkApplicationInvitation
    ) -> ClerkApplicationInvitation:
        """Create an invitation; Clerk sends the email unless `notify` is off.

        Rejected if the address has an account.
        """

    async def list_application_invitations(
        self, *, status: str | None = None, query: str = ""
    ) -> list[ClerkApplicationInvitation]:
        """Return the newest invitations in one status, or in all but `revoked`.

        `query` is an id or a part of an address.
        """

    async def revoke_application_invitation(self, invitation_id: ClerkId) -> ClerkApplicationInvitation:
        """Revoke a pending invitation.

        Rejected with `invitation_already_accepted` or `_revoked` if it has ended.
        """
