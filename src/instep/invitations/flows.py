"""Inviting, sending again and revoking: Clerk first, through the journal; nothing is lost and nothing sent twice."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from msgspec import Struct

from instep.access.principal import Access
from instep.identity.model import ClerkId, Invitation
from instep.identity.ports import Actor, Directory, ProviderRefused
from instep.invitations import limits, resending, revoking, sending, store
from instep.invitations.rules import (
    EXPIRES_IN_DAYS,
    InviteRefused,
    checked_days,
    checked_email,
    checked_id,
    checked_name,
    checked_role,
    days_of,
    in_words,
    inviter_of,
    organization_of,
    stale,
    target_of,
)
from instep.invitations.words import Words
from instep.journal.model import Asked, Failed, Operation
from instep.journal.run import Runner
from instep.journal.store import reopen
from instep.kit.clock import DAY, MINUTE, Clock
from instep.kit.clock import now as system_now
from instep.kit.db import Conn, Db
from instep.kit.said import said


class Wanted(Struct, frozen=True, kw_only=True):
    """An invitation as someone asks for it. `role` None: the default one; `notify` False: send no mail."""

    email: str
    role: str | None = None
    expires_in_days: int = EXPIRES_IN_DAYS
    notify: bool = True
    name: str | None = None


@dataclass(frozen=True)
class Invite:
    """Sends invitations to an organization. `redirect_url` is where an accepted one leads."""

    db: Db
    runner: Runner
    directory: Directory
    redirect_url: str | None
    clock: Clock = field(default=system_now)

    async def __call__(
        self,
        access: Access,
        *,
        email: str,
        role: str | None = None,
        expires_in_days: int = EXPIRES_IN_DAYS,
        idempotency_key: str | None = None,
    ) -> Invitation:
        """Invite one address by a mail; see `send`."""
        wanted = Wanted(email=email, role=role, expires_in_days=expires_in_days)
        return await self.send(access, wanted, idempotency_key=idempotency_key)

    async def send(self, access: Access, wanted: Wanted, *, idempotency_key: str | None = None) -> Invitation:
        """Invite one address.

        1 the right, the address and the rest are checked; 2 the operation is kept, unless too many were sent; 3 it is
        carried out: Clerk creates the invitation and sends the mail. Raises InviteRefused (nothing was changed),
        Unsettled (the worker finds out and finishes) and Busy.
        """
        organization = organization_of(access)
        address = checked_email(wanted.email)
        name, role = checked_name(wanted.name), checked_role(access.roles, wanted.role)
        asked = Asked(
            kind=sending.KIND,
            target=target_of(organization, address),
            actor=access.principal.id,
            organization_id=access.organization_id,
            idempotency_key=idempotency_key,
            intent={
                "organization": organization,
                "email": address,
                "role": role,
                "expires_in_days": checked_days(wanted.expires_in_days),
                "notify": wanted.notify,
                "inviter": inviter_of(access),
                "redirect_url": self.redirect_url,
                "private_metadata": {sending.NAME: name} if name else {},
            },
        )
        try:
            operation = await self.runner.run(asked, opening=partial(self._check, access=access, email=address))
        except Failed as failed:
            raise await Words(self.db, self.directory).of(access, failed) from failed
        return sending.invitation_of(operation.done["create"])

    def _check(self, conn: Conn, *, access: Access, email: str) -> None:
        now = self.clock()
        sent = list_sent(conn, access, now=now)
        limits.check(sent, actor=access.principal.id, emails=[email], now=now)


@dataclass(frozen=True)
class Resend:
    """Sends invitations again: with the same address, role and metadata, under a new link."""

    db: Db
    runner: Runner
    actor: Actor
    directory: Directory
    redirect_url: str | None
    clock: Clock = field(default=system_now)

    async def __call__(
        self, access: Access, *, invitation: str, notify: bool = True, idempotency_key: str | None = None
    ) -> Invitation:
        """Send one again; gives the new one.

        1 the right is checked and the invitation read in Clerk; 2 the operation is kept with everything that the new
        one needs, unless the old one is over (told apart), too fresh, or too many were sent; 3 a pending one is
        revoked, and its link is dead; 4 the new one is made. Raises InviteRefused (`invitation_lost`: revoked and not
        made anew; else nothing was changed), Unsettled (the worker goes on until it is there) and Busy.
        """
        organization = organization_of(access, doing="send invitations again")
        found = await read(self.actor, organization, invitation)
        inviter = await self.db.read(_inviter, access, found)
        asked = _asked(access, resending.KIND, organization, invitation, found, idempotency_key)
        if found is not None:
            private = {name: value for name, value in found.private_metadata.items() if name != sending.MARK}
            asked.intent.update(
                role=found.role,
                status=found.status,
                expires_in_days=days_of(found) or EXPIRES_IN_DAYS,
                notify=notify,
                inviter=inviter,
                redirect_url=self.redirect_url,
                public_metadata=found.public_metadata,
                private_metadata=private,
            )
        try:
            operation = await self.runner.run(asked, opening=partial(self._check, access=access, found=found))
        except Failed as failed:
            raise await Words(self.db, self.directory).of(access, failed) from failed
        return sending.invitation_of(operation.done["create"])

    async def again(self, access: Access, *, operation: str) -> Operation:
        """Try anew to make an invitation that got lost: the worker takes it on within a second.

        Raises InviteRefused where it is not lost (any more).
        """
        organization_of(access, doing="send invitations again")
        reopened = await self.db.write(self._reopen, access.organization_id, operation)
        if reopened is None:
            raise InviteRefused("This invitation is not lost, or is tried already.", code="not_lost", status=409)
        return reopened

    async def list_lost(self, organization_id: str) -> list[store.Lost]:
        """The invitations of an organization that got lost, newest first."""
        return await self.db.read(store.list_lost, organization_id)

    async def list_cooling(self, access: Access) -> dict[str, int]:
        """The addresses (lower case) whose invitation can't be sent again just yet, and until when."""
        now = self.clock()
        sent = await self.db.read(list_sent, access, now=now)
        return limits.cooling(sent, now=now)

    def _reopen(self, conn: Conn, organization_id: str, id: str) -> Operation | None:
        is_lost = any(it.operation == id for it in store.list_lost(conn, organization_id))
        return reopen(conn, id, now=self.clock()) if is_lost else None

    def _check(self, conn: Conn, *, access: Access, found: Invitation | None) -> None:
        now = self.clock()
        if found is None or found.status not in ("pending", "expired"):
            raise told(conn, access, found, now=now)
        sent = list_sent(conn, access, now=now)
        limits.check_cooldown(sent, email=found.email, now=now)
        limits.check(sent, actor=access.principal.id, emails=[found.email], now=now)


