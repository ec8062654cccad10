"""Inviting people to the application as a whole, with a role and a place in a local organization."""

import re
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from instep.access.principal import Principal, gives_rights
from instep.identity.addresses import canonical
from instep.identity.model import AppInvitation
from instep.identity.ports import Admissions, ProviderRefused
from instep.identity.refusals import CONFLICT, FORBIDDEN, NOT_FOUND
from instep.invitations import limits, store
from instep.invitations.application import sending
from instep.invitations.rules import (
    EXPIRES_IN_DAYS,
    STALE,
    InviteRefused,
    checked_days,
    checked_email,
    checked_id,
    days_of,
    in_words,
)
from instep.invitations.sending import MARK
from instep.journal.model import Asked, Failed
from instep.journal.run import Runner
from instep.journal.store import find as find_operation
from instep.journal.store import find_repeated
from instep.kit.clock import DAY, Clock
from instep.kit.clock import now as system_now
from instep.kit.db import Conn, Db
from instep.kit.said import said
from instep.mirror.joining import ORGANIZATION, ROLE
from instep.mirror.store import find_organization

STATUSES = ("pending", "accepted", "revoked", "expired")
_ROLE = re.compile(r"[a-z][a-z0-9_:-]{0,63}", re.ASCII)
_OVER = {"invitation_already_accepted": STALE["accepted"], "invitation_already_revoked": STALE["revoked"]}


class WantedInApp(Struct, frozen=True, kw_only=True):
    """An invitation to the application. `role` is theirs in it, or in `organization`: a local one (id or slug)."""

    email: str
    role: str = "member"
    organization: str | None = None
    expires_in_days: int = EXPIRES_IN_DAYS
    notify: bool = True


@dataclass(frozen=True)
class Applications:
    """Invites to the application; for instance admins alone. `redirect_url` is where an accepted one leads."""

    db: Db
    runner: Runner
    clerk: Admissions
    redirect_url: str | None
    clock: Clock = field(default=system_now)

    async def invite(
        self, principal: Principal, wanted: WantedInApp, *, idempotency_key: str | None = None
    ) -> AppInvitation:
        """Invite one address.

        1 the right, the address, the role and the organization are checked; 2 the operation is kept, unless too many
        were sent; 3 Clerk creates the invitation, with the role and the organization in the metadata that the user
        will have. Raises InviteRefused (nothing was changed), Unsettled and Busy.
        """
        _require_admin(principal)
        email = checked_email(wanted.email)
        organization = await self._organization(wanted.organization)
        role = checked_role(wanted.role, is_local=organization is not None)
        public = {ROLE: role} | ({ORGANIZATION: organization} if organization else {})
        _require_key_may(principal, public)
        asked = Asked(
            kind=sending.INVITE,
            target=f"application:{canonical(email)}",
            actor=principal.id,
            organization_id=organization,
            idempotency_key=idempotency_key,
            intent={
                "email": email,
                "expires_in_days": checked_days(wanted.expires_in_days),
                "notify": wanted.notify,
                "redirect_url": self.redirect_url,
                "public_metadata": public,
            },
        )
        step = await self._run(asked, "create", email, opening=partial(self._check, principal=principal, email=email))
        return sending.invitation_of(step)

    async def list(self, principal: Principal, *, status: str | None = None, query: str = "") -> list[AppInvitation]:
        """The newest ones; in all statuses but `revoked`, unless one is asked for. Raises InviteRefused."""
        _require_admin(principal)
        try:
            return await self.clerk.list_app_invitations(status=status, query=query)
        except ProviderRefused as refusal:
            raise in_words(refusal, email="", role="") from refusal

    async def find(self, principal: Principal, invitation: str) -> AppInvitation:
        """One of those that are listed, or revoked. Raises InviteRefused (404 for none)."""
        id = checked_id(invitation)
        if id is None:
            raise _gone()
        listed = await self.list(principal, query=id) + await self.list(principal, status="revoked", query=id)
        found = next((it for it in listed if it.clerk_id == id), None)
        if found is None:
            raise _gone()
        return found

    async def resend(
        self, principal: Principal, *, invitation: str, idempotency_key: str | None = None
    ) -> AppInvitation:
        """Send one again, an expired one too: the same address, role and organization, and as many days.

        1 the right, and that it waits for an answer; 2 the operation is kept, unless it was sent again just now or
        too many were; 3 Clerk revokes the old one; 4 and makes the new one: if that fails, the worker tries again.
        Raises InviteRefused, Unsettled and Busy.
        """
        _require_admin(principal)
        old = await self.find(principal, invitation)
        days = days_of(old) or await self._days_sent(old)
        public = {name: value for name, value in old.public_metadata.items() if name != MARK}
        _require_key_may(principal, public)
        asked = Asked(
            kind=sending.RESEND,
            target=f"application:{canonical(old.email)}",
            actor=principal.id,
            organization_id=public.get(ORGANIZATION),
            idempotency_key=idempotency_key,
            intent={
                "invitation": old.clerk_id,
                "email": old.email,
                "expires_in_days": days,
                "notify": True,
                "redirect_url": self.redirect_url,
                "public_metadata": public,
            },
        )
        if old.status not in ("pending", "expired") and await self.db.read(find_repeated, asked) is None:
            code, status, words = STALE[old.status]
            raise InviteRefused(words, code=code, status=status)
        check = partial(self._check, principal=principal, email=old.email, is_resend=True)
        return sending.invitation_of(await self._run(asked, "create", old.email, opening=check))

    async def revoke(
        self, principal: Principal, *, invitation: str, idempotency_key: str | None = None
    ) -> AppInvitation:
        """Take one back. It does not stop its addressee from signing up by themselves.

        1 the right is checked; 2 the operation is kept; 3 Clerk revokes it, or says that it is over already.
        Raises InviteRefused (nothing was changed), Unsettled and Busy.
        """
        _require_admin(principal)
        id = checked_id(invitation)
        if id is None:
            raise _gone()
        asked = Asked(
            kind=sending.REVOKE,
            target=f"application:{id}",
            actor=principal.id,
            idempotency_key=idempotency_key,
            intent={"invitation": id},
        )
        return sending.invitation_of(await self._run(asked, "revoke", "This invitation"))

    async def _run(self, asked: Asked, step: str, whom: str, *, opening: Any = None) -> dict[str, Any]:
        try:
            operation = await self.runner.run(asked, opening=opening)
        except Failed as failed:
            raise _in_words(failed, whom) from failed
        done: dict[str, Any] = operation.done[step]
        return done

    async def _organization(self, ref: str | None) -> str | None:
        if ref is None:
            return None
        found = await self.db.read(find_organization, ref)
        if found is None:
            words = said("There is no organization %(ref)s.", ref=ref)
            raise InviteRefused(words, code="organization_not_found", status=NOT_FOUND, field="organization")
        if found.clerk_id is not None:
            words = said("%(name)s is in Clerk: invite to it directly.", name=found.name)
            raise InviteRefused(words, code="not_local", status=CONFLICT, field="organization")
        return found.id

    async def _days_sent(self, invitation: AppInvitation) -> int:
        """Return for how many days we made an invitation of which Clerk does not say it; of others': the default."""
        sent = await self.db.read(find_operation, str(invitation.public_metadata.get(MARK, "")))
        return int(sent.intent.get("expires_in_days", EXPIRES_IN_DAYS)) if sent else EXPIRES_IN_DAYS

    def _check(self, conn: Conn, *, principal: Principal, email: str, is_resend: bool = False) -> None:
        now = self.clock()
        sent = store.list_sent(conn, organization_id="", actor=principal.id, since=now - DAY)
        if is_resend:
            limits.check_cooldown([replace(it, is_here=True) for it in sent], email=email, now=now)
        limits.check(sent, actor=principal.id, emails=[email], now=now)


