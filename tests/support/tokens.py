"""Session tokens of a firm's people, signed with the emulator's own key, with any claims a test wants."""

from typing import Any

from clerk_emulator.wire.session_tokens import CATEGORY
from tests.support.world import Firm

LIFETIME = 60
NO_CLAIM = None


def session_token(firm: Firm, email: str, **claims: Any) -> str:
    """Return a token for the person with this address. A claim that is None is left out; `azp` is left out by default.

    `sid` is made up, unless it names a session: the API does not ask Clerk about sessions.
    """
    user_id = firm.user_id(email)
    issued_at = firm.clock() // 1000
    all_claims: dict[str, Any] = {
        "exp": issued_at + LIFETIME,
        "iat": issued_at,
        "iss": firm.emulator.site.url,
        "jti": "0123456789",
        "nbf": issued_at - 10,
        "sid": f"sess_{user_id.removeprefix('user_')}",
        "sts": "active",
        "sub": user_id,
        "v": 2,
    }
    all_claims |= claims
    present = {name: value for name, value in all_claims.items() if value is not NO_CLAIM}
    return firm.emulator.site.keyring.sign(present, cat=CATEGORY)


def without_claims(firm: Firm, token: str, *names: str) -> str:
    """Return the same token without these claims, signed again."""
    claims = firm.emulator.site.keyring.read(token)
    assert claims is not None, "not a token of this emulator"
    kept = {name: value for name, value in claims.items() if name not in names}
    return firm.emulator.site.keyring.sign(kept, cat=CATEGORY)
