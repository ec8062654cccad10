"""A firm as a browser sees it that has signed in with the break-glass key: instance admin of made-up people."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from tests.support.world import OURS, Firm

SEED: dict[str, Any] = {
    "users": [
        {"email_address": f"{name.lower()}@example.com", "first_name": name} for name in ("Dana", "Maya", "Omar")
    ],
    "organizations": [
        {
            "name": "Northwind Law",
            "slug": "northwind-law",
            "members": [
                {"user": "dana@example.com", "role": "org:admin"},
                {"user": "maya@example.com"},
                {"user": "omar@example.com"},
            ],
            "invitations": [{"email_address": "ada@example.com", "created_at": "-3d", "expires_at": "+4d"}],
        }
    ],
    "events": True,
}
HOME = "/organizations/northwind-law"
PARTIAL = {"hx-request": "true", "hx-request-type": "partial"}


@asynccontextmanager
async def console_of(firm: Firm) -> AsyncIterator[httpx2.AsyncClient]:
    """The pages of a firm, asked for as its own pages do."""
    firm.emulator.seed(SEED)
    await firm.settle()
    token = await firm.services.sign_in_pages.sessions.open_break_glass()
    headers = {"origin": OURS, "cookie": f"instep_session={token}"}
    transport = httpx2.ASGITransport(app=firm.app)
    async with httpx2.AsyncClient(transport=transport, base_url=OURS, headers=headers) as client:
        yield client


async def user_id(firm: Firm, email: str) -> str:
    """instep's id of the person with this address."""
    return await _id(firm, "member", email, "user_id")


async def invitation_id(firm: Firm, email: str) -> str:
    """Clerk's id of the invitation of this address."""
    return await _id(firm, "invitation", email, "id")


async def _id(firm: Firm, kind: str, email: str, name: str) -> str:
    rows = (await firm.api().get("/v1/organizations/northwind-law/people")).json()["data"]
    (found,) = [it[kind][name] for it in rows if it["kind"] == kind and it[kind]["email"] == email]
    return str(found)