def _require_key_may(principal: Principal, public_metadata: dict[str, Any]) -> None:
    """Raise InviteRefused where an API key would make an instance admin, who would outlive the key's revocation."""
    if principal.kind == "api_key" and gives_rights(public_metadata):
        words = "An API key can't invite instance admins. Nothing was sent."
        raise InviteRefused(words, code="rights_by_key", status=FORBIDDEN, field="role")


def checked_role(role: str, *, is_local: bool) -> str:
    """A role as it is kept in the metadata: of the application, or (`is_local`) of one organization.

    These are kept apart: `admin` of the application is an admin of this installation, `org:admin` is not.
    Raises InviteRefused for what can't be a role.
    """
    if not _ROLE.fullmatch(role) or (not is_local and ":" in role):
        raise InviteRefused(said("%(value)s can't be a role here.", value=role[:64]), code="unknown_role", field="role")
    return f"org:{role}" if is_local and ":" not in role else role


def _require_admin(principal: Principal) -> None:
    if not (principal.is_instance_admin and principal.may("write")):
        words = said("Only admins of this installation can invite to the application.")
        raise InviteRefused(words, code="forbidden", status=FORBIDDEN)


def _gone() -> InviteRefused:
    code, status, words = STALE["gone"]
    return InviteRefused(words, code=code, status=status)


def _in_words(failed: Failed, whom: str) -> InviteRefused:
    cause = failed.__cause__
    refusal = cause if isinstance(cause, ProviderRefused) else ProviderRefused(str(failed), code=failed.code, status=0)
    if refusal.code in _OVER:
        code, status, words = _OVER[refusal.code]
        return InviteRefused(words, code=code, status=status, refusal=refusal)
    if refusal.code == "resource_not_found":
        return _gone()
    if refusal.code == "form_identifier_exists":
        words = said("%(whom)s has an account already.", whom=whom)
        return InviteRefused(words, code="already_user", status=CONFLICT, field="email", refusal=refusal)
    return in_words(refusal, email=whom, role="")
