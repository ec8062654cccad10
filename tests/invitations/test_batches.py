"""Batches of invitations: preview, progress per row, limits and recovery."""

import pytest

from instep.core.clock import DAY, HOUR, MINUTE
from instep.domain.models import MEMBER_ROLE
from instep.invitations.bulk_service import parse_invitees
from instep.invitations.models import InvitationBatchProgress, InviteeInput
from instep.invitations.policies import InvitationRefusedError
from tests.invitations.firms import (
    ADA,
    BOB,
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
BULK, ONE = "CreateOrganizationInvitationBulk", "CreateOrganizationInvitation"


def people(count: int, of: str = "p") -> list[InviteeInput]:
    return [InviteeInput(email=f"{of}{number}@example.com") for number in range(count)]


async def outcome(firm: Firm, batch: InvitationBatchProgress) -> list[tuple[str, str | None]]:
    found = await firm.services.bulk_invitations.get_batch(await access_of(firm), batch.id)
    return [(row.status, row.code) for row in found.rows]


async def test_a_preview_has_a_verdict_per_person(firm: Firm) -> None:
    await furnish(firm)
    access, bulk = await access_of(firm), firm.services.bulk_invitations
    service = firm.services.invitations
    await service.invite(access, email="waiting@example.com", role=MEMBER_ROLE)
    async with firm.clerk() as clerk:
        await clerk.delete(f"/v1/organizations/{firm.organization_id('acme')}/memberships/{firm.user_id(BOB)}")
    await firm.settle()
    text = f"new@example.com, {ADA.upper()} {BOB} waiting@example.com nobody new@example.com"
    preview = await bulk.preview(access, parse_invitees(text))
    assert [it.verdict for it in preview.lines] == ["new", "member", "former", "invited", "invalid", "duplicate"]
    assert (preview.sent, preview.seats, preview.seats_used, preview.refusal) == (2, 50, 2, None)
    assert statuses(firm) == ["pending"]


async def test_a_batch_is_sent_in_parts_of_ten_and_reports_progress(firm: Firm) -> None:
    await furnish(firm)
    access, bulk = await access_of(firm), firm.services.bulk_invitations
    invitees = [
        *people(23),
        InviteeInput(email=ADA),
        InviteeInput(email="maya@example.com", role="org:admin", name="Maya Cohen"),
    ]
    batch = await bulk.send(access, invitees, expires_in_days=3)
    assert (batch.total, batch.done, batch.sent, batch.is_done) == (25, 1, 0, False)
    assert statuses(firm) == []
    await firm.services.executor.resume_due()
    batch = await bulk.get_batch(access, batch.id)
    assert (batch.total, batch.done, batch.sent, batch.is_done) == (25, 25, 24, True)
    assert [row.status for row in batch.rows] == ["sent"] * 23 + ["skipped", "sent"]
    assert statuses(firm) == ["pending"] * 24
    assert [row.invitation_id for row in batch.rows if row.status == "sent"] == [id for id, _ in invitations(firm)]
    maya = firm.emulator.state.organization_invitations.find(batch.rows[-1].invitation_id or "")
    assert maya is not None
    assert (maya.role, maya.private_metadata["name"]) == ("org:admin", "Maya Cohen")
    assert maya.expires_at - maya.created_at == 3 * DAY
    assert [len(it.intent["rows"]) for it in await operations(firm, "invitation.bulk")] == [4, 10, 10]


async def test_after_a_refused_bulk_call_rows_are_created_one_by_one(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, bulk = await access_of(firm), firm.services.bulk_invitations
    service = firm.services.invitations
    batch = await bulk.send(access, people(4))
    await service.invite(access, email="p2@example.com", role=MEMBER_ROLE)
    await firm.services.executor.resume_due()
    assert await outcome(firm, batch) == [
        ("sent", None),
        ("sent", None),
        ("refused", "already_invited"),
        ("sent", None),
    ]
    assert statuses(firm) == ["pending"] * 4


async def test_after_a_partial_bulk_call_only_the_missing_rows_are_created(sqlite_firm: Firm) -> None:
    """Clerk does not say whether a bulk call is all or nothing."""
    firm = await furnish(sqlite_firm)
    access, bulk = await access_of(firm), firm.services.bulk_invitations
    clerk = firm.services.clerk
    invite_many = clerk.create_invitations

    async def invite_partly(organization, wanted):  # type: ignore[no-untyped-def]
        await invite_many(organization, wanted[:2])
        return await invite_many(organization, wanted)

    clerk.create_invitations = invite_partly  # type: ignore[method-assign]
    batch = await bulk.send(access, people(4))
    await firm.services.executor.resume_due()
    assert await outcome(firm, batch) == [("sent", None)] * 4
    assert statuses(firm) == ["pending"] * 4


@pytest.mark.parametrize("operation", [BULK, ONE])
async def test_a_lost_answer_is_read_back(sqlite_firm: Firm, operation: str) -> None:
    firm = await furnish(sqlite_firm)
    access, bulk = await access_of(firm), firm.services.bulk_invitations
    firm.emulator.fail(operation, status=504, after_effect=True, count=1)
    if operation == ONE:
        refuse(firm, BULK, "organization_invitation_not_unique", status=400)
    batch = await bulk.send(access, people(4))
    await recover(firm)
    assert await outcome(firm, batch) == [("sent", None)] * 4
    assert statuses(firm) == ["pending"] * 4


@pytest.mark.parametrize("fault", [{"status": 429, "retry_after": 900}, {"status": 503}])
async def test_a_batch_waits_while_clerk_is_down_or_limiting(sqlite_firm: Firm, fault: dict[str, int]) -> None:
    firm = await furnish(sqlite_firm)
    access, bulk = await access_of(firm), firm.services.bulk_invitations
    firm.emulator.fail(BULK, count=3, **fault)
    batch = await bulk.send(access, people(12))
    await firm.services.executor.resume_due()
    assert not (await bulk.get_batch(access, batch.id)).is_done
    for _ in range(12):
        firm.clock.advance(20 * MINUTE)
        await firm.services.executor.resume_due()
    assert await outcome(firm, batch) == [("sent", None)] * 12
    assert statuses(firm) == ["pending"] * 12


async def test_an_invalid_secret_key_refuses_the_rows(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, bulk = await access_of(firm), firm.services.bulk_invitations
    refuse(firm, BULK, "clerk_key_invalid", status=401)
    batch = await bulk.send(access, people(2))
    await firm.services.executor.resume_due()
    assert await outcome(firm, batch) == [("refused", "clerk_key_invalid")] * 2


async def test_no_more_are_invited_than_there_are_seats(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, bulk = await access_of(firm), firm.services.bulk_invitations
    batch = await bulk.send(access, people(60))
    await firm.services.executor.resume_due()
    assert await outcome(firm, batch) == [("sent", None)] * 48 + [("skipped", "over_seats")] * 12


async def test_a_batch_over_the_daily_limit_is_refused_and_the_preview_shows_it(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, bulk = await access_of(firm), firm.services.bulk_invitations
    service = firm.services.invitations
    async with firm.clerk() as clerk:
        path = f"/v1/organizations/{firm.organization_id('acme')}"
        await clerk.patch(path, json={"max_allowed_memberships": 0})
    await firm.settle()
    await bulk.send(access, people(90))
    preview = await bulk.preview(access, people(11, "q"))
    assert preview.refusal is not None
    assert "can send 100 invitations in 24 hours; 90 were sent" in preview.refusal
    with pytest.raises(InvitationRefusedError, match="Try again at"):
        await bulk.send(access, people(11, "q"))
    await bulk.send(access, people(10, "q"))
    with pytest.raises(InvitationRefusedError, match="One person can send"):
        await service.invite(access, email="one@example.com", role=MEMBER_ROLE)
    next_day(firm)
    await service.invite(access, email="one@example.com", role=MEMBER_ROLE)


async def test_bulk_calls_keep_below_fifty_an_hour(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, bulk = await access_of(firm), firm.services.bulk_invitations
    async with firm.clerk() as clerk:
        await clerk.patch(f"/v1/organizations/{access.organization_clerk_id}", json={"max_allowed_memberships": 0})
    for number in range(52):
        last = await bulk.send(access, people(1, f"a{number}x"))
    starts = sorted(it.intent["start_at"] for it in await operations(firm, "invitation.bulk"))
    assert starts[49] - starts[0] < HOUR <= starts[50] - starts[0]
    await firm.services.executor.resume_due()
    assert (await bulk.get_batch(access, last.id)).done == 0
    assert len(statuses(firm)) == 50
    firm.clock.advance(HOUR)
    await firm.services.executor.resume_due()
    assert len(statuses(firm)) == 52


async def test_submitting_twice_creates_one_batch(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, bulk = await access_of(firm), firm.services.bulk_invitations
    first = await bulk.send(access, people(3), idempotency_key="k")
    await firm.services.executor.resume_due()
    second = await bulk.send(access, people(3), idempotency_key="k")
    assert first.id == second.id
    assert second.is_done
    assert statuses(firm) == ["pending"] * 3


async def test_a_batch_of_another_organization_is_not_found(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, bulk = await access_of(firm), firm.services.bulk_invitations
    batch = await bulk.send(access, people(1))
    elsewhere = type(access)(
        **{**{n: getattr(access, n) for n in access.__struct_fields__}, "organization_id": "ogn_x"}
    )
    with pytest.raises(InvitationRefusedError, match="no such batch"):
        await bulk.get_batch(elsewhere, batch.id)
    with pytest.raises(InvitationRefusedError, match="no such batch"):
        await bulk.get_batch(access, (await operations(firm, "invitation.bulk"))[0].id)


async def test_a_batch_survives_a_crash_at_any_point(firm: Firm) -> None:
    """Stop creation and the first run at every point; every third time the bulk call is refused."""
    await furnish(firm)
    access, bulk = await access_of(firm), firm.services.bulk_invitations
    points = mortal(firm)
    at = 0
    while True:
        at += 1
        next_day(firm)
        async with firm.clerk() as clerk:
            await clerk.patch(f"/v1/organizations/{access.organization_clerk_id}", json={"max_allowed_memberships": 0})
        if at % 3 == 0:
            refuse(firm, BULK, "organization_invitation_not_unique", status=400)
        invitees = people(2, f"a{at}x")
        with points.armed(at):
            await bulk.send(access, invitees)
            await firm.services.executor.resume_due()
        where = points.where
        with points.armed(1 + at % 13):
            await recover(firm, times=1)
        await recover(firm, times=4)
        kept = [
            it
            for it in await operations(firm, "invitation.batch")
            if it.intent["rows"][0]["email"] == invitees[0].email
        ]
        for invitee in invitees:
            assert statuses(firm, invitee.email) == ["pending"] * len(kept), where
        assert all(it.state == "settled" for it in await operations(firm)), where
        for it in kept:
            found = await bulk.get_batch(access, it.id)
            assert [row.status for row in found.rows] == ["sent", "sent"], where
        if not where:
            break
        firm.emulator.faults.clear()
    assert at > 25, "the places are really there"
