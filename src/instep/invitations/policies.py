"""Permission, validation and rate limit rules of invitations, and Clerk's refusals as product errors."""

import re
from collections.abc import Collection, Sequence

from instep.auth.principal import OrganizationAccess
from instep.core.clock import DAY, HOUR, MAX_CLOCK_SKEW, MINUTE, SECOND, to_datetime
from instep.core.i18n import lazy_gettext
from instep.domain import emails, errors
from instep.domain.emails import canonicalize_email, make_invitation_target
from instep.domain.errors import CONFLICT, FORBIDDEN, NOT_FOUND, ChangeRejectedError, ClerkRejectedError
from instep.domain.models import ClerkApplicationInvitation, ClerkId, ClerkInvitation
from instep.domain.roles import RoleCatalog
from instep.invitations.models import MAX_EXPIRY_DAYS, InvitationSendRecord

TOO_MANY_REQUESTS = 429
DAILY_LIMIT_PER_ACTOR = 100
DAILY_LIMIT_PER_ORGANIZATION = 100
DAILY_LIMIT_PER_ADDRESS = 10
RESEND_COOLDOWN = MINUTE
MAX_COOLDOWN = (
    RESEND_COOLDOWN + MAX_CLOCK_SKEW
)  # a wait that is longer comes from before a clock went back, and is over
BULK_CALLS_PER_HOUR = 50


def check_daily_limits(sent: Sequence[InvitationSendRecord], *, actor: str, emails: Collection[str], now: int) -> None:
    """Whether `actor` may invite these addresses now. Raises InvitationRefusedError with when it works again."""
    since = now - DAY
    recent = [it for it in sent if it.at > since]
    theirs = [it.at for it in recent if it.actor == actor for _ in it.emails]
    here = [it.at for it in recent if it.is_here for _ in it.emails]
    _check_limit(theirs, len(emails), DAILY_LIMIT_PER_ACTOR, lazy_gettext("One person can send"), now)
    _check_limit(here, len(emails), DAILY_LIMIT_PER_ORGANIZATION, lazy_gettext("One organization can send"), now)
    for email in {canonicalize_email(it) for it in emails}:
        to_them = [it.at for it in recent if it.is_here for one in it.emails if one == email]
        _check_limit(to_them, 1, DAILY_LIMIT_PER_ADDRESS, lazy_gettext("%(email)s can be sent", email=email), now)


def check_resend_cooldown(sent: Sequence[InvitationSendRecord], *, email: str, now: int) -> None:
    """Whether an invitation may be sent again already. Raises InvitationRefusedError with when."""
    until = find_resend_cooldowns(sent, now=now).get(canonicalize_email(email))
    if until is not None:
        words = lazy_gettext(
            "This invitation was sent again just now. It works again in %(wait)s.", wait=_format_wait(until - now)
        )
        raise InvitationRefusedError(words, code="cooldown", status=TOO_MANY_REQUESTS)


def find_resend_cooldowns(sent: Sequence[InvitationSendRecord], *, now: int) -> dict[str, int]:
    """The canonical addresses of invitations that were sent again just now, and until when they must wait."""
    resent = [(email, it.at + RESEND_COOLDOWN) for it in sent if it.is_resend and it.is_here for email in it.emails]
    return {
        email: until for email, until in sorted(resent, key=lambda pair: pair[1]) if now < until <= now + MAX_COOLDOWN
    }


def schedule_bulk_calls(before: Sequence[int], *, count: int, now: int) -> list[int]:
    """When `count` bulk calls may be made, so that no hour has more of them than Clerk takes.

    `before` are the times of those that were planned already.
    """
    planned = sorted(before)
    first = len(planned)
    for _ in range(count):
        earliest = planned[-BULK_CALLS_PER_HOUR] + HOUR if len(planned) >= BULK_CALLS_PER_HOUR else now
        planned.append(max(now, earliest, planned[-1] if planned else now))
    return planned[first:]


def _check_limit(used: Sequence[int], wanted: int, limit: int, who: str, now: int) -> None:
    too_many = len(used) + wanted - limit
    if too_many <= 0:
        return
    words = lazy_gettext(
        "%(who)s %(limit)s invitations in 24 hours; %(count)s were sent, %(wanted)s more would be too many.",
        who=who,
        limit=limit,
        count=len(used),
        wanted=wanted,
    )
    if too_many <= len(used):
        again = sorted(used)[too_many - 1] + DAY
        words = lazy_gettext(
            "%(why)s It works again at %(at)s UTC, in %(wait)s.",
            why=words,
            at=f"{to_datetime(again):%H:%M}",
            wait=_format_wait(again - now),
        )
    raise InvitationRefusedError(words, code="limited", status=TOO_MANY_REQUESTS)


def _format_wait(wait: int) -> str:
    for unit, name in ((HOUR, "h"), (MINUTE, "min")):
        if wait >= 2 * unit:
            return f"{-(-wait // unit)} {name}"
    return f"{-(-wait // SECOND)} s"


MAX_NAME_LENGTH = 200
MAX_EMAIL_LENGTH = 320
NOT_PENDING_ERRORS = {
    "accepted": ("already_accepted", CONFLICT, lazy_gettext("Invitation already accepted - refresh to see member.")),
    "revoked": ("already_revoked", CONFLICT, lazy_gettext("Already revoked.")),
    "expired": ("expired", CONFLICT, lazy_gettext("This invitation expired. Send a new one.")),
    "pending": ("not_pending", CONFLICT, lazy_gettext("This invitation is no longer pending.")),
    "gone": ("not_in_clerk", NOT_FOUND, lazy_gettext("No longer in Clerk.")),
}
_INVITATION_ID_PATTERN = re.compile(r"[A-Za-z0-9_]{1,100}", re.ASCII)
_NOT_PENDING_CODES = {code: (status, words) for code, status, words in NOT_PENDING_ERRORS.values()}


