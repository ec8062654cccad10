"""Sending an invitation again, as an operation: the old one is revoked, then a new one like it is made."""

from instep.identity.ports import Actor, Directory, ProviderRefused
from instep.invitations.revoking import present, revoke_or_tell
from instep.invitations.rules import STALE, stale
from instep.invitations.sending import create_marked, create_patiently, find_marked, kept, settle_nothing, wanted_of
from instep.journal.model import Json, Operation, Procedure, Step

KIND = "invitation.resend"
LOST = "The old invitation is revoked, and the new one could not be made: send it again."
WAITING = "The old invitation is revoked, and the new one is not made yet; it is tried again."
_OVER = (STALE["expired"][0], STALE["pending"][0])
_NOTHING_TO_DO: Json = {}


def procedure(actor: Actor, directory: Directory) -> Procedure:
    """How an invitation is sent again.

    Its intent: as of sending, with `invitation` (Clerk's id of the old one), its `status`, and `by` (who revokes).
    Step 1 has nothing to do where the old one expired. Between the steps the invitation is lost: from then on
    a failure of Clerk's is tried again, and a refusal needs a person.
    """

    async def revoke(operation: Operation) -> Json:
        if operation.intent["status"] == "expired":
            return _NOTHING_TO_DO
        try:
            return kept(await revoke_or_tell(actor, operation))
        except ProviderRefused as refusal:
            if refusal.code in _OVER:
                return _NOTHING_TO_DO
            raise

    async def find_revoked(operation: Operation) -> Json | None:
        """It was pending when this was asked for: revoked by now, it was revoked by this."""
        if operation.intent["status"] == "expired":
            return _NOTHING_TO_DO
        found = await present(actor, operation)
        if found is None or found.status == "accepted":
            raise stale(found)
        if found.status == "expired":
            return _NOTHING_TO_DO
        return kept(found) if found.status == "revoked" else None

    async def create(operation: Operation) -> Json:
        organization, wanted = wanted_of(operation)
        if not is_lost(operation):
            return await create_marked(actor, directory, organization, wanted)
        return await create_patiently(actor, directory, organization, wanted, WAITING)

    async def find_created(operation: Operation) -> Json | None:
        organization, wanted = wanted_of(operation)
        return await find_marked(directory, organization, wanted.email, operation.id)

    steps = [Step("revoke", revoke, find_revoked), Step("create", create, find_created)]
    return Procedure(steps=steps, settle=settle_nothing, lost=LOST)


def is_lost(operation: Operation) -> bool:
    """Whether the old invitation was revoked by this, and the new one is not there (as far as is kept)."""
    return "create" not in operation.done and bool(operation.done.get("revoke"))
