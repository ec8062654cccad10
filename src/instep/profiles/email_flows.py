"""Changing an address: by inviting anew, by a code, or by force, as the installation has it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from instep.access.principal import Principal
from instep.access.store import find_roles
from instep.identity.addresses import checked_email, is_same
from instep.identity.refusals import CONFLICT, FORBIDDEN, NOT_FOUND, Refused
from instep.identity.standing import LEAVES, underway
from instep.journal.model import Asked, Busy, Operation, Unsettled
from instep.journal.store import find as find_operation
from instep.journal.store import find_repeated, list_intents
from instep.kit.db import Conn
from instep.kit.said import said
from instep.mirror import people
from instep.mirror.people import PersonRow, find_holder, find_person, find_sole, lock_organizations_of
from instep.profiles import emails, reinviting, store
from instep.profiles.desk import Desk, Subject, asked_of, clerk_id_of, key_of, require_same
from instep.profiles.held import Held
from instep.profiles.profile import Belonging, EmailChange, Reinvited
from instep.profiles.rules import Policy, Rights, email_taken, require_admin, require_live, require_others

EXPIRES_IN_DAYS = 7


@dataclass(frozen=True)
class ChangeEmail:
    """Changes addresses by `policy`. `redirect_url` is where an accepted invitation leads."""

    desk: Desk
    held: Held
    policy: Policy
    redirect_url: str | None

    async def __call__(
        self, principal: Principal, ref: str, email: str, *, idempotency_key: str | None = None
    ) -> EmailChange:
        """Change one person's address, or take the first step.

        1 the address is checked; 2 someone without a Clerk account: the database only; 3 else the policy: invite anew
        in each organization, send a code, or replace. Raises Refused (nothing was changed), Unsettled and Busy.
        """
        subject = await self.desk.find(principal, ref)
        email = checked_email(email)
        if is_same(email, subject.person.email):
            return EmailChange(outcome="same", email=subject.person.email or email)
        self.desk.require_key_may(principal, {"email": email}, subject.person)
        if self._is_invited_anew(subject.person):
            return await self._reinvite(principal, subject, email, idempotency_key)
        return await self.begin(principal, subject, email, idempotency_key=idempotency_key)

    async def begin(
        self, principal: Principal, subject: Subject, email: str, *, idempotency_key: str | None = None
    ) -> EmailChange:
        """What a plain edit of the address comes to: under `reinvite` nothing but the offer to invite anew."""
        if self._is_invited_anew(subject.person):
            return await self._offer(principal, subject, email)
        if self._is_proven_by_code(subject):
            return await self._send_code(principal, subject, email, idempotency_key)
        require_admin(subject.rights, "change addresses")
        person = subject.person
        intent = {"email": email, "old": person.email}
        asked = asked_of(emails.REPLACE, principal, person, idempotency_key, intent)
        await self.desk.carry_out(asked, partial(self._open, seen=person, email=email, is_final=True), whom=email)
        return EmailChange(outcome="changed", email=email)

    def _is_invited_anew(self, person: PersonRow) -> bool:
        """Return whether a new address means a new account; somebody without any address keeps theirs, and gets one."""
        return self.policy == "reinvite" and clerk_id_of(person) is not None and person.email is not None

    def _is_proven_by_code(self, subject: Subject) -> bool:
        """Return whether a code is sent first: by the policy, or where somebody adds a first address themselves."""
        if clerk_id_of(subject.person) is None:
            return False
        return self.policy == "verify" or (self.policy == "reinvite" and not subject.rights.is_admin)

    async def verify(
        self, principal: Principal, ref: str, verification: str, code: str, *, idempotency_key: str | None = None
    ) -> EmailChange:
        """Prove an address by the code that was sent to it: it becomes the primary one, and the old one goes.

        1 the right; 2 `verification` is the operation that sent the code; 3 the code is held in this process while it
        is tried. Raises Refused, Unsettled and Busy.
        """
        subject = await self.desk.find(principal, ref)
        _require_own(subject.rights)
        person = subject.person
        sent = await self.desk.db.read(find_operation, verification) if verification.isprintable() else None
        if sent is None or not _is_for(sent, person):
            raise Refused("There is no such verification.", code="unknown_verification", status=NOT_FOUND)
        email = sent.intent["email"]
        with self.held.hold(code.strip()) as name:
            intent = {"email": email, "old": person.email, "address": sent.done["address"]["id"]}
            intent |= {"verification": sent.done["code"]["verification"], "secret": name}
            asked = asked_of(emails.VERIFY, principal, person, idempotency_key, intent)
            opening = partial(self._open, seen=person, email=email)
            operation = await self.desk.carry_out(asked, opening, whom=email)
        kept = operation.done["old"]["kept"]
        note = said("The old address stays beside it in Clerk: %(kept)s", kept=kept) if kept else None
        return EmailChange(outcome="changed", email=email, note=note)

    async def _send_code(self, principal: Principal, subject: Subject, email: str, key: str | None) -> EmailChange:
        _require_own(subject.rights)
        person = subject.person
        asked = asked_of(emails.CODE, principal, person, key, {"email": email})
        operation = await self.desk.carry_out(asked, partial(self._open, seen=person, email=email), whom=email)
        until = operation.done["code"]["expires_at"]
        return EmailChange(outcome="requires_verification", email=email, verification=operation.id, expires_at=until)

    def _open(self, conn: Conn, *, seen: PersonRow, email: str, is_final: bool = False) -> None:
        """Look at the present state; someone without a Clerk account gets the address at once."""
        person = require_same(require_live(find_person(conn, seen.id, is_locking=True)), seen.clerk_id)
        if find_holder(conn, email=email, but=person.id):
            raise email_taken(email)
        if is_final and person.clerk_id is None:
            people.edit_local(conn, person, {"email": email}, now=self.desk.clock())

    async def _offer(self, principal: Principal, subject: Subject, email: str) -> EmailChange:
        """What inviting anew would do; nothing is changed."""
        asked = partial(self._asked, principal, subject.person, email=email, key=None)
        movable, kept, is_alone = await self.desk.db.read(self._look, subject, email, asked)
        old = subject.person.email or "the old account"
        words = [f"{email} is invited to {it.name} as {it.role}, and {old} is deactivated there." for it in movable]
        words += [f"{it.name} is not in Clerk: {old} stays there." for it in kept]
        if is_alone:
            words.append(f"{email} is invited to the application, and {old} is deactivated.")
        if not (movable or is_alone):
            words.append(f"{subject.person.name} is in no organization to which they could be invited again.")
        elif not kept:
            words.append(f"{old} can't sign in any more after that. The person signs in anew, as {email}.")
        return EmailChange(outcome="requires_invitation", email=email, consequences=tuple(words))

    async def _reinvite(self, principal: Principal, subject: Subject, email: str, key: str | None) -> EmailChange:
        """Invite anew, organization by organization; one that fails stops neither the others nor the person."""
        asked = partial(self._asked, principal, subject.person, email=email, key=key)
        movable, kept, is_alone = await self.desk.db.read(self._look, subject, email, asked)
        if is_alone:
            return await self._move_alone(principal, subject.person, email, key)
        if not movable:
            words = said(
                "%(name)s is in no organization to which they could be invited again.", name=subject.person.name
            )
            raise Refused(words, code="no_organization", status=CONFLICT)
        results: list[Reinvited] = []
        failures: list[Refused] = []
        for it in movable:
            try:
                results.append(await self._move(asked(it), subject.person, it, email))
            except (Refused, Busy) as error:
                results.append(_said(it, "refused", detail=str(error)))
                failures += [error] if isinstance(error, Refused) else []
        if failures and len(failures) == len(movable):
            raise failures[0]
        results += [_said(it, "kept", detail="This organization is not in Clerk.") for it in kept]
        return EmailChange(outcome="invited", email=email, organizations=tuple(results))

    async def _move_alone(self, principal: Principal, person: PersonRow, email: str, key: str | None) -> EmailChange:
        """Someone who is in no organization is invited to the application; only instance admins know of them."""
        intent = {"email": email, "expires_in_days": EXPIRES_IN_DAYS, "redirect_url": self.redirect_url}
        asked = asked_of(reinviting.TO_APPLICATION, principal, person, key, {**intent, "clerk_id": person.clerk_id})
        await self.desk.carry_out(asked, partial(self._check_alone, seen=person, email=email), whom=email)
        return EmailChange(outcome="invited", email=email)

    def _check_alone(self, conn: Conn, *, seen: PersonRow, email: str) -> None:
        """The present state of someone who is in no organization, in the transaction that keeps the intent."""
        person = require_same(require_live(find_person(conn, seen.id, is_locking=True)), seen.clerk_id)
        if find_holder(conn, email=email, but=person.id):
            raise email_taken(email)
        if store.list_belongings(conn, [person.id]):
            raise Refused(
                said("%(name)s is a member somewhere by now.", name=person.name),
                code="changed_meanwhile",
                status=CONFLICT,
            )

    async def _move(self, asked: Asked, person: PersonRow, it: Belonging, email: str) -> Reinvited:
        try:
            done = await self.desk.carry_out(asked, partial(self._check, seen=person, it=it, email=email), whom=email)
        except Unsettled as unsettled:
            return _said(it, "checking", detail=str(unsettled), operation=unsettled.operation.id)
        return _said(it, "invited", operation=done.id)

    def _asked(self, principal: Principal, person: PersonRow, it: Belonging, *, email: str, key: str | None) -> Asked:
        return Asked(
            kind=reinviting.KIND,
            target=f"membership:{it.membership_id}",
            actor=principal.id,
            organization_id=it.organization_id,
            idempotency_key=key_of(f"{reinviting.KIND}:{it.membership_id}", key),
            intent=self._intent(person, it, email),
        )

    def _intent(self, person: PersonRow, it: Belonging, email: str) -> dict[str, Any]:
        return {
            "user": person.id,
            "clerk_id": person.clerk_id,
            "membership": it.membership_id,
            LEAVES: it.membership_id,
            "organization": it.organization_clerk_id,
            "email": email,
            "role": it.role,
            "expires_in_days": EXPIRES_IN_DAYS,
            "inviter": None,
            "redirect_url": self.redirect_url,
        }

    def _look(
        self, conn: Conn, subject: Subject, email: str, asked: Callable[[Belonging], Asked]
    ) -> tuple[list[Belonging], list[Belonging], bool]:
        """The memberships that can move to the new address (or just did, by this same request), those that can't, and
        whether there are none at all. Raises Refused.
        """
        person, rights = require_live(subject.person), subject.rights
        if not (rights.is_admin or rights.led):
            words = said("Ask an admin to change this address: the new one is invited anew.")
            raise Refused(words, code="forbidden", status=FORBIDDEN, field="email")
        if find_holder(conn, email=email, but=person.id):
            raise email_taken(email)
        belongings = store.list_belongings(conn, [person.id]).get(person.id, [])
        found = [it for it in belongings if it.status == "active" or find_repeated(conn, asked(it)) is not None]
        ours = [it for it in found if rights.is_admin or it.organization_id in rights.led]
        sole = find_sole(conn, person.id, find_roles(conn), moving=underway(list_intents(conn)))
        require_others({it.organization_id: it.name for it in ours if it.organization_id in sole})
        return (
            [it for it in ours if it.organization_clerk_id is not None],
            [it for it in ours if it.organization_clerk_id is None],
            not belongings,
        )

    def _check(self, conn: Conn, *, seen: PersonRow, it: Belonging, email: str) -> None:
        """The present state of one membership, in the transaction that keeps the intent."""
        person = require_same(require_live(find_person(conn, seen.id, is_locking=True)), seen.clerk_id)
        if find_holder(conn, email=email, but=person.id):
            raise email_taken(email)
        lock_organizations_of(conn, person.id, find_roles(conn))
        sole = find_sole(conn, person.id, find_roles(conn), moving=underway(list_intents(conn)))
        require_others({id: name for id, name in sole.items() if id == it.organization_id})
        present = store.list_belongings(conn, [person.id]).get(person.id, [])
        if not any(here.membership_id == it.membership_id and here.status == "active" for here in present):
            raise Refused(
                said("%(name)s is no active member of %(name_2)s.", name=person.name, name_2=it.name),
                code="not_a_member",
                status=CONFLICT,
            )


def _said(it: Belonging, state: Any, *, detail: str | None = None, operation: str | None = None) -> Reinvited:
    return Reinvited(
        organization_id=it.organization_id, name=it.name, role=it.role, state=state, detail=detail, operation=operation
    )


def _is_for(sent: Operation, person: PersonRow) -> bool:
    return sent.kind == emails.CODE and sent.state == "settled" and sent.intent["user"] == person.id


def _require_own(rights: Rights) -> None:
    if not (rights.is_admin or rights.is_self):
        raise Refused("You may not change this address.", code="forbidden", status=FORBIDDEN, field="email")
