"""Changes apply to both sides or to neither; a deactivation takes effect immediately; an admin always stays."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from instep.audit.filters import AuditFilter
from instep.audit.repository import list_entries
from instep.auth.principal import BREAK_GLASS_PRINCIPAL
from instep.core.db import Database
from instep.domain.errors import ChangeRejectedError
from instep.domain.models import ADMIN_ROLE, MEMBER_ROLE
from instep.members import repository
from instep.members.service import MemberService
from instep.operations.workflow import OperationFailedError, OperationPendingError
from tests.members.firms import (
    ADA,
    BOB,
    DAN,
    EVE,
    KIM,
    ZOE,
    access_of,
    furnish,
    in_clerk,
    is_banned,
    may_enter,
    member,
    members_of,
    open_sessions,
    operations,
    recover,
    refuse,
    sign_in,
    status_and_role,
)
from tests.support.world import Firm, make_firm

pytestmark = pytest.mark.anyio
UPDATE, DELETE = "UpdateOrganizationMembership", "DeleteOrganizationMembership"
CREATE, BAN, SESSIONS = "CreateOrganizationMembership", "BanUser", "GetSessionList"


async def code_of(change: Awaitable[object]) -> str | None:
    """Why a change was refused; None where it was made."""
    try:
        await change
    except (ChangeRejectedError, OperationFailedError) as refused:
        return refused.code
    return None


async def test_a_role_changes_in_clerk_and_here(firm: Firm) -> None:
    await furnish(firm)
    changed = await members_of(firm).change_role(await access_of(firm), member_id=firm.user_id(BOB), role=ADMIN_ROLE)
    assert (changed.member.role, changed.is_open, changed.notices) == (ADMIN_ROLE, False, ())
    assert (in_clerk(firm, BOB), await status_and_role(firm, BOB)) == (ADMIN_ROLE, ("active", ADMIN_ROLE))
    await firm.settle()
    assert await status_and_role(firm, BOB) == ("active", ADMIN_ROLE)
    found = await firm.services.db.read(list_entries, AuditFilter(action="member.role"))
    assert [it.outcome for it in found] == ["done", "asked"]
    assert found[0].details["intent"]["before"] == {"role": MEMBER_ROLE, "status": "active"}


async def test_assigning_the_present_role_is_no_change(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    changed = await members_of(firm).change_role(await access_of(firm), member_id=firm.user_id(BOB), role=MEMBER_ROLE)
    assert changed.operation_id is None
    assert await operations(firm) == []


async def test_a_refusal_of_clerk_leaves_the_mirror_untouched(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    members, access, bob = members_of(firm), await access_of(firm), firm.user_id(BOB)
    assert await code_of(members.change_role(access, member_id=bob, role="org:captain")) == "unknown_role"
    refuse(firm, UPDATE, "organization_membership_managed_by_scim", status=409)
    assert await code_of(members.change_role(access, member_id=bob, role=ADMIN_ROLE)) == "managed_by_directory"
    firm.emulator.fail(UPDATE, status=500, count=1)
    assert await code_of(members.change_role(access, member_id=bob, role=ADMIN_ROLE)) == "clerk_failed"
    assert (in_clerk(firm, BOB), await status_and_role(firm, BOB)) == (MEMBER_ROLE, ("active", MEMBER_ROLE))


@pytest.mark.parametrize("how", [{"status": 504, "after_effect": True}, {"status": 429, "retry_after": 30}])
async def test_a_role_is_changed_once_if_the_answer_is_lost_or_delayed(
    sqlite_firm: Firm, how: dict[str, object]
) -> None:
    firm = await furnish(sqlite_firm)
    firm.emulator.fail(UPDATE, count=1, **how)
    try:
        await members_of(firm).change_role(await access_of(firm), member_id=firm.user_id(BOB), role=ADMIN_ROLE)
    except OperationPendingError:
        await recover(firm)
    assert (in_clerk(firm, BOB), await status_and_role(firm, BOB)) == (ADMIN_ROLE, ("active", ADMIN_ROLE))
    assert [it.state for it in await operations(firm)] == ["settled"]


async def test_submitting_twice_is_one_change(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    members, access = members_of(firm), await access_of(firm)
    first = await members.deactivate(access, member_id=firm.user_id(BOB), idempotency_key="k")
    second = await members.deactivate(access, member_id=firm.user_id(BOB), idempotency_key="k")
    assert first.operation_id == second.operation_id


async def test_members_change_nothing_and_users_of_other_organizations_are_not_found(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    members = members_of(firm)
    bob, admin = await access_of(firm, BOB), await access_of(firm)
    assert await code_of(members.change_role(bob, member_id=firm.user_id(BOB), role=ADMIN_ROLE)) == "forbidden"
    assert await code_of(members.remove(bob, member_id=firm.user_id(EVE))) == "forbidden"
    assert await code_of(members.transfer_ownership(bob, member_id=firm.user_id(EVE))) == "not_owner"
    for nobody in (firm.user_id(ZOE), "usr_none", "", "x" * 300, "a\0b"):
        assert await code_of(members.remove(admin, member_id=nobody)) == "not_found"
    assert await operations(firm) == []


async def test_an_access_that_has_ended_meanwhile_is_refused(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    members, dan = members_of(firm), await access_of(firm, DAN)
    await members.change_role(await access_of(firm), member_id=firm.user_id(DAN), role=MEMBER_ROLE)
    assert await code_of(members.remove(dan, member_id=firm.user_id(BOB))) == "forbidden"
    await members.deactivate(await access_of(firm), member_id=firm.user_id(DAN))
    assert await code_of(members.remove(dan, member_id=firm.user_id(BOB))) == "not_found"


async def test_a_deactivated_member_loses_access_with_the_next_request_and_is_signed_out(firm: Firm) -> None:
    await furnish(firm)
    sign_in(firm, BOB)
    assert await may_enter(firm, BOB)
    changed = await members_of(firm).deactivate(await access_of(firm), member_id=firm.user_id(BOB))
    assert (changed.member.status, changed.is_open, changed.notices) == ("deactivated", False, ())
    assert not await may_enter(firm, BOB)
    assert (open_sessions(firm, BOB), in_clerk(firm, BOB)) == (0, MEMBER_ROLE), "Clerk's membership stays"
    await firm.settle()
    await members_of(firm).reactivate(await access_of(firm), member_id=firm.user_id(BOB))
    assert await may_enter(firm, BOB)


@pytest.mark.parametrize("how", [{"status": 500}, {"status": 429, "retry_after": 5}, {"hang": "before", "hang_ms": 0}])
async def test_while_clerk_is_down_access_ends_here_and_sessions_end_later(
    sqlite_firm: Firm, how: dict[str, object]
) -> None:
    firm = await furnish(sqlite_firm)
    sign_in(firm, BOB)
    firm.emulator.fail(SESSIONS, count=2, **how)
    changed = await members_of(firm).deactivate(await access_of(firm), member_id=firm.user_id(BOB))
    assert (changed.member.status, changed.is_open) == ("deactivated", True)
    assert changed.notices == ("Clerk is not responding. The rest of the change is made as soon as it does.",)
    assert not await may_enter(firm, BOB)
    assert open_sessions(firm, BOB) == 1
    await recover(firm)
    assert open_sessions(firm, BOB) == 0
    assert [it.state for it in await operations(firm)] == ["settled"]


async def test_a_hanging_change_of_role_does_not_delay_a_deactivation(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    members, access, bob = members_of(firm), await access_of(firm), firm.user_id(BOB)
    firm.emulator.fail(UPDATE, status=429, retry_after=600, count=1)
    with pytest.raises(OperationPendingError):
        await members.change_role(access, member_id=bob, role=ADMIN_ROLE)
    await members.deactivate(access, member_id=bob)
    assert not await may_enter(firm, BOB)
    await recover(firm, times=12)
    assert await status_and_role(firm, BOB) == ("deactivated", ADMIN_ROLE)


async def test_without_clerk_a_deactivation_applies_here_and_reports_the_rest(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    firm.services.clerk._backend._is_configured = False
    changed = await members_of(firm).deactivate(await access_of(firm), member_id=firm.user_id(BOB))
    assert changed.member.status == "deactivated"
    assert changed.notices[0].startswith("Their sessions in Clerk could not be ended: Clerk authentication not")
    assert (
        await code_of(members_of(firm).remove(await access_of(firm), member_id=firm.user_id(EVE))) == "not_configured"
    )
    assert await status_and_role(firm, EVE) == ("active", MEMBER_ROLE)


@pytest.fixture
async def leaver(migrated_url: str, clerk_key: str) -> Firm:
    """A firm where who is deactivated leaves Clerk's organization too."""
    return await furnish(make_firm(migrated_url, private_key=clerk_key, INSTEP_DEACTIVATION="membership"))


