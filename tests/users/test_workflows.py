"""Every kind of user operation, stopped at each point and recovered: one effect, and both sides in sync."""

from itertools import count

import pytest

from instep.auth.principal import BREAK_GLASS_PRINCIPAL
from instep.users.models import UserChanges
from instep.users.service import make_user_workflows
from tests.support.crash import seconds
from tests.support.world import Firm, make_firm
from tests.users.firms import (
    BOB,
    addresses_of,
    clerk_user,
    count_rows,
    furnish,
    latest,
    mortal,
    operations,
    person,
    recover,
    require_equal,
    standing,
    stop_everywhere,
    users_of,
)

pytestmark = pytest.mark.anyio


async def test_each_kind_has_a_workflow(sqlite_firm: Firm) -> None:
    services = sqlite_firm.services
    ours = make_user_workflows(services.clerk, users_of(sqlite_firm).secrets, services.clock)
    assert set(ours) <= set(services.executor.workflows)
    assert all(kind.startswith(("profile.", "user.")) for kind in ours)


async def test_an_edit_survives_any_crash(firm: Firm) -> None:
    await furnish(firm)
    bob = await person(firm, BOB)

    async def act(n: int) -> object:
        edit = UserChanges(first_name=f"Bob{n}", public_metadata={"n": n}, attributes={"n": n})
        return await users_of(firm).edit_profile(BREAK_GLASS_PRINCIPAL, bob.id, edit)

    async def hold(n: int, was_kept: bool) -> None:
        await require_equal(firm)
        now = await person(firm, bob.id)
        is_new = (now.first_name, now.public_metadata.get("n"), now.attributes.get("n")) == (f"Bob{n}", n, n)
        assert is_new is was_kept

    assert await stop_everywhere(firm, act, hold, kind="profile.edit") > 25


