"""Inviting: Clerk first, through the journal, so that nothing is lost and nothing is sent twice."""

from dataclasses import dataclass

from instep.access.principal import Access
from instep.identity.model import ClerkId, Invitation
from instep.identity.ports import Directory, ProviderDown, ProviderRefused
from instep.identity.refusals import CONFLICT, FORBIDDEN
from instep.invitations import sending
from instep.invitations.rules import EXPIRES_IN_DAYS, InviteRefused, checked_email, in_words
from instep.journal.model import Asked, Failed
from instep.journal.run import Runner
from instep.kit.db import Db
from instep.mirror.store import member_totals

NO_SEATS = "organization_membership_quota_exceeded"


@dataclass(frozen=True)
class Invite:
    """Sends invitations to an organization. `redirect_url` is where an accepted one leads."""

    db: Db
    runner: Runner
    directory: Directory
    redirect_url: str | None

    async def __call__(
        self,
        access: Access,
        *,
        email: str,
        role: str,
        expires_in_days: int = EXPIRES_IN_DAYS,
        idempotency_key: str | None = None,
    ) -> Invitation:
        """Invite one address.

        1 the right and the address are checked; 2 the operation is kept and carried out: Clerk creates the invitation
        and sends the mail. Raises InviteRefused (nothing was changed), Unsettled (the worker finds out and finishes)
        and Busy.
        """
        if not access.may_act:
            raise InviteRefused("Only admins can invite people.", code="forbidden", status=FORBIDDEN)
        if access.organization_clerk_id is None:
            raise InviteRefused("This organization is not in Clerk: nobody can be invited.", code="local_organization")
        address = checked_email(email)
        organization = ClerkId(access.organization_clerk_id)
        asked = Asked(
            kind=sending.KIND,
            target=f"invitation:{organization}:{address.lower()}",
            actor=access.principal.id,
            organization_id=access.organization_id,
            idempotency_key=idempotency_key,
            intent={
                "organization": organization,
                "email": address,
                "role": role,
                "expires_in_days": expires_in_days,
                "inviter": access.principal.clerk_user_id if access.role else None,
                "redirect_url": self.redirect_url,
            },
        )
        try:
            operation = await self.runner.run(asked)
        except Failed as failed:
            raise await self._in_words(organization, access, failed) from failed
        return sending.invitation_of(operation.done["create"])

    async def _in_words(self, organization: ClerkId, access: Access, failed: Failed) -> InviteRefused:
        intent = failed.operation.intent
        cause = failed.__cause__
        refusal = (
            cause if isinstance(cause, ProviderRefused) else ProviderRefused(str(failed), code=failed.code, status=0)
        )
        if refusal.code == NO_SEATS:
            return await self._no_seats(organization, access, refusal)
        return in_words(refusal, email=intent["email"], role=intent["role"])

    async def _no_seats(self, organization: ClerkId, access: Access, refusal: ProviderRefused) -> InviteRefused:
        """How many seats are in use, and by what."""
        totals = await self.db.read(member_totals, access.organization_id)
        members = sum(count for (status, _), count in totals.items() if status != "removed")
        try:
            invited = len(await self.directory.list_invitations(organization, statuses=("pending",)))
        except ProviderDown:
            return in_words(refusal, email="", role="")
        return InviteRefused(
            f"All {members + invited} seats are in use ({members} members, {invited} invitations).",
            code="no_seats",
            status=CONFLICT,
            refusal=refusal,
        )
