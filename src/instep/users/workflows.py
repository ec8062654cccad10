"""Workflows of user operations: edit, password, sessions, create, delete, restore, ban and unban."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from instep.auth.repository import end_sessions_of_clerk_session, end_sessions_of_user
from instep.core.clock import Clock
from instep.core.db import Conn
from instep.core.i18n import lazy_gettext
from instep.domain.errors import ClerkRejectedError, ClerkUnavailableError
from instep.domain.events import EntityState, Observation, Tombstone, decode_entity_state, encode_entity_state
from instep.domain.models import ClerkId, ClerkUser, ClerkUserUpdate, EntityKey, NewClerkUser
from instep.domain.ports import UsersApi
from instep.domain.reconcile import merge_metadata
from instep.mirror import user_repository
from instep.mirror.apply import apply_observations
from instep.operations.workflow import JsonObject, Operation, OutcomeUnknownError, Workflow, Workflows, WorkflowStep
from instep.users.policies import PASSWORD_OUTCOME_UNKNOWN

CREATE_USER, DELETE_USER, RESTORE_USER, BAN_USER, UNBAN_USER = (
    "user.create",
    "user.delete",
    "user.restore",
    "user.ban",
    "user.unban",
)
PAYMENT_REQUIRED = 402


def make_account_workflows(accounts: UsersApi, clock: Clock) -> Workflows:
    """How each of them is carried out. Their intents name `user` (our id) and `clerk_id` (None: not in Clerk)."""
    return {
        CREATE_USER: _make_create_workflow(accounts, clock),
        DELETE_USER: _make_delete_workflow(accounts, clock),
        RESTORE_USER: _make_restore_workflow(accounts, clock),
        BAN_USER: _make_ban_workflow(accounts, clock),
        UNBAN_USER: _make_unban_workflow(accounts, clock),
    }


def _make_create_workflow(accounts: UsersApi, clock: Clock) -> Workflow:
    """The intent: `user`, `in_clerk` and `profile`. Our id is Clerk's external id: by it the user is found again."""

    async def write(operation: Operation) -> JsonObject:
        if not operation.intent["in_clerk"]:
            return {}
        wanted = {name: value for name, value in operation.intent["profile"].items() if name != "attributes"}
        return _encode_observation(
            await accounts.create_user(NewClerkUser(external_id=operation.intent["user"], **wanted))
        )

    async def find(operation: Operation) -> JsonObject | None:
        if not operation.intent["in_clerk"]:
            return {}
        found = await accounts.find_user_by(external_id=operation.intent["user"])
        return _encode_observation(found) if found else None

    def settle(conn: Conn, operation: Operation) -> None:
        if not (news := _apply_observation(conn, operation, clock())):
            return
        attributes = operation.intent["profile"].get("attributes")
        if attributes and (id := user_repository.find_user_id_by_clerk_id(conn, news.key.id)):
            user_repository.merge_user_attributes(conn, id, attributes, now=clock())

    return Workflow(steps=[WorkflowStep("clerk", write, find)], finalize=settle)


def _make_delete_workflow(accounts: UsersApi, clock: Clock) -> Workflow:
    """The intent's `clerk`: delete the user there, or only ban them, or keep them (and sign them out)."""

    async def write(operation: Operation) -> JsonObject:
        id, choice = _find_clerk_id(operation), operation.intent["clerk"]
        if id is None:
            return {}
        if choice == "delete":
            return _encode_observation(await accounts.delete_user(id))
        return await _ban_in_clerk(accounts, id) if choice == "ban" else await _end_sessions(accounts, id)

    async def find(operation: Operation) -> JsonObject | None:
        id, choice = _find_clerk_id(operation), operation.intent["clerk"]
        if id is None:
            return {}
        found = await accounts.find_user(id)
        if found is None:
            return _encode_observation(Tombstone(EntityKey("user", id)))
        return _encode_observation(found) if choice == "ban" and extract_user(found).is_banned else None

    def settle(conn: Conn, operation: Operation) -> None:
        _apply_observation(conn, operation, clock())
        user_repository.soft_delete_user(conn, operation.intent["user"], now=clock())

    return Workflow(steps=[WorkflowStep("clerk", write, find)], finalize=settle)


