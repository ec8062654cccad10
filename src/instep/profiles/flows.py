"""Editing people: Clerk first, then the database, through the journal; and finding and listing them."""

from dataclasses import dataclass

from msgspec.structs import replace

from instep.access.principal import Principal
from instep.identity.addresses import is_same
from instep.identity.refusals import Refused
from instep.journal.model import Failed
from instep.kit.db import Conn
from instep.kit.said import said
from instep.mirror import people
from instep.mirror.people import PersonRow, find_holder, find_person
from instep.profiles import editing, emails, password, store
from instep.profiles.desk import Desk, asked_of, clerk_id_of, refusal_of, require_same
from instep.profiles.details import FindDetails
from instep.profiles.email_flows import ChangeEmail
from instep.profiles.held import Held
from instep.profiles.procedures import Provider
from instep.profiles.profile import Ask, Cursor, EmailChange, Profile, Users, encode_cursor
from instep.profiles.rules import (
    Edit,
    Policy,
    Rights,
    checked,
    email_taken,
    password_refused,
    require_admin,
    require_edit,
    require_live,
    username_taken,
)
from instep.profiles.sessions import EndSessions
from instep.profiles.user_flows import ManageUsers


@dataclass(frozen=True)
class FindUsers:
    """Reads people of the whole installation."""

    desk: Desk

    async def list(self, principal: Principal, ask: Ask) -> Users:
        """A page of people, newest first. Raises Refused unless the asker is an instance admin."""
        require_admin(Rights(is_admin=principal.is_instance_admin), "list all people")
        return await self.desk.db.read(self._list, ask)

    async def get(self, principal: Principal, ref: str) -> Profile:
        """One person. Raises Refused (404)."""
        return await self.desk.profile(principal, ref)

    def _list(self, conn: Conn, ask: Ask) -> Users:
        rows = store.list_people(conn, ask)
        shown, last = rows[: ask.limit], rows[: ask.limit][-1:]
        belongings = store.list_belongings(conn, [it.id for it in shown])
        profiles = [Profile(person=it, belongings=tuple(belongings.get(it.id, ())), is_whole=True) for it in shown]
        cursor = encode_cursor(Cursor(last[0].joined_at, last[0].id)) if len(rows) > ask.limit else None
        return Users(rows=profiles, next_cursor=cursor)


@dataclass(frozen=True)
class EditProfile:
    """Changes names, username, public metadata and attributes; a new address goes on to `change_email`."""

    desk: Desk
    change_email: ChangeEmail

    async def __call__(
        self, principal: Principal, ref: str, edit: Edit, *, idempotency_key: str | None = None
    ) -> Profile | EmailChange:
        """Edit one person.

        1 the person is found, the fields are checked, then the right to each of them; 2 a new address of someone in
        Clerk is a matter of its own; 3 the operation: kept with a look at the present state (nobody else has the
        username; someone without a Clerk account is edited right there), then Clerk, then the database.
        Raises Refused (nothing was changed), Unsettled (the worker finds out and finishes) and Busy.
        """
        subject = await self.desk.find(principal, ref)
        person, edit = subject.person, checked(edit)
        if is_same(edit.email, person.email):
            edit = replace(edit, email=None)
        self.desk.require_key_may(principal, edit.fields, person)
        if edit.email is not None and clerk_id_of(person) is not None:
            _require_alone(edit)
            await self.desk.runner.require_permitted(asked_of(emails.REPLACE, principal, person, None, {}))
            return await self.change_email.begin(principal, subject, edit.email, idempotency_key=idempotency_key)
        require_edit(subject.rights, edit.fields)
        if edit.fields:
            intent = {"profile": edit.fields, "before": {name: getattr(person, name) for name in edit.fields}}
            asked = asked_of(editing.KIND, principal, person, idempotency_key, intent)
            await self.desk.carry_out(asked, lambda conn: self._open(conn, person, edit), whom=person.name)
        return await self.desk.profile(principal, ref)

    def _open(self, conn: Conn, seen: PersonRow, edit: Edit) -> None:
        """Look at the present state; someone without a Clerk account is edited at once."""
        person = require_same(require_live(find_person(conn, seen.id, is_locking=True)), seen.clerk_id)
        if edit.username and find_holder(conn, username=edit.username, but=person.id):
            raise username_taken(edit.username)
        if edit.email and find_holder(conn, email=edit.email, but=person.id):
            raise email_taken(edit.email)
        if person.clerk_id is None:
            now = self.desk.clock()
            people.edit_local(conn, person, edit.fields, now=now)
            if edit.attributes:
                people.merge_attributes(conn, person.id, edit.attributes, now=now)


@dataclass(frozen=True)
class SetPassword:
    """Sets a password, in Clerk only; it is checked there, by Clerk's rules, and kept nowhere here."""

    desk: Desk
    held: Held

    async def __call__(
        self, principal: Principal, ref: str, secret: str, *, idempotency_key: str | None = None
    ) -> Profile:
        """Set one person's password.

        1 the right, and that they are in Clerk; 2 the password is held in this process while the operation runs. An
        outcome that nobody knows needs a person: it must be set again. Raises Refused, and Busy.
        """
        subject = await self.desk.find(principal, ref)
        require_admin(subject.rights, "set passwords")
        person = subject.person
        self.desk.require_key_may(principal, {"password": secret}, person)
        if clerk_id_of(person) is None:
            words = said("%(name)s has no Clerk account: there is nothing to sign in with.", name=person.name)
            raise Refused(words, code="no_clerk_account", field="password")
        with self.held.hold(secret) as name:
            asked = asked_of(password.KIND, principal, person, idempotency_key, {"secret": name})
            try:
                await self.desk.runner.run(asked, opening=lambda conn: _require_live(conn, person))
            except Failed as failed:
                refusal = refusal_of(failed)
                if refusal is None or failed.operation.state == "attention":
                    raise self.desk.say(failed, asked, person.name) from failed
                raise password_refused(refusal, whom=person.name) from failed
        return await self.desk.profile(principal, ref)


@dataclass(frozen=True)
class Profiles:
    """Everything that can be done with people of the whole installation."""

    users: FindUsers
    edit: EditProfile
    change_email: ChangeEmail
    set_password: SetPassword
    manage: ManageUsers
    details: FindDetails
    end_sessions: EndSessions


def _require_live(conn: Conn, seen: PersonRow) -> None:
    require_same(require_live(find_person(conn, seen.id, is_locking=True)), seen.clerk_id)


def _require_alone(edit: Edit) -> None:
    if len(edit.fields) > 1:
        words = said("Change the address by itself: what becomes of it is decided in Clerk. Nothing was changed.")
        raise Refused(words, code="email_alone", field="email")


def make_profiles(desk: Desk, held: Held, provider: Provider, *, policy: Policy, redirect_url: str | None) -> Profiles:
    """The flows, on one desk. `policy` and `redirect_url`: see ChangeEmail."""
    change_email = ChangeEmail(desk, held, policy, redirect_url)
    return Profiles(
        users=FindUsers(desk),
        edit=EditProfile(desk, change_email),
        change_email=change_email,
        set_password=SetPassword(desk, held),
        manage=ManageUsers(desk),
        details=FindDetails(desk, provider, provider),
        end_sessions=EndSessions(desk, provider),
    )
