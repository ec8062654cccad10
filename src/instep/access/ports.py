"""What access needs of an identity provider. `instep.clerk` gives it; the two never import each other."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from instep.identity.session import SessionClaims, SessionState, SignedIn, SignedOut

JustInTime = Callable[[str], Awaitable[None]]


"""Brings one user of Clerk, who is signed in and not in the mirror yet, into the mirror."""


class SessionSource(Protocol):
    """The provider's sessions. Each method raises ProviderDown or ProviderRefused."""

    async def find_session(self, id: str) -> SessionState | None:
        """A session's present state, None where there is no such session."""

    async def revoke_session(self, id: str) -> None:
        """End a session; one that is over already is fine."""


class SignIn(Protocol):
    """Signing in at the provider, by sending the browser there and back."""

    def handshake_url(self, back: str, *, dev_browser: str | None = None) -> str:
        """Where to send the browser to learn who is signed in in it; it comes back to `back`."""

    def sign_in_url(self, back: str, *, dev_browser: str | None = None) -> str:
        """The provider's sign-in page, which leads to `back` afterwards."""

    def session_tokens(self, cookies: str) -> list[str]:
        """The session tokens in a raw Cookie header, the most likely first."""

    def dev_browser(self, query: Mapping[str, str], cookies: str) -> str | None:
        """What tells a development instance which browser this is; None elsewhere."""

    async def verify(self, token: str) -> SessionClaims:
        """What a session token says. Raises SessionRefused; ProviderDown where it can't be told."""

    async def answer(self, query: Mapping[str, str], cookies: str) -> SignedIn | SignedOut:
        """What the browser brought back from the handshake. Raises SessionRefused, ProviderDown."""
