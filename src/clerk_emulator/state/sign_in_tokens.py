"""Sign-in and actor tokens: one-time links that sign a user in."""

from typing import Any

from clerk_emulator.state import organizations, sessions, users
from clerk_emulator.state.errors import ApiError, ErrorDetail, not_found_error
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Client, Session, SignInToken, User

LIFETIME_SECONDS = 30 * 24 * 60 * 60


def create(
    instance: Instance, user_id: str, seconds: int | None = None, organization_id: str | None = None
) -> SignInToken:
    """Create a sign-in token."""
    user = users.get(instance, user_id)
    if organization_id:
        organizations.get(instance, organization_id)
    now = instance.now
    token = SignInToken(
        id=instance.ids.new("sit"),
        user_id=user.id,
        organization_id=organization_id,
        ticket=instance.ids.secret(),
        expires_at=now + (LIFETIME_SECONDS if seconds is None else seconds) * 1000,
        created_at=now,
        updated_at=now,
    )
    instance.sign_in_tokens.add(token)
    instance.tickets[token.ticket] = token.id
    return token


def create_for_actor(
    instance: Instance, user_id: str, actor: dict[str, Any], seconds: int, session_seconds: int
) -> SignInToken:
    """Create an actor token, by which another person acts as a user."""
    user = users.get(instance, user_id)
    now = instance.now
    token = SignInToken(
        id=instance.ids.new("act"),
        user_id=user.id,
        actor=actor,
        session_seconds=session_seconds,
        ticket=instance.ids.secret(),
        expires_at=now + seconds * 1000,
        created_at=now,
        updated_at=now,
    )
    instance.actor_tokens.add(token)
    instance.tickets[token.ticket] = token.id
    return token


def revoke(instance: Instance, token_id: str, kind: str = "sign_in") -> SignInToken:
    """Revoke a pending token."""
    token = (instance.sign_in_tokens if kind == "sign_in" else instance.actor_tokens).find(token_id)
    if token is None:
        raise not_found_error(f"{kind.replace('_', '-')} token", token_id)
    if token.status != "pending":
        message = f"The token is {token.status}."
        raise ApiError(400, ErrorDetail(f"{kind}_token_cannot_be_revoked_code", "not pending", message))
    token.status = "revoked"
    instance.touch(token)
    return token


def find_by_ticket(instance: Instance, ticket: str) -> SignInToken | None:
    """Return the token of a ticket."""
    token_id = instance.tickets.get(ticket)
    return instance.sign_in_tokens.find(token_id) or instance.actor_tokens.find(token_id)


def require_usable(instance: Instance, token: SignInToken) -> User:
    """Return the user of a valid token, or raise an ApiError."""
    kind = "actor" if token.actor else "sign_in"
    if token.status == "accepted":
        raise ApiError(400, ErrorDetail(f"{kind}_token_already_used_code", "used", "This link has already been used."))
    if token.status == "revoked":
        raise ApiError(400, ErrorDetail(f"{kind}_token_revoked_code", "revoked", "This link has been revoked."))
    if token.expires_at <= instance.now:
        raise ApiError(400, ErrorDetail("ticket_expired_code", "expired", "This link has expired."))
    return users.get(instance, token.user_id)


def redeem(instance: Instance, token: SignInToken, client: Client) -> Session:
    """Start a session for the user of a token."""
    user = require_usable(instance, token)
    old = sessions.active_session(instance, client)
    if token.actor and old is not None:
        sessions.end(instance, old, "ended")
    session = sessions.start(instance, user, client, organization_id=token.organization_id, actor=token.actor)
    if token.session_seconds is not None:
        session.expire_at = session.abandon_at = instance.now + token.session_seconds * 1000
    token.status = "accepted"
    instance.touch(token)
    return session
