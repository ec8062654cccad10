"""Timelines across resends, and audited access to links."""

import pytest
import sqlalchemy as sa

from instep.audit.filters import AuditFilter
from instep.audit.repository import list_entries
from instep.audit.tables import audit
from instep.auth.repository import insert_session
from instep.core.clock import DAY, MINUTE
from instep.domain.models import SessionClaims
from instep.invitations.bulk_service import parse_invitees
from instep.invitations.policies import InvitationRefusedError
from instep.operations.tables import operations as table
from tests.invitations.firms import accept, access_of, furnish, recover, refuse
from tests.support.world import Firm

pytestmark = pytest.mark.anyio
MAYA = "maya@example.com"


async def event_types(firm: Firm, invitation_id: str) -> list[str]:
    history = await firm.services.invitations.get_timeline(await access_of(firm), invitation_id)
    assert [it.at for it in history.events] == sorted(it.at for it in history.events)
    return [it.what for it in history.events]


async def test_any_invitation_of_a_resend_chain_has_the_whole_timeline(firm: Firm) -> None:
    await furnish(firm)
    access, service = await access_of(firm), firm.services.invitations
    first = await service.invite(access, email=MAYA, role="org:member")
    firm.clock.advance(MINUTE)
    second = await service.resend(access, first.clerk_id)
    firm.clock.advance(8 * DAY)
    third = await service.resend(access, second.clerk_id)
    link = await service.copy_link(access, third.clerk_id)
    await accept(firm, link)
    firm.clock.advance(MINUTE)
    await firm.settle()
    whole = ["asked", "sent", "resent", "expired", "resent", "link_copied", "accepted", "member_made"]
    for id in (first.clerk_id, second.clerk_id, third.clerk_id):
        assert (await event_types(firm, id))[:8] == whole
    history = await service.get_timeline(access, first.clerk_id)
    resent = [(it.previous_invitation_id, it.invitation_id) for it in history.events if it.what == "resent"]
    assert resent == [(first.clerk_id, second.clerk_id), (second.clerk_id, third.clerk_id)]
    assert history.email == MAYA
    assert history.names[access.principal.id] == "Ada Adams"


async def test_another_invitation_of_the_same_address_has_its_own_timeline(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, service = await access_of(firm), firm.services.invitations
    first = await service.invite(access, email=MAYA, role="org:member")
    await service.revoke(access, first.clerk_id)
    second = await service.invite(access, email=MAYA, role="org:member")
    assert await event_types(firm, first.clerk_id) == ["asked", "sent", "revoked"]
    assert await event_types(firm, second.clerk_id) == ["asked", "sent"]


async def test_changes_made_outside_of_instep_have_no_actor(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    async with firm.clerk() as clerk:
        path = f"/v1/organizations/{firm.organization_id('acme')}/invitations"
        made = (await clerk.post(path, json={"email_address": MAYA, "role": "org:member"})).json()["id"]
        await clerk.post(f"{path}/{made}/revoke", json={})
    history = await firm.services.invitations.get_timeline(await access_of(firm), made)
    assert [(it.what, it.actor) for it in history.events] == [("sent", None), ("revoked", None)]


async def test_a_lost_invitation_has_an_event(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, service = await access_of(firm), firm.services.invitations
    made = await service.invite(access, email=MAYA, role="org:member")
    refuse(firm, "CreateOrganizationInvitation", "organization_membership_quota_exceeded")
    with pytest.raises(InvitationRefusedError):
        await service.resend(access, made.clerk_id)
    assert await event_types(firm, made.clerk_id) == ["asked", "sent", "lost"]
    (lost,) = await service.list_lost(access.organization_id)
    await service.retry_lost(access, lost.operation_id)
    await recover(firm)
    assert await event_types(firm, made.clerk_id) == ["asked", "sent", "resent"]


async def test_an_invitation_of_a_batch_has_a_timeline(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, bulk = await access_of(firm), firm.services.bulk_invitations
    batch = await bulk.send(access, parse_invitees(f"{MAYA} leo@example.com"))
    await firm.services.executor.resume_due()
    found = await bulk.get_batch(access, batch.id)
    assert await event_types(firm, found.rows[0].invitation_id or "") == ["asked", "sent"]


async def test_an_invitation_that_clerk_no_longer_has_keeps_its_timeline(firm: Firm) -> None:
    await furnish(firm)
    access, service = await access_of(firm), firm.services.invitations
    made = await service.invite(access, email=MAYA, role="org:member")
    await service.revoke(access, made.clerk_id)

    async def gone(*_args: object) -> None:
        return None

    async def nothing(*_args: object, **_more: object) -> list[object]:
        return []

    firm.services.clerk.find_invitation = gone  # type: ignore[assignment,method-assign]
    firm.services.clerk.list_invitations = nothing  # type: ignore[method-assign,assignment]
    assert await event_types(firm, made.clerk_id) == ["asked", "revoked"]
    with pytest.raises(InvitationRefusedError, match="No longer in Clerk"):
        await event_types(firm, "orginv_none")


async def test_the_first_session_after_joining_is_an_event(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, service = await access_of(firm), firm.services.invitations
    made = await service.invite(access, email=MAYA, role="org:member")
    await accept(firm, await service.copy_link(access, made.clerk_id))
    await firm.settle()
    assert (await event_types(firm, made.clerk_id))[-1] == "member_made"
    claims = SessionClaims(user=firm.user_id(MAYA), session="sess_1")
    await firm.services.db.write(insert_session, token_hash="x", claims=claims, at=firm.clock())
    assert (await event_types(firm, made.clerk_id))[-2:] == ["member_made", "first_seen"]


async def test_a_copied_link_is_audited_and_not_stored(firm: Firm) -> None:
    await furnish(firm)
    access, service = await access_of(firm), firm.services.invitations
    made = await service.invite(access, email=MAYA, role="org:member")
    link = await service.copy_link(access, made.clerk_id)
    assert "ticket=" in link
    (entry,) = await firm.services.db.read(list_entries, AuditFilter(action="invitation.link_copied"))
    assert entry.actor == access.principal.id
    assert entry.organization_id == access.organization_id
    assert entry.details == {"invitation": made.clerk_id}
    ticket = link.partition("ticket=")[2]
    kept = firm.services.db.read_sync(
        lambda conn: [str(row) for one in (audit, table) for row in conn.execute(sa.select(one))]
    )
    assert kept
    assert not [row for row in kept if ticket in row]


async def test_the_link_of_an_ended_invitation_is_refused(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, service = await access_of(firm), firm.services.invitations
    made = await service.invite(access, email=MAYA, role="org:member")
    await service.revoke(access, made.clerk_id)
    with pytest.raises(InvitationRefusedError, match="Already revoked by Ada Adams"):
        await service.copy_link(access, made.clerk_id)
    assert await firm.services.db.read(list_entries, AuditFilter(action="invitation.link_copied")) == []
