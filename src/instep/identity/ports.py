"""What instep needs of an identity provider. `instep.clerk` is the only implementation; tests ship another."""

from collections.abc import Sequence
from typing import Any, Protocol

from instep.identity.events import Found, Gone, News, Seen
from instep.identity.model import (
    AppInvitation,
    ClerkId,
    Code,
    EmailAddress,
    Invitation,
    Invitations,
    NewAppInvitation,
    NewInvitation,
    NewUser,
    ProfileChange,
)
from instep.identity.roles import InstanceRoles
from instep.identity.rules import AskAgain
from instep.identity.session import OpenSession
from instep.kit.errors import PermanentError, TemporaryError


class ProviderDown(TemporaryError):
    """Clerk could not be reached, was too slow, limits us, or failed by itself.

    `is_harmless`: the call certainly had no effect (it was never sent, or Clerk turned it away unread).
    `is_answered`: Clerk answered with a failure, so that the call is over and reading back tells whether it worked.
    Otherwise nothing is known of the effect yet. `status` is the HTTP status of an answer.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        is_harmless: bool = False,
        status: int | None = None,
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.is_harmless = is_harmless
        self.is_answered = status is not None and not is_harmless
        self.status = status


class ProviderRefused(PermanentError):
    """Clerk said no, definitely: nothing was changed there.

    `code` is Clerk's own (`organization_invitation_not_unique`, ...), `status` the HTTP status,
    `trace_id` Clerk's, for its support; `param` the parameter it is about, where Clerk names one.
    """

    def __init__(
        self, message: str, *, code: str, status: int, trace_id: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.trace_id = trace_id
        self.param = param


class Directory(Protocol):
    """Reading. Each method raises ProviderDown or ProviderRefused."""

    async def find_instance(self) -> str | None:
        """The id of the instance that the secret key belongs to, None where Clerk does not tell it."""

    async def look(self, asks: Sequence[AskAgain]) -> list[Found]:
        """The present state of each thing asked for, in any order; one that Clerk does not show is Absent.

        UnreadableAnswer for one of which Clerk shows something that can't be read: it fails no other.
        """

    async def list_memberships_of(self, user: ClerkId) -> list[News]:
        """The organizations that a user belongs to and their memberships, organizations first."""

    async def list_invitations(
        self, organization: ClerkId, *, statuses: Sequence[str], email: str | None = None
    ) -> Invitations:
        """The invitations of one organization in these statuses, newest first; of one address where it is given."""

    async def find_holders(self, emails: Sequence[str]) -> dict[str, ClerkId]:
        """Return whose these addresses are, primary or not: Clerk's user ids by canonical address."""


class RoleSource(Protocol):
    """Reading the roles of the instance. Raises ProviderDown or ProviderRefused."""

    async def list_roles(self) -> InstanceRoles:
        """Every role with its permissions, and which one is given by default."""


class Actor(Protocol):
    """Changing organizations. ProviderRefused: nothing was done. ProviderDown: see there."""

    async def invite(self, organization: ClerkId, wanted: NewInvitation) -> Invitation:
        """Create one invitation to an organization; Clerk sends the mail unless `notify` is off."""

    async def invite_many(self, organization: ClerkId, wanted: Sequence[NewInvitation]) -> list[Invitation]:
        """Create up to ten at once."""

    async def find_invitation(self, organization: ClerkId, id: ClerkId) -> Invitation | None:
        """An invitation's present state, None where Clerk has no such one."""

    async def find_link(self, organization: ClerkId, id: ClerkId) -> str | None:
        """The secret address by which a pending invitation is accepted."""

    async def revoke(self, organization: ClerkId, id: ClerkId, *, by: ClerkId | None) -> Invitation:
        """End a pending invitation; refused with `organization_invitation_not_pending` (404) where it is not."""

    async def find_membership(self, organization: ClerkId, user: ClerkId) -> Seen | None:
        """A person's present membership."""

    async def set_role(self, organization: ClerkId, user: ClerkId, role: str) -> Seen:
        """Change a member's role; gives the membership as it is now."""

    async def add_member(self, organization: ClerkId, user: ClerkId, role: str) -> Seen:
        """Make a user a member at once, without an invitation."""

    async def remove_member(self, organization: ClerkId, user: ClerkId) -> Gone:
        """Take a member out."""


class Accounts(Protocol):
    """Changing users. Failures as in Actor."""

    async def find_user(self, id: ClerkId) -> Seen | None:
        """A user's present state."""

    async def find_user_by(self, *, email: str | None = None, external_id: str | None = None) -> Seen | None:
        """The user with this address, or with this external id."""

    async def create_user(self, wanted: NewUser) -> Seen:
        """Make a user, with a verified address and no password."""

    async def update_user(self, id: ClerkId, change: ProfileChange) -> Seen:
        """Change names, username or external id."""

    async def set_metadata(self, id: ClerkId, public: dict[str, Any]) -> Seen:
        """Merge into the public metadata; a None removes a key."""

    async def set_password(self, id: ClerkId, password: str) -> Seen:
        """Set a password, checked by Clerk's own rules; it is kept nowhere else."""

    async def replace_email(self, id: ClerkId, email: str) -> Seen:
        """Replace every address by this one, verified; the old one is told."""

    async def list_emails(self, id: ClerkId) -> list[EmailAddress]:
        """Every address of a user; none where Clerk has no such user."""

    async def add_email(self, id: ClerkId, email: str) -> EmailAddress:
        """Give a user one more address, which is not verified yet."""

    async def send_code(self, email: ClerkId) -> Code:
        """Send a code to an address; its older codes count no longer."""

    async def try_code(self, email: ClerkId, verification: str, code: str) -> str:
        """Verify an address by its code: "verified"; or "unverified" (another code), "expired", "failed"."""

    async def make_primary(self, id: ClerkId, email: ClerkId) -> Seen:
        """Make one of a user's verified addresses the primary one; the old one is told."""

    async def remove_email(self, email: ClerkId) -> None:
        """Take an address away; one that is gone already is fine."""

    async def delete_user(self, id: ClerkId) -> Gone:
        """Delete a user; one that is gone already is fine."""

    async def ban_user(self, id: ClerkId) -> Seen:
        """Ban: every session ends and no sign-in works; refused with status 402 where the plan has no bans."""

    async def unban_user(self, id: ClerkId) -> Seen:
        """Lift a ban."""

    async def count_sessions(self, id: ClerkId) -> int:
        """How many active sessions a user has; 500 stands for that many or more."""

    async def list_sessions(self, id: ClerkId) -> list[OpenSession]:
        """A user's active sessions, the latest activity first."""

    async def revoke_session(self, id: str) -> None:
        """End one session; one that is over already is fine."""

    async def end_sessions(self, id: ClerkId) -> int:
        """Revoke every active session of a user; gives how many there were."""


class Admissions(Protocol):
    """Inviting people to the application as a whole. Failures as in Actor."""

    async def invite_to_app(self, wanted: NewAppInvitation) -> AppInvitation:
        """Create one; Clerk sends the mail unless `notify` is off. Refused where the address has an account."""

    async def list_app_invitations(self, *, status: str | None = None, query: str = "") -> list[AppInvitation]:
        """The newest ones, in one status or in all but `revoked`; `query` is an id or a part of an address."""

    async def revoke_app_invitation(self, id: ClerkId) -> AppInvitation:
        """End a pending one; refused with `invitation_already_accepted` or `_revoked` where it is over."""
