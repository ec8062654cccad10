"""Use cases of users: list, read, edit, set a password, end sessions and manage accounts."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog
from msgspec.structs import replace

from instep.auth.principal import OrganizationAccess, Principal
from instep.auth.repository import find_roles
from instep.core.clock import Clock
from instep.core.db import Conn
from instep.core.errors import InstepError, describe_error
from instep.core.i18n import lazy_gettext
from instep.core.ids import new_id
from instep.domain.emails import canonicalize_email, is_same_email
from instep.domain.errors import CONFLICT, NOT_FOUND, ChangeRejectedError
from instep.domain.last_admin import USER_REMOVAL_KEY, collect_pending_changes
from instep.domain.models import ActiveSession, ClerkId, ClerkInvitation
from instep.domain.ports import ApplicationInvitationsApi, ClerkReader, OrganizationsApi, UsersApi
from instep.mirror import user_repository
from instep.mirror.user_repository import (
    UserRow,
    find_sole_admin_organizations,
    find_user,
    find_user_id_by_login,
    lock_organizations_of_admin,
)
from instep.operations.repository import find_by_idempotency_key, list_open_intents
from instep.operations.workflow import Operation, OperationFailedError, OperationRequest, Workflows
from instep.users import emails, repository, workflows
from instep.users.context import (
    UserCommandContext,
    find_provider_refusal,
    get_clerk_id,
    make_operation_request,
    require_same_clerk_account,
    scope_idempotency_key,
)
from instep.users.emails import EmailChangeService
from instep.users.models import (
    ClerkRemoval,
    EmailChange,
    EmailChangePolicy,
    EndedSessions,
    UserChanges,
    UserCursor,
    UserDetails,
    UserFilter,
    UserPermissions,
    UserProfile,
    UserSearchResult,
    encode_cursor,
)
from instep.users.policies import (
    BANS_UNAVAILABLE,
    make_email_taken_error,
    make_user_not_found_error,
    make_username_taken_error,
    require_another_admin,
    require_can_edit,
    require_can_see_sessions,
    require_instance_admin,
    require_not_deleted,
    require_not_self,
    translate_password_refusal,
    validate_changes,
)
from instep.users.workflows import END_SESSIONS, EphemeralSecrets

log = structlog.get_logger(__name__)
T = TypeVar("T")
DETAILS_TIMEOUT_SECONDS = 2.0
MAX_ORGANIZATIONS = 5


@dataclass(frozen=True)
class UserDetailsReader:
    """Reads them side by side. `patience` is how long Clerk may take, in seconds."""

    desk: UserCommandContext
    accounts: UsersApi
    directory: ClerkReader
    patience: float = DETAILS_TIMEOUT_SECONDS

    async def sessions(self, principal: Principal, ref: str) -> Sequence[ActiveSession]:
        """Somebody's open sessions. Raises Refused for who may not; ClerkUnavailableError and ClerkRejectedError."""
        subject = await self.desk.find(principal, ref)
        require_can_see_sessions(subject)
        id = get_clerk_id(subject.person)
        return await self.accounts.list_sessions(id) if id is not None else ()

    async def __call__(self, asker: OrganizationAccess | Principal, it: UserProfile) -> UserDetails:
        """What the reader may see; what Clerk does not say in time is None."""
        principal = asker.principal if isinstance(asker, OrganizationAccess) else asker
        may_sessions = it.is_whole or principal.user_id == it.person.id
        may_sent = asker.can_manage if isinstance(asker, OrganizationAccess) else it.is_whole
        id = get_clerk_id(it.person)
        if id is None:
            return UserDetails(can_see_sessions=may_sessions, can_see_invitations=may_sent)
        places = _list_organization_ids(asker, it) if may_sent else []
        sessions, sent = await asyncio.gather(
            self._ask(self._sessions(id if may_sessions else None)), self._ask(self._sent(id, places))
        )
        return UserDetails(can_see_sessions=may_sessions, can_see_invitations=may_sent, sessions=sessions, sent=sent)

    async def _sessions(self, id: ClerkId | None) -> Sequence[ActiveSession]:
        return await self.accounts.list_sessions(id) if id is not None else ()

    async def _sent(self, by: ClerkId, places: Sequence[str]) -> Sequence[ClerkInvitation]:
        listed = await asyncio.gather(
            *(self.directory.list_invitations(ClerkId(place), statuses=("pending",)) for place in places)
        )
        return [it for rows in listed for it in rows if it.inviter_id == by]

    async def _ask(self, question: Awaitable[T]) -> T | None:
        try:
            async with asyncio.timeout(self.patience):
                return await question
        except (InstepError, TimeoutError) as error:
            log.warning("details_unknown", error=describe_error(error) or "timeout")
            return None