async def test_a_deactivation_by_membership_removes_it_in_clerk_and_keeps_our_row(leaver: Firm) -> None:
    """Whatever webhook the removal brings; and comes back as the same row, under Clerk's new id."""
    firm, members = leaver, members_of(leaver)
    before = await member(firm, DAN)
    await members.deactivate(await access_of(firm), member_id=firm.user_id(DAN))
    assert in_clerk(firm, DAN) is None
    await firm.settle()
    assert await status_and_role(firm, DAN) == ("deactivated", ADMIN_ROLE)
    await members.reactivate(await access_of(firm), member_id=firm.user_id(DAN))
    await firm.settle()
    after = await member(firm, DAN)
    assert (after.id, after.status, after.role, after.joined_at) == (before.id, "active", ADMIN_ROLE, before.joined_at)
    assert after.clerk_id != before.clerk_id
    assert (in_clerk(firm, DAN), await may_enter(firm, DAN)) == (ADMIN_ROLE, True)
    await firm.close()


async def test_webhooks_may_arrive_before_the_operation_is_finished(leaver: Firm) -> None:
    """Deactivated, and back: each time Clerk's news are here before the operation is settled."""
    firm, members = leaver, members_of(leaver)
    before = await member(firm, BOB)
    for change, operation, status in (
        (members.deactivate, SESSIONS, "deactivated"),
        (members.reactivate, CREATE, "active"),
    ):
        firm.emulator.fail(operation, status=429, retry_after=1, count=1)
        if change == members.reactivate:
            firm.emulator.faults.clear()
            firm.emulator.fail(operation, hang="after", hang_ms=0, count=1)
        with contextlib.suppress(OperationPendingError):
            await change(await access_of(firm), member_id=firm.user_id(BOB))
        await firm.settle()
        await recover(firm)
        await firm.settle()
        after = await member(firm, BOB)
        assert (after.id, after.status) == (before.id, status)
    assert [it.state for it in await operations(firm)] == ["settled", "settled"]
    await firm.close()


