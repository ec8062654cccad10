"""Webhooks: events, signatures, retries and faults."""

import json
from typing import Any

import anyio
import httpx2
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from clerk_emulator import Emulator
from clerk_emulator.state.clock import Clock
from clerk_emulator.webhooks import retry_schedule
from tests.clerk_emulator.clients import Backend, Receiver
from tests.clerk_emulator.specification import load, schema_errors

pytestmark = pytest.mark.anyio


def standard(headers: dict[str, str]) -> dict[str, str]:
    """Return the headers under the names of Standard Webhooks."""
    return {name.replace("svix-", "webhook-"): value for name, value in headers.items()}


@pytest.fixture
def clock() -> Clock:
    """A clock with the current time: signatures are checked against the time of this machine."""
    clock = Clock()
    clock.stop()
    return clock


async def run_scenario(backend: Backend, emulator: Emulator) -> None:
    """Cause every event."""
    firm, admin = await backend.firm(max_allowed_memberships=0)
    await backend("PATCH", f"/users/{admin['id']}", {"first_name": "Adele", "external_id": "e1"})
    await backend("PATCH", f"/organizations/{firm['id']}", {"name": "Northwind"})
    bo = await backend.user("bo@example.com")
    members = f"/organizations/{firm['id']}/memberships"
    await backend("POST", members, {"user_id": bo["id"], "role": "org:member"})
    await backend("PATCH", f"{members}/{bo['id']}", {"role": "org:admin"})
    await backend("DELETE", f"{members}/{bo['id']}")
    invitation = await backend.invite(firm, "cy@example.com")
    await backend("POST", f"/organizations/{firm['id']}/invitations/{invitation['id']}/revoke")
    again = await backend.invite(firm, "cy@example.com", inviter_user_id=admin["id"])
    ticket = again["url"].partition("ticket=")[2]
    await backend.http.post("/v1/tickets/accept", data={"ticket": ticket})
    await backend.http.get("/sign-out")
    session = await backend("POST", "/sessions", {"user_id": bo["id"]})
    await backend("POST", f"/sessions/{session['id']}/revoke")
    await backend("DELETE", f"/users/{admin['id']}")
    await backend("DELETE", f"/organizations/{firm['id']}")
    await emulator.webhooks.drain()


async def test_every_event_is_delivered_in_order(backend: Backend, emulator: Emulator, receiver: Receiver) -> None:
    await run_scenario(backend, emulator)
    assert receiver.types == [
        "user.created",
        "organization.created",
        "organizationMembership.created",
        "user.updated",
        "organization.updated",
        "user.created",
        "organizationMembership.created",
        "organizationMembership.updated",
        "organizationMembership.deleted",
        "organizationInvitation.created",
        "organizationInvitation.revoked",
        "organizationInvitation.created",
        "user.created",
        "organizationMembership.created",
        "organizationInvitation.accepted",
        "session.created",
        "session.removed",
        "session.created",
        "session.revoked",
        "user.deleted",
        "organization.deleted",
    ]
    assert len(set(receiver.ids)) == len(receiver.ids)
    assert receiver.data("user.deleted")["external_id"] == "e1"
    assert receiver.data("organizationInvitation.accepted")["user_id"].startswith("user_")


async def test_every_webhook_matches_the_specification(
    backend: Backend, emulator: Emulator, receiver: Receiver
) -> None:
    document = load("webhooks-2025-04-15.yml")
    await run_scenario(backend, emulator)
    for _, body in receiver.got:
        event = json.loads(body)
        operation = document["x-webhooks"][event["type"]]["post"]
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        invalid = schema_errors(document, schema, event)
        assert not invalid, f"{event['type']}: {invalid}"


async def test_standard_webhooks_accepts_the_signature_and_no_other_secret(
    backend: Backend, emulator: Emulator, receiver: Receiver
) -> None:
    await backend.user("ada@example.com", first_name="Zoë")
    await emulator.webhooks.drain()
    headers, body = receiver.got[0]
    assert Webhook(receiver.secret).verify(body, standard(headers))["data"]["first_name"] == "Zoë"
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + "A" * 32).verify(body, standard(headers))