def _list_organization_ids(asker: OrganizationAccess | Principal, it: UserProfile) -> list[str]:
    """The organizations (Clerk's ids) whose invitations are looked through."""
    if isinstance(asker, OrganizationAccess):
        return [asker.organization_clerk_id] if asker.organization_clerk_id else []
    return [place.organization_clerk_id for place in it.memberships if place.organization_clerk_id][:MAX_ORGANIZATIONS]


@dataclass(frozen=True)
class UserQueries:
    """Reads people of the whole installation."""

    desk: UserCommandContext

    async def list(self, principal: Principal, ask: UserFilter) -> UserSearchResult:
        """A page of people, newest first. Raises Refused unless the asker is an instance admin."""
        require_instance_admin(UserPermissions(is_admin=principal.is_instance_admin), "list all people")
        return await self.desk.db.read(self._list, ask)

    async def get(self, principal: Principal, ref: str) -> UserProfile:
        """One person. Raises Refused (404)."""
        return await self.desk.profile(principal, ref)

    def _list(self, conn: Conn, ask: UserFilter) -> UserSearchResult:
        rows = repository.list_users(conn, ask)
        shown, last = rows[: ask.limit], rows[: ask.limit][-1:]
        belongings = repository.list_user_memberships(conn, [it.id for it in shown])
        profiles = [UserProfile(person=it, memberships=tuple(belongings.get(it.id, ())), is_whole=True) for it in shown]
        cursor = encode_cursor(UserCursor(last[0].joined_at, last[0].id)) if len(rows) > ask.limit else None
        return UserSearchResult(rows=profiles, next_cursor=cursor)


@dataclass(frozen=True)
class ProfileEditor:
    """Changes names, username, public metadata and attributes; a new address goes on to `change_email`."""

    desk: UserCommandContext
    change_email: EmailChangeService

    async def __call__(
        self, principal: Principal, ref: str, edit: UserChanges, *, idempotency_key: str | None = None
    ) -> UserProfile | EmailChange:
        """Edit one person.

        1 the person is found, the fields are checked, then the right to each of them; 2 a new address of someone in
        Clerk is a matter of its own; 3 the operation: kept with a look at the present state (nobody else has the
        username; someone without a Clerk account is edited right there), then Clerk, then the database.
        Raises Refused (nothing was changed), Unsettled (the worker finds out and finishes) and Busy.
        """
        subject = await self.desk.find(principal, ref)
        person, edit = subject.person, validate_changes(edit)
        if is_same_email(edit.email, person.email):
            edit = replace(edit, email=None)
        self.desk.require_api_key_allowed(principal, edit.fields, person)
        if edit.email is not None and get_clerk_id(person) is not None:
            _require_email_alone(edit)
            await self.desk.runner.require_permitted(
                make_operation_request(emails.REPLACE_EMAIL, principal, person, None, {})
            )
            return await self.change_email.begin(principal, subject, edit.email, idempotency_key=idempotency_key)
        require_can_edit(subject.rights, edit.fields)
        if edit.fields:
            intent = {"profile": edit.fields, "before": {name: getattr(person, name) for name in edit.fields}}
            asked = make_operation_request(workflows.EDIT_PROFILE, principal, person, idempotency_key, intent)
            await self.desk.run_operation(asked, lambda conn: self._open(conn, person, edit), whom=person.name)
        return await self.desk.profile(principal, ref)

    def _open(self, conn: Conn, seen: UserRow, edit: UserChanges) -> None:
        """Look at the present state; someone without a Clerk account is edited at once."""
        person = require_same_clerk_account(
            require_not_deleted(find_user(conn, seen.id, is_locking=True)), seen.clerk_id
        )
        if edit.username and find_user_id_by_login(conn, username=edit.username, but=person.id):
            raise make_username_taken_error(edit.username)
        if edit.email and find_user_id_by_login(conn, email=edit.email, but=person.id):
            raise make_email_taken_error(edit.email)
        if person.clerk_id is None:
            now = self.desk.clock()
            user_repository.update_local_user(conn, person, edit.fields, now=now)
            if edit.attributes:
                user_repository.merge_user_attributes(conn, person.id, edit.attributes, now=now)


