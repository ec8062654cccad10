"""Who may change whom, and the admin who has to stay. Pure: what was read comes in as values."""

import re
from collections.abc import Mapping
from typing import Any, Literal

from instep.access.principal import Access
from instep.identity.model import BARRED
from instep.identity.ports import ProviderRefused
from instep.identity.refusals import CONFLICT, FORBIDDEN, INVALID, LAST_ADMIN, NOT_FOUND, Refused
from instep.identity.refusals import in_words as of_clerk
from instep.identity.standing import Underway
from instep.kit.said import said
from instep.people.merge import MemberRow

Policy = Literal["database", "membership", "ban"]
ROLE = re.compile(r"[a-z][a-z0-9_]*(:[a-z][a-z0-9_]*)?")


class Member(MemberRow, frozen=True, kw_only=True):
    """One person's place in one organization, whatever became of it.

    `status` is active, banned, deprovisioned, deactivated or removed; `deactivation` is how far Clerk followed;
    `is_live` whether the person is neither deleted nor barred.
    """

    deactivation: Policy | None
    is_live: bool

    @property
    def name(self) -> str:
        """What to call them."""
        whole = " ".join(part for part in (self.first_name, self.last_name) if part)
        return whole or self.username or self.email or "This person"


def check_role(access: Access, member: Member, role: str) -> None:
    """Raises Refused unless this member may be given this role."""
    _check_may_act(access, member)
    if not (ROLE.fullmatch(role) and access.roles.is_known(role)):
        raise Refused(
            said("%(role)s is not a role here.", role=role), code="unknown_role", status=INVALID, field="role"
        )
    _check_active(member)
    rank = access.roles.rank
    if rank(role) > access.rank:
        raise Refused("You can't give a role above your own.", code="above_own_role", status=FORBIDDEN)
    if _is_self(access, member) and rank(role) > rank(member.role):
        raise Refused("You can't raise your own role. Ask another admin.", code="raises_self", status=FORBIDDEN)


def check_deactivate(access: Access, member: Member) -> None:
    """Raises Refused unless this member may be deactivated."""
    _check_may_act(access, member)
    if _is_self(access, member):
        raise Refused("You can't deactivate yourself.", code="yourself", status=CONFLICT)
    _check_present(member)
    if member.status == "deactivated":
        raise Refused(said("%(name)s is deactivated already.", name=member.name), code="deactivated", status=CONFLICT)


def check_reactivate(access: Access, member: Member) -> None:
    """Raises Refused unless this member may be reactivated."""
    _check_may_act(access, member)
    _check_present(member)
    if member.status in BARRED:
        raise Refused(_barred(member), code="not_live", status=CONFLICT)
    if member.status == "active":
        raise Refused(said("%(name)s is active already.", name=member.name), code="active", status=CONFLICT)


def check_remove(access: Access, member: Member) -> None:
    """Raises Refused unless this member may be removed by someone else."""
    _check_may_act(access, member)
    if _is_self(access, member):
        words = said("You can't remove yourself. Leave the organization instead.")
        raise Refused(words, code="yourself", status=CONFLICT)
    _check_present(member)


def check_leave(access: Access, member: Member) -> None:
    """Raises Refused unless this is oneself, and still a member."""
    if not _is_self(access, member) or member.status != "active":
        raise Refused("You are not a member of this organization.", code="not_a_member", status=NOT_FOUND)


def check_restore(access: Access, member: Member) -> None:
    """Raises Refused unless this former member may be made one again."""
    _check_may_act(access, member)
    if member.status != "removed":
        raise Refused(said("%(name)s is a member already.", name=member.name), code="already_member", status=CONFLICT)
    if not member.is_live and member.deactivation != "ban":
        raise Refused(_barred(member), code="not_live", status=CONFLICT)
    if (member.clerk_user_id is None) != (access.organization_clerk_id is None) or _is_self(access, member):
        raise Refused(
            said("%(name)s can't be restored here. Invite them.", name=member.name),
            code="invite_instead",
            status=CONFLICT,
        )


def check_transfer(access: Access, own: Member | None, member: Member) -> None:
    """Raises Refused unless one's own admin role may be handed to this member."""
    if own is None or not access.roles.is_admin(own.role) or own.status != "active":
        raise Refused("Only an admin of the organization can hand it over.", code="not_owner", status=FORBIDDEN)
    if own.user_id == member.user_id:
        raise Refused("You have this role already. Choose someone else.", code="yourself", status=CONFLICT)
    _check_active(member)
    if not member.is_live:
        raise Refused(_barred(member), code="not_live", status=CONFLICT)


def check_admin_stays(member: Member, admins: Mapping[str, str], moving: Underway) -> None:
    """Raises Refused where nobody would be left.

    `admins` are the memberships of the active admins, and whose they are. Whoever is about to lose the role no longer
    counts, so that two admins who demote each other at once do not both succeed; and who is just being handed the
    organization can't be taken away from under it.
    """
    others = (id for id, person in admins.items() if id != member.id and not moving.is_leaving(id, person))
    if (member.id in admins or member.id in moving.rising) and not any(others):
        raise Refused(LAST_ADMIN, code="last_admin", status=CONFLICT)


def notices_of(done: Mapping[str, Any]) -> tuple[str, ...]:
    """What Clerk did not do of a change that stands here all the same, one sentence each."""
    follow, sessions = done.get("follow") or {}, done.get("sessions") or {}
    notes: list[str] = []
    if follow.get("is_elsewhere"):
        notes.append("Deactivated here, and signed out everywhere. Their account in Clerk was not banned.")
    elif follow.get("status") == 402:
        notes.append("Your Clerk plan has no bans. Deactivated here, and signed out everywhere.")
    elif "refused" in follow:
        notes.append(said("Deactivated here; Clerk did not follow: %(why)s", why=follow["words"]))
    if "refused" in sessions:
        notes.append(said("Their sessions in Clerk could not be ended: %(why)s", why=sessions["words"]))
    return tuple(notes)


def in_words(refusal: ProviderRefused, *, member: Member, role: str | None = None) -> Refused:
    """Clerk's refusal of a change, said so that the reader knows what happened and what to do."""
    is_about_role = refusal.status == 404 and "role" in str(refusal).lower()
    if role is not None and is_about_role:
        return Refused(
            said("%(role)s is not a role here.", role=role), code="unknown_role", field="role", refusal=refusal
        )
    return of_clerk(refusal, whom=member.name)


def _check_may_act(access: Access, member: Member) -> None:
    if not access.may_act:
        raise Refused("Only admins can make changes.", code="forbidden", status=FORBIDDEN)
    if access.roles.rank(member.role) > access.rank:
        words = said("%(name)s has a role above your own.", name=member.name)
        raise Refused(words, code="above_own_role", status=FORBIDDEN)


def _check_present(member: Member) -> None:
    if member.status == "removed":
        words = said("%(name)s is not a member of this organization any more.", name=member.name)
        raise Refused(words, code="not_a_member", status=NOT_FOUND)


def _check_active(member: Member) -> None:
    _check_present(member)
    if member.status == "deactivated":
        raise Refused(
            said("%(name)s is deactivated. Reactivate them first.", name=member.name),
            code="deactivated",
            status=CONFLICT,
        )


def _barred(member: Member) -> str:
    """Return why this person may not come in anywhere."""
    if member.status == "deprovisioned":
        return said("%(name)s is deprovisioned by your directory.", name=member.name)
    return said("%(name)s was deleted or is banned.", name=member.name)


def _is_self(access: Access, member: Member) -> bool:
    return access.principal.user_id is not None and access.principal.user_id == member.user_id
