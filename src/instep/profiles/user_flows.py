"""Making, deleting, restoring and banning people, on both sides, through the journal; for instance admins."""

from collections.abc import Callable
from dataclasses import dataclass

from instep.access.principal import Principal
from instep.access.store import find_roles
from instep.identity.addresses import canonical
from instep.identity.refusals import CONFLICT, Refused
from instep.identity.standing import LEAVES_EVERYWHERE, underway
from instep.journal.model import Asked, Operation
from instep.journal.store import list_intents
from instep.kit.db import Conn
from instep.kit.ids import new_id
from instep.kit.said import said
from instep.mirror import people
from instep.mirror.people import PersonRow, find_holder, find_person, find_sole, lock_organizations_of
from instep.profiles import accounts
from instep.profiles.desk import Desk, asked_of, key_of, require_same
from instep.profiles.profile import Profile
from instep.profiles.rules import (
    NO_BANS,
    Edit,
    Removal,
    Rights,
    checked,
    email_taken,
    not_found,
    require_admin,
    require_live,
    require_not_self,
    require_others,
    username_taken,
)

Check = Callable[[Conn, PersonRow], None]


@dataclass(frozen=True)
class ManageUsers:
    """Changes whole accounts. Each method raises Refused (nothing was changed), Unsettled and Busy."""

    desk: Desk

    async def create(
        self, principal: Principal, profile: Edit, *, in_clerk: bool = True, idempotency_key: str | None = None
    ) -> Profile:
        """Make a person.

        1 the right and the fields are checked; 2 kept, with our id for them: nobody has the address or the username;
        without a Clerk account they are made right there; 3 Clerk makes the user, with our id as external id, by
        which it is found again; 4 the database.
        """
        require_admin(Rights(is_admin=principal.is_instance_admin), "make people")
        wanted = checked(profile)
        if not wanted.email:
            raise Refused("An e-mail address is needed.", code="invalid_email", field="email")
        self.desk.require_key_may(principal, wanted.fields, None)
        email, id = wanted.email, new_id("usr")
        fields = {name: value for name, value in wanted.fields.items() if value}
        asked = Asked(
            kind=accounts.CREATE,
            target=f"address:{canonical(email)}",
            actor=principal.id,
            idempotency_key=key_of(accounts.CREATE, idempotency_key),
            intent={"user": id, "clerk_id": None, "in_clerk": in_clerk, "profile": fields},
        )

        def opening(conn: Conn) -> None:
            _require_free(conn, wanted)
            if not in_clerk:
                people.create_local(conn, id, fields, now=self.desk.clock())

        operation = await self.desk.carry_out(asked, opening, whom=email)
        return await self.desk.profile(principal, await self._made(operation))

    async def delete(
        self, principal: Principal, ref: str, *, clerk: Removal = "delete", idempotency_key: str | None = None
    ) -> Profile:
        """Delete someone here, softly, and in Clerk as `clerk` says: delete, only ban, or keep (and sign out).

        1 the right, and not oneself; 2 kept: they are not deleted yet, and no organization's only admin; 3 Clerk;
        4 the database: they may not come in, and are a member nowhere.
        """
        person = await self._find(principal, ref, "delete")
        intent = {"clerk": clerk, LEAVES_EVERYWHERE: person.id}
        asked = asked_of(accounts.DELETE, principal, person, idempotency_key, intent)
        await self._carry_out(asked, person, _require_leavable)
        return await self.desk.profile(principal, person.id)

    async def restore(self, principal: Principal, ref: str, *, idempotency_key: str | None = None) -> Profile:
        """Bring a deleted person back.

        1 the right; 2 kept: they are deleted, and nobody took their address or username; 3 a ban in Clerk is lifted;
        4 the database: they live again, without a Clerk account where Clerk has deleted theirs.
        """
        person = await self._find(principal, ref, "restore")
        asked = asked_of(accounts.RESTORE, principal, person, idempotency_key, {})
        await self._carry_out(asked, person, _require_restorable)
        return await self.desk.profile(principal, person.id)

    async def ban(
        self, principal: Principal, ref: str, *, idempotency_key: str | None = None
    ) -> tuple[Profile, str | None]:
        """Ban someone; with a sentence where Clerk's plan has no bans and they were deactivated here instead.

        1 the right, and not oneself; 2 kept: no organization's only admin; 3 Clerk bans, which ends every session;
        4 the database.
        """
        person = await self._find(principal, ref, "ban")
        asked = asked_of(accounts.BAN, principal, person, idempotency_key, {LEAVES_EVERYWHERE: person.id})
        operation = await self._carry_out(asked, person, _require_leavable)
        note = NO_BANS if accounts.has_no_bans(operation) else None
        return await self.desk.profile(principal, person.id), note

    async def unban(self, principal: Principal, ref: str, *, idempotency_key: str | None = None) -> Profile:
        """Let someone come in again: a ban is lifted, and so is a deactivation of the whole account.

        1 the right; 2 kept: they are not deleted; 3 Clerk; 4 the database.
        """
        person = await self._find(principal, ref, "unban")
        asked = asked_of(accounts.UNBAN, principal, person, idempotency_key, {})
        await self._carry_out(asked, person, lambda _conn, found: _require_not_deleted(found))
        return await self.desk.profile(principal, person.id)

    async def _find(self, principal: Principal, ref: str, doing: str) -> PersonRow:
        subject = await self.desk.find(principal, ref)
        require_admin(subject.rights, f"{doing} people")
        require_not_self(subject.rights, doing)
        self.desk.require_key_may(principal, {"account": doing}, subject.person)
        return subject.person

    async def _carry_out(self, asked: Asked, seen: PersonRow, check: Check) -> Operation:
        """Run it, with a look at the present state in the transaction that keeps it."""

        def opening(conn: Conn) -> None:
            person = find_person(conn, seen.id, is_locking=True)
            if person is None:
                raise not_found()
            check(conn, require_same(person, seen.clerk_id))

        return await self.desk.carry_out(asked, opening, whom=seen.name)

    async def _made(self, operation: Operation) -> str:
        """Our id of who was made: what Clerk had told first may be known under another."""
        news = operation.done["clerk"].get("news")
        found = await self.desk.db.read(people.find_our_id, news["key"]["id"]) if news else None
        id: str = found or operation.intent["user"]
        return id


def _require_free(conn: Conn, wanted: Edit) -> None:
    if wanted.email and find_holder(conn, email=wanted.email):
        raise email_taken(wanted.email)
    if wanted.username and find_holder(conn, username=wanted.username):
        raise username_taken(wanted.username)


def _require_leavable(conn: Conn, person: PersonRow) -> None:
    _require_not_deleted(person)
    lock_organizations_of(conn, person.id, find_roles(conn))
    require_others(find_sole(conn, person.id, find_roles(conn), moving=underway(list_intents(conn))))


def _require_not_deleted(person: PersonRow) -> None:
    require_live(person)


def _require_restorable(conn: Conn, person: PersonRow) -> None:
    if not person.is_deleted:
        raise Refused(said("%(name)s is not deleted.", name=person.name), code="not_deleted", status=CONFLICT)
    if person.email and find_holder(conn, email=person.email, but=person.id):
        raise email_taken(person.email)
    if person.username and find_holder(conn, username=person.username, but=person.id):
        raise username_taken(person.username)
