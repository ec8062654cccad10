"""Seeds."""

import json
from typing import Any

import pytest

from clerk_emulator import Emulator
from clerk_emulator.control.seeding import InvalidSeedError
from clerk_emulator.state import snapshot
from tests.clerk_emulator.clients import Backend

pytestmark = pytest.mark.anyio
DAY = 86_400_000
FIRM: dict[str, Any] = {
    "settings": {"max_allowed_memberships": 2},
    "roles": [{"key": "org:clerk", "name": "Clerk", "permissions": ["org:files:read"]}],
    "users": [
        {"id": "user_ada", "email_address": "ada@example.com", "created_at": "-30d", "password": "a"},
        {"email_addresses": ["bo@example.com", "b2@example.com"], "last_active_at": "-2h", "banned": True},
        {"email_address": "cy@example.com"},
    ],
    "organizations": [
        {
            "id": "org_north",
            "name": "Northwind Law",
            "created_by": "user_ada",
            "created_at": "-29d",
            "members": [
                {"user": "ada@example.com", "role": "org:admin", "created_at": "-29d"},
                {"user": "bo@example.com", "role": "org:clerk"},
                {"user": "cy@example.com"},
            ],
            "invitations": [
                {"email_address": "d@example.com", "expires_at": "+40h", "created_at": "-28d", "inviter": "user_ada"},
                {"email_address": "e@example.com", "status": "expired"},
                {"email_address": "f@example.com", "status": "revoked", "id": "orginv_f"},
            ],
        }
    ],
    "invitations": [{"email_address": "g@example.com", "expires_in_days": 3}],
}


async def test_a_seed_creates_users_organizations_and_memberships(emulator: Emulator, backend: Backend) -> None:
    counts = emulator.seed(FIRM)
    assert counts == {"users": 3, "organizations": 1, "invitations": 1, "roles": 1}
    ada = await backend("GET", "/users/user_ada")
    assert ada["created_at"] == ada["updated_at"] == emulator.clock.now() - 30 * DAY
    members = await backend("GET", "/organizations/org_north/memberships", order_by="email_address")
    assert [row["role"] for row in members["data"]] == ["org:admin", "org:clerk", "org:member"]
    found = await backend("GET", "/organizations/org_north/invitations")
    assert sorted(row["status"] for row in found["data"]) == ["expired", "pending", "revoked"]
    (pending,) = (await backend("GET", "/organizations/org_north/invitations/pending"))["data"]
    assert pending["expires_at"] == emulator.clock.now() + 40 * 3_600_000
    assert not emulator.webhooks.log.messages


async def test_a_seed_publishes_events_on_request(emulator: Emulator) -> None:
    emulator.seed({**FIRM, "events": True})
    types = [message.type for message in emulator.webhooks.log.messages.values()]
    assert types.count("user.created") == 3
    assert types.count("organizationMembership.created") == 3
    assert types.count("organizationInvitation.revoked") == 1


async def test_events_of_a_seed_contain_the_final_record(emulator: Emulator, backend: Backend) -> None:
    emulator.seed({**FIRM, "events": True})
    events = [json.loads(message.body) for message in emulator.webhooks.log.messages.values()]
    for event in events:
        if event["type"] == "user.created":
            assert event["data"] == await backend("GET", f"/users/{event['data']['id']}")
    firm = await backend("GET", "/organizations/org_north")
    event_types = [
        event["data"]["organization"] for event in events if event["type"] == "organizationMembership.created"
    ]
    assert {shape["updated_at"] for shape in event_types} == {firm["updated_at"]} == {emulator.clock.now() - 29 * DAY}


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ({"users": [{"email_address": "a@example.com"}, {"email_address": "a@example.com"}]}, "users[1]"),
        ({"users": [{"email": "a@example.com"}]}, "users[0]: unknown email"),
        ({"users": [{"email_address": "a@example.com", "created_at": "soon"}]}, "users[0]: a time is"),
        ({"users": [{"email_address": 5}]}, "users[0]"),
        ({"users": {}}, "users must be"),
        ({"organizations": [{}]}, "organizations[0]: name is missing"),
        ({"organizations": [{"name": "X", "members": [{"user": "nobody"}]}]}, "organizations[0].members[0]"),
        ({"organizations": [{"name": "X", "invitations": [{"role": "org:x"}]}]}, "organizations[0].invitations[0]"),
        ({"settings": {"max_allowed_memberships": "5"}}, "settings.max_allowed_memberships"),
        ({"endpoints": [{"url": "nonsense"}]}, "url"),
    ],
)
async def test_a_seed_is_loaded_completely_or_not_at_all(emulator: Emulator, data: dict[str, Any], place: str) -> None:
    emulator.seed({"users": [{"id": "user_zoe", "email_address": "zoe@example.com"}]})
    before = snapshot.dump(emulator.state)
    with pytest.raises(ValueError, match=place.replace("[", r"\[").replace("]", r"\]").split(":")[0]) as invalid:
        emulator.seed({"users": [{"email_address": "new@example.com"}], **data})
    assert place in str(invalid.value)
    assert snapshot.dump(emulator.state) == before
    assert isinstance(invalid.value, InvalidSeedError) or "url" in place


