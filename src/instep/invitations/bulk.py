"""Sending many invitations, as operations: one keeps the list, one for each ten sends them, when Clerk takes them."""

from collections.abc import Callable
from typing import Any

from instep.identity.model import ClerkId, Invitation, NewInvitation
from instep.identity.ports import Actor, Directory, ProviderDown, ProviderRefused
from instep.invitations import store
from instep.invitations.batch import BATCH, PART, parts_of, target_of
from instep.invitations.limits import plan_starts
from instep.invitations.rules import in_words
from instep.invitations.sending import ANY, MARK, create_patiently, kept, later, settle_nothing, wanted_of
from instep.journal.model import Asked, Json, Operation, Procedure, Procedures, Step
from instep.journal.store import open_
from instep.kit.clock import HOUR
from instep.kit.db import Conn

WAITING = "Not all of these invitations are made yet; it is tried again."
WHOLE = ("not_configured", "clerk_key_invalid")
_NOTHING_TO_DO: Json = {}


def procedures(actor: Actor, directory: Directory, noted: Callable[[Conn, Operation], None]) -> Procedures:
    """How a batch is kept and its parts are sent. `noted` writes the audit of a part that is opened."""
    return {BATCH: Procedure(steps=[], settle=_opener(noted)), PART: _part(actor, directory)}


def _opener(noted: Callable[[Conn, Operation], None]) -> Callable[[Conn, Operation], None]:
    def open_parts(conn: Conn, operation: Operation) -> None:
        """Open an operation for each ten rows, due when Clerk takes another bulk call."""
        now, parts = operation.asked_at, parts_of(operation.intent["rows"])
        starts = plan_starts(store.list_starts(conn, since=now - HOUR), count=len(parts), now=now)
        for number, (rows, start) in enumerate(zip(parts, starts, strict=True)):
            asked = Asked(
                kind=PART,
                target=target_of(operation.id, number),
                actor=operation.actor,
                organization_id=operation.organization_id,
                request_id=operation.request_id,
                origin=operation.origin,
                impersonator=operation.impersonator,
                intent={**operation.intent, "rows": rows, "batch": operation.id, "start_at": start},
            )
            opened = open_(conn, asked, now=now, until=start)
            if opened is not None:
                noted(conn, opened)

    return open_parts


def _part(actor: Actor, directory: Directory) -> Procedure:
    """How up to ten are sent.

    1 one bulk call; whether it is all or nothing Clerk does not say, so that after a refusal the rows that exist are
    read back by their marks; 2 each row that is still missing by itself, and what Clerk says of it is kept.
    """

    async def bulk(operation: Operation) -> Json:
        organization, wanted = _wanted(operation)
        if len(wanted) == 1:
            return _NOTHING_TO_DO
        try:
            return {"rows": _in_order(wanted, await actor.invite_many(organization, wanted))}
        except ProviderRefused as refusal:
            if refusal.code in WHOLE:
                raise
        except ProviderDown as silence:
            if silence.is_harmless:
                raise
            found = await find_bulk(operation)
            if found is None:
                raise later(silence, WAITING) from silence
            return found
        return await find_bulk(operation) or _NOTHING_TO_DO

    async def find_bulk(operation: Operation) -> Json | None:
        organization, wanted = _wanted(operation)
        rows = _in_order(wanted, await directory.list_invitations(organization, statuses=ANY))
        return {"rows": rows} if any(rows) else None

    async def rest(operation: Operation) -> Json:
        organization, wanted = _wanted(operation)
        made = operation.done["bulk"].get("rows") or [None] * len(wanted)
        if not all(made):
            found = _in_order(wanted, await directory.list_invitations(organization, statuses=ANY))
            made = [one or other for one, other in zip(made, found, strict=True)]
        return {
            "rows": [
                row or await _one(actor, directory, organization, it) for row, it in zip(made, wanted, strict=True)
            ]
        }

    async def find_rest(_operation: Operation) -> Json | None:
        """`rest` looks for itself what was made before."""
        return None

    steps = [Step("bulk", bulk, find_bulk), Step("rest", rest, find_rest)]
    return Procedure(steps=steps, settle=settle_nothing, lost="Not all of these invitations were made.")


async def _one(actor: Actor, directory: Directory, organization: ClerkId, wanted: NewInvitation) -> dict[str, Any]:
    try:
        return await create_patiently(actor, directory, organization, wanted, WAITING)
    except ProviderRefused as refusal:
        if refusal.code in WHOLE:
            raise
        said = in_words(refusal, email=wanted.email, role=wanted.role)
        return {"code": said.code, "reason": str(said)}


def _wanted(operation: Operation) -> tuple[ClerkId, list[NewInvitation]]:
    marked = [wanted_of(operation, _fields(row), mark=f"{operation.id}:{row['n']}") for row in operation.intent["rows"]]
    return ClerkId(operation.intent["organization"]), [wanted for _, wanted in marked]


def _fields(row: Json) -> Json:
    private = {"private_metadata": {"name": row["name"]}} if row.get("name") else {}
    return {"email": row["email"], "role": row["role"], **private}


def _in_order(wanted: list[NewInvitation], listed: list[Invitation]) -> list[Any]:
    by_mark = {it.private_metadata.get(MARK): kept(it) for it in listed}
    return [by_mark.get(it.private_metadata[MARK]) for it in wanted]
