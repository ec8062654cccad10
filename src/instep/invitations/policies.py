"""Permission, validation and rate limit rules of invitations, and Clerk's refusals as product errors."""

import re
from collections.abc import Collection, Sequence

from instep.auth.principal import OrganizationAccess
from instep.core.clock import DAY, HOUR, MAX_CLOCK_SKEW, MINUTE, SECOND, to_datetime
from instep.core.i18n import LazyString, lazy_gettext
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
MAX_COOLDOWN = RESEND_COOLDOWN + MAX_CLOCK_SKEW  # a longer wait was recorded before a clock went back, and is ignored
BULK_CALLS_PER_HOUR = 50
MAX_NAME_LENGTH = 200
MAX_EMAIL_LENGTH = 320
NOT_PENDING_ERRORS = {
    "accepted": ("already_accepted", CONFLICT, lazy_gettext("Invitation already accepted - refresh to see member.")),
    "revoked": ("already_revoked", CONFLICT, lazy_gettext("Already revoked.")),
    "expired": ("expired", CONFLICT, lazy_gettext("This invitation expired. Send a new one.")),
    "pending": ("not_pending", CONFLICT, lazy_gettext("This invitation is no longer pending.")),
    "gone": ("not_in_clerk", NOT_FOUND, lazy_gettext("No longer in Clerk.")),
}
ONLY_ADMINS_CAN_INVITE = lazy_gettext("Only admins can invite people.")
_INVITATION_ID_PATTERN = re.compile(r"[A-Za-z0-9_]{1,100}", re.ASCII)
_NOT_PENDING_CODES = {code: (status, message) for code, status, message in NOT_PENDING_ERRORS.values()}


class InvitationRefusedError(ChangeRejectedError):
    """An invitation was refused; nothing was changed."""


# Permission and validation


def authorize_organization_admin(
    access: OrganizationAccess, *, message: LazyString = ONLY_ADMINS_CAN_INVITE
) -> ClerkId:
    """Return Clerk's id of the organization that this person may manage.

    Raises:
        InvitationRefusedError: the person is no admin (with `message`), or the organization is not in Clerk.
    """
    if not access.can_manage:
        raise InvitationRefusedError(message, code="forbidden", status=FORBIDDEN)
    if access.organization_clerk_id is None:
        raise InvitationRefusedError(
            lazy_gettext("This organization is not in Clerk, so nobody can be invited."), code="local_organization"
        )
    return ClerkId(access.organization_clerk_id)


def get_inviter_id(access: OrganizationAccess) -> ClerkId | None:
    """Return the inviter to name to Clerk, or None to invite as the application.

    Clerk accepts only inviters whose role may manage invitations.
    """
    user_id = access.principal.clerk_user_id if access.role in access.roles.managing_roles else None
    return ClerkId(user_id) if user_id else None


def validate_role(roles: RoleCatalog, role: str | None) -> str:
    """Return the role, or the default role if None. Raises InvitationRefusedError for an unknown role."""
    chosen = role or roles.default
    if not roles.is_known(chosen):
        raise InvitationRefusedError(
            lazy_gettext("%(role)s is not a role here.", role=chosen[:64]), code="unknown_role", field="role"
        )
    return chosen


def validate_email(text: str) -> str:
    """Return the address as it will be invited. Raises InvitationRefusedError for an invalid one."""
    if len(text) > MAX_EMAIL_LENGTH:
        raise InvitationRefusedError(
            lazy_gettext("This is too long for an email address."), code="invalid_email", field="email"
        )
    try:
        return emails.validate_email_address(text)
    except ChangeRejectedError as error:
        raise InvitationRefusedError(error.text, code=error.code, field=error.field) from error


def validate_expiry_days(days: int) -> int:
    """Return the number of days until expiry. Raises InvitationRefusedError outside of Clerk's range."""
    if not 1 <= days <= MAX_EXPIRY_DAYS:
        raise InvitationRefusedError(
            lazy_gettext("An invitation can expire after 1 to %(max_days)s days.", max_days=MAX_EXPIRY_DAYS),
            code="invalid_expiry",
            field="expires_in_days",
        )
    return days


def validate_name(name: str | None) -> str | None:
    """Return the invitee's name without surrounding space, None if empty. Raises InvitationRefusedError if invalid."""
    stripped = (name or "").strip()
    if len(stripped) > MAX_NAME_LENGTH or not stripped.isprintable():
        raise InvitationRefusedError(lazy_gettext("This is not a valid name."), code="invalid_name", field="name")
    return stripped or None


def parse_invitation_id(text: str) -> ClerkId | None:
    """Return the text as Clerk's id of an invitation, or None if it cannot be one."""
    return ClerkId(text) if _INVITATION_ID_PATTERN.fullmatch(text) else None


def get_operation_target(organization_id: str, email: str) -> str:
    """Return the operation target shared by all changes of one address's invitations, so that none overlap.

    `organization_id` is Clerk's id.
    """
    return make_invitation_target(organization_id, email)


def get_expiry_days(invitation: ClerkInvitation | ClerkApplicationInvitation) -> int | None:
    """Return the number of days an invitation was created for, within Clerk's range; None if Clerk leaves it out."""
    if invitation.expires_at is None or not invitation.created_at:
        return None
    return max(1, min(MAX_EXPIRY_DAYS, round((invitation.expires_at - invitation.created_at) / DAY)))


# Rate limits


