"""Sending an invitation, as an operation: Clerk makes it, with our id inside, so that it can be found again."""

from typing import Any

from instep.identity.model import ClerkId, Invitation, NewInvitation
from instep.identity.ports import Actor, Directory, ProviderDown, ProviderRefused
from instep.journal.model import Json, Operation, Procedure, Step
from instep.kit.db import Conn

KIND = "invitation.send"
MARK = "instep_operation"
NAME = "name"
ANY = ("pending", "accepted", "revoked", "expired")
ALREADY = ("organization_invitation_not_unique", "duplicate_record")


def procedure(actor: Actor, directory: Directory) -> Procedure:
    """How an invitation is sent. Its intent: `organization` (Clerk's id) and the fields of NewInvitation."""

    async def create(operation: Operation) -> Json:
        organization, wanted = wanted_of(operation)
        return await create_marked(actor, directory, organization, wanted)

    async def find(operation: Operation) -> Json | None:
        organization, wanted = wanted_of(operation)
        return await find_marked(directory, organization, wanted.email, operation.id)

    return Procedure(steps=[Step("create", create, find)], settle=settle_nothing)


def wanted_of(operation: Operation, row: Json | None = None, *, mark: str = "") -> tuple[ClerkId, NewInvitation]:
    """The organization and the invitation that an operation is about, marked with the operation's id.

    `row` holds what differs from the intent, where the operation is about many.
    """
    intent = {**operation.intent, **(row or {})}
    wanted = NewInvitation(
        email=intent["email"],
        role=intent["role"],
        expires_in_days=intent["expires_in_days"],
        inviter=intent.get("inviter"),
        redirect_url=intent.get("redirect_url"),
        notify=intent.get("notify", True),
        public_metadata=intent.get("public_metadata", {}),
        private_metadata={**intent.get("private_metadata", {}), MARK: mark or operation.id},
    )
    return ClerkId(intent["organization"]), wanted


async def create_marked(
    actor: Actor, directory: Directory, organization: ClerkId, wanted: NewInvitation
) -> dict[str, Any]:
    """Create an invitation; one that Clerk has already and that carries our mark is the one that was wanted."""
    try:
        return kept(await actor.invite(organization, wanted))
    except ProviderRefused as refusal:
        if refusal.code not in ALREADY:
            raise
        found = await find_marked(directory, organization, wanted.email, wanted.private_metadata[MARK])
        if found is None:
            raise
        return found


async def create_patiently(
    actor: Actor, directory: Directory, organization: ClerkId, wanted: NewInvitation, words: str
) -> dict[str, Any]:
    """`create_marked` after which giving up is no choice: a failure of Clerk's means looking, then trying later."""
    try:
        return await create_marked(actor, directory, organization, wanted)
    except ProviderDown as silence:
        found = None
        if not silence.is_harmless:
            found = await find_marked(directory, organization, wanted.email, wanted.private_metadata[MARK])
        if found is None:
            raise later(silence, words) from silence
        return found


def later(silence: ProviderDown, words: str) -> ProviderDown:
    """A failure that was looked into: what was wanted is not there, and trying again later does no harm."""
    return ProviderDown(f"{words} {silence}", retry_after=silence.retry_after, is_harmless=True)


async def find_marked(directory: Directory, organization: ClerkId, email: str, mark: str) -> dict[str, Any] | None:
    """The invitation that carries this mark, whatever became of it since."""
    listed = await directory.list_invitations(organization, statuses=ANY, email=email)
    found = next((it for it in listed if it.private_metadata.get(MARK) == mark), None)
    return kept(found) if found else None


def kept(invitation: Invitation) -> dict[str, Any]:
    """What an operation remembers of an invitation; never its link."""
    return {
        "id": invitation.clerk_id,
        "email": invitation.email,
        "role": invitation.role,
        "status": invitation.status,
        "created_at": invitation.created_at,
        "expires_at": invitation.expires_at,
    }


def invitation_of(step: dict[str, Any]) -> Invitation:
    """The invitation that `kept` remembered."""
    return Invitation(
        clerk_id=ClerkId(step["id"]),
        email=step["email"],
        role=step["role"],
        status=step["status"],
        created_at=step["created_at"],
        expires_at=step["expires_at"],
    )


def settle_nothing(_conn: Conn, _operation: Operation) -> None:
    """Nothing is mirrored: pending invitations live only in Clerk."""