@dataclass(frozen=True)
class PasswordSetter:
    """Sets a password, in Clerk only; it is checked there, by Clerk's rules, and kept nowhere here."""

    desk: UserCommandContext
    held: EphemeralSecrets

    async def __call__(
        self, principal: Principal, ref: str, secret: str, *, idempotency_key: str | None = None
    ) -> UserProfile:
        """Set one person's password.

        1 the right, and that they are in Clerk; 2 the password is held in this process while the operation runs. An
        outcome that nobody knows needs a person: it must be set again. Raises Refused, and Busy.
        """
        subject = await self.desk.find(principal, ref)
        require_instance_admin(subject.rights, "set passwords")
        person = subject.person
        self.desk.require_api_key_allowed(principal, {"password": secret}, person)
        if get_clerk_id(person) is None:
            words = lazy_gettext("%(name)s has no Clerk account: there is nothing to sign in with.", name=person.name)
            raise ChangeRejectedError(words, code="no_clerk_account", field="password")
        with self.held.hold(secret) as name:
            asked = make_operation_request(workflows.SET_PASSWORD, principal, person, idempotency_key, {"secret": name})
            try:
                await self.desk.runner.run(asked, precondition=lambda conn: _require_unchanged(conn, person))
            except OperationFailedError as failed:
                refusal = find_provider_refusal(failed)
                if refusal is None or failed.operation.state == "attention":
                    raise self.desk.say(failed, asked, person.name) from failed
                raise translate_password_refusal(refusal, whom=person.name) from failed
        return await self.desk.profile(principal, ref)


@dataclass(frozen=True)
class SessionRevoker:
    """Ends one session of somebody, or all of them."""

    desk: UserCommandContext
    accounts: UsersApi

    async def __call__(
        self, principal: Principal, ref: str, session: str | None = None, *, idempotency_key: str | None = None
    ) -> EndedSessions:
        """End them.

        1 the right (an instance admin's, and one's own); 2 one that is named must be theirs, and active; 3 Clerk
        revokes; 4 sessions of the console that hang on it end with it. Raises Refused, Unsettled and Busy.
        """
        subject = await self.desk.find(principal, ref)
        require_can_see_sessions(subject)
        person = subject.person
        id = get_clerk_id(person)
        if id is None:
            raise ChangeRejectedError("This person has no Clerk account.", code="no_clerk_account", status=CONFLICT)
        asked = make_operation_request(END_SESSIONS, principal, person, idempotency_key, {"session": session})
        if session is not None and await self.desk.db.read(find_by_idempotency_key, asked) is None:
            await self._require_theirs(id, session)
        operation = await self.desk.run_operation(asked, lambda _conn: None, whom=person.name)
        return EndedSessions(operation.done["sessions"]["ended"])

    async def _require_theirs(self, id: ClerkId, session: str) -> None:
        """Not asked of a repetition: the session that it ended is no active one any more."""
        if session not in {it.id for it in await self.accounts.list_sessions(id)}:
            raise ChangeRejectedError("There is no such active session.", code="session_not_found", status=NOT_FOUND)


PreconditionCheck = Callable[[Conn, UserRow], None]


