"""Client of the Clerk emulator's control API, for the demo."""

from typing import Any

import httpx2

from instep.core.errors import PermanentError

WEBHOOK_PATH = "/webhooks/clerk"


class EmulatorControlError(PermanentError):
    """The emulator did not do what it was asked."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="emulator_failed")


class EmulatorControl:
    """The control side of an emulator at `url`. Each method raises EmulatorControlError."""

    def __init__(self, url: str, *, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self._http = httpx2.AsyncClient(base_url=f"{url}/_emulator", timeout=10, transport=transport)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def answers(self) -> bool:
        """Whether it is up."""
        try:
            return (await self._http.get("/keys")).is_success
        except httpx2.HTTPError:
            return False

    async def keys(self) -> dict[str, Any]:
        """Its `secret_key`, `publishable_key` and more."""
        found: dict[str, Any] = await self._send("GET", "/keys")
        return found

    async def has_organization(self, slug: str) -> bool:
        """Whether an organization with this slug is there."""
        state = await self._send("GET", "/state")
        return any(it.get("slug") == slug for it in state.get("organizations", []))

    async def connect(self, url: str, secret: str) -> None:
        """Have webhooks sent to `url`, signed with `secret`, and to no earlier address of ours.

        An endpoint at the same address is replaced, so that what is on its way to it still comes.
        """
        listed = await self._send("GET", "/endpoints")
        for endpoint in listed["data"] if isinstance(listed, dict) else listed:
            if endpoint["url"].endswith(WEBHOOK_PATH) and endpoint["url"] != url:
                await self._send("DELETE", f"/endpoints/{endpoint['id']}")
        await self._send("POST", "/endpoints", {"url": url, "secret": secret})

    async def seed(self, wish: dict[str, Any]) -> None:
        """Take people, organizations and invitations; the form is the emulator's."""
        await self._send("POST", "/seed", wish)

    async def _send(self, method: str, path: str, body: Any = None) -> Any:
        try:
            response = await self._http.request(method, path, json=body)
        except httpx2.HTTPError as error:
            raise EmulatorControlError(f"The emulator does not answer ({type(error).__name__}).") from error
        if not response.is_success:
            raise EmulatorControlError(f"The emulator refused {method} {path}: {response.text[:300]}")
        return response.json() if response.content else None