async def test_a_signature_is_fresh_however_far_the_virtual_clock_is(
    backend: Backend, emulator: Emulator, receiver: Receiver
) -> None:
    emulator.clock.advance(days=400)
    await backend.user()
    await emulator.webhooks.drain()
    headers, body = receiver.got[0]
    Webhook(receiver.secret).verify(body, standard(headers))


async def test_a_payload_has_the_record_at_the_time_of_the_event(
    backend: Backend, emulator: Emulator, receiver: Receiver
) -> None:
    user = await backend.user(first_name="Ada")
    await backend("PATCH", f"/users/{user['id']}", {"first_name": "Bo"})
    await emulator.webhooks.drain()
    names = [json.loads(body)["data"]["first_name"] for _, body in receiver.got]
    assert names == ["Ada", "Bo"]


async def test_every_endpoint_gets_its_events_signed_with_its_secret(
    backend: Backend, emulator: Emulator, receiver: Receiver
) -> None:
    other = Receiver()
    other.secret = emulator.webhooks.connect(
        "http://other.test/", events=["user.deleted"], transport=httpx2.ASGITransport(other)
    ).secret
    user = await backend.user()
    await backend("DELETE", f"/users/{user['id']}")
    await emulator.webhooks.drain()
    assert (receiver.types, other.types) == (["user.created", "user.deleted"], ["user.deleted"])
    assert other.secret != receiver.secret
    assert other.ids == receiver.ids[1:]


async def test_a_failed_delivery_is_retried_on_schedule_with_the_same_id(
    backend: Backend, emulator: Emulator, receiver: Receiver
) -> None:
    receiver.statuses = [500, 302, 200]
    await backend.user()
    await emulator.webhooks.drain()
    assert len(receiver.got) == 1
    emulator.clock.advance(4_999)
    await emulator.webhooks.drain()
    assert len(receiver.got) == 1
    emulator.clock.advance(1)
    await emulator.webhooks.drain()
    emulator.clock.advance(minutes=5)
    await emulator.webhooks.drain()
    assert len(receiver.got) == 3
    assert len(set(receiver.ids)) == 1
    (delivery,) = emulator.webhooks.log.deliveries.values()
    assert (delivery.state, [attempt.status for attempt in delivery.attempts]) == ("succeeded", [500, 302, 200])


async def test_a_delivery_fails_after_eight_attempts(backend: Backend, emulator: Emulator, receiver: Receiver) -> None:
    receiver.statuses = [500] * 20
    await backend.user()
    for _ in range(12):
        await emulator.webhooks.drain()
        emulator.clock.advance(hours=11)
    assert len(receiver.got) == retry_schedule.MAX_ATTEMPTS == 8
    (delivery,) = emulator.webhooks.log.deliveries.values()
    assert delivery.state == "failed"


async def test_retries_can_be_shortened(clock: Clock, private_key: str) -> None:
    emulator = Emulator(clock=clock, private_key=private_key, retry_scale=0.001)
    receiver = Receiver(statuses=[500])
    emulator.webhooks.connect("http://app.test/", transport=httpx2.ASGITransport(receiver))
    emulator.seed({"users": [{"email_address": "a@example.com"}], "events": True})
    await emulator.webhooks.drain()
    emulator.clock.advance(5)
    await emulator.webhooks.drain()
    assert len(receiver.got) == 2


async def test_a_refused_connection_is_a_failed_attempt(emulator: Emulator, backend: Backend) -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("nobody there")

    emulator.webhooks.connect("http://gone.test/", transport=httpx2.MockTransport(refuse))
    await backend.user()
    await emulator.webhooks.drain()
    (delivery,) = emulator.webhooks.log.deliveries.values()
    assert (delivery.state, delivery.attempts[0].error) == ("pending", "ConnectError")