@dataclass(frozen=True)
class UserAccountService:
    """Changes whole accounts. Each method raises Refused (nothing was changed), Unsettled and Busy."""

    desk: UserCommandContext

    async def create(
        self, principal: Principal, profile: UserChanges, *, in_clerk: bool = True, idempotency_key: str | None = None
    ) -> UserProfile:
        """Make a person.

        1 the right and the fields are checked; 2 kept, with our id for them: nobody has the address or the username;
        without a Clerk account they are made right there; 3 Clerk makes the user, with our id as external id, by
        which it is found again; 4 the database.
        """
        require_instance_admin(UserPermissions(is_admin=principal.is_instance_admin), "make people")
        wanted = validate_changes(profile)
        if not wanted.email:
            raise ChangeRejectedError("An e-mail address is needed.", code="invalid_email", field="email")
        self.desk.require_api_key_allowed(principal, wanted.fields, None)
        email, id = wanted.email, new_id("usr")
        fields = {name: value for name, value in wanted.fields.items() if value}
        asked = OperationRequest(
            kind=workflows.CREATE_USER,
            target=f"address:{canonicalize_email(email)}",
            actor=principal.id,
            idempotency_key=scope_idempotency_key(workflows.CREATE_USER, idempotency_key),
            intent={"user": id, "clerk_id": None, "in_clerk": in_clerk, "profile": fields},
        )

        def opening(conn: Conn) -> None:
            _require_identifiers_free(conn, wanted)
            if not in_clerk:
                user_repository.create_local_user(conn, id, fields, now=self.desk.clock())

        operation = await self.desk.run_operation(asked, opening, whom=email)
        return await self.desk.profile(principal, await self._made(operation))

    async def delete(
        self, principal: Principal, ref: str, *, clerk: ClerkRemoval = "delete", idempotency_key: str | None = None
    ) -> UserProfile:
        """Delete someone here, softly, and in Clerk as `clerk` says: delete, only ban, or keep (and sign out).

        1 the right, and not oneself; 2 kept: they are not deleted yet, and no organization's only admin; 3 Clerk;
        4 the database: they may not come in, and are a member nowhere.
        """
        person = await self._find(principal, ref, "delete")
        intent = {"clerk": clerk, USER_REMOVAL_KEY: person.id}
        asked = make_operation_request(workflows.DELETE_USER, principal, person, idempotency_key, intent)
        await self._carry_out(asked, person, _require_can_leave)
        return await self.desk.profile(principal, person.id)

    async def restore(self, principal: Principal, ref: str, *, idempotency_key: str | None = None) -> UserProfile:
        """Bring a deleted person back.

        1 the right; 2 kept: they are deleted, and nobody took their address or username; 3 a ban in Clerk is lifted;
        4 the database: they live again, without a Clerk account where Clerk has deleted theirs.
        """
        person = await self._find(principal, ref, "restore")
        asked = make_operation_request(workflows.RESTORE_USER, principal, person, idempotency_key, {})
        await self._carry_out(asked, person, _require_can_restore)
        return await self.desk.profile(principal, person.id)

    async def ban(
        self, principal: Principal, ref: str, *, idempotency_key: str | None = None
    ) -> tuple[UserProfile, str | None]:
        """Ban someone; with a sentence where Clerk's plan has no bans and they were deactivated here instead.

        1 the right, and not oneself; 2 kept: no organization's only admin; 3 Clerk bans, which ends every session;
        4 the database.
        """
        person = await self._find(principal, ref, "ban")
        asked = make_operation_request(
            workflows.BAN_USER, principal, person, idempotency_key, {USER_REMOVAL_KEY: person.id}
        )
        operation = await self._carry_out(asked, person, _require_can_leave)
        note = BANS_UNAVAILABLE if workflows.is_ban_unavailable(operation) else None
        return await self.desk.profile(principal, person.id), note

    async def unban(self, principal: Principal, ref: str, *, idempotency_key: str | None = None) -> UserProfile:
        """Let someone come in again: a ban is lifted, and so is a deactivation of the whole account.

        1 the right; 2 kept: they are not deleted; 3 Clerk; 4 the database.
        """
        person = await self._find(principal, ref, "unban")
        asked = make_operation_request(workflows.UNBAN_USER, principal, person, idempotency_key, {})
        await self._carry_out(asked, person, lambda _conn, found: _check_not_deleted(found))
        return await self.desk.profile(principal, person.id)

    async def _find(self, principal: Principal, ref: str, doing: str) -> UserRow:
        subject = await self.desk.find(principal, ref)
        require_instance_admin(subject.rights, f"{doing} people")
        require_not_self(subject.rights, doing)
        self.desk.require_api_key_allowed(principal, {"account": doing}, subject.person)
        return subject.person

    async def _carry_out(self, asked: OperationRequest, seen: UserRow, check: PreconditionCheck) -> Operation:
        """Run it, with a look at the present state in the transaction that keeps it."""

        def opening(conn: Conn) -> None:
            person = find_user(conn, seen.id, is_locking=True)
            if person is None:
                raise make_user_not_found_error()
            check(conn, require_same_clerk_account(person, seen.clerk_id))

        return await self.desk.run_operation(asked, opening, whom=seen.name)

    async def _made(self, operation: Operation) -> str:
        """Our id of who was made: what Clerk had told first may be known under another."""
        news = operation.done["clerk"].get("news")
        found = await self.desk.db.read(user_repository.find_user_id_by_clerk_id, news["key"]["id"]) if news else None
        id: str = found or operation.intent["user"]
        return id


