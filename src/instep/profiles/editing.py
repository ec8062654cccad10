"""Editing a profile, as an operation: names and username, then metadata, in Clerk; then the database."""

from collections.abc import Callable
from typing import Any

import msgspec

from instep.identity.events import from_json, to_json
from instep.identity.model import ClerkId, ProfileChange, User
from instep.identity.ports import Accounts
from instep.identity.rules import merged
from instep.journal.model import Json, Operation, Procedure, Step
from instep.kit.clock import Clock
from instep.kit.db import Conn
from instep.mirror import people
from instep.mirror.apply import take_in
from instep.profiles.reading import read_user, user_of

KIND = "profile.edit"
IN_CLERK = ("first_name", "last_name", "username")
LOST = "The names were changed in Clerk; the metadata and the attributes were not."


def procedure(accounts: Accounts, clock: Clock) -> Procedure:
    """How a profile is edited.

    The intent: `user`, `clerk_id` and `profile`, the fields to change. Without a Clerk account the change was written
    when the operation was opened, and there is nothing left to do.
    """

    async def write(operation: Operation) -> Json:
        wanted = _names(operation)
        if not wanted:
            return {}
        return {"news": to_json(await accounts.update_user(_clerk_id(operation), ProfileChange(**wanted)))}

    async def find_written(operation: Operation) -> Json | None:
        wanted = _names(operation)
        return await _find(accounts, operation, lambda user: _has(user, wanted)) if wanted else {}

    async def merge(operation: Operation) -> Json:
        patch = _metadata(operation)
        return {"news": to_json(await accounts.set_metadata(_clerk_id(operation), patch))} if patch else {}

    async def find_merged(operation: Operation) -> Json | None:
        patch = _metadata(operation)
        return await _find(accounts, operation, lambda user: _has_metadata(user, patch)) if patch else {}

    def settle(conn: Conn, operation: Operation) -> None:
        intent = operation.intent
        if intent["clerk_id"] is None:
            return
        if news := [from_json(it["news"]) for it in operation.done.values() if it]:
            take_in(conn, news[-1:], now=clock(), wrote=intent["profile"])
        if patch := intent["profile"].get("attributes"):
            people.merge_attributes(conn, intent["user"], patch, now=clock())

    steps = [Step("names", write, find_written), Step("metadata", merge, find_merged)]
    return Procedure(steps=steps, settle=settle, lost=LOST)


async def _find(accounts: Accounts, operation: Operation, is_done: Callable[[User], bool]) -> Json | None:
    found = await read_user(accounts, _clerk_id(operation))
    return {"news": to_json(found)} if is_done(user_of(found)) else None


def _has(user: User, wanted: dict[str, str]) -> bool:
    """Whether Clerk has what was wanted; it keeps usernames in small letters."""
    return all((getattr(user, name) or "").casefold() == value.casefold() for name, value in wanted.items())


def _has_metadata(user: User, patch: dict[str, Any]) -> bool:
    metadata: dict[str, Any] = msgspec.json.decode(user.public_metadata)
    return merged(metadata, patch) == metadata


def _clerk_id(operation: Operation) -> ClerkId:
    return ClerkId(operation.intent["clerk_id"])


def _names(operation: Operation) -> dict[str, str]:
    """What Clerk is asked to change; nothing for someone without an account there."""
    if operation.intent["clerk_id"] is None:
        return {}
    return {name: value for name, value in operation.intent["profile"].items() if name in IN_CLERK}


def _metadata(operation: Operation) -> dict[str, Any]:
    if operation.intent["clerk_id"] is None:
        return {}
    patch: dict[str, Any] = operation.intent["profile"].get("public_metadata") or {}
    return patch
