"""Every event against Clerk's webhook specification."""

import json
from typing import Any

import pytest

from clerk_emulator import Emulator
from clerk_emulator.state import invitations, organization_invitations, sessions, users
from clerk_emulator.wire.webhook_payloads import EVENT_TYPES
from tests.clerk_emulator.backend_api import scenario
from tests.clerk_emulator.clients import Backend, Json
from tests.clerk_emulator.specification import divergences, load, schema_errors

pytestmark = pytest.mark.anyio


async def run_scenario(emulator: Emulator, backend: Backend) -> list[Json]:
    """Run the whole scenario and return the events."""
    emulator.state.settings.mail_events = True
    api: Backend = type("Watched", (Backend,), {"emulator": emulator})(backend.http)
    await scenario.everything(api)
    await accept(emulator, backend)
    return [json.loads(message.body) for message in emulator.webhooks.log.messages.values()]


async def accept(emulator: Emulator, backend: Backend) -> None:
    """Accept invitations, sign out, and send a text message: changes outside the Backend API."""
    one = emulator.state
    admin = await backend.user("zoe@example.com")
    firm = await backend("POST", "/organizations", {"name": "Southwind", "created_by": admin["id"]})
    created = await backend.invite(firm, "new@example.com")
    invitation = one.organization_invitations.find(created["id"])
    assert invitation is not None
    user, _ = organization_invitations.accept(one, invitation, {})
    waiting = await backend("POST", "/waitlist_entries", {"email_address": "patient@example.com"})
    entry = await backend("POST", f"/waitlist_entries/{waiting['id']}/invite")
    invited = one.invitations.find(entry["invitation"]["id"])
    assert invited is not None
    invitations.accept(one, invited, {})
    for how in ("ended", "removed"):
        sessions.end(one, sessions.start(one, user, sessions.create_client(one)), how)
    phone = await backend("POST", "/phone_numbers", {"user_id": user.id, "phone_number": "+4915551234567"})
    await backend("POST", f"/phone_numbers/{phone['id']}/prepare_verification")
    users.set_banned(one, user, True)


async def test_every_event_matches_the_specification_or_a_known_divergence(
    emulator: Emulator, backend: Backend
) -> None:
    document: Any = load("webhooks-2025-04-15.yml")
    events = await run_scenario(emulator, backend)
    invalid = set()
    for event in events:
        operation = document["x-webhooks"][event["type"]]["post"]
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        invalid |= {f"{event['type']}: {text}" for text in schema_errors(document, schema, event)}
    assert {event["type"] for event in events} == set(EVENT_TYPES), "every type of event happened"
    known = {key for key in divergences() if key.partition(":")[0] in EVENT_TYPES}
    assert not invalid - known, "not in the ledger"
    assert not known - invalid, "gone: take it out of the ledger"


async def test_the_state_can_be_rebuilt_from_the_events_alone(emulator: Emulator, backend: Backend) -> None:
    events = await run_scenario(emulator, backend)
    users, firms, members, invited = rebuilt(events)
    one = emulator.state
    assert users == {row.id: row.updated_at for row in one.users}
    assert firms == {row.id: row.updated_at for row in one.organizations}
    assert members == {row.id: row.role for row in one.memberships}
    now = one.now
    assert invited == {row.id: row.status(now) for row in one.organization_invitations}


def rebuilt(events: list[Json]) -> tuple[dict[str, int], dict[str, int], dict[str, str], dict[str, str]]:
    """Return users, organizations, memberships and invitations as a reader of the events knows them."""
    things: dict[str, dict[str, Json]] = {"user": {}, "organization": {}, "organizationMembership": {}}
    invited: dict[str, Json] = {}
    for event in events:
        kind, _, what = event["type"].partition(".")
        data = event["data"]
        if kind == "organizationInvitation":
            invited[data["id"]] = data
        elif kind in things and what == "deleted":
            things[kind].pop(data["id"], None)
        elif kind in things:
            things[kind][data["id"]] = data
    users, firms = things["user"], things["organization"]
    members = {
        id_: row["role"]
        for id_, row in things["organizationMembership"].items()
        if row["organization"]["id"] in firms and row["public_user_data"]["user_id"] in users
    }
    open_ = {id_: row["status"] for id_, row in invited.items() if row["organization_id"] in firms}
    versions = [{id_: row["updated_at"] for id_, row in found.items()} for found in (users, firms)]
    return versions[0], versions[1], members, open_
