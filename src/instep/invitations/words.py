"""What a person is told when an invitation's operation ended otherwise than asked."""

from dataclasses import dataclass

from instep.access.principal import Access
from instep.identity.model import ClerkId
from instep.identity.ports import Directory, ProviderRefused
from instep.identity.refusals import CONFLICT
from instep.invitations.rules import InviteRefused, in_words
from instep.journal.model import Failed
from instep.kit.db import Db
from instep.kit.errors import InstepError
from instep.kit.said import said
from instep.mirror.store import member_totals

NO_SEATS = "organization_membership_quota_exceeded"


@dataclass(frozen=True)
class Words:
    """Puts failures into words; reads what it needs to be exact."""

    db: Db
    directory: Directory

    async def of(self, access: Access, failed: Failed) -> InviteRefused:
        """The refusal as a sentence: that something was lost, how many seats are in use, or what Clerk said."""
        intent, refusal = failed.operation.intent, _refusal_of(failed)
        if failed.operation.state == "attention":
            return InviteRefused(str(failed), code="invitation_lost", status=CONFLICT, refusal=refusal)
        if refusal.code == NO_SEATS and access.organization_clerk_id:
            return await self._no_seats(ClerkId(access.organization_clerk_id), access, refusal)
        return in_words(refusal, email=intent["email"], role=intent.get("role", ""))

    async def _no_seats(self, organization: ClerkId, access: Access, refusal: ProviderRefused) -> InviteRefused:
        totals = await self.db.read(member_totals, access.organization_id)
        members = sum(count for (status, _), count in totals.items() if status != "removed")
        try:
            invited = len(await self.directory.list_invitations(organization, statuses=("pending",)))
        except InstepError:
            return in_words(refusal, email="", role="")
        words = said(
            "All %(value)s seats are in use (%(members)s members, %(invited)s invitations).",
            value=members + invited,
            members=members,
            invited=invited,
        )
        return InviteRefused(words, code="no_seats", status=CONFLICT, refusal=refusal)


def _refusal_of(failed: Failed) -> ProviderRefused:
    """Clerk's refusal behind a failure; of a repetition only its code is known."""
    cause = failed.__cause__
    return cause if isinstance(cause, ProviderRefused) else ProviderRefused(str(failed), code=failed.code, status=0)
