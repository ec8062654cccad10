"""Permission rules of member changes. Pure."""

import re
from collections.abc import Mapping
from typing import Any

from instep.auth.principal import OrganizationAccess
from instep.core.i18n import lazy_gettext
from instep.domain.errors import (
    CONFLICT,
    FORBIDDEN,
    INVALID,
    LAST_ADMIN_MESSAGE,
    NOT_FOUND,
    ChangeRejectedError,
    ClerkRejectedError,
    translate_clerk_error,
)
from instep.domain.last_admin import PendingAdminChanges
from instep.domain.models import BLOCKED_STATUSES
from instep.members.models import MemberRecord

ROLE_PATTERN = re.compile(r"[a-z][a-z0-9_]*(:[a-z][a-z0-9_]*)?")


def check_role(access: OrganizationAccess, member: MemberRecord, role: str) -> None:
    """Raise ChangeRejectedError unless this member may be given this role."""
    _check_can_act(access, member)
    if not (ROLE_PATTERN.fullmatch(role) and access.roles.is_known(role)):
        raise ChangeRejectedError(
            lazy_gettext("The role %(role)s does not exist in this organization.", role=role),
            code="unknown_role",
            status=INVALID,
            field="role",
        )
    _check_active(member)
    rank = access.roles.rank
    if rank(role) > access.rank:
        raise ChangeRejectedError("You can't assign a role above your own.", code="above_own_role", status=FORBIDDEN)
    if _is_self(access, member) and rank(role) > rank(member.role):
        raise ChangeRejectedError(
            "You can't raise your own role. Ask another admin.", code="raises_self", status=FORBIDDEN
        )


def check_deactivate(access: OrganizationAccess, member: MemberRecord) -> None:
    """Raise ChangeRejectedError unless this member may be deactivated."""
    _check_can_act(access, member)
    if _is_self(access, member):
        raise ChangeRejectedError("You can't deactivate yourself.", code="yourself", status=CONFLICT)
    _check_present(member)
    if member.status == "deactivated":
        raise ChangeRejectedError(
            lazy_gettext("%(name)s is already deactivated.", name=member.name), code="deactivated", status=CONFLICT
        )


def check_reactivate(access: OrganizationAccess, member: MemberRecord) -> None:
    """Raise ChangeRejectedError unless this member may be reactivated."""
    _check_can_act(access, member)
    _check_present(member)
    if member.status in BLOCKED_STATUSES:
        raise ChangeRejectedError(_format_blocked_reason(member), code="not_live", status=CONFLICT)
    if member.status == "active":
        raise ChangeRejectedError(
            lazy_gettext("%(name)s is already active.", name=member.name), code="active", status=CONFLICT
        )


def check_remove(access: OrganizationAccess, member: MemberRecord) -> None:
    """Raise ChangeRejectedError unless this member may be removed by someone else."""
    _check_can_act(access, member)
    if _is_self(access, member):
        message = lazy_gettext("You can't remove yourself. Leave the organization instead.")
        raise ChangeRejectedError(message, code="yourself", status=CONFLICT)
    _check_present(member)


def check_leave(access: OrganizationAccess, member: MemberRecord) -> None:
    """Raise ChangeRejectedError unless this is the caller, and an active member."""
    if not _is_self(access, member) or member.status != "active":
        raise ChangeRejectedError("You are not a member of this organization.", code="not_a_member", status=NOT_FOUND)


def check_restore(access: OrganizationAccess, member: MemberRecord) -> None:
    """Raise ChangeRejectedError unless this former member may be restored."""
    _check_can_act(access, member)
    if member.status != "removed":
        raise ChangeRejectedError(
            lazy_gettext("%(name)s is already a member.", name=member.name), code="already_member", status=CONFLICT
        )
    if not member.is_live and member.deactivation != "ban":
        raise ChangeRejectedError(_format_blocked_reason(member), code="not_live", status=CONFLICT)
    if (member.clerk_user_id is None) != (access.organization_clerk_id is None) or _is_self(access, member):
        raise ChangeRejectedError(
            lazy_gettext("%(name)s can't be restored here. Invite them instead.", name=member.name),
            code="invite_instead",
            status=CONFLICT,
        )