async def test_a_membership_that_clerk_keeps_is_deactivated_here_only(leaver: Firm) -> None:
    firm, members = leaver, members_of(leaver)
    refuse(firm, DELETE, "organization_membership_managed_by_scim", status=409)
    changed = await members.deactivate(await access_of(firm), member_id=firm.user_id(BOB))
    assert changed.member.deactivation == "database"
    assert changed.notices == (
        "Deactivated here, but not in Clerk: This is managed by your directory. Change it there.",
    )
    assert (in_clerk(firm, BOB), await may_enter(firm, BOB)) == (MEMBER_ROLE, False)
    await members.reactivate(await access_of(firm), member_id=firm.user_id(BOB))
    assert (await status_and_role(firm, BOB), await may_enter(firm, BOB)) == (("active", MEMBER_ROLE), True)
    await firm.close()


@pytest.fixture
async def banner(sqlite_migrated_url: str, clerk_key: str) -> Firm:
    """A firm where who is deactivated is banned in Clerk."""
    return await furnish(make_firm(sqlite_migrated_url, private_key=clerk_key, INSTEP_DEACTIVATION="ban"))


async def test_a_ban_follows_and_is_lifted_again(banner: Firm) -> None:
    firm, members = banner, members_of(banner)
    sign_in(firm, BOB)
    changed = await members.deactivate(await access_of(firm), member_id=firm.user_id(BOB))
    assert (changed.member.deactivation, is_banned(firm, BOB), open_sessions(firm, BOB)) == ("ban", True, 0)
    await firm.settle()
    await members.reactivate(await access_of(firm), member_id=firm.user_id(BOB))
    assert (is_banned(firm, BOB), await may_enter(firm, BOB)) == (False, True)
    await firm.close()


async def test_a_member_of_other_organizations_is_not_banned(banner: Firm) -> None:
    """By the mirror; and by Clerk, where the mirror does not know it yet."""
    firm, members = banner, members_of(banner)
    await members.deactivate(await access_of(firm), member_id=firm.user_id(EVE))
    assert not is_banned(firm, EVE)
    async with firm.clerk() as clerk:
        path = f"/v1/organizations/{firm.organization_id('globex')}/memberships"
        await clerk.post(path, json={"user_id": firm.user_id(KIM), "role": MEMBER_ROLE})
    sign_in(firm, KIM)
    changed = await members.deactivate(await access_of(firm), member_id=firm.user_id(KIM))
    assert (is_banned(firm, KIM), open_sessions(firm, KIM), changed.member.deactivation) == (False, 0, "database")
    assert changed.notices == ("Deactivated here, and signed out everywhere. Their account in Clerk was not banned.",)
    await firm.close()


