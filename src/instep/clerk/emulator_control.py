"""Client of the Clerk emulator's control API, for the demo."""

from typing import Any

import httpx2

from instep.core.errors import PermanentError

WEBHOOK_PATH = "/webhooks/clerk"


class EmulatorControlError(PermanentError):
    """A request to the emulator failed."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="emulator_failed")


class EmulatorControl:
    """Client of the control API of an emulator at `url`. Each method raises EmulatorControlError."""

    def __init__(self, url: str, *, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self._http = httpx2.AsyncClient(base_url=f"{url}/_emulator", timeout=10, transport=transport)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def answers(self) -> bool:
        """Return whether the emulator is running."""
        try:
            return (await self._http.get("/keys")).is_success
        except httpx2.HTTPError:
            return False

    async def keys(self) -> dict[str, Any]:
        """Return its `secret_key`, `publishable_key` and other keys."""
        found: dict[str, Any] = await self._send("GET", "/keys")
        return found

    async def has_organization(self, slug: str) -> bool:
        """Return whether an organization with this slug exists."""
        state = await self._send("GET", "/state")
        return any(organization.get("slug") == slug for organization in state.get("organizations", []))

    async def connect(self, url: str, secret: str) -> None:
        """Register a webhook endpoint with this signing secret and delete earlier endpoints of instep.

        An endpoint with the same URL is replaced, so that pending deliveries to it still arrive.
        """
        listed = await self._send("GET", "/endpoints")
        for endpoint in listed["data"] if isinstance(listed, dict) else listed:
            if endpoint["url"].endswith(WEBHOOK_PATH) and endpoint["url"] != url:
                await self._send("DELETE", f"/endpoints/{endpoint['id']}")
        await self._send("POST", "/endpoints", {"url": url, "secret": secret})

    async def seed(self, seed: dict[str, Any]) -> None:
        """Create users, organizations and invitations; see the emulator for the format."""
        await self._send("POST", "/seed", seed)

    async def _send(self, method: str, path: str, body: Any = None) -> Any:
        try:
            response = await self._http.request(method, path, json=body)
        except httpx2.HTTPError as error:
            raise EmulatorControlError(f"The emulator does not respond ({type(error).__name__}).") from error
        if not response.is_success:
            raise EmulatorControlError(f"The emulator rejected {method} {path}: {response.text[:300]}")
        return response.json() if response.content else None
