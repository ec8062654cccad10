"""The story of an invitation is told across its resends; its link is given to admins, and the audit knows."""

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


async def told(firm: Firm, id: str) -> list[str]:
    story = await firm.services.invitations.timeline(await access_of(firm), invitation=id)
    assert [it.at for it in story.events] == sorted(it.at for it in story.events)
    return [it.what for it in story.events]


async def test_a_whole_story_is_told_from_any_of_its_invitations(firm: Firm) -> None:
    await furnish(firm)
    access, desk = await access_of(firm), firm.services.invitations
    first = await desk.invite(access, email=MAYA, role="org:member")
    firm.clock.advance(MINUTE)
    second = await desk.resend(access, invitation=first.clerk_id)
    firm.clock.advance(8 * DAY)
    third = await desk.resend(access, invitation=second.clerk_id)
    link = await desk.copy_link(access, invitation=third.clerk_id)
    await accept(firm, link)
    firm.clock.advance(MINUTE)
    await firm.settle()
    whole = ["asked", "sent", "resent", "expired", "resent", "link_copied", "accepted", "member_made"]
    for id in (first.clerk_id, second.clerk_id, third.clerk_id):
        assert (await told(firm, id))[:8] == whole
    story = await desk.timeline(access, invitation=first.clerk_id)
    resent = [(it.previous, it.invitation) for it in story.events if it.what == "resent"]
    assert resent == [(first.clerk_id, second.clerk_id), (second.clerk_id, third.clerk_id)]
    assert story.email == MAYA
    assert story.names[access.principal.id] == "Ada Adams"


async def test_another_invitation_of_the_same_address_is_another_story(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, desk = await access_of(firm), firm.services.invitations
    first = await desk.invite(access, email=MAYA, role="org:member")
    await desk.revoke(access, invitation=first.clerk_id)
    second = await desk.invite(access, email=MAYA, role="org:member")
    assert await told(firm, first.clerk_id) == ["asked", "sent", "revoked"]
    assert await told(firm, second.clerk_id) == ["asked", "sent"]


async def test_what_was_done_elsewhere_is_told_without_a_name(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    async with firm.clerk() as clerk:
        path = f"/v1/organizations/{firm.organization_id('acme')}/invitations"
        made = (await clerk.post(path, json={"email_address": MAYA, "role": "org:member"})).json()["id"]
        await clerk.post(f"{path}/{made}/revoke", json={})
    story = await firm.services.invitations.timeline(await access_of(firm), invitation=made)
    assert [(it.what, it.actor) for it in story.events] == [("sent", None), ("revoked", None)]


async def test_a_lost_one_says_so(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, desk = await access_of(firm), firm.services.invitations
    made = await desk.invite(access, email=MAYA, role="org:member")
    refuse(firm, "CreateOrganizationInvitation", "organization_membership_quota_exceeded")
    with pytest.raises(InvitationRefusedError):
        await desk.resend(access, invitation=made.clerk_id)
    assert await told(firm, made.clerk_id) == ["asked", "sent", "lost"]
    (lost,) = await desk.resend.list_lost(access.organization_id)
    await desk.resend.again(access, operation=lost.operation_id)
    await recover(firm)
    assert await told(firm, made.clerk_id) == ["asked", "sent", "resent"]


async def test_one_of_many_is_told_too(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, desk = await access_of(firm), firm.services.invitations
    batch = await desk.invite_many.send(access, parse_invitees(f"{MAYA} leo@example.com"))
    await firm.services.runner.resume_due()
    found = await desk.invite_many.get(access, batch.id)
    assert await told(firm, found.rows[0].invitation_id or "") == ["asked", "sent"]


async def test_one_that_is_no_more_in_clerk_is_still_told(firm: Firm) -> None:
    await furnish(firm)
    access, desk = await access_of(firm), firm.services.invitations
    made = await desk.invite(access, email=MAYA, role="org:member")
    await desk.revoke(access, invitation=made.clerk_id)

    async def gone(*_args: object) -> None:
        return None

    async def nothing(*_args: object, **_more: object) -> list[object]:
        return []

    firm.services.clerk.find_invitation = gone  # type: ignore[method-assign]
    firm.services.clerk.list_invitations = nothing  # type: ignore[method-assign,assignment]
    assert await told(firm, made.clerk_id) == ["asked", "revoked"]
    with pytest.raises(InvitationRefusedError, match="No longer in Clerk"):
        await told(firm, "orginv_none")


async def test_who_signed_in_after_joining_was_seen(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, desk = await access_of(firm), firm.services.invitations
    made = await desk.invite(access, email=MAYA, role="org:member")
    await accept(firm, await desk.copy_link(access, invitation=made.clerk_id))
    await firm.settle()
    assert (await told(firm, made.clerk_id))[-1] == "member_made"
    claims = SessionClaims(user=firm.user_id(MAYA), session="sess_1")
    await firm.services.db.write(insert_session, token_hash="x", claims=claims, at=firm.clock())
    assert (await told(firm, made.clerk_id))[-2:] == ["member_made", "first_seen"]


async def test_a_link_is_audited_and_kept_nowhere(firm: Firm) -> None:
    await furnish(firm)
    access, desk = await access_of(firm), firm.services.invitations
    made = await desk.invite(access, email=MAYA, role="org:member")
    link = await desk.copy_link(access, invitation=made.clerk_id)
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


async def test_the_link_of_one_that_is_over_is_not_given(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    access, desk = await access_of(firm), firm.services.invitations
    made = await desk.invite(access, email=MAYA, role="org:member")
    await desk.revoke(access, invitation=made.clerk_id)
    with pytest.raises(InvitationRefusedError, match="Already revoked by Ada Adams"):
        await desk.copy_link(access, invitation=made.clerk_id)
    assert await firm.services.db.read(list_entries, AuditFilter(action="invitation.link_copied")) == []
