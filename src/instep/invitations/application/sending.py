"""Inviting someone to the application, and taking it back, as operations: Clerk keeps our id in the metadata."""

from typing import Any

from instep.identity.model import AppInvitation, ClerkId, NewAppInvitation
from instep.identity.ports import Admissions, ProviderRefused
from instep.invitations.sending import MARK, settle_nothing
from instep.journal.model import Json, Operation, Procedure, Procedures, Step

INVITE = "application.invite"
RESEND = "application.resend"
REVOKE = "application.revoke"
LOST = "The old invitation is revoked; the new one could not be made. Send it again."
DUPLICATE = "duplicate_record"


def procedures(clerk: Admissions) -> Procedures:
    """How both kinds are carried out."""
    return {INVITE: _inviting(clerk), RESEND: _resending(clerk), REVOKE: _revoking(clerk)}


def _inviting(clerk: Admissions) -> Procedure:
    """Its intent: the fields of NewAppInvitation."""

    async def create(operation: Operation) -> Json:
        intent = operation.intent
        wanted = NewAppInvitation(
            email=intent["email"],
            expires_in_days=intent["expires_in_days"],
            redirect_url=intent["redirect_url"],
            notify=intent["notify"],
            public_metadata={**intent["public_metadata"], MARK: operation.id},
        )
        try:
            return kept(await clerk.invite_to_app(wanted))
        except ProviderRefused as refusal:
            found = await find(operation) if refusal.code == DUPLICATE else None
            if found is None:
                raise
            return found

    async def find(operation: Operation) -> Json | None:
        listed = await _list(clerk, operation.intent["email"])
        return next((kept(it) for it in listed if it.public_metadata.get(MARK) == operation.id), None)

    return Procedure(steps=[Step("create", create, find)], settle=settle_nothing)


def _revoking(clerk: Admissions) -> Procedure:
    """Its intent: `invitation`, Clerk's id of it."""

    async def revoke(operation: Operation) -> Json:
        return kept(await clerk.revoke_app_invitation(ClerkId(operation.intent["invitation"])))

    async def find(operation: Operation) -> Json | None:
        """Clerk has no call for one invitation, only its list."""
        id = operation.intent["invitation"]
        listed = await _list(clerk, id)
        return next((kept(it) for it in listed if it.clerk_id == id and it.status == "revoked"), None)

    return Procedure(steps=[Step("revoke", revoke, find)], settle=settle_nothing)


def _resending(clerk: Admissions) -> Procedure:
    """First the old one ends, unless it has expired, then the new one is made. Its intent: that of both."""

    async def revoke(operation: Operation) -> Json:
        if found := await find(operation):
            return found
        return kept(await clerk.revoke_app_invitation(ClerkId(operation.intent["invitation"])))

    async def find(operation: Operation) -> Json | None:
        id = operation.intent["invitation"]
        over = (it for it in await _list(clerk, id) if it.clerk_id == id and it.status in ("revoked", "expired"))
        return next((kept(it) for it in over), None)

    return Procedure(steps=[Step("revoke", revoke, find), *_inviting(clerk).steps], settle=settle_nothing, lost=LOST)


async def _list(clerk: Admissions, query: str) -> list[AppInvitation]:
    """Every invitation that a query finds; Clerk's list has the revoked ones only when it is asked for them."""
    living = await clerk.list_app_invitations(query=query)
    return living + await clerk.list_app_invitations(status="revoked", query=query)


def kept(it: AppInvitation) -> dict[str, Any]:
    """What an operation remembers; never the link."""
    return {
        "id": it.clerk_id,
        "email": it.email,
        "status": it.status,
        "created_at": it.created_at,
        "expires_at": it.expires_at,
        "public_metadata": it.public_metadata,
    }


def invitation_of(step: Json) -> AppInvitation:
    """The invitation that `kept` remembered."""
    fields = {name: value for name, value in step.items() if name != "id"}
    return AppInvitation(clerk_id=ClerkId(step["id"]), **fields)
