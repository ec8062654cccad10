"""Concurrent edits, from several replicas, while Clerk is down, limited or slow."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest

from instep.app.container import Services, make_services
from instep.auth.principal import BREAK_GLASS_PRINCIPAL
from instep.clerk.client import ClerkClient
from instep.domain.errors import ChangeRejectedError
from instep.operations.workflow import OperationPendingError
from instep.users.models import UserChanges
from tests.support.world import Firm
from tests.users.firms import BOB, clerk_user, furnish, operations, person, recover, require_equal, users_of

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def replica(firm: Firm) -> AsyncIterator[Services]:
    """Another process of the same installation."""
    emulator = firm.emulator
    transport = httpx2.ASGITransport(app=emulator)
    client = ClerkClient(emulator.secret_key, api_url=emulator.site.url, transport=transport)
    services = make_services(firm.services.settings, clerk=client, clock=firm.clock)
    yield services
    await services.close()


async def test_edits_from_two_replicas_wait_for_each_other(firm: Firm) -> None:
    await furnish(firm)
    id = (await person(firm, BOB)).id
    async with replica(firm) as other:
        edits = [
            side.edit_profile(BREAK_GLASS_PRINCIPAL, id, UserChanges(first_name=f"Bob{n}", attributes={f"n{n}": n}))
            for n, side in enumerate([users_of(firm), other.users] * 3)
        ]
        await asyncio.gather(*edits)
    found = await person(firm, id)
    assert found.attributes == {f"n{n}": n for n in range(6)}
    assert [it.state for it in await operations(firm, "profile.edit")] == ["settled"] * 6
    await require_equal(firm)
    await firm.settle()
    await require_equal(firm)


async def test_a_double_click_on_two_replicas_edits_once(firm: Firm) -> None:
    await furnish(firm)
    async with replica(firm) as other:
        wanted = UserChanges(email="dora@example.com")
        made = await asyncio.gather(
            *(
                side.create(BREAK_GLASS_PRINCIPAL, wanted, idempotency_key="form-1")
                for side in (users_of(firm), other.users)
            ),
            return_exceptions=True,
        )
    assert all(not isinstance(it, BaseException) or isinstance(it, OperationPendingError) for it in made)
    assert len([it for it in firm.emulator.state.users.oldest_first() if it.identifier == "dora@example.com"]) == 1
    await recover(firm)
    await require_equal(firm)


async def test_an_address_is_assigned_once(firm: Firm) -> None:
    await furnish(firm)
    async with replica(firm) as other:
        results = await asyncio.gather(
            *(
                side.create(BREAK_GLASS_PRINCIPAL, UserChanges(email="dora@example.com"), in_clerk=False)
                for side in (users_of(firm), other.users)
            ),
            return_exceptions=True,
        )
    refused = [it for it in results if isinstance(it, ChangeRejectedError)]
    assert [it.code for it in refused] == ["email_taken"]


async def test_an_edit_during_an_outage_is_finished_afterwards(firm: Firm) -> None:
    await furnish(firm)
    id = (await person(firm, BOB)).id
    firm.emulator.fail("UpdateUser", status=429, retry_after=30, count=2)
    with pytest.raises(OperationPendingError, match="We will retry in 30 s; nothing is lost"):
        await users_of(firm).edit_profile(BREAK_GLASS_PRINCIPAL, id, UserChanges(first_name="Robert"))
    async with replica(firm) as other:
        for _ in range(3):
            firm.clock.advance(3_600_000)
            await other.executor.resume_due()
    assert (await person(firm, id)).first_name == "Robert"
    await require_equal(firm)


async def test_an_edit_of_a_user_just_deleted_in_clerk_is_refused(firm: Firm) -> None:
    await furnish(firm)
    id, clerk_id = (await person(firm, BOB)).id, firm.user_id(BOB)
    async with firm.clerk() as clerk:
        await clerk.delete(f"/v1/users/{clerk_id}")
    with pytest.raises(ChangeRejectedError, match="was not found in Clerk") as caught:
        await users_of(firm).edit_profile(BREAK_GLASS_PRINCIPAL, id, UserChanges(first_name="Robert"))
    assert (caught.value.code, caught.value.status) == ("clerk_sync_failed", 409)
    assert clerk_user(firm, clerk_id) is None
    await firm.settle()
    with pytest.raises(ChangeRejectedError, match="Restore them first"):
        await users_of(firm).edit_profile(BREAK_GLASS_PRINCIPAL, id, UserChanges(first_name="Robert"))