def check_transfer(access: OrganizationAccess, own: MemberRecord | None, member: MemberRecord) -> None:
    """Raise ChangeRejectedError unless the caller's admin role may be transferred to this member."""
    if own is None or not access.roles.is_admin(own.role) or own.status != "active":
        raise ChangeRejectedError(
            "Only an admin of the organization can transfer it.", code="not_owner", status=FORBIDDEN
        )
    if own.user_id == member.user_id:
        raise ChangeRejectedError("You already have this role. Choose someone else.", code="yourself", status=CONFLICT)
    _check_active(member)
    if not member.is_live:
        raise ChangeRejectedError(_format_blocked_reason(member), code="not_live", status=CONFLICT)


def check_admin_stays(member: MemberRecord, admins: Mapping[str, str], pending: PendingAdminChanges) -> None:
    """Raise ChangeRejectedError where the organization would have no admin left.

    `admins` maps the memberships of the active admins to their users. An admin who is losing the role in a `pending`
    operation no longer counts, so that two admins who demote each other at once do not both succeed. A member to whom
    the organization is being transferred is protected like an admin.
    """
    others = (
        membership_id
        for membership_id, user_id in admins.items()
        if membership_id != member.id and not pending.is_losing_admin(membership_id, user_id)
    )
    if (member.id in admins or member.id in pending.promoted_membership_ids) and not any(others):
        raise ChangeRejectedError(LAST_ADMIN_MESSAGE, code="last_admin", status=CONFLICT)


def build_notices(done: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a sentence for each part of a change that took effect here and not in Clerk.

    `done` are the results of the operation's steps.
    """
    follow, sessions = done.get("follow") or {}, done.get("sessions") or {}
    notices: list[str] = []
    if follow.get("is_elsewhere"):
        notices.append("Deactivated here, and signed out everywhere. Their account in Clerk was not banned.")
    elif follow.get("status") == 402:
        notices.append("Your Clerk plan does not include bans. Deactivated here, and signed out everywhere.")
    elif "refused" in follow:
        notices.append(lazy_gettext("Deactivated here, but not in Clerk: %(reason)s", reason=follow["words"]))
    if "refused" in sessions:
        notices.append(lazy_gettext("Their sessions in Clerk could not be ended: %(reason)s", reason=sessions["words"]))
    return tuple(notices)


def translate_refusal(
    refusal: ClerkRejectedError, *, member: MemberRecord, role: str | None = None
) -> ChangeRejectedError:
    """Translate Clerk's refusal of a change to a sentence that says what happened and what to do."""
    is_about_role = refusal.status == 404 and "role" in str(refusal).lower()
    if role is not None and is_about_role:
        return ChangeRejectedError(
            lazy_gettext("The role %(role)s does not exist in this organization.", role=role),
            code="unknown_role",
            field="role",
            refusal=refusal,
        )
    return translate_clerk_error(refusal, whom=member.name)


def _check_can_act(access: OrganizationAccess, member: MemberRecord) -> None:
    if not access.can_manage:
        raise ChangeRejectedError("Only admins can make changes.", code="forbidden", status=FORBIDDEN)
    if access.roles.rank(member.role) > access.rank:
        message = lazy_gettext("%(name)s has a role above your own.", name=member.name)
        raise ChangeRejectedError(message, code="above_own_role", status=FORBIDDEN)


def _check_present(member: MemberRecord) -> None:
    if member.status == "removed":
        message = lazy_gettext("%(name)s is no longer a member of this organization.", name=member.name)
        raise ChangeRejectedError(message, code="not_a_member", status=NOT_FOUND)


def _check_active(member: MemberRecord) -> None:
    _check_present(member)
    if member.status == "deactivated":
        raise ChangeRejectedError(
            lazy_gettext("%(name)s is deactivated. Reactivate them first.", name=member.name),
            code="deactivated",
            status=CONFLICT,
        )


def _format_blocked_reason(member: MemberRecord) -> str:
    """Return the reason why this user has no access anywhere."""
    if member.status == "deprovisioned":
        return lazy_gettext("%(name)s was deprovisioned by your directory.", name=member.name)
    return lazy_gettext("%(name)s was deleted or is banned.", name=member.name)


def _is_self(access: OrganizationAccess, member: MemberRecord) -> bool:
    return access.principal.user_id is not None and access.principal.user_id == member.user_id
