"""Resending an invitation: the old link stops working, the new one works, and no invitation is lost."""

import asyncio

import pytest

from instep.audit.filters import AuditFilter
from instep.audit.repository import list_entries
from instep.core.clock import DAY
from instep.domain.errors import ClerkUnavailableError
from instep.invitations.policies import RESEND_COOLDOWN, InvitationRefusedError
from instep.operations.workflow import OperationPendingError
from tests.invitations.firms import (
    ADA,
    BOB,
    accept,
    access_of,
    furnish,
    invitations,
    mortal,
    next_day,
    operations,
    recover,
    refuse,
    statuses,
)
from tests.support.world import Firm

pytestmark = pytest.mark.anyio
MAYA = "maya@example.com"
CREATE, REVOKE = "CreateOrganizationInvitation", "RevokeOrganizationInvitation"


async def test_the_old_link_stops_working_and_the_new_one_works(firm: Firm) -> None:
    await furnish(firm)
    access, service = await access_of(firm), firm.services.invitations
    old = await service.invite(access, email=MAYA, role="org:admin", expires_in_days=30)
    old_link = await service.copy_link(access, old.clerk_id)
    new = await service.resend(access, old.clerk_id)
    assert (new.email, new.role, new.status) == (MAYA, "org:admin", "pending")
    assert new.clerk_id != old.clerk_id
    assert new.expires_at is not None
    assert round((new.expires_at - new.created_at) / DAY) == 30
    assert await accept(firm, old_link) == 410
    assert await accept(firm, await service.copy_link(access, new.clerk_id)) < 400
    assert statuses(firm) == ["revoked", "accepted"]