async def test_a_replay_keeps_the_message_id(backend: Backend, emulator: Emulator, receiver: Receiver) -> None:
    await backend.user()
    await emulator.webhooks.drain()
    (delivery,) = list(emulator.webhooks.log.deliveries.values())
    assert emulator.webhooks.replay(delivery.id) is not None
    await emulator.webhooks.drain()
    assert receiver.ids[0] == receiver.ids[1]


def names(receiver: Receiver) -> list[str]:
    return [json.loads(body)["data"]["first_name"] for _, body in receiver.got]


async def make(backend: Backend, *first_names: str) -> None:
    for name in first_names:
        await backend.user(f"{name}@example.com", first_name=name)


async def fault(emulator: Emulator, **data: Any) -> None:
    emulator.faults.add({"event": "user.created", **data})


async def test_a_dropped_event_is_never_sent_but_is_in_the_log(
    backend: Backend, emulator: Emulator, receiver: Receiver
) -> None:
    await fault(emulator, do="drop", count=1)
    await make(backend, "a", "b")
    await emulator.webhooks.drain()
    assert names(receiver) == ["b"]
    states = [delivery.state for delivery in emulator.webhooks.log.deliveries.values()]
    assert states == ["dropped", "succeeded"]


async def test_a_doubled_event_comes_twice_under_one_id(
    backend: Backend, emulator: Emulator, receiver: Receiver
) -> None:
    await fault(emulator, do="double")
    await make(backend, "a", "b")
    await emulator.webhooks.drain()
    assert names(receiver) == ["a", "a", "b", "b"]
    assert receiver.ids[0] == receiver.ids[1] != receiver.ids[2]


async def test_reordered_events_come_in_swapped_pairs(backend: Backend, emulator: Emulator, receiver: Receiver) -> None:
    await fault(emulator, do="reorder")
    await make(backend, "a", "b", "c", "d", "e")
    await emulator.webhooks.drain()
    assert names(receiver) == ["b", "a", "d", "c", "e"]


async def test_a_delayed_event_waits_by_the_clock(backend: Backend, emulator: Emulator, receiver: Receiver) -> None:
    await fault(emulator, do="delay", delay_ms=10_000, count=1)
    await make(backend, "a", "b")
    await emulator.webhooks.drain()
    assert names(receiver) == ["b"]
    emulator.clock.advance(seconds=10)
    await emulator.webhooks.drain()
    assert names(receiver) == ["b", "a"]


async def test_a_badly_signed_event_is_signed_rightly_at_the_next_attempt(
    backend: Backend, emulator: Emulator, receiver: Receiver
) -> None:
    await fault(emulator, do="bad_signature", count=1)
    receiver.statuses = [401, 200]
    await make(backend, "a")
    await emulator.webhooks.drain()
    headers, body = receiver.got[0]
    with pytest.raises(WebhookVerificationError):
        Webhook(receiver.secret).verify(body, standard(headers))
    emulator.clock.advance(seconds=5)
    await emulator.webhooks.drain()
    headers, body = receiver.got[1]
    Webhook(receiver.secret).verify(body, standard(headers))


async def test_cascade_events_is_a_setting(backend: Backend, emulator: Emulator, receiver: Receiver) -> None:
    emulator.state.settings.cascade_events = True
    organization, admin = await backend.firm()
    await backend.invite(organization)
    await backend("POST", "/sessions", {"user_id": admin["id"]})
    before = len(emulator.webhooks.log.messages)
    await backend("DELETE", f"/users/{admin['id']}")
    await backend("DELETE", f"/organizations/{organization['id']}")
    await emulator.webhooks.drain()
    assert receiver.types[before:] == [
        "session.removed",
        "organizationMembership.deleted",
        "user.deleted",
        "organizationInvitation.revoked",
        "organization.deleted",
    ]