def check_daily_limits(sent: Sequence[InvitationSendRecord], *, actor: str, emails: Collection[str], now: int) -> None:
    """Check the daily limits per actor, organization and address.

    Raises:
        InvitationRefusedError: a limit is exceeded; the message says when sending is possible again.
    """
    since = now - DAY
    recent = [it for it in sent if it.sent_at > since]
    by_actor = [it.sent_at for it in recent if it.actor == actor for _ in it.emails]
    in_organization = [it.sent_at for it in recent if it.is_here for _ in it.emails]
    if _is_over(by_actor, len(emails), limit := DAILY_LIMIT_PER_ACTOR):
        message = lazy_gettext(
            "One person can send %(limit)s invitations in 24 hours; "
            "%(count)s were sent, %(requested)s more would be too many.",
            limit=limit,
            count=len(by_actor),
            requested=len(emails),
        )
        raise _make_limit_error(message, by_actor, len(emails), limit, now)
    if _is_over(in_organization, len(emails), limit := DAILY_LIMIT_PER_ORGANIZATION):
        message = lazy_gettext(
            "One organization can send %(limit)s invitations in 24 hours; "
            "%(count)s were sent, %(requested)s more would be too many.",
            limit=limit,
            count=len(in_organization),
            requested=len(emails),
        )
        raise _make_limit_error(message, in_organization, len(emails), limit, now)
    for email in {canonicalize_email(it) for it in emails}:
        to_address = [it.sent_at for it in recent if it.is_here for one in it.emails if one == email]
        if _is_over(to_address, 1, limit := DAILY_LIMIT_PER_ADDRESS):
            message = lazy_gettext(
                "%(email)s can be sent %(limit)s invitations in 24 hours; %(count)s were sent.",
                email=email,
                limit=limit,
                count=len(to_address),
            )
            raise _make_limit_error(message, to_address, 1, limit, now)


def check_resend_cooldown(sent: Sequence[InvitationSendRecord], *, email: str, now: int) -> None:
    """Check that the address was not resent an invitation less than a minute ago. Raises InvitationRefusedError."""
    until = find_resend_cooldowns(sent, now=now).get(canonicalize_email(email))
    if until is not None:
        raise InvitationRefusedError(
            lazy_gettext("This invitation was just resent. Try again in %(wait)s.", wait=_format_wait(until - now)),
            code="cooldown",
            status=TOO_MANY_REQUESTS,
        )


def find_resend_cooldowns(sent: Sequence[InvitationSendRecord], *, now: int) -> dict[str, int]:
    """Return the canonical addresses that cannot be resent to yet, with the time when they can (Unix milliseconds)."""
    resent = [
        (email, it.sent_at + RESEND_COOLDOWN) for it in sent if it.is_resend and it.is_here for email in it.emails
    ]
    return {
        email: until for email, until in sorted(resent, key=lambda pair: pair[1]) if now < until <= now + MAX_COOLDOWN
    }


def schedule_bulk_calls(planned_at: Sequence[int], *, count: int, now: int) -> list[int]:
    """Return start times of `count` bulk calls that keep below Clerk's limit per hour.

    `planned_at` are the times of the calls that are planned already.
    """
    planned = sorted(planned_at)
    first = len(planned)
    for _ in range(count):
        earliest = planned[-BULK_CALLS_PER_HOUR] + HOUR if len(planned) >= BULK_CALLS_PER_HOUR else now
        planned.append(max(now, earliest, planned[-1] if planned else now))
    return planned[first:]


def _is_over(used: Sequence[int], requested: int, limit: int) -> bool:
    return len(used) + requested > limit


def _make_limit_error(
    message: LazyString, used: Sequence[int], requested: int, limit: int, now: int
) -> InvitationRefusedError:
    excess = len(used) + requested - limit
    if excess <= len(used):
        possible_at = sorted(used)[excess - 1] + DAY
        message = lazy_gettext(
            "%(message)s Try again at %(time)s UTC, in %(wait)s.",
            message=message,
            time=f"{to_datetime(possible_at):%H:%M}",
            wait=_format_wait(possible_at - now),
        )
    return InvitationRefusedError(message, code="limited", status=TOO_MANY_REQUESTS)


def _format_wait(milliseconds: int) -> str:
    for unit, name in ((HOUR, "h"), (MINUTE, "min")):
        if milliseconds >= 2 * unit:
            return f"{-(-milliseconds // unit)} {name}"
    return f"{-(-milliseconds // SECOND)} s"


# Clerk's refusals


def build_not_pending_error(
    invitation: ClerkInvitation | None, *, refusal: ClerkRejectedError | None = None
) -> ClerkRejectedError:
    """Return an error for an invitation that is not pending, with the code of its present status in Clerk."""
    key = invitation.status if invitation else "gone"
    code, status, message = NOT_PENDING_ERRORS.get(key, NOT_PENDING_ERRORS["pending"])
    return ClerkRejectedError(message, code=code, status=status, trace_id=refusal.trace_id if refusal else None)


def convert_clerk_error(refusal: ClerkRejectedError, *, email: str, role: str) -> InvitationRefusedError:
    """Return Clerk's refusal of an invitation as an error with a message that says what to do."""
    if refusal.code in _NOT_PENDING_CODES:
        status, message = _NOT_PENDING_CODES[refusal.code]
        return InvitationRefusedError(message, code=refusal.code, status=status, refusal=refusal)
    if refusal.code == "resource_not_found" and "role" in str(refusal).lower():
        message = lazy_gettext("%(role)s is not a role here.", role=role)
        return InvitationRefusedError(message, code="unknown_role", field="role", refusal=refusal)
    if refusal.code == "form_param_format_invalid":
        message = lazy_gettext("Clerk does not accept %(email)s as an address.", email=email)
        return InvitationRefusedError(message, code="invalid_email", field="email", refusal=refusal)
    error = errors.translate_clerk_error(refusal, whom=email)
    return InvitationRefusedError(error.text, code=error.code, status=error.status, field=error.field, refusal=refusal)
