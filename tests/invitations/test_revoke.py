"""Revoking an invitation: once, with distinct errors for ended ones."""

import pytest

from instep.audit.filters import AuditFilter
from instep.audit.repository import list_entries
from instep.core.clock import DAY
from instep.invitations.policies import InvitationRefusedError
from instep.operations.workflow import OperationFailedError, OperationPendingError
from tests.invitations.firms import (
    BOB,
    accept,
    access_of,
    furnish,
    invitations,
    mortal,
    next_day,
    operations,
    recover,
    statuses,
)
from tests.support.world import Firm

pytestmark = pytest.mark.anyio
MAYA = "maya@example.com"
REVOKE = "RevokeOrganizationInvitation"


async def test_the_link_stops_working(firm: Firm) -> None:
    await furnish(firm)
    access, service = await access_of(firm), firm.services.invitations
    made = await service.invite(access, email=MAYA, role="org:member")
    link = await service.copy_link(access, made.clerk_id)
    assert (await service.revoke(access, made.clerk_id)).status == "revoked"
    assert await accept(firm, link) == 410
    (operation,) = await operations(firm, "invitation.revoke")
    entries = await firm.services.db.read(list_entries, AuditFilter(cause=operation.id))
    assert [it.outcome for it in entries] == ["done", "asked"]


async def test_ended_invitations_have_distinct_errors(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, service = await access_of(firm), firm.services.invitations
    expired = await service.invite(access, email="old@example.com", role="org:member", expires_in_days=1)
    firm.clock.advance(2 * DAY)
    accepted = await service.invite(access, email=MAYA, role="org:member")
    await accept(firm, await service.copy_link(access, accepted.clerk_id))
    async with firm.clerk() as clerk:
        elsewhere = await service.invite(access, email="leo@example.com", role="org:member")
        path = f"/v1/organizations/{firm.organization_id('acme')}/invitations/{elsewhere.clerk_id}/revoke"
        await clerk.post(path, json={})
    ids = (accepted.clerk_id, elsewhere.clerk_id, expired.clerk_id, "orginv_none")
    assert [await refusal(firm, id) for id in ids] == [
        ("already_accepted", "Invitation already accepted - refresh to see member."),
        ("already_revoked", "Already revoked."),
        ("expired", "This invitation expired. Send a new one."),
        ("not_in_clerk", "No longer in Clerk."),
    ]
    assert await operations(firm, "invitation.revoke") == []


async def test_an_invitation_that_ends_meanwhile_is_read_back(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, service = await access_of(firm), firm.services.invitations
    made = await service.invite(access, email=MAYA, role="org:member")
    body = {"errors": [{"code": "organization_invitation_not_pending", "message": "x", "long_message": "x"}]}
    firm.emulator.fail(REVOKE, status=404, body=body, count=1)
    link = await service.copy_link(access, made.clerk_id)
    find, calls = firm.services.clerk.find_invitation, []

    async def accepted_meanwhile(*args: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            await accept(firm, link)
        return await find(*args)  # type: ignore[arg-type]

    firm.services.clerk.find_invitation = accepted_meanwhile  # type: ignore[method-assign,assignment]
    error = await refusal(firm, made.clerk_id)
    assert error == ("already_accepted", "Invitation already accepted - refresh to see member.")
    (operation,) = await operations(firm, "invitation.revoke")
    assert (operation.state, operation.code) == ("refused", "already_accepted")


async def test_a_lost_answer_is_read_back(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, service = await access_of(firm), firm.services.invitations
    made = await service.invite(access, email=MAYA, role="org:member")
    firm.emulator.fail(REVOKE, status=504, after_effect=True, count=1)
    assert (await service.revoke(access, made.clerk_id)).status == "revoked"


async def test_a_failure_of_clerk_changes_nothing(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, service = await access_of(firm), firm.services.invitations
    made = await service.invite(access, email=MAYA, role="org:member")
    firm.emulator.fail(REVOKE, status=500, count=1)
    assert (await refusal(firm, made.clerk_id))[0] == "clerk_failed"
    assert statuses(firm) == ["pending"]


async def test_a_revocation_is_finished_later_when_clerk_is_limiting(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, service = await access_of(firm), firm.services.invitations
    made = await service.invite(access, email=MAYA, role="org:member")
    firm.emulator.fail(REVOKE, status=429, retry_after=30, count=1)
    with pytest.raises(OperationPendingError, match="limiting"):
        await service.revoke(access, made.clerk_id)
    await recover(firm)
    assert statuses(firm) == ["revoked"]


async def test_submitting_twice_revokes_once(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, service = await access_of(firm), firm.services.invitations
    made = await service.invite(access, email=MAYA, role="org:member")
    first = await service.revoke(access, made.clerk_id, idempotency_key="k")
    assert await service.revoke(access, made.clerk_id, idempotency_key="k") == first


async def test_a_member_cannot_manage_invitations(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    service = firm.services.invitations
    made = await service.invite(await access_of(firm), email=MAYA, role="org:member")
    bob = await access_of(firm, BOB)
    for method in (service.revoke, service.resend, service.copy_link, service.get_timeline):
        with pytest.raises(InvitationRefusedError, match="Only admins can") as caught:
            await method(bob, made.clerk_id)
        assert (caught.value.code, caught.value.status) == ("forbidden", 403)
    assert statuses(firm) == ["pending"]


async def test_revoking_survives_a_crash_at_any_point(firm: Firm) -> None:
    await furnish(firm)
    access, service = await access_of(firm), firm.services.invitations
    points = mortal(firm)
    at = 0
    while True:
        at += 1
        next_day(firm)
        email = f"maya{at}@example.com"
        made = await service.invite(access, email=email, role="org:member")
        with points.armed(at):
            await service.revoke(access, made.clerk_id)
        if not points.where:
            break
        where = points.where
        with points.armed(1 + at % 7):
            await recover(firm, times=1)
        await recover(firm, times=3)
        ours = [it for it in await operations(firm, "invitation.revoke") if it.intent["email"] == email]
        assert [it.state for it in ours] in ([], ["settled"]), where
        assert invitations(firm, email) == [(made.clerk_id, "revoked" if ours else "pending")], where
    assert at > 12, "the places are really there"


async def test_sending_survives_a_crash_at_any_point(firm: Firm) -> None:
    await furnish(firm)
    access, service = await access_of(firm), firm.services.invitations
    points = mortal(firm)
    at = 0
    while True:
        at += 1
        next_day(firm)
        email = f"maya{at}@example.com"
        with points.armed(at):
            await service.invite(access, email=email, role="org:member")
        if not points.where:
            break
        where = points.where
        with points.armed(1 + at % 7):
            await recover(firm, times=1)
        await recover(firm, times=3)
        ours = [it for it in await operations(firm, "invitation.send") if it.intent["email"] == email]
        assert [it.state for it in ours] in ([], ["settled"]), where
        assert statuses(firm, email) == ["pending"] * len(ours), where
    assert at > 10, "the places are really there"


async def refusal(firm: Firm, invitation_id: str) -> tuple[str, str]:
    """Return code and message of the refusal to revoke."""
    with pytest.raises((InvitationRefusedError, OperationFailedError)) as caught:
        await firm.services.invitations.revoke(await access_of(firm), invitation_id)
    return caught.value.code, str(caught.value)