async def test_webhooks_are_delivered_in_the_background(emulator: Emulator, backend: Backend) -> None:
    arrived = anyio.Event()

    def record_request(request: httpx2.Request) -> httpx2.Response:
        arrived.set()
        return httpx2.Response(200)

    emulator.webhooks.connect("http://app.test/", transport=httpx2.MockTransport(record_request))
    async with emulator:
        await backend.user()
        with anyio.fail_after(10):
            await arrived.wait()


async def test_a_slow_endpoint_delays_no_other(emulator: Emulator, backend: Backend) -> None:
    arrived, let_go = anyio.Event(), anyio.Event()

    async def wait(request: httpx2.Request) -> httpx2.Response:
        await let_go.wait()
        return httpx2.Response(200)

    async def record_request(request: httpx2.Request) -> httpx2.Response:
        if len(emulator.webhooks.log.messages) == 2:
            arrived.set()
        return httpx2.Response(200)

    emulator.webhooks.connect("http://slow.test/", transport=httpx2.MockTransport(wait))
    emulator.webhooks.connect("http://quick.test/", transport=httpx2.MockTransport(record_request))
    async with emulator:
        await make(backend, "a", "b")
        with anyio.fail_after(10):
            await arrived.wait()
        let_go.set()


async def delivery_outcomes(private_key: str, seed: int) -> list[tuple[str, int]]:
    """Return the results and delays of a hundred deliveries."""
    wall = Clock()
    wall.stop()
    emulator = Emulator(clock=wall, private_key=private_key)
    settings = {"webhook_loss_percent": 10, "webhook_delay_seconds": 60, "webhook_seed": seed}
    emulator.state.settings.change(settings)
    emulator.webhooks.connect("http://app.test/", transport=httpx2.ASGITransport(Receiver()))
    for number in range(100):
        emulator.seed({"users": [{"email_address": f"user{number}@example.com"}], "events": True})
    late = [(row.state, row.due_at - wall.now()) for row in emulator.webhooks.log.deliveries.values()]
    await emulator.webhooks.drain()
    wall.advance(seconds=60)
    await emulator.webhooks.drain()
    ends = [row.state for row in emulator.webhooks.log.deliveries.values()]
    assert ends == ["dropped" if state == "dropped" else "succeeded" for state, _ in late]
    return late


async def test_loss_and_delay_depend_only_on_the_seed(private_key: str) -> None:
    one, same, other = [await delivery_outcomes(private_key, seed) for seed in (1, 1, 2)]
    assert one == same != other
    assert 3 <= sum(state == "dropped" for state, _ in one) <= 20
    delays = [delay for _, delay in one]
    assert min(delays) >= 0
    assert 50_000 < max(delays) <= 60_000


async def test_delayed_webhooks_arrive_in_order_of_their_delay(
    backend: Backend, emulator: Emulator, receiver: Receiver
) -> None:
    emulator.state.settings.change({"webhook_delay_seconds": 60})
    for number in range(10):
        await backend.user(f"user{number}@example.com")
    await emulator.webhooks.drain()
    assert receiver.got == [], "ten that are all due at once would be no disorder"
    due = sorted(emulator.webhooks.log.deliveries.values(), key=lambda row: row.due_at)
    emulator.clock.advance(seconds=60)
    await emulator.webhooks.drain()
    assert (
        receiver.ids
        == [row.message.id for row in due]
        != [row.message.id for row in sorted(due, key=lambda row: int(row.id[4:]))]
    )


async def test_replays_are_neither_lost_nor_delayed(backend: Backend, emulator: Emulator, receiver: Receiver) -> None:
    emulator.state.settings.change({"webhook_loss_percent": 100, "webhook_delay_seconds": 60})
    await backend.user()
    await emulator.webhooks.drain()
    (lost,) = emulator.webhooks.log.deliveries.values()
    assert (lost.state, lost.fault, receiver.got) == ("dropped", "lost", [])
    emulator.webhooks.replay(lost.id)
    await emulator.webhooks.drain()
    assert receiver.types == ["user.created"]