@dataclass(frozen=True)
class UserService:
    """Everything that can be done with people of the whole installation."""

    users: UserQueries
    edit: ProfileEditor
    change_email: EmailChangeService
    set_password: PasswordSetter
    manage: UserAccountService
    details: UserDetailsReader
    end_sessions: SessionRevoker


def _require_unchanged(conn: Conn, seen: UserRow) -> None:
    require_same_clerk_account(require_not_deleted(find_user(conn, seen.id, is_locking=True)), seen.clerk_id)


def _require_email_alone(edit: UserChanges) -> None:
    if len(edit.fields) > 1:
        words = lazy_gettext(
            "Change the address by itself: what becomes of it is decided in Clerk. Nothing was changed."
        )
        raise ChangeRejectedError(words, code="email_alone", field="email")


class UserClerkApi(UsersApi, OrganizationsApi, ApplicationInvitationsApi, ClerkReader, Protocol):
    """Everything that these operations need of the provider."""


def make_user_service(
    desk: UserCommandContext,
    held: EphemeralSecrets,
    provider: UserClerkApi,
    *,
    policy: EmailChangePolicy,
    redirect_url: str | None,
) -> UserService:
    """The flows, on one desk. `policy` and `redirect_url`: see EmailChangeService."""
    change_email = EmailChangeService(desk, held, policy, redirect_url)
    return UserService(
        users=UserQueries(desk),
        edit=ProfileEditor(desk, change_email),
        change_email=change_email,
        set_password=PasswordSetter(desk, held),
        manage=UserAccountService(desk),
        details=UserDetailsReader(desk, provider, provider),
        end_sessions=SessionRevoker(desk, provider),
    )


def make_user_workflows(provider: UserClerkApi, held: EphemeralSecrets, clock: Clock) -> Workflows:
    """By kind. `held` is the one that the flows have."""
    return {
        workflows.EDIT_PROFILE: workflows.make_edit_profile_workflow(provider, clock),
        workflows.SET_PASSWORD: workflows.make_set_password_workflow(provider, held, clock),
        workflows.END_SESSIONS: workflows.make_end_sessions_workflow(provider, clock),
        emails.REINVITE_MEMBER: emails.make_reinvite_workflow(provider, provider, provider, clock),
        emails.REINVITE_TO_APPLICATION: emails.make_application_reinvite_workflow(provider, provider, clock),
        **workflows.make_account_workflows(provider, clock),
        **emails.make_email_workflows(provider, held, clock),
    }


def _require_identifiers_free(conn: Conn, wanted: UserChanges) -> None:
    if wanted.email and find_user_id_by_login(conn, email=wanted.email):
        raise make_email_taken_error(wanted.email)
    if wanted.username and find_user_id_by_login(conn, username=wanted.username):
        raise make_username_taken_error(wanted.username)


def _require_can_leave(conn: Conn, person: UserRow) -> None:
    _check_not_deleted(person)
    lock_organizations_of_admin(conn, person.id, find_roles(conn))
    require_another_admin(
        find_sole_admin_organizations(
            conn, person.id, find_roles(conn), moving=collect_pending_changes(list_open_intents(conn))
        )
    )


def _check_not_deleted(person: UserRow) -> None:
    require_not_deleted(person)


def _require_can_restore(conn: Conn, person: UserRow) -> None:
    if not person.is_deleted:
        raise ChangeRejectedError(
            lazy_gettext("%(name)s is not deleted.", name=person.name), code="not_deleted", status=CONFLICT
        )
    if person.email and find_user_id_by_login(conn, email=person.email, but=person.id):
        raise make_email_taken_error(person.email)
    if person.username and find_user_id_by_login(conn, username=person.username, but=person.id):
        raise make_username_taken_error(person.username)