def _make_restore_workflow(accounts: UsersApi, clock: Clock) -> Workflow:
    """A ban is lifted; someone whom Clerk has no longer comes back without a Clerk account (see mirror.people)."""

    async def write(operation: Operation) -> JsonObject:
        id = _find_clerk_id(operation)
        if id is None:
            return {}
        found = await find(operation)
        return found if found is not None else _encode_observation(await accounts.unban_user(id))

    async def find(operation: Operation) -> JsonObject | None:
        id = _find_clerk_id(operation)
        if id is None:
            return {}
        found = await accounts.find_user(id)
        if found is None:
            return _encode_observation(Tombstone(EntityKey("user", id)))
        return None if extract_user(found).is_banned else _encode_observation(found)

    def settle(conn: Conn, operation: Operation) -> None:
        _apply_observation(conn, operation, clock())
        user_repository.restore_user(conn, operation.intent["user"], now=clock())

    return Workflow(steps=[WorkflowStep("clerk", write, find)], finalize=settle)


def _make_ban_workflow(accounts: UsersApi, clock: Clock) -> Workflow:
    """Where the plan has no bans: deactivated here, and signed out everywhere."""

    async def write(operation: Operation) -> JsonObject:
        id = _find_clerk_id(operation)
        return await _ban_in_clerk(accounts, id) if id is not None else {}

    async def find(operation: Operation) -> JsonObject | None:
        id = _find_clerk_id(operation)
        if id is None:
            return {}
        found = await read_user(accounts, id)
        return _encode_observation(found) if extract_user(found).is_banned else None

    def settle(conn: Conn, operation: Operation) -> None:
        id, now = operation.intent["user"], clock()
        if operation.intent["clerk_id"] is None:
            user_repository.set_user_banned(conn, id, is_banned=True, now=now)
        elif _apply_observation(conn, operation, now) is None:
            user_repository.set_user_active(conn, id, is_active=False, now=now)

    return Workflow(steps=[WorkflowStep("clerk", write, find)], finalize=settle)


def _make_unban_workflow(accounts: UsersApi, clock: Clock) -> Workflow:
    """Lifts a ban, and a deactivation of the whole account: they may come in again."""

    async def write(operation: Operation) -> JsonObject:
        id = _find_clerk_id(operation)
        if id is None:
            return {}
        found = await read_user(accounts, id)
        return _encode_observation(await accounts.unban_user(id) if extract_user(found).is_banned else found)

    async def find(operation: Operation) -> JsonObject | None:
        id = _find_clerk_id(operation)
        if id is None:
            return {}
        found = await read_user(accounts, id)
        return None if extract_user(found).is_banned else _encode_observation(found)

    def settle(conn: Conn, operation: Operation) -> None:
        id, now = operation.intent["user"], clock()
        _apply_observation(conn, operation, now)
        if operation.intent["clerk_id"] is None:
            user_repository.set_user_banned(conn, id, is_banned=False, now=now)
        user_repository.set_user_active(conn, id, is_active=True, now=now)

    return Workflow(steps=[WorkflowStep("clerk", write, find)], finalize=settle)


def is_ban_unavailable(operation: Operation) -> bool:
    """Whether this ban was refused by the plan, and became a deactivation."""
    return "signed_out" in operation.done.get("clerk", {}) and operation.intent.get("clerk") != "keep"


async def _ban_in_clerk(accounts: UsersApi, id: ClerkId) -> JsonObject:
    try:
        return _encode_observation(await accounts.ban_user(id))
    except ClerkRejectedError as refusal:
        if refusal.status != PAYMENT_REQUIRED:
            raise
        return await _end_sessions(accounts, id)


async def _end_sessions(accounts: UsersApi, id: ClerkId) -> JsonObject:
    return {"signed_out": await accounts.revoke_all_sessions(id)}