async def test_the_new_invitation_keeps_metadata_and_inviter(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    ada = firm.user_id(ADA)
    made = await invite_in_clerk(firm, public_metadata={"team": 1}, private_metadata={"note": "x"}, inviter_user_id=ada)
    new = await firm.services.invitations.resend(await access_of(firm, None), made)
    found = firm.emulator.state.organization_invitations.find(new.clerk_id)
    assert found is not None
    assert (found.public_metadata, found.private_metadata["note"], found.inviter_id) == ({"team": 1}, "x", ada)


async def test_an_inviter_who_can_no_longer_invite_is_replaced(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    made = await invite_in_clerk(firm, inviter_user_id=firm.user_id(ADA))
    async with firm.clerk() as clerk:
        members = f"/v1/organizations/{firm.organization_id('acme')}/memberships"
        await clerk.patch(f"{members}/{firm.user_id(BOB)}", json={"role": "org:admin"})
        await clerk.patch(f"{members}/{firm.user_id(ADA)}", json={"role": "org:member"})
    await firm.settle()
    new = await firm.services.invitations.resend(await access_of(firm, BOB), made)
    found = firm.emulator.state.organization_invitations.find(new.clerk_id)
    assert found is not None
    assert found.inviter_id == firm.user_id(BOB)


async def test_an_expired_invitation_is_only_created_again(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, service = await access_of(firm), firm.services.invitations
    old = await service.invite(access, email=MAYA, role="org:member")
    firm.clock.advance(8 * DAY)
    await service.resend(access, old.clerk_id)
    assert statuses(firm) == ["expired", "pending"]


async def test_a_refusal_for_an_expired_invitation_loses_nothing(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, service = await access_of(firm), firm.services.invitations
    old = await service.invite(access, email=MAYA, role="org:member")
    firm.clock.advance(8 * DAY)
    refuse(firm, CREATE, "organization_membership_quota_exceeded")
    with pytest.raises(InvitationRefusedError) as caught:
        await service.resend(access, old.clerk_id)
    assert caught.value.code == "no_seats"
    assert await service.list_lost(access.organization_id) == []


async def test_ended_invitations_have_distinct_errors(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, service = await access_of(firm), firm.services.invitations
    accepted = await service.invite(access, email=MAYA, role="org:member")
    await accept(firm, await service.copy_link(access, accepted.clerk_id))
    revoked = await service.invite(access, email="leo@example.com", role="org:member")
    await service.revoke(access, revoked.clerk_id)
    remade = await service.invite(access, email="mia@example.com", role="org:member")
    await service.resend(access, remade.clerk_id)
    refusals = [
        await refusal(firm, id) for id in (accepted.clerk_id, revoked.clerk_id, remade.clerk_id, "orginv_none", "../x")
    ]
    assert refusals == [
        ("already_accepted", 409, "Invitation already accepted - refresh to see member."),
        ("already_revoked", 409, "Already revoked by Ada Adams 0 min ago."),
        ("already_revoked", 409, "Already resent by Ada Adams 0 min ago."),
        ("not_in_clerk", 404, "No longer in Clerk."),
        ("not_in_clerk", 404, "No longer in Clerk."),
    ]


async def test_an_invitation_that_ends_meanwhile_is_read_back(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, service = await access_of(firm), firm.services.invitations
    old = await service.invite(access, email=MAYA, role="org:member")
    link = await service.copy_link(access, old.clerk_id)
    revoke = firm.services.clerk.revoke_invitation

    async def too_late(*args: object, **more: object) -> object:
        await accept(firm, link)
        return await revoke(*args, **more)  # type: ignore[arg-type]

    firm.services.clerk.revoke_invitation = too_late  # type: ignore[method-assign,assignment]
    assert await refusal(firm, old.clerk_id) == (
        "already_accepted",
        409,
        "Invitation already accepted - refresh to see member.",
    )
    assert statuses(firm) == ["accepted"]
    assert [it.state for it in await operations(firm, "invitation.resend")] == ["refused"]


async def test_resending_is_possible_after_a_minute_and_ten_times_a_day(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, service = await access_of(firm), firm.services.invitations
    latest = await service.invite(access, email=MAYA, role="org:member")
    for _ in range(9):
        latest = await service.resend(access, latest.clerk_id)
        code, status, words = await refusal(firm, latest.clerk_id)
        assert (code, status) == ("cooldown", 429)
        assert "Try again in" in words
        assert list(await service.list_cooldowns(access)) == [MAYA]
        firm.clock.advance(RESEND_COOLDOWN)
    assert await service.list_cooldowns(access) == {}
    code, status, words = await refusal(firm, latest.clerk_id)
    assert (code, status) == ("limited", 429)
    assert words.startswith("maya@example.com can be sent 10 invitations in 24 hours")
    next_day(firm)
    await service.resend(access, latest.clerk_id)


async def test_submitting_twice_sends_once(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, service = await access_of(firm), firm.services.invitations
    old = await service.invite(access, email=MAYA, role="org:member")
    first = await service.resend(access, old.clerk_id, idempotency_key="k")
    second = await service.resend(access, old.clerk_id, idempotency_key="k")
    assert first == second
    assert statuses(firm) == ["revoked", "pending"]


async def test_concurrent_resends_send_one(firm: Firm) -> None:
    await furnish(firm)
    service = firm.services.invitations
    ada, glass = await access_of(firm), await access_of(firm, None)
    old = await service.invite(ada, email=MAYA, role="org:member")
    results = await asyncio.gather(
        *(service.resend(access, old.clerk_id) for access in (ada, glass)), return_exceptions=True
    )
    (refused,) = [it for it in results if isinstance(it, Exception)]
    assert isinstance(refused, InvitationRefusedError)
    assert refused.code in ("cooldown", "already_revoked")
    assert statuses(firm) == ["revoked", "pending"]


async def test_an_invitation_is_lost_and_retried_while_clerk_fails_to_create_it(firm: Firm) -> None:
    await furnish(firm)
    access, service = await access_of(firm), firm.services.invitations
    old = await service.invite(access, email=MAYA, role="org:member")
    firm.emulator.fail(CREATE, status=500, count=2)
    with pytest.raises(
        OperationPendingError, match="The old invitation was revoked, but the new one has not been created yet"
    ):
        await service.resend(access, old.clerk_id)
    (lost,) = await service.list_lost(access.organization_id)
    assert (lost.email, lost.invitation_id, lost.is_retrying) == (MAYA, old.clerk_id, True)
    await recover(firm)
    assert statuses(firm) == ["revoked", "pending"]
    assert await service.list_lost(access.organization_id) == []


async def test_an_invitation_is_lost_after_a_refusal_until_it_is_retried(firm: Firm) -> None:
    await furnish(firm)
    access, service = await access_of(firm), firm.services.invitations
    old = await service.invite(access, email=MAYA, role="org:member")
    refuse(firm, CREATE, "organization_membership_quota_exceeded")
    assert await refusal(firm, old.clerk_id) == (
        "invitation_lost",
        409,
        "The old invitation was revoked, but the new one could not be created. Send it again. "
        "No: organization_membership_quota_exceeded.",
    )
    (lost,) = await service.list_lost(access.organization_id)
    assert (lost.email, lost.role, lost.is_retrying) == (MAYA, "org:member", False)
    await service.retry_lost(access, lost.operation_id)
    with pytest.raises(InvitationRefusedError, match="not lost"):
        await service.retry_lost(access, "op_of_another_firm")
    await recover(firm)
    assert statuses(firm) == ["revoked", "pending"]
    assert await service.list_lost(access.organization_id) == []


async def test_an_invitation_is_not_lost_once_the_address_was_invited_again(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, service = await access_of(firm), firm.services.invitations
    old = await service.invite(access, email=MAYA, role="org:member")
    refuse(firm, CREATE, "organization_membership_quota_exceeded")
    await refusal(firm, old.clerk_id)
    await service.invite(access, email=MAYA, role="org:member")
    assert await service.list_lost(access.organization_id) == []


@pytest.mark.parametrize("operation", [CREATE, REVOKE])
async def test_a_lost_answer_is_read_back(sqlite_firm: Firm, operation: str) -> None:
    firm = await furnish(sqlite_firm)
    access, service = await access_of(firm), firm.services.invitations
    old = await service.invite(access, email=MAYA, role="org:member")
    firm.emulator.fail(operation, status=504, after_effect=True, count=1)
    await service.resend(access, old.clerk_id)
    assert statuses(firm) == ["revoked", "pending"]


async def test_a_rate_limit_of_clerk_is_awaited(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, service = await access_of(firm), firm.services.invitations
    old = await service.invite(access, email=MAYA, role="org:member")
    firm.emulator.fail(CREATE, status=429, retry_after=600, count=1)
    with pytest.raises(OperationPendingError) as caught:
        await service.resend(access, old.clerk_id)
    assert caught.value.retry_after == 600
    await recover(firm)
    assert statuses(firm) == ["revoked", "pending"]


async def test_nothing_is_started_while_clerk_is_down(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, service = await access_of(firm), firm.services.invitations
    old = await service.invite(access, email=MAYA, role="org:member")
    firm.emulator.fail("GetOrganizationInvitation", status=503, count=1)
    with pytest.raises(ClerkUnavailableError):
        await service.resend(access, old.clerk_id)
    assert await operations(firm, "invitation.resend") == []


async def test_resending_survives_a_crash_at_any_point(firm: Firm) -> None:
    """Stop at every statement, commit and boundary of a call, and once more during recovery."""
    await furnish(firm)
    access, service = await access_of(firm), firm.services.invitations
    points = mortal(firm)
    at = 0
    while True:
        at += 1
        next_day(firm)
        email = f"maya{at}@example.com"
        old = await service.invite(access, email=email, role="org:member")
        with points.armed(at):
            await service.resend(access, old.clerk_id)
        if not points.where:
            break
        where = points.where
        with points.armed(1 + at % 11):
            await recover(firm, times=1)
        await recover(firm, times=3)
        ours = [it for it in await operations(firm, "invitation.resend") if it.intent["email"] == email]
        assert statuses(firm, email) == (["revoked", "pending"] if ours else ["pending"]), where
        if ours:
            (operation,) = ours
            assert operation.state == "settled", where
            entries = await firm.services.db.read(list_entries, AuditFilter(cause=operation.id))
            assert [it.outcome for it in entries] == ["done", "asked"], where
            assert operation.done["create"]["id"] == invitations(firm, email)[-1][0], where
    assert at > 20, "the places are really there"


async def refusal(firm: Firm, invitation_id: str) -> tuple[str, int, str]:
    """Return code, status and message of the refusal to resend."""
    with pytest.raises(InvitationRefusedError) as caught:
        await firm.services.invitations.resend(await access_of(firm), invitation_id)
    return caught.value.code, caught.value.status, str(caught.value)


async def invite_in_clerk(firm: Firm, **more: object) -> str:
    """Create an invitation directly in Clerk."""
    async with firm.clerk() as clerk:
        response = await clerk.post(
            f"/v1/organizations/{firm.organization_id('acme')}/invitations",
            json={"email_address": MAYA, "role": "org:member", **more},
        )
    return str(response.json()["id"])