async def test_an_edit_in_the_database_only_survives_any_crash(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    lou = await person(firm, "lou@example.com")

    async def act(n: int) -> object:
        return await users_of(firm).edit_profile(
            BREAK_GLASS_PRINCIPAL, lou.id, UserChanges(last_name=f"L{n}", attributes={"n": n})
        )

    async def hold(n: int, was_kept: bool) -> None:
        now = await person(firm, lou.id)
        assert ((now.last_name, now.attributes.get("n")) == (f"L{n}", n)) is was_kept

    assert await stop_everywhere(firm, act, hold, kind="profile.edit") > 10


async def test_creating_survives_any_crash(firm: Firm) -> None:
    await furnish(firm)

    async def act(n: int) -> object:
        wanted = UserChanges(email=f"new{n}@example.com", first_name="New", attributes={"n": n})
        return await users_of(firm).create(BREAK_GLASS_PRINCIPAL, wanted)

    async def hold(n: int, was_kept: bool) -> None:
        made = [it for it in firm.emulator.state.users.oldest_first() if it.identifier == f"new{n}@example.com"]
        assert len(made) == was_kept
        await require_equal(firm)
        if made:
            row = await person(firm, made[0].id)
            assert (row.id, row.attributes) == (made[0].external_id, {"n": n})
        assert await count_rows(firm) == len(firm.emulator.state.users) + 1

    assert await stop_everywhere(firm, act, hold, kind="user.create") > 15


@pytest.mark.parametrize("choice", ["delete", "ban", "keep"])
async def test_deleting_survives_any_crash(sqlite_firm: Firm, choice: str) -> None:
    firm = await furnish(sqlite_firm)
    service = users_of(firm)

    async def prepare(n: int) -> object:
        return await service.create(BREAK_GLASS_PRINCIPAL, UserChanges(email=f"gone{n}@example.com"))

    async def act(n: int) -> object:
        id = (await person(firm, f"gone{n}@example.com")).id
        return await service.delete(BREAK_GLASS_PRINCIPAL, id, clerk=choice)  # type: ignore[arg-type]

    async def hold(n: int, was_kept: bool) -> None:
        await require_equal(firm)
        row = await person(firm, f"gone{n}@example.com")
        assert row.is_deleted is was_kept
        assert row.is_active is not was_kept
        there = clerk_user(firm, row.clerk_id)
        assert (there is None) is (was_kept and choice == "delete")
        assert (there is not None and there.banned) is (was_kept and choice == "ban")

    assert await stop_everywhere(firm, act, hold, kind="user.delete", prepare=prepare) > 15


@pytest.mark.parametrize("choice", ["delete", "ban"])
async def test_restoring_survives_any_crash(sqlite_firm: Firm, choice: str) -> None:
    firm = await furnish(sqlite_firm)
    service = users_of(firm)

    async def prepare(n: int) -> object:
        made = await service.create(BREAK_GLASS_PRINCIPAL, UserChanges(email=f"back{n}@example.com"))
        return await service.delete(BREAK_GLASS_PRINCIPAL, made.user.id, clerk=choice)  # type: ignore[arg-type]

    async def act(n: int) -> object:
        return await service.restore(BREAK_GLASS_PRINCIPAL, (await person(firm, f"back{n}@example.com")).id)

    async def hold(n: int, was_kept: bool) -> None:
        await require_equal(firm)
        row = await person(firm, f"back{n}@example.com")
        assert row.is_deleted is not was_kept
        assert row.is_active is was_kept
        assert (row.clerk_id is None) is (was_kept and choice == "delete")

    assert await stop_everywhere(firm, act, hold, kind="user.restore", prepare=prepare) > 15


@pytest.mark.parametrize("what", ["ban", "unban"])
async def test_banning_and_unbanning_survive_any_crash(sqlite_firm: Firm, what: str) -> None:
    firm = await furnish(sqlite_firm)
    service = users_of(firm)
    bob = await person(firm, BOB)

    async def prepare(_n: int) -> object:
        return await (service.unban if what == "ban" else service.ban)(BREAK_GLASS_PRINCIPAL, bob.id)

    async def act(_n: int) -> object:
        return await (service.ban if what == "ban" else service.unban)(BREAK_GLASS_PRINCIPAL, bob.id)

    async def hold(_n: int, was_kept: bool) -> None:
        await require_equal(firm)
        assert (await person(firm, bob.id)).is_banned is (was_kept if what == "ban" else not was_kept)

    assert await stop_everywhere(firm, act, hold, kind=f"user.{what}", prepare=prepare) > 15


async def test_a_forced_email_change_survives_any_crash(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm, policy="force")
    bob = await person(firm, BOB)

    async def act(n: int) -> object:
        return await users_of(firm).change_email(BREAK_GLASS_PRINCIPAL, bob.id, f"bob{n}@example.com")

    async def hold(n: int, was_kept: bool) -> None:
        await require_equal(firm)
        now = await person(firm, bob.id)
        assert (now.email == f"bob{n}@example.com") is was_kept
        assert now.is_email_verified

    assert await stop_everywhere(firm, act, hold, kind="profile.email") > 15


async def test_sending_a_code_survives_any_crash(firm: Firm) -> None:
    """The address is added once, not proven, and nothing is mirrored; whoever has the code can go on."""
    await furnish(firm, policy="verify")
    bob = await person(firm, BOB)

    async def act(n: int) -> object:
        return await users_of(firm).change_email(BREAK_GLASS_PRINCIPAL, bob.id, f"bob{n}+clerk_test@example.com")

    async def hold(n: int, was_kept: bool) -> None:
        await require_equal(firm)
        assert (await person(firm, bob.id)).email == BOB
        added = [it for it in addresses_of(firm, bob.clerk_id) if it[0] == f"bob{n}+clerk_test@example.com"]
        assert added == [(f"bob{n}+clerk_test@example.com", False)] * was_kept

    assert await stop_everywhere(firm, act, hold, kind="profile.email.code") > 15


@pytest.mark.parametrize("name", ["sqlite", "postgresql"])
async def test_verifying_a_code_survives_any_crash(request: pytest.FixtureRequest, clerk_key: str, name: str) -> None:
    """Proven and the primary one, on both sides, or else the code was not tried and can be given again."""
    url = request.getfixturevalue("sqlite_migrated_url" if name == "sqlite" else "postgres_migrated_url")
    firm = await furnish(make_firm(url, private_key=clerk_key), policy="verify")
    bob, service = await person(firm, BOB), users_of(firm)
    points, runs, email = mortal(firm), count(1), BOB
    for at in count(1):
        for second in seconds(points, at, span=11):
            old, email = email, f"bob{next(runs)}+clerk_test@example.com"
            verification = (await service.change_email(BREAK_GLASS_PRINCIPAL, bob.id, email)).verification
            assert verification is not None
            before = {it.id for it in await latest(firm)}
            with points.armed(at):
                await service.verify_email(BREAK_GLASS_PRINCIPAL, bob.id, verification, "424242")
            where = points.where
            with points.armed(second):
                await recover(firm, times=1)
            is_reached = points.where
            await recover(firm, times=2)
            await firm.settle()
            await require_equal(firm, where)
            ours = [it for it in await latest(firm) if it.id not in before]
            if [it.state for it in ours] != ["settled"]:
                assert [(it.state, it.code) for it in ours] in ([], [("refused", "code_lost")]), where
                assert addresses_of(firm, bob.clerk_id) == [(old, True), (email, False)], where
                await service.verify_email(BREAK_GLASS_PRINCIPAL, bob.id, verification, "424242")
            assert addresses_of(firm, bob.clerk_id) == [(email, True)], where
            assert (await person(firm, bob.id)).email == email, where
            points.last_where = is_reached
        if not where:
            break
    await firm.close()
    assert at > 25


async def test_reinviting_survives_any_crash(firm: Firm) -> None:
    """One membership: nobody is out before the invitation is there, and there is one invitation."""
    await furnish(firm)
    service = users_of(firm)

    async def prepare(n: int) -> object:
        made = await service.create(BREAK_GLASS_PRINCIPAL, UserChanges(email=f"old{n}@example.com"))
        async with firm.clerk() as clerk:
            path = f"/v1/organizations/{firm.organization_id('acme')}/memberships"
            await clerk.post(path, json={"user_id": made.user.clerk_id, "role": "org:member"})
        await firm.settle()
        return None

    async def act(n: int) -> object:
        id = (await person(firm, f"old{n}@example.com")).id
        return await users_of(firm).change_email(BREAK_GLASS_PRINCIPAL, id, f"new{n}@example.com")

    async def hold(n: int, was_kept: bool) -> None:
        await require_equal(firm)
        listed = firm.emulator.state.organization_invitations.oldest_first()
        assert len([it for it in listed if it.email_address == f"new{n}@example.com"]) == was_kept
        row = await person(firm, f"old{n}@example.com")
        assert await standing(firm, row.id) == [("org:member", "deactivated" if was_kept else "active")]
        assert row.is_active is not was_kept

    assert await stop_everywhere(firm, act, hold, kind="profile.reinvite", prepare=prepare) > 25


async def test_a_password_is_set_or_needs_attention_after_any_crash(sqlite_firm: Firm) -> None:
    """It is kept nowhere, so that what was stopped can't go on: it says so, whether Clerk has it or not."""
    firm = await furnish(sqlite_firm)
    bob = await person(firm, BOB)
    points, at = mortal(firm), 0
    while True:
        at += 1
        before = {it.id for it in await operations(firm)}
        with points.armed(at):
            await users_of(firm).set_password(BREAK_GLASS_PRINCIPAL, bob.id, f"correct horse {at}")
        where = points.where
        await recover(firm)
        ours = [it for it in await operations(firm) if it.id not in before]
        assert len(ours) <= 1
        for operation in ours:
            assert operation.state == ("attention" if where and not operation.done else "settled"), where
            assert "correct horse" not in str(operation)
        if not where:
            break
    assert at > 10
