"""Clerk's Backend API in our words: reading, changing organizations, changing users."""

import httpx2

from instep.clerk.accounts import Accounts
from instep.clerk.admissions import Admissions
from instep.clerk.call import API_VERSION, Backend
from instep.clerk.organizations import Organizations
from instep.clerk.pacer import Pacer
from instep.clerk.pages import Pages
from instep.clerk.reading import Reading
from instep.clerk.walk import Walk
from instep.kit.pace import Urgency

__all__ = ["API_VERSION", "ClerkClient"]


class ClerkClient(Reading, Organizations, Accounts, Admissions):
    """One Clerk instance: Directory, Actor, Accounts and the sessions in one.

    `secret_key` None means that Clerk is not configured: every call raises ProviderRefused `not_configured`.
    `timeout` is in seconds; `transport` stands in for the network in tests. `pacer` None: no call waits.
    """

    def __init__(
        self,
        secret_key: str | None,
        *,
        api_url: str = "https://api.clerk.com",
        timeout: float = 10.0,
        transport: httpx2.AsyncBaseTransport | None = None,
        pacer: Pacer | None = None,
    ) -> None:
        self._backend = Backend(secret_key, api_url=api_url, timeout=timeout, transport=transport, pacer=pacer)

    def everything(self) -> Walk:
        """Reading all of it, page by page."""
        return Walk(Pages(self._backend.at(Urgency.BACKFILL)))

    async def close(self) -> None:
        """Close the connections."""
        await self._backend.close()