class InvitationRefusedError(ChangeRejectedError):
    """An invitation that was not sent, and nothing changed."""


def authorize_organization_admin(access: OrganizationAccess, *, doing: str = "invite people") -> ClerkId:
    """Clerk's id of the organization in which this person may act. Raises InvitationRefusedError where they may not."""
    if not access.can_manage:
        raise InvitationRefusedError(
            lazy_gettext("Only admins can %(doing)s.", doing=doing), code="forbidden", status=FORBIDDEN
        )
    if access.organization_clerk_id is None:
        raise InvitationRefusedError(
            "This organization is not in Clerk: nobody can be invited.", code="local_organization"
        )
    return ClerkId(access.organization_clerk_id)


def get_inviter_id(access: OrganizationAccess) -> ClerkId | None:
    """In whose name Clerk acts: theirs where Clerk lets their role invite here, else the application's."""
    found = access.principal.clerk_user_id if access.role in access.roles.managing_roles else None
    return ClerkId(found) if found else None


def validate_role(roles: RoleCatalog, role: str | None) -> str:
    """A role that can be given, the default one where nobody chose. Raises InvitationRefusedError for one that there is not."""
    wanted = role or roles.default
    if not roles.is_known(wanted):
        raise InvitationRefusedError(
            lazy_gettext("%(role)s is not a role here.", role=wanted[:64]), code="unknown_role", field="role"
        )
    return wanted


def validate_email(text: str) -> str:
    """An address as it will be invited. Raises InvitationRefusedError, before anything is tried, for one that can't be."""
    if len(text) > MAX_EMAIL_LENGTH:
        raise InvitationRefusedError("This is too long for an e-mail address.", code="invalid_email", field="email")
    try:
        return emails.validate_email_address(text)
    except ChangeRejectedError as refused:
        raise InvitationRefusedError(refused.text, code=refused.code, field=refused.field) from refused


def parse_invitation_id(id: str) -> ClerkId | None:
    """An id that Clerk can be asked for; None for a text that is none."""
    return ClerkId(id) if _INVITATION_ID_PATTERN.fullmatch(id) else None


def validate_expiry_days(days: int) -> int:
    """For how long an invitation can be accepted. Raises InvitationRefusedError for what Clerk does not take."""
    if not 1 <= days <= MAX_EXPIRY_DAYS:
        raise InvitationRefusedError(
            lazy_gettext("An invitation can be open for 1 to %(most)s days.", most=MAX_EXPIRY_DAYS),
            code="invalid_expiry",
            field="expires_in_days",
        )
    return days


def validate_name(name: str | None) -> str | None:
    """What to call the invited person; None where nothing was said. Raises InvitationRefusedError for one that is no name."""
    stripped = (name or "").strip()
    if len(stripped) > MAX_NAME_LENGTH or not stripped.isprintable():
        raise InvitationRefusedError("This can't be a name.", code="invalid_name", field="name")
    return stripped or None


def get_operation_target(organization: str, email: str) -> str:
    """What every change of the invitations of one address is about, so that two of them never overlap."""
    return make_invitation_target(organization, email)


def get_expiry_days(invitation: ClerkInvitation | ClerkApplicationInvitation) -> int | None:
    """Return for how many days an invitation was made, from 1 to MOST_DAYS; None where Clerk does not say it."""
    if invitation.expires_at is None or not invitation.created_at:
        return None
    return max(1, min(MAX_EXPIRY_DAYS, round((invitation.expires_at - invitation.created_at) / DAY)))


def build_not_pending_error(
    found: ClerkInvitation | None, *, refusal: ClerkRejectedError | None = None
) -> ClerkRejectedError:
    """Why nothing can be done with an invitation any more, told apart by what Clerk has of it now."""
    code, status, words = NOT_PENDING_ERRORS.get(found.status if found else "gone", NOT_PENDING_ERRORS["pending"])
    return ClerkRejectedError(words, code=code, status=status, trace_id=refusal.trace_id if refusal else None)


def convert_clerk_error(refusal: ClerkRejectedError, *, email: str, role: str) -> InvitationRefusedError:
    """Clerk's refusal of an invitation, said so that the reader knows what to do."""
    if refusal.code in _NOT_PENDING_CODES:
        status, words = _NOT_PENDING_CODES[refusal.code]
        return InvitationRefusedError(words, code=refusal.code, status=status, refusal=refusal)
    if refusal.code == "resource_not_found" and "role" in str(refusal).lower():
        return InvitationRefusedError(
            lazy_gettext("%(role)s is not a role here.", role=role), code="unknown_role", field="role", refusal=refusal
        )
    if refusal.code == "form_param_format_invalid":
        words = lazy_gettext("Clerk does not take %(email)s as an address.", email=email)
        return InvitationRefusedError(words, code="invalid_email", field="email", refusal=refusal)
    found = errors.translate_clerk_error(refusal, whom=email)
    return InvitationRefusedError(found.text, code=found.code, status=found.status, field=found.field, refusal=refusal)