async def test_a_plan_without_bans_deactivates_and_signs_out(banner: Firm) -> None:
    firm = banner
    sign_in(firm, BOB)
    refuse(firm, BAN, "unsupported_subscription_plan_features", status=402)
    changed = await members_of(firm).deactivate(await access_of(firm), member_id=firm.user_id(BOB))
    assert changed.notices == ("Your Clerk plan does not include bans. Deactivated here, and signed out everywhere.",)
    assert (open_sessions(firm, BOB), await may_enter(firm, BOB)) == (0, False)
    await firm.close()


async def test_a_banned_and_removed_member_is_restored_and_unbanned(banner: Firm) -> None:
    firm, members = banner, members_of(banner)
    await members.deactivate(await access_of(firm), member_id=firm.user_id(BOB))
    await members.remove(await access_of(firm), member_id=firm.user_id(BOB))
    await firm.settle()
    await members.restore(await access_of(firm), member_id=firm.user_id(BOB))
    assert (is_banned(firm, BOB), await may_enter(firm, BOB)) == (False, True)
    await firm.close()


async def test_a_removed_member_is_signed_out_and_can_be_restored(firm: Firm) -> None:
    await furnish(firm)
    members = members_of(firm)
    sign_in(firm, DAN)
    removed = await members.remove(await access_of(firm), member_id=firm.user_id(DAN))
    assert (removed.member.status, in_clerk(firm, DAN), open_sessions(firm, DAN)) == ("removed", None, 0)
    await firm.settle()
    assert not await may_enter(firm, DAN)
    restored = await members.restore(await access_of(firm), member_id=firm.user_id(DAN))
    await firm.settle()
    assert (restored.member.status, restored.member.role) == ("active", ADMIN_ROLE)
    assert restored.member.id != removed.member.id, "each joining has its row"
    assert (in_clerk(firm, DAN), await may_enter(firm, DAN)) == (ADMIN_ROLE, True)
    assert await code_of(members.restore(await access_of(firm), member_id=removed.member.id)) == "already_member"


