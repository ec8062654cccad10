"""Use cases of users: list, read, edit, set a password, end sessions and manage accounts."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
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
from instep.domain.last_admin import collect_pending_changes
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
from instep.operations.repository import encode_intent, find_by_idempotency_key, list_open_intents
from instep.operations.workflow import Operation, OperationFailedError, OperationRequest, Workflows
from instep.users import emails, repository, workflows
from instep.users.context import (
    UserCommandContext,
    find_provider_refusal,
    get_clerk_id,
    lock_target,
    make_operation_request,
    require_email_free,
    require_same_clerk_account,
    scope_idempotency_key,
    translate_failure,
)
from instep.users.emails import EmailChangeService
from instep.users.models import (
    BanUserIntent,
    ClerkRemoval,
    CreateUserIntent,
    DeleteUserIntent,
    EditProfileIntent,
    EmailChange,
    EmailChangePolicy,
    EndedSessions,
    EndSessionsIntent,
    ReplaceEmailIntent,
    RestoreUserIntent,
    SetPasswordIntent,
    TargetUser,
    UnbanUserIntent,
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
from instep.users.workflows import EphemeralSecrets

log = structlog.get_logger(__name__)
T = TypeVar("T")
TargetCheck = Callable[[Conn, UserRow], None]
DETAILS_TIMEOUT_SECONDS = 2.0
MAX_ORGANIZATIONS = 5  # whose pending invitations are searched for those that a user sent


class UserClerkApi(UsersApi, OrganizationsApi, ApplicationInvitationsApi, ClerkReader, Protocol):
    """The ports to Clerk that user operations need."""


@dataclass(frozen=True)
class UserService:
    """List and read users; edit, create, delete, restore, ban and unban them; manage passwords and sessions.

    A `user_id` is instep's id or Clerk's. Each change is one operation: check the permission, commit the intent, call
    Clerk, finish both sides in one transaction. Changes raise ChangeRejectedError (nothing was changed),
    OperationPendingError (the worker resolves the outcome and finishes) and ConflictError.

    `details_timeout`: limit of the calls of `get_details` to Clerk, in seconds.
    """

    context: UserCommandContext
    emails: EmailChangeService
    secrets: EphemeralSecrets
    users_api: UsersApi
    clerk_reader: ClerkReader
    details_timeout: float = DETAILS_TIMEOUT_SECONDS

    async def list(self, principal: Principal, user_filter: UserFilter) -> UserSearchResult:
        """Return a page of users, newest first. Raises ChangeRejectedError (403) except for instance admins."""
        require_instance_admin(UserPermissions(is_admin=principal.is_instance_admin), "list")
        return await self.context.db.read(_list_users, user_filter)

    async def get(self, principal: Principal, user_id: str) -> UserProfile:
        """Return one user. Raises ChangeRejectedError (404)."""
        return await self.context.load_profile(principal, user_id)

    async def find_target(self, principal: Principal, user_id: str) -> TargetUser:
        """Return one user and the caller's permissions on them. Raises ChangeRejectedError (404)."""
        return await self.context.find_target(principal, user_id)

    async def get_details(self, caller: OrganizationAccess | Principal, profile: UserProfile) -> UserDetails:
        """Read sessions and sent invitations from Clerk, as far as the caller may see them."""
        principal = caller.principal if isinstance(caller, OrganizationAccess) else caller
        can_see_sessions = profile.is_complete or principal.user_id == profile.user.id
        can_see_invitations = caller.can_manage if isinstance(caller, OrganizationAccess) else profile.is_complete
        details = UserDetails(can_see_sessions=can_see_sessions, can_see_invitations=can_see_invitations)
        clerk_id = get_clerk_id(profile.user)
        if clerk_id is None:
            return details
        organization_ids = _list_organization_ids(caller, profile) if can_see_invitations else []
        sessions, sent = await asyncio.gather(
            self._read_in_time(self._list_sessions(clerk_id if can_see_sessions else None)),
            self._read_in_time(self._list_sent_invitations(clerk_id, organization_ids)),
        )
        return replace(details, sessions=sessions, sent_invitations=sent)

    async def list_sessions(self, principal: Principal, user_id: str) -> Sequence[ActiveSession]:
        """Return the active sessions of a user, read live from Clerk.

        Raises ChangeRejectedError (403, 404), ClerkUnavailableError and ClerkRejectedError.
        """
        target = await self.context.find_target(principal, user_id)
        require_can_see_sessions(target)
        return await self._list_sessions(get_clerk_id(target.user))

    async def edit_profile(
        self, principal: Principal, user_id: str, changes: UserChanges, *, idempotency_key: str | None = None
    ) -> UserProfile | EmailChange:
        """Change names, username, public metadata and attributes; a new address of a user in Clerk has its own flow.

        The fields are validated first, then the permission for each. A user without a Clerk account is edited in the
        transaction that stores the intent.
        """
        target = await self.context.find_target(principal, user_id)
        user, changes = target.user, validate_changes(changes)
        if is_same_email(changes.email, user.email):
            changes = replace(changes, email=None)
        self.context.require_api_key_allowed(principal, changes.fields, user)
        if changes.email is not None and get_clerk_id(user) is not None:
            _require_email_alone(changes)
            intent = ReplaceEmailIntent(user=user.id, clerk_id=get_clerk_id(user), email=changes.email, old=user.email)
            request = make_operation_request(emails.REPLACE_EMAIL, principal, user, None, intent)
            await self.context.executor.require_permitted(request)
            return await self.emails.start(principal, target, changes.email, idempotency_key=idempotency_key)
        require_can_edit(target.permissions, changes.fields)
        if changes.fields:
            before = {name: getattr(user, name) for name in changes.fields}
            edit = EditProfileIntent(user=user.id, clerk_id=get_clerk_id(user), profile=changes.fields, before=before)
            request = make_operation_request(workflows.EDIT_PROFILE, principal, user, idempotency_key, edit)
            precondition = partial(self._check_edit, expected=user, changes=changes)
            await self.context.run_operation(request, precondition, display_name=user.name)
        return await self.context.load_profile(principal, user_id)

    async def change_email(
        self, principal: Principal, user_id: str, email: str, *, idempotency_key: str | None = None
    ) -> EmailChange:
        """Change a user's address by the policy of the installation; see `EmailChangeService`."""
        return await self.emails.change(principal, user_id, email, idempotency_key=idempotency_key)

    async def verify_email(
        self, principal: Principal, user_id: str, verification: str, code: str, *, idempotency_key: str | None = None
    ) -> EmailChange:
        """Verify a new address by the code that was sent to it; see `EmailChangeService`."""
        return await self.emails.verify(principal, user_id, verification, code, idempotency_key=idempotency_key)

    async def set_password(
        self, principal: Principal, user_id: str, password: str, *, idempotency_key: str | None = None
    ) -> UserProfile:
        """Set a user's password in Clerk, which checks it by its own rules; it is never stored here.

        It stays in the memory of this process while the operation runs. An unknown outcome needs a person: the password
        must be set again.
        """
        target = await self.context.find_target(principal, user_id)
        require_instance_admin(target.permissions, "set_password")
        user = target.user
        self.context.require_api_key_allowed(principal, {"password": password}, user)
        if get_clerk_id(user) is None:
            message = lazy_gettext("%(name)s has no Clerk account and cannot sign in with a password.", name=user.name)
            raise ChangeRejectedError(message, code="no_clerk_account", field="password")
        with self.secrets.keep(password) as secret_name:
            intent = SetPasswordIntent(user=user.id, clerk_id=get_clerk_id(user), secret=secret_name)
            request = make_operation_request(workflows.SET_PASSWORD, principal, user, idempotency_key, intent)
            try:
                await self.context.executor.run(request, precondition=partial(_check_unchanged, expected=user))
            except OperationFailedError as error:
                refusal = find_provider_refusal(error)
                if refusal is None or error.operation.state == "attention":
                    raise translate_failure(error, request, user.name) from error
                raise translate_password_refusal(refusal, display_name=user.name) from error
        return await self.context.load_profile(principal, user_id)

    async def revoke_sessions(
        self, principal: Principal, user_id: str, session_id: str | None = None, *, idempotency_key: str | None = None
    ) -> EndedSessions:
        """Revoke one active session of a user, or all of them, with the console sessions that belong to them.

        For instance admins, and for one's own sessions.
        """
        target = await self.context.find_target(principal, user_id)
        require_can_see_sessions(target)
        clerk_id = get_clerk_id(target.user)
        if clerk_id is None:
            message = lazy_gettext("This user has no Clerk account.")
            raise ChangeRejectedError(message, code="no_clerk_account", status=CONFLICT)
        intent = EndSessionsIntent(user=target.user.id, clerk_id=clerk_id, session=session_id)
        request = make_operation_request(workflows.END_SESSIONS, principal, target.user, idempotency_key, intent)
        if session_id is not None and await self.context.db.read(find_by_idempotency_key, request) is None:
            await self._require_session_of(clerk_id, session_id)
        operation = await self.context.run_operation(request, lambda _conn: None, display_name=target.user.name)
        return EndedSessions(operation.done["sessions"]["ended"])

    async def create(
        self, principal: Principal, profile: UserChanges, *, in_clerk: bool = True, idempotency_key: str | None = None
    ) -> UserProfile:
        """Create a user, in Clerk and here.

        Our id becomes Clerk's external id, by which the user is found again after an unknown outcome. Without
        `in_clerk` the user is created in the transaction that stores the intent.
        """
        require_instance_admin(UserPermissions(is_admin=principal.is_instance_admin), "create")
        wanted = validate_changes(profile)
        if not wanted.email:
            message = lazy_gettext("An email address is required.")
            raise ChangeRejectedError(message, code="invalid_email", field="email")
        self.context.require_api_key_allowed(principal, wanted.fields, None)
        email, user_id = wanted.email, new_id("usr")
        fields = {name: value for name, value in wanted.fields.items() if value}
        request = OperationRequest(
            kind=workflows.CREATE_USER,
            target=f"address:{canonicalize_email(email)}",
            actor=principal.id,
            idempotency_key=scope_idempotency_key(workflows.CREATE_USER, idempotency_key),
            intent=encode_intent(CreateUserIntent(user=user_id, clerk_id=None, in_clerk=in_clerk, profile=fields)),
        )

        def precondition(conn: Conn) -> None:
            require_email_free(conn, email)
            _require_username_free(conn, wanted.username)
            if not in_clerk:
                user_repository.create_local_user(conn, user_id, fields, now=self.context.clock())

        operation = await self.context.run_operation(request, precondition, display_name=email)
        return await self.context.load_profile(principal, await self._find_created_id(operation))

    async def delete(
        self, principal: Principal, user_id: str, *, clerk: ClerkRemoval = "delete", idempotency_key: str | None = None
    ) -> UserProfile:
        """Soft-delete a user here, and in Clerk as `clerk` says: delete, only ban, or keep (and end their sessions).

        Refused for oneself and for the only admin of an organization.
        """
        user = await self._find_account(principal, user_id, "delete")
        intent = DeleteUserIntent(user=user.id, clerk_id=get_clerk_id(user), clerk=clerk, removed_user_id=user.id)
        request = make_operation_request(workflows.DELETE_USER, principal, user, idempotency_key, intent)
        await self._run_on_account(request, user, _require_removable)
        return await self.context.load_profile(principal, user.id)

    async def restore(self, principal: Principal, user_id: str, *, idempotency_key: str | None = None) -> UserProfile:
        """Restore a deleted user and lift a ban in Clerk.

        Refused where another user has their address or username by now. Without a Clerk account where Clerk has deleted
        theirs.
        """
        user = await self._find_account(principal, user_id, "restore")
        intent = RestoreUserIntent(user=user.id, clerk_id=get_clerk_id(user))
        request = make_operation_request(workflows.RESTORE_USER, principal, user, idempotency_key, intent)
        await self._run_on_account(request, user, _require_restorable)
        return await self.context.load_profile(principal, user.id)

    async def ban(
        self, principal: Principal, user_id: str, *, idempotency_key: str | None = None
    ) -> tuple[UserProfile, str | None]:
        """Ban a user; Clerk ends every session.

        The second value is a note where Clerk's plan has no bans and the user was deactivated here instead. Refused for
        oneself and for the only admin of an organization.
        """
        user = await self._find_account(principal, user_id, "ban")
        intent = BanUserIntent(user=user.id, clerk_id=get_clerk_id(user), removed_user_id=user.id)
        request = make_operation_request(workflows.BAN_USER, principal, user, idempotency_key, intent)
        operation = await self._run_on_account(request, user, _require_removable)
        note = BANS_UNAVAILABLE if workflows.is_ban_unavailable(operation) else None
        return await self.context.load_profile(principal, user.id), note

    async def unban(self, principal: Principal, user_id: str, *, idempotency_key: str | None = None) -> UserProfile:
        """Lift a ban, and a deactivation of the whole account."""
        user = await self._find_account(principal, user_id, "unban")
        intent = UnbanUserIntent(user=user.id, clerk_id=get_clerk_id(user))
        request = make_operation_request(workflows.UNBAN_USER, principal, user, idempotency_key, intent)
        await self._run_on_account(request, user, _check_not_deleted)
        return await self.context.load_profile(principal, user.id)

    async def _list_sessions(self, clerk_id: ClerkId | None) -> Sequence[ActiveSession]:
        return await self.users_api.list_sessions(clerk_id) if clerk_id is not None else ()

    async def _list_sent_invitations(
        self, inviter_id: ClerkId, organization_ids: Sequence[str]
    ) -> Sequence[ClerkInvitation]:
        lists = await asyncio.gather(
            *(self.clerk_reader.list_invitations(ClerkId(it), statuses=("pending",)) for it in organization_ids)
        )
        return [it for invitations in lists for it in invitations if it.inviter_id == inviter_id]

    async def _read_in_time(self, call: Awaitable[T]) -> T | None:
        try:
            async with asyncio.timeout(self.details_timeout):
                return await call
        except (InstepError, TimeoutError) as error:
            log.warning("user_details_unavailable", error=describe_error(error) or "timeout")
            return None

    def _check_edit(self, conn: Conn, *, expected: UserRow, changes: UserChanges) -> None:
        """Check the present state; a user without a Clerk account is edited in the same transaction."""
        user = lock_target(conn, expected)
        _require_username_free(conn, changes.username, user.id)
        if changes.email:
            require_email_free(conn, changes.email, user.id)
        if user.clerk_id is None:
            now = self.context.clock()
            user_repository.update_local_user(conn, user, changes.fields, now=now)
            if changes.attributes:
                user_repository.merge_user_attributes(conn, user.id, changes.attributes, now=now)

    async def _require_session_of(self, clerk_id: ClerkId, session_id: str) -> None:
        """Check the owner of a session. Not for a repetition: the session that it ended is no longer active."""
        if session_id not in {it.id for it in await self.users_api.list_sessions(clerk_id)}:
            message = lazy_gettext("This session does not exist or is not active.")
            raise ChangeRejectedError(message, code="session_not_found", status=NOT_FOUND)

    async def _find_account(self, principal: Principal, user_id: str, action: str) -> UserRow:
        target = await self.context.find_target(principal, user_id)
        require_instance_admin(target.permissions, action)
        require_not_self(target.permissions, action)
        self.context.require_api_key_allowed(principal, {"account": action}, target.user)
        return target.user

    async def _run_on_account(self, request: OperationRequest, expected: UserRow, check: TargetCheck) -> Operation:
        """Run an operation; `check` gets the present row in the transaction that stores the intent."""

        def precondition(conn: Conn) -> None:
            user = find_user(conn, expected.id, is_locking=True)
            if user is None:
                raise make_user_not_found_error()
            check(conn, require_same_clerk_account(user, expected.clerk_id))

        return await self.context.run_operation(request, precondition, display_name=expected.name)

    async def _find_created_id(self, operation: Operation) -> str:
        """Return our id of the created user; a webhook that was processed earlier may have assigned another one."""
        state = operation.done["clerk"].get("news")
        if not state:
            return str(operation.intent["user"])
        found = await self.context.db.read(user_repository.find_user_id_by_clerk_id, state["key"]["id"])
        return found or str(operation.intent["user"])