@dataclass(frozen=True)
class Revoke:
    """Takes invitations back."""

    db: Db
    runner: Runner
    actor: Actor
    directory: Directory
    clock: Clock = field(default=system_now)

    async def __call__(self, access: Access, *, invitation: str, idempotency_key: str | None = None) -> Invitation:
        """Revoke one.

        1 the right is checked and the invitation read in Clerk; 2 the operation is kept, unless it is over (told
        apart); 3 Clerk revokes it, and its link is dead. Raises InviteRefused (nothing was changed), Unsettled, Busy.
        """
        organization = organization_of(access, doing="revoke invitations")
        found = await read(self.actor, organization, invitation)
        asked = _asked(access, revoking.KIND, organization, invitation, found, idempotency_key)
        try:
            operation = await self.runner.run(asked, opening=partial(self._check, access=access, found=found))
        except Failed as failed:
            raise await Words(self.db, self.directory).of(access, failed) from failed
        return sending.invitation_of(operation.done["revoke"])

    def _check(self, conn: Conn, *, access: Access, found: Invitation | None) -> None:
        if found is None or found.status != "pending":
            raise told(conn, access, found, now=self.clock())


async def read(actor: Actor, organization: ClerkId, id: str) -> Invitation | None:
    """An invitation as Clerk has it now. Raises InviteRefused where Clerk does not let itself be asked."""
    checked = checked_id(id)
    try:
        return await actor.find_invitation(organization, checked) if checked else None
    except ProviderRefused as refusal:
        raise in_words(refusal, email="This invitation", role="") from refusal


def told(conn: Conn, access: Access, found: Invitation | None, *, now: int) -> InviteRefused:
    """Why an invitation can't be changed any more; of one that is revoked also by whom, if it was done here."""
    refused = in_words(stale(found), email="", role="")
    if found is None or found.status != "revoked" or access.organization_clerk_id is None:
        return refused
    target = target_of(access.organization_clerk_id, found.email)
    kinds = {revoking.KIND: "Already revoked", resending.KIND: "Already sent again"}
    for operation in reversed(store.list_operations_of(conn, targets=[target])):
        if operation.kind in kinds and operation.intent.get("invitation") == found.clerk_id and operation.done:
            who = store.list_names(conn, [operation.actor]).get(operation.actor, operation.actor)
            words = said(
                "%(value)s by %(who)s %(value_2)s min ago.",
                value=kinds[operation.kind],
                who=who,
                value_2=max(0, now - operation.changed_at) // MINUTE,
            )
            return InviteRefused(words, code=refused.code, status=refused.status)
    return refused


def list_sent(conn: Conn, access: Access, *, now: int) -> list[limits.Sent]:
    """What counts against the limits."""
    return store.list_sent(conn, organization_id=access.organization_id, actor=access.principal.id, since=now - DAY)


def _asked(
    access: Access, kind: str, organization: ClerkId, id: str, found: Invitation | None, key: str | None
) -> Asked:
    intent: dict[str, Any] = {"organization": organization, "invitation": id, "by": inviter_of(access)}
    if found is not None:
        intent["email"] = found.email
    return Asked(
        kind=kind,
        target=target_of(organization, found.email if found else id),
        actor=access.principal.id,
        organization_id=access.organization_id,
        idempotency_key=key,
        intent=intent,
    )


def _inviter(conn: Conn, access: Access, found: Invitation | None) -> ClerkId | None:
    """In whose name the new one is made: the old one's inviter while they may invite, else whoever sends it again."""
    before = found.inviter_id if found else None
    if before and store.is_admin(conn, access.organization_id, before, sorted(access.roles.managers)):
        return before
    return inviter_of(access)
