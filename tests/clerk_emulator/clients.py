"""Clients and receivers of the emulator for tests."""

import json
from dataclasses import dataclass, field
from typing import Any

import httpx2

Json = dict[str, Any]


class UnexpectedResponse(Exception):
    """An error response where the test expected success."""


@dataclass(frozen=True, slots=True)
class Backend:
    """The Backend API: each call returns the JSON of a 200, or status and first error code by `no()`."""

    http: httpx2.AsyncClient

    async def __call__(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        response = await self.raw(method, path, body, **query)
        if response.status_code != 200:
            raise UnexpectedResponse(f"{method} {path}: {response.status_code} {response.text}")
        return response.json()

    async def no(self, method: str, path: str, body: Any = None, **query: Any) -> tuple[int, str]:
        """Return status and code of an error response."""
        response = await self.raw(method, path, body, **query)
        assert response.status_code >= 400, f"{method} {path} was not refused: {response.text}"
        return response.status_code, response.json()["errors"][0]["code"]

    async def raw(self, method: str, path: str, body: Any = None, **query: Any) -> httpx2.Response:
        """Return the whole response."""
        return await self.http.request(method, f"/v1{path}", json=body, params=query)

    async def user(self, address: str = "ada@example.com", **more: Any) -> Json:
        """Create a user."""
        created: Json = await self("POST", "/users", {"email_address": [address], **more})
        return created

    async def firm(self, **more: Any) -> tuple[Json, Json]:
        """Create an organization with its administrator."""
        admin = await self.user("ada@example.com", first_name="Ada", last_name="North")
        body = {"name": "Northwind Law", "created_by": admin["id"], **more}
        return await self("POST", "/organizations", body), admin

    async def invite(self, organization: Json, address: str = "bo@example.com", **more: Any) -> Json:
        """Invite an address to an organization."""
        body = {"email_address": address, "role": "org:member", **more}
        created: Json = await self("POST", f"/organizations/{organization['id']}/invitations", body)
        return created


@dataclass
class Receiver:
    """An ASGI application that records webhooks and responds with the given statuses."""

    secret: str = ""
    statuses: list[int] = field(default_factory=list)
    got: list[tuple[dict[str, str], str]] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.got.append((headers, body.decode()))
        status = self.statuses.pop(0) if self.statuses else 204
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    @property
    def types(self) -> list[str]:
        """Return the types of the events in order of arrival."""
        return [json.loads(body)["type"] for _, body in self.got]

    @property
    def ids(self) -> list[str]:
        """Return the svix-ids in order of arrival."""
        return [headers["svix-id"] for headers, _ in self.got]

    def data(self, type_: str) -> Json:
        """Return the data of the last event of a type."""
        found = [json.loads(body) for _, body in self.got]
        data: Json = [event for event in found if event["type"] == type_][-1]["data"]
        return data
