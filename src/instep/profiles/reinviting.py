"""Inviting somebody anew under another address, as operations: first the invitation, then the old account is out."""

from instep.identity.model import AppInvitation, ClerkId, Invitation, NewAppInvitation, NewInvitation
from instep.identity.ports import Accounts, Actor, Admissions, Directory, ProviderRefused
from instep.journal.model import Json, Operation, Procedure, Step
from instep.kit.clock import Clock
from instep.kit.db import Conn
from instep.mirror import people, standing

KIND = "profile.reinvite"
TO_APPLICATION = "profile.reinvite.application"
MARK = "instep_operation"
ANY = ("pending", "accepted", "revoked", "expired")
LOST = "The new address is invited; the old account could not be signed out, and still works."


def procedure(actor: Actor, accounts: Accounts, directory: Directory, clock: Clock) -> Procedure:
    """How one membership moves to another address.

    The intent: `user`, `clerk_id`, `membership`, `organization` (Clerk's id), `email`, `role`, and what the invitation
    needs. Nobody is locked out before the invitation is there; someone who is a member nowhere any more is out.
    """

    async def invite(operation: Operation) -> Json:
        organization = ClerkId(operation.intent["organization"])
        return _kept(await actor.invite(organization, _wanted(operation)))

    async def find(operation: Operation) -> Json | None:
        intent = operation.intent
        listed = await directory.list_invitations(ClerkId(intent["organization"]), statuses=ANY, email=intent["email"])
        found = next((it for it in listed if it.private_metadata.get(MARK) == operation.id), None)
        return _kept(found) if found else None

    def settle(conn: Conn, operation: Operation) -> None:
        intent, now = operation.intent, clock()
        standing.deactivate(conn, intent["membership"], how="database", now=now)
        people.retire_without_memberships(conn, intent["user"], now=now)

    return Procedure(steps=[Step("invite", invite, find), _sign_out(accounts)], settle=settle, lost=LOST)


def to_application(admissions: Admissions, accounts: Accounts, clock: Clock) -> Procedure:
    """How someone who is in no organization moves to another address.

    The intent: `user`, `clerk_id`, `email`, `expires_in_days`, `redirect_url`.
    """

    async def invite(operation: Operation) -> Json:
        intent = operation.intent
        wanted = NewAppInvitation(
            email=intent["email"],
            expires_in_days=intent["expires_in_days"],
            redirect_url=intent["redirect_url"],
            public_metadata={MARK: operation.id},
        )
        return _kept(await admissions.invite_to_app(wanted))

    async def find(operation: Operation) -> Json | None:
        listed = await admissions.list_app_invitations(query=operation.intent["email"])
        return next((_kept(it) for it in listed if it.public_metadata.get(MARK) == operation.id), None)

    def settle(conn: Conn, operation: Operation) -> None:
        people.retire_without_memberships(conn, operation.intent["user"], now=clock())

    return Procedure(steps=[Step("invite", invite, find), _sign_out(accounts)], settle=settle, lost=LOST)


def _sign_out(accounts: Accounts) -> Step:
    async def sign_out(operation: Operation) -> Json:
        try:
            return {"signed_out": await accounts.end_sessions(ClerkId(operation.intent["clerk_id"]))}
        except ProviderRefused as refusal:
            if refusal.status != 404:
                raise
            return {"signed_out": 0}

    async def find(_operation: Operation) -> Json | None:
        return None  # ending sessions again does no harm

    return Step("sign_out", sign_out, find)


def _wanted(operation: Operation) -> NewInvitation:
    intent = operation.intent
    return NewInvitation(
        email=intent["email"],
        role=intent["role"],
        expires_in_days=intent["expires_in_days"],
        inviter=intent["inviter"],
        redirect_url=intent["redirect_url"],
        private_metadata={MARK: operation.id, "instep_instead_of": intent["user"]},
    )


def _kept(invitation: Invitation | AppInvitation) -> Json:
    """What is remembered of an invitation; never its link."""
    return {"id": invitation.clerk_id, "email": invitation.email, "expires_at": invitation.expires_at}
