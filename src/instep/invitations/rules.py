"""What may be asked of whom, and Clerk's refusals in words that a person can use. Pure."""

import re

from instep.access.principal import Access
from instep.identity import addresses, refusals
from instep.identity.addresses import invitation_target
from instep.identity.model import AppInvitation, ClerkId, Invitation
from instep.identity.ports import ProviderRefused
from instep.identity.refusals import CONFLICT, FORBIDDEN, NOT_FOUND, Refused
from instep.identity.roles import Roles
from instep.kit.clock import DAY
from instep.kit.said import said

EXPIRES_IN_DAYS = 7
MOST_DAYS = 365
LONGEST_NAME = 200
LONGEST_EMAIL = 320
STALE = {
    "accepted": ("already_accepted", CONFLICT, said("Invitation already accepted - refresh to see member.")),
    "revoked": ("already_revoked", CONFLICT, said("Already revoked.")),
    "expired": ("expired", CONFLICT, said("This invitation expired. Send a new one.")),
    "pending": ("not_pending", CONFLICT, said("This invitation is no longer pending.")),
    "gone": ("not_in_clerk", NOT_FOUND, said("No longer in Clerk.")),
}
_ID = re.compile(r"[A-Za-z0-9_]{1,100}", re.ASCII)
_STALE_CODES = {code: (status, words) for code, status, words in STALE.values()}


class InviteRefused(Refused):
    """An invitation that was not sent, and nothing changed."""


def organization_of(access: Access, *, doing: str = "invite people") -> ClerkId:
    """Clerk's id of the organization in which this person may act. Raises InviteRefused where they may not."""
    if not access.may_act:
        raise InviteRefused(said("Only admins can %(doing)s.", doing=doing), code="forbidden", status=FORBIDDEN)
    if access.organization_clerk_id is None:
        raise InviteRefused("This organization is not in Clerk: nobody can be invited.", code="local_organization")
    return ClerkId(access.organization_clerk_id)


def inviter_of(access: Access) -> ClerkId | None:
    """In whose name Clerk acts: theirs where Clerk lets their role invite here, else the application's."""
    found = access.principal.clerk_user_id if access.role in access.roles.managers else None
    return ClerkId(found) if found else None


def checked_role(roles: Roles, role: str | None) -> str:
    """A role that can be given, the default one where nobody chose. Raises InviteRefused for one that there is not."""
    wanted = role or roles.default
    if not roles.is_known(wanted):
        raise InviteRefused(said("%(role)s is not a role here.", role=wanted[:64]), code="unknown_role", field="role")
    return wanted


def checked_email(text: str) -> str:
    """An address as it will be invited. Raises InviteRefused, before anything is tried, for one that can't be."""
    if len(text) > LONGEST_EMAIL:
        raise InviteRefused("This is too long for an e-mail address.", code="invalid_email", field="email")
    try:
        return addresses.checked_email(text)
    except Refused as refused:
        raise InviteRefused(refused.words, code=refused.code, field=refused.field) from refused


def checked_id(id: str) -> ClerkId | None:
    """An id that Clerk can be asked for; None for a text that is none."""
    return ClerkId(id) if _ID.fullmatch(id) else None


def checked_days(days: int) -> int:
    """For how long an invitation can be accepted. Raises InviteRefused for what Clerk does not take."""
    if not 1 <= days <= MOST_DAYS:
        raise InviteRefused(
            said("An invitation can be open for 1 to %(most)s days.", most=MOST_DAYS),
            code="invalid_expiry",
            field="expires_in_days",
        )
    return days


def checked_name(name: str | None) -> str | None:
    """What to call the invited person; None where nothing was said. Raises InviteRefused for one that is no name."""
    stripped = (name or "").strip()
    if len(stripped) > LONGEST_NAME or not stripped.isprintable():
        raise InviteRefused("This can't be a name.", code="invalid_name", field="name")
    return stripped or None


def target_of(organization: str, email: str) -> str:
    """What every change of the invitations of one address is about, so that two of them never overlap."""
    return invitation_target(organization, email)


def days_of(invitation: Invitation | AppInvitation) -> int | None:
    """Return for how many days an invitation was made, from 1 to MOST_DAYS; None where Clerk does not say it."""
    if invitation.expires_at is None or not invitation.created_at:
        return None
    return max(1, min(MOST_DAYS, round((invitation.expires_at - invitation.created_at) / DAY)))


def stale(found: Invitation | None, *, refusal: ProviderRefused | None = None) -> ProviderRefused:
    """Why nothing can be done with an invitation any more, told apart by what Clerk has of it now."""
    code, status, words = STALE.get(found.status if found else "gone", STALE["pending"])
    return ProviderRefused(words, code=code, status=status, trace_id=refusal.trace_id if refusal else None)


def in_words(refusal: ProviderRefused, *, email: str, role: str) -> InviteRefused:
    """Clerk's refusal of an invitation, said so that the reader knows what to do."""
    if refusal.code in _STALE_CODES:
        status, words = _STALE_CODES[refusal.code]
        return InviteRefused(words, code=refusal.code, status=status, refusal=refusal)
    if refusal.code == "resource_not_found" and "role" in str(refusal).lower():
        return InviteRefused(
            said("%(role)s is not a role here.", role=role), code="unknown_role", field="role", refusal=refusal
        )
    if refusal.code == "form_param_format_invalid":
        words = said("Clerk does not take %(email)s as an address.", email=email)
        return InviteRefused(words, code="invalid_email", field="email", refusal=refusal)
    found = refusals.in_words(refusal, whom=email)
    return InviteRefused(found.words, code=found.code, status=found.status, field=found.field, refusal=refusal)