def _apply_observation(conn: Conn, operation: Operation, now: int) -> EntityState | None:
    """What Clerk answered goes into the mirror."""
    kept = operation.done["clerk"].get("news")
    news = decode_entity_state(kept) if kept else None
    if news is not None:
        apply_observations(conn, [news], now=now)
    return news


def _encode_observation(news: EntityState) -> JsonObject:
    return {"news": encode_entity_state(news)}


def _find_clerk_id(operation: Operation) -> ClerkId | None:
    id = operation.intent["clerk_id"]
    return ClerkId(id) if id is not None else None


EDIT_PROFILE = "profile.edit"
FIELDS_IN_CLERK = ("first_name", "last_name", "username")
PARTIAL_EDIT = "The names were changed in Clerk; the metadata and the attributes were not."


def make_edit_profile_workflow(accounts: UsersApi, clock: Clock) -> Workflow:
    """How a profile is edited.

    The intent: `user`, `clerk_id` and `profile`, the fields to change. Without a Clerk account the change was written
    when the operation was opened, and there is nothing left to do.
    """

    async def write(operation: Operation) -> JsonObject:
        wanted = _clerk_fields(operation)
        if not wanted:
            return {}
        return {
            "news": encode_entity_state(
                await accounts.update_user(_require_clerk_id(operation), ClerkUserUpdate(**wanted))
            )
        }

    async def find_written(operation: Operation) -> JsonObject | None:
        wanted = _clerk_fields(operation)
        return await _find_if_done(accounts, operation, lambda user: _has_fields(user, wanted)) if wanted else {}

    async def merge(operation: Operation) -> JsonObject:
        patch = _metadata_patch(operation)
        return (
            {"news": encode_entity_state(await accounts.merge_public_metadata(_require_clerk_id(operation), patch))}
            if patch
            else {}
        )

    async def find_merged(operation: Operation) -> JsonObject | None:
        patch = _metadata_patch(operation)
        return await _find_if_done(accounts, operation, lambda user: _has_metadata(user, patch)) if patch else {}

    def settle(conn: Conn, operation: Operation) -> None:
        intent = operation.intent
        if intent["clerk_id"] is None:
            return
        if news := [decode_entity_state(it["news"]) for it in operation.done.values() if it]:
            apply_observations(conn, news[-1:], now=clock(), wrote=intent["profile"])
        if patch := intent["profile"].get("attributes"):
            user_repository.merge_user_attributes(conn, intent["user"], patch, now=clock())

    steps = [WorkflowStep("names", write, find_written), WorkflowStep("metadata", merge, find_merged)]
    return Workflow(steps=steps, finalize=settle, partial_failure_message=PARTIAL_EDIT)


async def _find_if_done(
    accounts: UsersApi, operation: Operation, is_done: Callable[[ClerkUser], bool]
) -> JsonObject | None:
    found = await read_user(accounts, _require_clerk_id(operation))
    return {"news": encode_entity_state(found)} if is_done(extract_user(found)) else None


def _has_fields(user: ClerkUser, wanted: dict[str, str]) -> bool:
    """Whether Clerk has what was wanted; it keeps usernames in small letters."""
    return all((getattr(user, name) or "").casefold() == value.casefold() for name, value in wanted.items())


def _has_metadata(user: ClerkUser, patch: dict[str, Any]) -> bool:
    metadata: dict[str, Any] = msgspec.json.decode(user.public_metadata)
    return merge_metadata(metadata, patch) == metadata


def _require_clerk_id(operation: Operation) -> ClerkId:
    return ClerkId(operation.intent["clerk_id"])


def _clerk_fields(operation: Operation) -> dict[str, str]:
    """What Clerk is asked to change; nothing for someone without an account there."""
    if operation.intent["clerk_id"] is None:
        return {}
    return {name: value for name, value in operation.intent["profile"].items() if name in FIELDS_IN_CLERK}


