"""Webhooks made by hand, for what an emulator does not do by itself, and the usual firm that they are about."""

import copy
import json
from typing import Any

import httpx2
import sqlalchemy as sa
from alembic import command

from instep.core import schema_migrations
from tests.support.svix import signed
from tests.support.world import DOOR, Firm

SLUG = "northwind"
DANA, MAYA, OMAR = "dana@example.com", "maya@example.com", "omar@example.com"
SEED: dict[str, Any] = {
    "users": [{"email_address": email, "first_name": email.partition("@")[0].title()} for email in (DANA, MAYA, OMAR)],
    "organizations": [
        {
            "name": "Northwind Law",
            "slug": SLUG,
            "created_by": DANA,
            "max_allowed_memberships": 50,
            "public_metadata": {"plan": "gold"},
            "members": [
                {"user": DANA, "role": "org:admin"},
                {"user": MAYA, "role": "org:admin"},
                {"user": OMAR, "role": "org:member"},
            ],
        }
    ],
    "events": True,
}
Json = dict[str, Any]


async def settled(firm: Firm) -> Firm:
    """Return the firm with its people in Clerk and in the mirror."""
    firm.emulator.seed(SEED)
    await firm.settle()
    return firm


async def deliver(firm: Firm, type: str, data: Json) -> None:
    """Deliver one event to instep, signed as Clerk signs, and process everything that is due."""
    at = firm.clock()
    envelope = {"type": type, "object": "event", "timestamp": at, "data": data, "event_attributes": {}}
    envelope["instance_id"] = firm.emulator.state.id
    body = json.dumps(envelope).encode()
    response = await firm.api(None).post(DOOR, content=body, headers=signed(body, at=at))
    assert response.status_code == 202, response.text
    while await firm.services.delivery_processor.run_once():
        pass


async def user_of(firm: Firm, email: str, **changes: Any) -> Json:
    """Return a user as Clerk has it, with some fields changed and a newer version."""
    found = (await firm.clerk().get(f"/v1/users/{firm.user_id(email)}")).json()
    return {**copy.deepcopy(found), "updated_at": firm.clock(), **changes}


async def membership_of(firm: Firm, email: str, **changes: Any) -> Json:
    """Return a membership as Clerk has it, with some fields changed and a newer version."""
    path = f"/v1/organizations/{firm.organization_id(SLUG)}/memberships"
    listed = (await firm.clerk().get(path, params={"user_id": firm.user_id(email)})).json()
    return {**copy.deepcopy(listed["data"][0]), "updated_at": firm.clock(), **changes}


async def people(firm: Firm, **query: Any) -> Json:
    """Return a page of the organization's people."""
    return found(await firm.api().get(f"/v1/organizations/{SLUG}/people", params=query))


async def statuses(firm: Firm) -> dict[str, list[str]]:
    """Return the role and the status of every listed member, by address."""
    page = await people(firm)
    listed: dict[str, list[str]] = {}
    for row in page["data"]:
        if row["kind"] == "member":
            member = row["member"]
            listed.setdefault(member["email"], []).append(f"{member['role']} {member['status']}")
    return listed


def found(response: httpx2.Response) -> Json:
    """Return the body of an answer that succeeded."""
    assert response.status_code == 200, response.text
    answer: Json = response.json()
    return answer


def migrate_to(engine: sa.Engine, revision: str) -> None:
    """Bring an empty database to an earlier version of the schema."""
    with engine.connect().execution_options(instep_writes=True) as conn, conn.begin():
        command.upgrade(schema_migrations._make_alembic_config(conn), revision)
