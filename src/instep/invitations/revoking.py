"""Revoking an invitation, as an operation; one that is not pending any more is read back and told apart."""

from instep.identity.model import ClerkId, Invitation
from instep.identity.ports import Actor, ProviderDown, ProviderRefused
from instep.invitations.rules import stale
from instep.invitations.sending import kept, later, settle_nothing
from instep.journal.model import Json, Operation, Procedure, Step

KIND = "invitation.revoke"
UNREAD = "This invitation is not pending, and what became of it can't be read yet."


def procedure(actor: Actor) -> Procedure:
    """How an invitation is revoked. Its intent: `organization` and `invitation` (Clerk's ids), `email`, `by`."""

    async def revoke(operation: Operation) -> Json:
        return kept(await revoke_or_tell(actor, operation))

    async def find(operation: Operation) -> Json | None:
        found = await present(actor, operation)
        if found is None or found.status not in ("pending", "revoked"):
            raise stale(found)
        return kept(found) if found.status == "revoked" else None

    return Procedure(steps=[Step("revoke", revoke, find)], settle=settle_nothing)


async def revoke_or_tell(actor: Actor, operation: Operation) -> Invitation:
    """Revoke it. Raises ProviderRefused with what became of it where it was not pending."""
    intent = operation.intent
    organization, id = ClerkId(intent["organization"]), ClerkId(intent["invitation"])
    try:
        return await actor.revoke(organization, id, by=intent.get("by"))
    except ProviderRefused as refusal:
        if refusal.status != 404:
            raise
        try:
            found = await actor.find_invitation(organization, id)
        except ProviderDown as silence:
            raise later(silence, UNREAD) from silence
        raise stale(found, refusal=refusal) from refusal


async def present(actor: Actor, operation: Operation) -> Invitation | None:
    """The invitation that an operation is about, as Clerk has it now."""
    intent = operation.intent
    return await actor.find_invitation(ClerkId(intent["organization"]), ClerkId(intent["invitation"]))