def _metadata_patch(operation: Operation) -> dict[str, Any]:
    if operation.intent["clerk_id"] is None:
        return {}
    patch: dict[str, Any] = operation.intent["profile"].get("public_metadata") or {}
    return patch


@dataclass(frozen=True)
class EphemeralSecrets:
    """Passwords and codes by a name that may be kept; another process, or this one later, does not find them."""

    _by_name: dict[str, str] = field(default_factory=dict, repr=False)

    @contextmanager
    def hold(self, secret: str) -> Iterator[str]:
        """Hold a secret; gives its name."""
        name = secrets.token_hex(8)
        self._by_name[name] = secret
        try:
            yield name
        finally:
            del self._by_name[name]

    def find(self, name: str) -> str | None:
        """The secret of this name, None where it is held no longer."""
        return self._by_name.get(name)


SET_PASSWORD = "user.password"  # noqa: S105 (no password)
PASSWORD_UNKNOWN_CODE = "password_unknown"  # noqa: S105 (no password)


def make_set_password_workflow(accounts: UsersApi, held: EphemeralSecrets, clock: Clock) -> Workflow:
    """How a password is set. The intent: `user`, `clerk_id`, and `secret`, the name under which it is held."""

    async def write(operation: Operation) -> JsonObject:
        password = held.find(operation.intent["secret"])
        if password is None:
            raise OutcomeUnknownError(PASSWORD_OUTCOME_UNKNOWN, code=PASSWORD_UNKNOWN_CODE)
        try:
            return {
                "news": encode_entity_state(
                    await accounts.set_password(ClerkId(operation.intent["clerk_id"]), password)
                )
            }
        except ClerkUnavailableError as silence:
            if not silence.is_without_effect:
                raise
            words = lazy_gettext("%(silence)s The password was not changed; set it again.", silence=silence)
            raise ClerkRejectedError(words, code="password_not_set", status=503) from silence

    async def find(_operation: Operation) -> JsonObject | None:
        raise OutcomeUnknownError(PASSWORD_OUTCOME_UNKNOWN, code=PASSWORD_UNKNOWN_CODE)

    def settle(conn: Conn, operation: Operation) -> None:
        apply_observations(conn, [decode_entity_state(operation.done["password"]["news"])], now=clock())

    return Workflow(steps=[WorkflowStep("password", write, find)], finalize=settle)


async def read_user(accounts: UsersApi, id: ClerkId) -> Observation:
    """A user's present state. Raises ClerkRejectedError (404) where Clerk has no such user any more."""
    found = await accounts.find_user(id)
    if found is None:
        raise ClerkRejectedError(f"No user was found with id {id}.", code="resource_not_found", status=404)
    return found


def extract_user(news: Observation) -> ClerkUser:
    """The user that was read."""
    if not isinstance(news.entity, ClerkUser):
        raise TypeError(f"{news.key} is no user")
    return news.entity


END_SESSIONS = "user.sessions"


def make_end_sessions_workflow(accounts: UsersApi, clock: Clock) -> Workflow:
    """The intent: `user`, `clerk_id`, and `session`: the one to end (Clerk's id), None for all of them."""

    async def end(operation: Operation) -> JsonObject:
        session = operation.intent["session"]
        if session is None:
            return {"ended": await accounts.revoke_all_sessions(ClerkId(operation.intent["clerk_id"]))}
        await accounts.revoke_session(session)
        return {"ended": 1}

    async def find(operation: Operation) -> JsonObject | None:
        session = operation.intent["session"]
        active = {it.id for it in await accounts.list_sessions(ClerkId(operation.intent["clerk_id"]))}
        is_over = not active if session is None else session not in active
        return {"ended": 1} if is_over else None

    def settle(conn: Conn, operation: Operation) -> None:
        session, at = operation.intent["session"], clock()
        if session is None:
            end_sessions_of_user(conn, operation.intent["clerk_id"], at=at)
        else:
            end_sessions_of_clerk_session(conn, session, at=at)

    return Workflow(steps=[WorkflowStep("sessions", end, find)], finalize=settle)