async def test_a_removal_with_a_lost_answer_spares_a_member_who_rejoined(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    firm.emulator.fail(DELETE, hang="after", hang_ms=0, count=1)
    firm.emulator.fail("ListOrganizationMemberships", status=503, count=1)
    with pytest.raises(OperationPendingError):
        await members_of(firm).remove(await access_of(firm), member_id=firm.user_id(BOB))
    async with firm.clerk() as clerk:
        path = f"/v1/organizations/{firm.organization_id('acme')}/memberships"
        await clerk.post(path, json={"user_id": firm.user_id(BOB), "role": MEMBER_ROLE})
    await recover(firm)
    await firm.settle()
    assert (in_clerk(firm, BOB), await status_and_role(firm, BOB)) == (MEMBER_ROLE, ("active", MEMBER_ROLE))


async def test_a_member_missing_in_clerk_is_removed_here(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    async with firm.clerk() as clerk:
        path = f"/v1/organizations/{firm.organization_id('acme')}/memberships/{firm.user_id(BOB)}"
        await clerk.delete(path)
    await members_of(firm).remove(await access_of(firm), member_id=firm.user_id(BOB))
    assert await status_and_role(firm, BOB) == ("removed", MEMBER_ROLE)


async def test_a_member_who_leaves_stays_signed_in(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    sign_in(firm, BOB)
    left = await members_of(firm).leave(await access_of(firm, BOB))
    assert (left.member.status, in_clerk(firm, BOB), open_sessions(firm, BOB)) == ("removed", None, 1)
    assert await code_of(members_of(firm).leave(await access_of(firm, None))) == "not_found"


async def test_a_transfer_makes_the_other_an_admin_and_the_caller_a_member(firm: Firm) -> None:
    await furnish(firm)
    await members_of(firm).remove(await access_of(firm), member_id=firm.user_id(DAN))
    await members_of(firm).transfer_ownership(await access_of(firm), member_id=firm.user_id(BOB))
    assert [await status_and_role(firm, it) for it in (ADA, BOB)] == [("active", MEMBER_ROLE), ("active", ADMIN_ROLE)]
    assert (in_clerk(firm, ADA), in_clerk(firm, BOB)) == (MEMBER_ROLE, ADMIN_ROLE)


async def test_a_partial_transfer_needs_attention_and_says_what_was_done(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    raising = firm.services.clerk.set_role

    async def first_only(organization: str, user: str, role: str) -> object:
        if role == MEMBER_ROLE:
            refuse(firm, UPDATE, "organization_membership_managed_by_scim", status=409)
        return await raising(organization, user, role)  # type: ignore[arg-type]

    firm.services.clerk.set_role = first_only  # type: ignore[method-assign,assignment]
    with pytest.raises(
        OperationFailedError, match="The other person is an admin now, but your own role was not changed"
    ):
        await members_of(firm).transfer_ownership(await access_of(firm), member_id=firm.user_id(BOB))
    await firm.settle()
    assert [await status_and_role(firm, it) for it in (ADA, BOB)] == [("active", ADMIN_ROLE), ("active", ADMIN_ROLE)]
    assert [it.state for it in await operations(firm)] == ["attention"]


async def test_the_recipient_of_a_pending_transfer_can_not_be_removed(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    members = members_of(firm)
    await members.remove(await access_of(firm), member_id=firm.user_id(DAN))
    firm.emulator.fail(UPDATE, status=429, retry_after=600, count=1)
    with pytest.raises(OperationPendingError):
        await members.transfer_ownership(await access_of(firm), member_id=firm.user_id(BOB))
    assert await code_of(members.deactivate(await access_of(firm, None), member_id=firm.user_id(BOB))) == "last_admin"
    assert await code_of(members.remove(await access_of(firm, None), member_id=firm.user_id(ADA))) == "last_admin"


@pytest.mark.parametrize("path", ["role", "deactivate", "remove", "leave"])
async def test_the_last_admin_stays_on_every_path(sqlite_firm: Firm, path: str) -> None:
    """Also by the hand of an instance admin; and a deactivated or banned admin counts for nothing."""
    firm = await furnish(sqlite_firm)
    members, ada, root = members_of(firm), firm.user_id(ADA), await access_of(firm, None)
    await members.deactivate(root, member_id=firm.user_id(DAN))
    ways: dict[str, Callable[[], Awaitable[object]]] = {
        "role": lambda: members.change_role(root, member_id=ada, role=MEMBER_ROLE),
        "deactivate": lambda: members.deactivate(root, member_id=ada),
        "remove": lambda: members.remove(root, member_id=ada),
        "leave": lambda: _leave(firm),
    }
    assert await code_of(ways[path]()) == "last_admin"
    await members.reactivate(root, member_id=firm.user_id(DAN))
    async with firm.clerk() as clerk:
        await clerk.post(f"/v1/users/{firm.user_id(DAN)}/ban")
    await firm.settle()
    assert await code_of(ways[path]()) == "last_admin"
    assert await status_and_role(firm, ADA) == ("active", ADMIN_ROLE)


async def _leave(firm: Firm) -> object:
    return await members_of(firm).leave(await access_of(firm, ADA))


async def test_an_organization_that_clerk_left_without_an_admin_is_found(firm: Firm) -> None:
    await furnish(firm)
    db: Database = firm.services.db
    assert await db.read(repository.find_organizations_without_admin) == []
    async with firm.clerk() as clerk:
        await clerk.delete(f"/v1/users/{firm.user_id(ZOE)}")
    await firm.settle()
    ((id, name),) = await db.read(repository.find_organizations_without_admin)
    assert name == "Globex"
    assert await db.read(repository.find_organizations_without_admin, id) == [(id, name)]


@pytest.mark.parametrize("pair", [("role", "role"), ("deactivate", "role"), ("remove", "deactivate")])
async def test_two_admins_who_demote_each_other_at_once_do_not_both_succeed(
    migrated_url: str, clerk_key: str, pair: tuple[str, str]
) -> None:
    """Each on a replica of their own, on one database; ten times, since it is about the moment."""
    firm = await furnish(make_firm(migrated_url, private_key=clerk_key))
    other = make_firm(migrated_url, private_key=clerk_key)
    other.services.clerk._backend._http._transport = firm.services.clerk._backend._http._transport
    other.services.clerk._backend._http.headers.update(firm.services.clerk._backend._http.headers)
    ada, dan = firm.user_id(ADA), firm.user_id(DAN)
    by_ada, by_dan = members_of(firm), members_of(other)
    root = await access_of(firm, None)
    for _ in range(5):
        ada_may, dan_may = await access_of(firm, ADA), await access_of(firm, DAN)
        codes = await asyncio.gather(
            code_of(_down(by_ada, pair[0], ada_may, dan)), code_of(_down(by_dan, pair[1], dan_may, ada))
        )
        assert sorted(code or "" for code in codes)[0] == "", codes
        assert {code for code in codes if code} <= {"last_admin", "forbidden", "not_found"}, codes
        assert len([code for code in codes if code]) == 1, codes
        await firm.settle()
        assert len(await firm.services.db.read(repository.list_admins, root.organization_id)) == 1
        for email in (ADA, DAN):
            await _up(by_ada, root, firm, email)
    await other.services.close()
    await firm.close()


def _down(members: MemberService, how: str, access: object, whom: str) -> Awaitable[object]:
    if how == "role":
        return members.change_role(access, member_id=whom, role=MEMBER_ROLE)  # type: ignore[arg-type]
    flow = members.deactivate if how == "deactivate" else members.remove
    return flow(access, member_id=whom)  # type: ignore[arg-type]


async def _up(members: MemberService, root: object, firm: Firm, email: str) -> None:
    """An active admin again."""
    found = await member(firm, email)
    id = firm.user_id(email)
    if found.status == "removed":
        await members.restore(root, member_id=id)  # type: ignore[arg-type]
    elif found.status == "deactivated":
        await members.reactivate(root, member_id=id)  # type: ignore[arg-type]
    await members.change_role(root, member_id=id, role=ADMIN_ROLE)  # type: ignore[arg-type]
    await firm.settle()


async def test_a_local_organization_changes_here_only(firm: Firm) -> None:
    await furnish(firm)
    _take_out_of_clerk(firm.services.db)
    members, access, calls = members_of(firm), await access_of(firm, None), firm.services.clerk._backend
    calls._is_configured = False
    bob = (await member(firm, BOB)).user_id
    await members.change_role(access, member_id=bob, role=ADMIN_ROLE)
    await members.deactivate(access, member_id=bob)
    await members.reactivate(access, member_id=bob)
    assert await status_and_role(firm, BOB) == ("active", ADMIN_ROLE)
    await members.remove(access, member_id=bob)
    assert await status_and_role(firm, BOB) == ("removed", ADMIN_ROLE)
    assert await code_of(members.change_role(access, member_id=bob, role=MEMBER_ROLE)) == "not_a_member"
    ada = await access_of(firm, ADA)
    await members.transfer_ownership(ada, member_id=(await member(firm, KIM)).user_id)
    assert [await status_and_role(firm, it) for it in (ADA, KIM)] == [("active", MEMBER_ROLE), ("active", ADMIN_ROLE)]
    assert access.principal == BREAK_GLASS_PRINCIPAL


def _take_out_of_clerk(db: Database) -> None:
    with db.engine.connect().execution_options(instep_writes=True) as conn, conn.begin():
        conn.exec_driver_sql("UPDATE instep_memberships SET clerk_id = NULL")
        conn.exec_driver_sql("UPDATE instep_organizations SET clerk_id = NULL WHERE slug = 'acme'")


async def test_an_admin_who_is_being_deleted_does_not_count(sqlite_firm: Firm) -> None:
    """And the other way round: while one admin is being put down, the other's account can't be deleted."""
    firm = await furnish(sqlite_firm)
    members, users, root = members_of(firm), firm.services.users, await access_of(firm, None)
    firm.emulator.fail("DeleteUser", status=429, retry_after=600, count=1)
    with pytest.raises(OperationPendingError):
        await users.delete(BREAK_GLASS_PRINCIPAL, firm.user_id(DAN))
    assert await code_of(members.change_role(root, member_id=firm.user_id(ADA), role=MEMBER_ROLE)) == "last_admin"
    await recover(firm, times=12)
    assert len(await firm.services.db.read(repository.list_admins, root.organization_id)) == 1
    await members.change_role(root, member_id=firm.user_id(BOB), role=ADMIN_ROLE)
    firm.emulator.fail("UpdateOrganizationMembership", status=429, retry_after=600, count=1)
    with pytest.raises(OperationPendingError):
        await members.change_role(root, member_id=firm.user_id(BOB), role=MEMBER_ROLE)
    assert await code_of(users.delete(BREAK_GLASS_PRINCIPAL, firm.user_id(ADA))) == "last_admin"
