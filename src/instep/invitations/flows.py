"""Inviting: Clerk first; the record of it is ours."""

from dataclasses import dataclass

from instep.access.principal import Access
from instep.audit.store import Entry, record
from instep.identity.model import ClerkId, Invitation, NewInvitation
from instep.identity.ports import Actor, Directory, ProviderDown, ProviderRefused
from instep.invitations.rules import EXPIRES_IN_DAYS, InviteRefused, checked_email, in_words
from instep.kit.clock import Clock
from instep.kit.db import Db
from instep.mirror.store import member_totals

NO_SEATS = "organization_membership_quota_exceeded"


@dataclass(frozen=True)
class Invite:
    """Sends invitations to an organization. `redirect_url` is where an accepted one leads."""

    db: Db
    actor: Actor
    directory: Directory
    clock: Clock
    redirect_url: str | None

    async def __call__(
        self, access: Access, *, email: str, role: str, expires_in_days: int = EXPIRES_IN_DAYS
    ) -> Invitation:
        """Invite one address.

        1 the right and the address are checked; 2 Clerk creates the invitation and sends the mail, and where it did
        not answer, its list says whether it did; 3 the audit keeps it. Raises InviteRefused (nothing was changed) and
        ProviderDown (still unknown: the list will tell).
        """
        if not access.may_act:
            raise InviteRefused("Only admins can invite people.", code="forbidden")
        if access.organization_clerk_id is None:
            raise InviteRefused("This organization is not in Clerk: nobody can be invited.", code="local_organization")
        address = checked_email(email)
        wanted = NewInvitation(
            email=address,
            role=role,
            expires_in_days=expires_in_days,
            inviter=ClerkId(access.principal.clerk_user_id) if access.role and access.principal.clerk_user_id else None,
            redirect_url=self.redirect_url,
        )
        invitation = await self._send(ClerkId(access.organization_clerk_id), wanted, access)
        await self.db.write(record, [_entry(access, invitation)], now=self.clock())
        return invitation

    async def _send(self, organization: ClerkId, wanted: NewInvitation, access: Access) -> Invitation:
        try:
            return await self.actor.invite(organization, wanted)
        except ProviderRefused as refusal:
            if refusal.code == NO_SEATS:
                raise await self._no_seats(organization, access, refusal) from refusal
            raise in_words(refusal, email=wanted.email, role=wanted.role) from refusal
        except ProviderDown as silence:
            return await self._read_back(organization, wanted, silence)

    async def _read_back(self, organization: ClerkId, wanted: NewInvitation, silence: ProviderDown) -> Invitation:
        """Clerk was silent: its own list tells whether the invitation was made. It is never made a second time."""
        try:
            pending = await self.directory.list_invitations(organization, statuses=("pending",))
        except ProviderDown:
            raise ProviderDown(
                "We do not know yet whether Clerk sent the invitation. The list will show it if it did.",
                retry_after=silence.retry_after,
            ) from silence
        found = next((it for it in pending if it.email.lower() == wanted.email.lower()), None)
        if found is None:
            raise ProviderDown(f"{silence} The invitation was not sent.", retry_after=silence.retry_after) from silence
        return found

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
            refusal=refusal,
        )


def _entry(access: Access, invitation: Invitation) -> Entry:
    by = access.principal
    return Entry(
        actor=by.user_id or by.kind,
        action="invitation.sent",
        target=invitation.clerk_id,
        details={"organization": access.organization_id, "email": invitation.email, "role": invitation.role},
    )
