"""What instep needs of an identity provider. `instep.clerk` is the only implementation; tests ship another."""

from collections.abc import Sequence
from typing import Protocol

from instep.identity.events import News
from instep.identity.model import ClerkId, Invitation, NewInvitation
from instep.identity.rules import AskAgain
from instep.kit.errors import PermanentError, TemporaryError


class ProviderDown(TemporaryError):
    """Clerk could not be reached, was too slow, limits us, or failed by itself. Nothing is known of the effect."""


class ProviderRefused(PermanentError):
    """Clerk said no, definitely: nothing was changed there.

    `code` is Clerk's own (`organization_invitation_not_unique`, ...), `status` the HTTP status,
    `trace_id` Clerk's, for its support.
    """

    def __init__(self, message: str, *, code: str, status: int, trace_id: str | None = None) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.trace_id = trace_id


class Directory(Protocol):
    """Reading. Each method raises ProviderDown or ProviderRefused."""

    async def look(self, asks: Sequence[AskAgain]) -> list[News]:
        """The present state of each thing asked for, in any order; one that Clerk does not have is Gone."""

    async def list_invitations(self, organization: ClerkId, *, statuses: Sequence[str]) -> list[Invitation]:
        """The invitations of one organization in these statuses, newest first."""


class Actor(Protocol):
    """Changing. ProviderRefused: nothing was done. ProviderDown: unknown whether it was done."""

    async def invite(self, organization: ClerkId, wanted: NewInvitation) -> Invitation:
        """Create one invitation to an organization; Clerk sends the mail."""
