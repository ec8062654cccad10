"""Workflows of user operations: edit, password, sessions, create, delete, restore, ban, unban and reinvite."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any

import msgspec

from instep.auth.repository import end_sessions_of_clerk_session, end_sessions_of_user
from instep.core.clock import Clock
from instep.core.db import Conn
from instep.core.i18n import lazy_gettext
from instep.domain.errors import NOT_FOUND, ClerkRejectedError, ClerkUnavailableError
from instep.domain.events import EntityState, Observation, Tombstone, decode_entity_state, encode_entity_state
from instep.domain.models import (
    ClerkApplicationInvitation,
    ClerkId,
    ClerkInvitation,
    ClerkUser,
    ClerkUserUpdate,
    EntityKey,
    NewClerkApplicationInvitation,
    NewClerkInvitation,
    NewClerkUser,
)
from instep.domain.ports import ApplicationInvitationsApi, ClerkReader, OrganizationsApi, UsersApi
from instep.domain.reconcile import merge_metadata
from instep.mirror import membership_status, user_repository
from instep.mirror.apply import apply_observations
from instep.operations.workflow import (
    JsonObject,
    Operation,
    OutcomeUnknownError,
    TypedOperation,
    Workflow,
    Workflows,
    WorkflowStep,
)
from instep.users.models import (
    BanUserIntent,
    CreateUserIntent,
    DeleteUserIntent,
    EditProfileIntent,
    EmailIntent,
    EndSessionsIntent,
    ReinviteMemberIntent,
    ReinviteToApplicationIntent,
    RestoreUserIntent,
    SetPasswordIntent,
    UnbanUserIntent,
    UserIntent,
)
from instep.users.policies import PASSWORD_NOT_SET, PASSWORD_OUTCOME_UNKNOWN

EDIT_PROFILE = "profile.edit"
SET_PASSWORD = "user.password"  # noqa: S105 (no password)
END_SESSIONS = "user.sessions"
CREATE_USER = "user.create"
DELETE_USER = "user.delete"
RESTORE_USER = "user.restore"
BAN_USER = "user.ban"
UNBAN_USER = "user.unban"
REINVITE_MEMBER = "profile.reinvite"
REINVITE_TO_APPLICATION = "profile.reinvite.application"
FIELDS_IN_CLERK = ("first_name", "last_name", "username")
PARTIAL_EDIT = "The names were changed in Clerk; the metadata and the attributes were not."
PARTIAL_REINVITATION = "The new address is invited; the old account could not be signed out and still works."
OPERATION_METADATA_KEY = "instep_operation"
ALL_INVITATION_STATUSES = ("pending", "accepted", "revoked", "expired")
PASSWORD_UNKNOWN_CODE = "password_unknown"  # noqa: S105 (no password)
PAYMENT_REQUIRED = 402


def make_account_workflows(users: UsersApi, clock: Clock) -> Workflows:
    """Return the workflows that create, delete, restore, ban and unban users, by kind."""
    return {
        CREATE_USER: _make_create_workflow(users, clock),
        DELETE_USER: _make_delete_workflow(users, clock),
        RESTORE_USER: _make_restore_workflow(users, clock),
        BAN_USER: _make_ban_workflow(users, clock),
        UNBAN_USER: _make_unban_workflow(users, clock),
    }


def _make_create_workflow(users: UsersApi, clock: Clock) -> Workflow[CreateUserIntent]:
    """Create the workflow of `user.create`.

    Our id becomes Clerk's external id, by which a created user is found again.
    """

    async def create(operation: TypedOperation[CreateUserIntent]) -> JsonObject:
        if not operation.intent.in_clerk:
            return {}
        profile = {name: value for name, value in operation.intent.profile.items() if name != "attributes"}
        return encode_result(await users.create_user(NewClerkUser(external_id=operation.intent.user, **profile)))

    async def find_created(operation: TypedOperation[CreateUserIntent]) -> JsonObject | None:
        if not operation.intent.in_clerk:
            return {}
        created = await users.find_user_by(external_id=operation.intent.user)
        return encode_result(created) if created else None

    def finalize(conn: Conn, operation: TypedOperation[CreateUserIntent]) -> None:
        observation = apply_result(conn, operation, "clerk", clock())
        attributes = operation.intent.profile.get("attributes")
        if observation is None or not attributes:
            return
        if user_id := user_repository.find_user_id_by_clerk_id(conn, observation.key.id):
            user_repository.merge_user_attributes(conn, user_id, attributes, now=clock())

    return Workflow(CreateUserIntent, [WorkflowStep("clerk", create, find_created)], finalize)


def _make_delete_workflow(users: UsersApi, clock: Clock) -> Workflow[DeleteUserIntent]:
    """Create the workflow of `user.delete`.

    The user is deleted in Clerk, only banned, or kept there (and their sessions ended).
    """

    async def delete(operation: TypedOperation[DeleteUserIntent]) -> JsonObject:
        clerk_id, choice = operation.intent.clerk_id, operation.intent.clerk
        if clerk_id is None:
            return {}
        if choice == "delete":
            return encode_result(await users.delete_user(clerk_id))
        return await _ban_in_clerk(users, clerk_id) if choice == "ban" else await _end_sessions(users, clerk_id)

    async def find_deleted(operation: TypedOperation[DeleteUserIntent]) -> JsonObject | None:
        clerk_id, choice = operation.intent.clerk_id, operation.intent.clerk
        if clerk_id is None:
            return {}
        present = await users.find_user(clerk_id)
        if present is None:
            return encode_result(Tombstone(EntityKey("user", clerk_id)))
        return encode_result(present) if choice == "ban" and extract_user(present).is_banned else None

    def finalize(conn: Conn, operation: TypedOperation[DeleteUserIntent]) -> None:
        apply_result(conn, operation, "clerk", clock())
        user_repository.soft_delete_user(conn, operation.intent.user, now=clock())

    return Workflow(DeleteUserIntent, [WorkflowStep("clerk", delete, find_deleted)], finalize)


def _make_restore_workflow(users: UsersApi, clock: Clock) -> Workflow[RestoreUserIntent]:
    """Create the workflow of `user.restore`: it lifts a ban.

    A user who no longer exists in Clerk is restored without a Clerk account (see `mirror.user_repository`).
    """

    async def unban(operation: TypedOperation[RestoreUserIntent]) -> JsonObject:
        clerk_id = operation.intent.clerk_id
        if clerk_id is None:
            return {}
        restored = await find_restored(operation)
        return restored if restored is not None else encode_result(await users.unban_user(clerk_id))

    async def find_restored(operation: TypedOperation[RestoreUserIntent]) -> JsonObject | None:
        clerk_id = operation.intent.clerk_id
        if clerk_id is None:
            return {}
        present = await users.find_user(clerk_id)
        if present is None:
            return encode_result(Tombstone(EntityKey("user", clerk_id)))
        return None if extract_user(present).is_banned else encode_result(present)

    def finalize(conn: Conn, operation: TypedOperation[RestoreUserIntent]) -> None:
        apply_result(conn, operation, "clerk", clock())
        user_repository.restore_user(conn, operation.intent.user, now=clock())

    return Workflow(RestoreUserIntent, [WorkflowStep("clerk", unban, find_restored)], finalize)


def _make_ban_workflow(users: UsersApi, clock: Clock) -> Workflow[BanUserIntent]:
    """Create the workflow of `user.ban`. Without bans in the plan the user is deactivated here and signed out."""

    async def ban(operation: TypedOperation[BanUserIntent]) -> JsonObject:
        clerk_id = operation.intent.clerk_id
        return await _ban_in_clerk(users, clerk_id) if clerk_id is not None else {}

    async def find_banned(operation: TypedOperation[BanUserIntent]) -> JsonObject | None:
        clerk_id = operation.intent.clerk_id
        if clerk_id is None:
            return {}
        present = await read_user(users, clerk_id)
        return encode_result(present) if extract_user(present).is_banned else None

    def finalize(conn: Conn, operation: TypedOperation[BanUserIntent]) -> None:
        user_id, now = operation.intent.user, clock()
        if operation.intent.clerk_id is None:
            user_repository.set_user_banned(conn, user_id, is_banned=True, now=now)
        elif apply_result(conn, operation, "clerk", now) is None:
            user_repository.set_user_active(conn, user_id, is_active=False, now=now)

    return Workflow(BanUserIntent, [WorkflowStep("clerk", ban, find_banned)], finalize)


def _make_unban_workflow(users: UsersApi, clock: Clock) -> Workflow[UnbanUserIntent]:
    """Create the workflow of `user.unban`: it lifts a ban, and a deactivation of the account."""

    async def unban(operation: TypedOperation[UnbanUserIntent]) -> JsonObject:
        clerk_id = operation.intent.clerk_id
        if clerk_id is None:
            return {}
        present = await read_user(users, clerk_id)
        return encode_result(await users.unban_user(clerk_id) if extract_user(present).is_banned else present)

    async def find_unbanned(operation: TypedOperation[UnbanUserIntent]) -> JsonObject | None:
        clerk_id = operation.intent.clerk_id
        if clerk_id is None:
            return {}
        present = await read_user(users, clerk_id)
        return None if extract_user(present).is_banned else encode_result(present)

    def finalize(conn: Conn, operation: TypedOperation[UnbanUserIntent]) -> None:
        user_id, now = operation.intent.user, clock()
        apply_result(conn, operation, "clerk", now)
        if operation.intent.clerk_id is None:
            user_repository.set_user_banned(conn, user_id, is_banned=False, now=now)
        user_repository.set_user_active(conn, user_id, is_active=True, now=now)

    return Workflow(UnbanUserIntent, [WorkflowStep("clerk", unban, find_unbanned)], finalize)


def is_ban_unavailable(operation: Operation) -> bool:
    """Return whether the plan rejected this ban, so that it became a deactivation."""
    return "signed_out" in operation.done.get("clerk", {}) and operation.intent.get("clerk") != "keep"


async def _ban_in_clerk(users: UsersApi, clerk_id: ClerkId) -> JsonObject:
    try:
        return encode_result(await users.ban_user(clerk_id))
    except ClerkRejectedError as refusal:
        if refusal.status != PAYMENT_REQUIRED:
            raise
        return await _end_sessions(users, clerk_id)


async def _end_sessions(users: UsersApi, clerk_id: ClerkId) -> JsonObject:
    return {"signed_out": await users.revoke_all_sessions(clerk_id)}


def make_edit_profile_workflow(users: UsersApi, clock: Clock) -> Workflow[EditProfileIntent]:
    """Create the workflow of `profile.edit`.

    Without a Clerk account the precondition has written the change already, and nothing is left to do.
    """

    async def update_names(operation: TypedOperation[EditProfileIntent]) -> JsonObject:
        names = _get_clerk_fields(operation)
        if not names:
            return {}
        return encode_result(await users.update_user(require_clerk_id(operation), ClerkUserUpdate(**names)))

    async def find_updated(operation: TypedOperation[EditProfileIntent]) -> JsonObject | None:
        names = _get_clerk_fields(operation)
        return await _find_if_done(users, operation, lambda user: _has_fields(user, names)) if names else {}

    async def merge(operation: TypedOperation[EditProfileIntent]) -> JsonObject:
        patch = _get_metadata_patch(operation)
        if not patch:
            return {}
        return encode_result(await users.merge_public_metadata(require_clerk_id(operation), patch))

    async def find_merged(operation: TypedOperation[EditProfileIntent]) -> JsonObject | None:
        patch = _get_metadata_patch(operation)
        return await _find_if_done(users, operation, lambda user: _has_metadata(user, patch)) if patch else {}

    def finalize(conn: Conn, operation: TypedOperation[EditProfileIntent]) -> None:
        intent = operation.intent
        if intent.clerk_id is None:
            return
        if results := [result for result in operation.done.values() if result]:
            apply_observations(
                conn, [decode_entity_state(results[-1]["news"])], now=clock(), written_fields=intent.profile
            )
        if patch := intent.profile.get("attributes"):
            user_repository.merge_user_attributes(conn, intent.user, patch, now=clock())

    steps = [WorkflowStep("names", update_names, find_updated), WorkflowStep("metadata", merge, find_merged)]
    return Workflow(EditProfileIntent, steps, finalize, PARTIAL_EDIT)


async def _find_if_done(
    users: UsersApi, operation: TypedOperation[EditProfileIntent], is_done: Callable[[ClerkUser], bool]
) -> JsonObject | None:
    present = await read_user(users, require_clerk_id(operation))
    return encode_result(present) if is_done(extract_user(present)) else None


def _has_fields(user: ClerkUser, wanted: dict[str, str]) -> bool:
    """Return whether the user has these values; Clerk stores usernames in lower case."""
    return all((getattr(user, name) or "").casefold() == value.casefold() for name, value in wanted.items())


def _has_metadata(user: ClerkUser, patch: dict[str, Any]) -> bool:
    metadata: dict[str, Any] = msgspec.json.decode(user.public_metadata)
    return merge_metadata(metadata, patch) == metadata


def _get_clerk_fields(operation: TypedOperation[EditProfileIntent]) -> dict[str, str]:
    """Return the fields to change in Clerk; none for a user without an account there."""
    if operation.intent.clerk_id is None:
        return {}
    return {name: value for name, value in operation.intent.profile.items() if name in FIELDS_IN_CLERK}


def _get_metadata_patch(operation: TypedOperation[EditProfileIntent]) -> dict[str, Any]:
    if operation.intent.clerk_id is None:
        return {}
    patch: dict[str, Any] = operation.intent.profile.get("public_metadata") or {}
    return patch


@dataclass(frozen=True)
class EphemeralSecrets:
    """Passwords and codes in the memory of this process, by a random name that may be stored.

    Another process, or this one after the operation, does not find them.
    """

    _by_name: dict[str, str] = field(default_factory=dict, repr=False)

    @contextmanager
    def keep(self, secret: str) -> Iterator[str]:
        """Keep a secret during the `with` block; yields its name."""
        name = token_hex(8)
        self._by_name[name] = secret
        try:
            yield name
        finally:
            del self._by_name[name]

    def find(self, name: str) -> str | None:
        """Return the secret of this name, None where it was dropped."""
        return self._by_name.get(name)


def make_set_password_workflow(users: UsersApi, secrets: EphemeralSecrets, clock: Clock) -> Workflow[SetPasswordIntent]:
    """Create the workflow of `user.password`."""

    async def set_password(operation: TypedOperation[SetPasswordIntent]) -> JsonObject:
        password = secrets.find(operation.intent.secret)
        if password is None:
            raise OutcomeUnknownError(PASSWORD_OUTCOME_UNKNOWN, code=PASSWORD_UNKNOWN_CODE)
        try:
            return encode_result(await users.set_password(require_clerk_id(operation), password))
        except ClerkUnavailableError as error:
            if not error.is_without_effect:
                raise
            message = lazy_gettext("%(reason)s The password was not changed; set it again.", reason=error)
            raise ClerkRejectedError(message, code=PASSWORD_NOT_SET, status=503) from error

    async def find_set(_operation: TypedOperation[SetPasswordIntent]) -> JsonObject | None:
        raise OutcomeUnknownError(PASSWORD_OUTCOME_UNKNOWN, code=PASSWORD_UNKNOWN_CODE)

    def finalize(conn: Conn, operation: TypedOperation[SetPasswordIntent]) -> None:
        apply_result(conn, operation, "password", clock())

    return Workflow(SetPasswordIntent, [WorkflowStep("password", set_password, find_set)], finalize)


def make_end_sessions_workflow(users: UsersApi, clock: Clock) -> Workflow[EndSessionsIntent]:
    """Create the workflow of `user.sessions`."""

    async def end(operation: TypedOperation[EndSessionsIntent]) -> JsonObject:
        session_id = operation.intent.session
        if session_id is None:
            return {"ended": await users.revoke_all_sessions(require_clerk_id(operation))}
        await users.revoke_session(session_id)
        return {"ended": 1}

    async def find_ended(operation: TypedOperation[EndSessionsIntent]) -> JsonObject | None:
        session_id = operation.intent.session
        active_ids = {it.id for it in await users.list_sessions(require_clerk_id(operation))}
        is_ended = not active_ids if session_id is None else session_id not in active_ids
        return {"ended": 1} if is_ended else None

    def finalize(conn: Conn, operation: TypedOperation[EndSessionsIntent]) -> None:
        session_id, ended_at = operation.intent.session, clock()
        if session_id is None:
            end_sessions_of_user(conn, require_clerk_id(operation), at=ended_at)
        else:
            end_sessions_of_clerk_session(conn, session_id, at=ended_at)

    return Workflow(EndSessionsIntent, [WorkflowStep("sessions", end, find_ended)], finalize)


def make_reinvite_workflow(
    organizations: OrganizationsApi, users: UsersApi, reader: ClerkReader, clock: Clock
) -> Workflow[ReinviteMemberIntent]:
    """Create the workflow of `profile.reinvite`, which moves one membership to another address.

    The old account is locked out only after the invitation exists; a user without any membership left is deactivated.
    """

    async def invite(operation: TypedOperation[ReinviteMemberIntent]) -> JsonObject:
        organization_id = operation.intent.organization
        return _encode_invitation(await organizations.create_invitation(organization_id, _build_invitation(operation)))

    async def find_invited(operation: TypedOperation[ReinviteMemberIntent]) -> JsonObject | None:
        intent = operation.intent
        listed = await reader.list_invitations(
            intent.organization, statuses=ALL_INVITATION_STATUSES, email=intent.email
        )
        found = next((it for it in listed if it.private_metadata.get(OPERATION_METADATA_KEY) == operation.id), None)
        return _encode_invitation(found) if found else None

    def finalize(conn: Conn, operation: TypedOperation[ReinviteMemberIntent]) -> None:
        intent, now = operation.intent, clock()
        membership_status.deactivate_membership(conn, intent.membership, scope="database", now=now)
        user_repository.deactivate_user_without_memberships(conn, intent.user, now=now)

    return Workflow(
        ReinviteMemberIntent,
        [WorkflowStep("invite", invite, find_invited), _make_sign_out_step(users)],
        finalize,
        PARTIAL_REINVITATION,
    )


def make_application_reinvite_workflow(
    invitations: ApplicationInvitationsApi, users: UsersApi, clock: Clock
) -> Workflow[ReinviteToApplicationIntent]:
    """Create the workflow of `profile.reinvite.application`, for a user without an organization."""

    async def invite(operation: TypedOperation[ReinviteToApplicationIntent]) -> JsonObject:
        intent = operation.intent
        wanted = NewClerkApplicationInvitation(
            email=intent.email,
            expires_in_days=intent.expires_in_days,
            redirect_url=intent.redirect_url,
            public_metadata={OPERATION_METADATA_KEY: operation.id},
        )
        return _encode_invitation(await invitations.create_application_invitation(wanted))

    async def find_invited(operation: TypedOperation[ReinviteToApplicationIntent]) -> JsonObject | None:
        listed = await invitations.list_application_invitations(query=operation.intent.email)
        found = next((it for it in listed if it.public_metadata.get(OPERATION_METADATA_KEY) == operation.id), None)
        return _encode_invitation(found) if found else None

    def finalize(conn: Conn, operation: TypedOperation[ReinviteToApplicationIntent]) -> None:
        user_repository.deactivate_user_without_memberships(conn, operation.intent.user, now=clock())

    return Workflow(
        ReinviteToApplicationIntent,
        [WorkflowStep("invite", invite, find_invited), _make_sign_out_step(users)],
        finalize,
        PARTIAL_REINVITATION,
    )


def _make_sign_out_step(users: UsersApi) -> WorkflowStep[EmailIntent]:
    async def sign_out(operation: TypedOperation[EmailIntent]) -> JsonObject:
        try:
            return {"signed_out": await users.revoke_all_sessions(require_clerk_id(operation))}
        except ClerkRejectedError as refusal:
            if refusal.status != NOT_FOUND:
                raise
            return {"signed_out": 0}

    async def find_signed_out(_operation: TypedOperation[EmailIntent]) -> JsonObject | None:
        return None  # ending sessions again is harmless

    return WorkflowStep("sign_out", sign_out, find_signed_out)


def _build_invitation(operation: TypedOperation[ReinviteMemberIntent]) -> NewClerkInvitation:
    intent = operation.intent
    return NewClerkInvitation(
        email=intent.email,
        role=intent.role,
        expires_in_days=intent.expires_in_days,
        inviter=intent.inviter,
        redirect_url=intent.redirect_url,
        private_metadata={OPERATION_METADATA_KEY: operation.id, "instep_instead_of": intent.user},
    )


def _encode_invitation(invitation: ClerkInvitation | ClerkApplicationInvitation) -> JsonObject:
    """Encode an invitation as the result of a step, without its secret link."""
    return {"id": invitation.clerk_id, "email": invitation.email, "expires_at": invitation.expires_at}


async def read_user(users: UsersApi, clerk_id: ClerkId) -> Observation:
    """Return a user's present state in Clerk. Raises ClerkRejectedError (404) where the user no longer exists."""
    present = await users.find_user(clerk_id)
    if present is None:
        raise ClerkRejectedError(f"No user was found with id {clerk_id}.", code="resource_not_found", status=404)
    return present


def extract_user(observation: Observation) -> ClerkUser:
    """Return the user of an observation. Raises TypeError for another entity."""
    if not isinstance(observation.entity, ClerkUser):
        raise TypeError(f"{observation.key} is not a user")
    return observation.entity


def encode_result(state: EntityState) -> JsonObject:
    """Encode the state that Clerk returned as the result of a step."""
    return {"news": encode_entity_state(state)}


def apply_result(conn: Conn, operation: TypedOperation[UserIntent], step: str, now: int) -> EntityState | None:
    """Apply the state that a step returned, if any, to the mirror; return it."""
    encoded = operation.done[step].get("news")
    if not encoded:
        return None
    state = decode_entity_state(encoded)
    apply_observations(conn, [state], now=now)
    return state


def require_clerk_id(operation: TypedOperation[UserIntent]) -> ClerkId:
    """Return Clerk's id of a user who has a Clerk account."""
    clerk_id = operation.intent.clerk_id
    if clerk_id is None:
        raise ClerkRejectedError("This user has no Clerk account.", code="no_clerk_account", status=409)
    return clerk_id