LEGACY: list[dict[str, Any]] = [
    {"key": "admin", "replaces": "org:admin"},
    {"key": "basic_member", "name": "Basic member", "replaces": "org:member"},
]


async def test_a_seed_can_use_the_role_keys_of_before_december_2023(emulator: Emulator, backend: Backend) -> None:
    emulator.seed({"roles": LEGACY})
    listed = {role["key"]: role for role in (await backend("GET", "/organization_roles"))["data"]}
    assert set(listed) == {"admin", "basic_member"}
    assert "org:sys_memberships:manage" in [one["key"] for one in listed["admin"]["permissions"]]
    firm, admin = await backend.firm()
    (membership,) = (await backend("GET", f"/organizations/{firm['id']}/memberships"))["data"]
    assert membership["role"] == "admin"
    path = f"/organizations/{firm['id']}/memberships/{admin['id']}"
    assert await backend.no("PATCH", path, {"role": "basic_member"}) == (400, "organization_minimum_permissions_needed")
    assert await backend.no("PATCH", path, {"role": "org:member"}) == (404, "resource_not_found")
    assert (await backend.invite(firm, role="basic_member"))["role"] == "basic_member"
    (roles,) = (await backend("GET", "/role_sets"))["data"]
    assert (roles["creator_role"]["key"], roles["default_role"]["key"]) == ("admin", "basic_member")


async def test_a_seed_can_replace_org_admin_and_the_creator_role(emulator: Emulator, backend: Backend) -> None:
    powers = ["org:sys_memberships:manage", "org:sys_memberships:read", "org:sys_profile:delete"]
    owner = {"key": "org:owner", "name": "Owner", "permissions": powers}
    emulator.seed({"roles": [owner], "settings": {"creator_role": "org:owner", "default_role": "org:member"}})
    settings = await backend("GET", "/instance/organization_settings")
    assert settings["creator_role"] == "org:owner"
    roles = {role["key"]: role["id"] for role in (await backend("GET", "/organization_roles"))["data"]}
    await backend("DELETE", f"/organization_roles/{roles['org:admin']}")
    firm, _ = await backend.firm()
    (membership,) = (await backend("GET", f"/organizations/{firm['id']}/memberships"))["data"]
    assert (membership["role"], membership["permissions"]) == ("org:owner", powers)
    seen = [message.type for message in emulator.webhooks.log.messages.values()]
    assert seen[0] == "role.deleted"


async def test_a_seed_publishes_events_of_roles_and_permissions_on_request(emulator: Emulator) -> None:
    clerk = {"key": "org:clerk", "permissions": ["org:files:read"]}
    emulator.seed({"roles": [*LEGACY, clerk], "events": True})
    seen = [message.type for message in emulator.webhooks.log.messages.values()]
    assert seen == ["role.updated", "role.updated", "permission.created", "role.created"]


@pytest.mark.parametrize(
    "invalid",
    [
        {"roles": [{"key": "admin", "replaces": "org:king"}]},
        {"roles": [{"key": "org:member", "replaces": "org:admin"}]},
        {"roles": [{"key": ""}]},
        {"roles": [{"key": "org:admin"}]},
        {"settings": {"default_role": "org:king"}},
    ],
)
async def test_invalid_roles_are_reported_with_their_location(emulator: Emulator, invalid: dict[str, Any]) -> None:
    with pytest.raises(InvalidSeedError, match=r"^(roles\[0\]|settings): "):
        emulator.seed(invalid)
    assert list(emulator.state.roles) == ["org:admin", "org:member"]
    assert emulator.state.settings.default_role == "org:member"
