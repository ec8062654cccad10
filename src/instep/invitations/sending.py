"""Sending an invitation, as an operation: Clerk makes it, with our id inside, so that it can be found again."""

from typing import Any

from instep.identity.model import ClerkId, Invitation, NewInvitation
from instep.identity.ports import Actor, Directory
from instep.journal.model import Json, Operation, Procedure, Step
from instep.kit.db import Conn

KIND = "invitation.send"
MARK = "instep_operation"
ANY = ("pending", "accepted", "revoked", "expired")


def procedure(actor: Actor, directory: Directory) -> Procedure:
    """How an invitation is sent. Its intent: `organization` (Clerk's id) and the fields of NewInvitation."""

    async def create(operation: Operation) -> Json:
        organization, wanted = wanted_of(operation)
        return kept(await actor.invite(organization, wanted))

    async def find(operation: Operation) -> Json | None:
        organization, wanted = wanted_of(operation)
        return await find_marked(directory, organization, wanted.email, operation.id)

    return Procedure(steps=[Step("create", create, find)], settle=_settle)


def wanted_of(operation: Operation) -> tuple[ClerkId, NewInvitation]:
    """The organization and the invitation that an operation is about, marked with the operation's id."""
    intent = operation.intent
    marked = {**intent.get("private_metadata", {}), MARK: operation.id}
    wanted = NewInvitation(
        email=intent["email"],
        role=intent["role"],
        expires_in_days=intent["expires_in_days"],
        inviter=intent.get("inviter"),
        redirect_url=intent.get("redirect_url"),
        notify=intent.get("notify", True),
        public_metadata=intent.get("public_metadata", {}),
        private_metadata=marked,
    )
    return ClerkId(intent["organization"]), wanted


async def find_marked(directory: Directory, organization: ClerkId, email: str, mark: str) -> Json | None:
    """The invitation that carries this operation's id, whatever became of it since."""
    listed = await directory.list_invitations(organization, statuses=ANY, email=email)
    found = next((it for it in listed if it.private_metadata.get(MARK) == mark), None)
    return kept(found) if found else None


def kept(invitation: Invitation) -> Json:
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


def _settle(_conn: Conn, _operation: Operation) -> None:
    """Nothing is mirrored: pending invitations live only in Clerk."""
