"""Sign-in tokens: a link that signs one user in, once."""

from clerk_emulator.state import organizations, users
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.kinds import SignInToken
from clerk_emulator.state.model import User
from clerk_emulator.state.refusals import Problem, Refused, missing_resource

LIFETIME_SECONDS = 30 * 24 * 60 * 60


def create(
    instance: Instance, user_id: str, seconds: int | None = None, organization_id: str | None = None
) -> SignInToken:
    """Make a token for a user."""
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


def revoke(instance: Instance, token_id: str) -> SignInToken:
    """Take a pending token back."""
    token = instance.sign_in_tokens.find(token_id)
    if token is None:
        raise missing_resource("sign-in token", token_id)
    if token.status != "pending":
        words = f"The token is {token.status}."
        raise Refused(400, Problem("sign_in_token_cannot_be_revoked_code", "not pending", words))
    token.status = "revoked"
    instance.touch(token)
    return token


def find_by_ticket(instance: Instance, ticket: str) -> SignInToken | None:
    """Return the token that a link stands for."""
    return instance.sign_in_tokens.find(instance.tickets.get(ticket))


def require_usable(instance: Instance, token: SignInToken) -> User:
    """Return the user whom a token signs in, or refuse."""
    if token.status == "accepted":
        raise Refused(400, Problem("sign_in_token_already_used_code", "used", "This link was used before."))
    if token.status == "revoked":
        raise Refused(400, Problem("sign_in_token_revoked_code", "revoked", "This link was taken back."))
    if token.expires_at <= instance.now:
        raise Refused(400, Problem("ticket_expired_code", "expired", "This link has run out."))
    return users.get(instance, token.user_id)


def use(instance: Instance, token: SignInToken) -> None:
    """Note that a token was used."""
    token.status = "accepted"
    instance.touch(token)