def make_user_service(
    context: UserCommandContext,
    secrets: EphemeralSecrets,
    clerk: UserClerkApi,
    *,
    policy: EmailChangePolicy,
    redirect_url: str | None,
) -> UserService:
    """Create the service. `policy` and `redirect_url`: see `EmailChangeService`."""
    email_changes = EmailChangeService(context, secrets, policy, redirect_url)
    return UserService(context, email_changes, secrets, users_api=clerk, clerk_reader=clerk)


def make_user_workflows(clerk: UserClerkApi, secrets: EphemeralSecrets, clock: Clock) -> Workflows:
    """Return the workflows of all user operations by kind. `secrets` is that of the service."""
    return {
        workflows.EDIT_PROFILE: workflows.make_edit_profile_workflow(clerk, clock),
        workflows.SET_PASSWORD: workflows.make_set_password_workflow(clerk, secrets, clock),
        workflows.END_SESSIONS: workflows.make_end_sessions_workflow(clerk, clock),
        workflows.REINVITE_MEMBER: workflows.make_reinvite_workflow(clerk, clerk, clerk, clock),
        workflows.REINVITE_TO_APPLICATION: workflows.make_application_reinvite_workflow(clerk, clerk, clock),
        **workflows.make_account_workflows(clerk, clock),
        **emails.make_email_workflows(clerk, secrets, clock),
    }


def _list_users(conn: Conn, user_filter: UserFilter) -> UserSearchResult:
    rows = repository.list_users(conn, user_filter)
    shown = rows[: user_filter.limit]
    memberships = repository.list_user_memberships(conn, [it.id for it in shown])
    profiles = [UserProfile(user=it, memberships=tuple(memberships.get(it.id, ())), is_complete=True) for it in shown]
    has_more = len(rows) > user_filter.limit
    cursor = encode_cursor(UserCursor(shown[-1].joined_at, shown[-1].id)) if has_more else None
    return UserSearchResult(rows=profiles, next_cursor=cursor)


def _list_organization_ids(caller: OrganizationAccess | Principal, profile: UserProfile) -> list[str]:
    """Return Clerk's ids of the organizations whose invitations are searched."""
    if isinstance(caller, OrganizationAccess):
        return [caller.organization_clerk_id] if caller.organization_clerk_id else []
    found = [it.organization_clerk_id for it in profile.memberships if it.organization_clerk_id]
    return found[:MAX_ORGANIZATIONS]


def _require_email_alone(changes: UserChanges) -> None:
    if len(changes.fields) > 1:
        message = lazy_gettext("Change the email address separately from other fields. Nothing was changed.")
        raise ChangeRejectedError(message, code="email_alone", field="email")


def _require_username_free(conn: Conn, username: str | None, user_id: str = "") -> None:
    if username and find_user_id_by_login(conn, username=username, excluded_id=user_id):
        raise make_username_taken_error(username)


def _check_unchanged(conn: Conn, *, expected: UserRow) -> None:
    lock_target(conn, expected)


def _check_not_deleted(_conn: Conn, user: UserRow) -> None:
    require_not_deleted(user)


def _require_removable(conn: Conn, user: UserRow) -> None:
    require_not_deleted(user)
    lock_organizations_of_admin(conn, user.id, find_roles(conn))
    require_another_admin(
        find_sole_admin_organizations(
            conn, user.id, find_roles(conn), pending=collect_pending_changes(list_open_intents(conn))
        )
    )


def _require_restorable(conn: Conn, user: UserRow) -> None:
    if not user.is_deleted:
        raise ChangeRejectedError(
            lazy_gettext("%(name)s is not deleted.", name=user.name), code="not_deleted", status=CONFLICT
        )
    if user.email:
        require_email_free(conn, user.email, user.id)
    _require_username_free(conn, user.username, user.id)
