"""An invitation is sent again: the old link is dead, the new one works, and nothing is lost on the way."""

import pytest

from instep.invitations.rules import InviteRefused
from instep.journal.model import Unsettled
from tests.invitations.firms import accept, access_of, furnish, invitations, operations, recover, statuses
from tests.support.world import Firm

pytestmark = pytest.mark.anyio
MAYA = "maya@example.com"


async def test_the_old_link_is_dead_and_the_new_one_works(firm: Firm) -> None:
    await furnish(firm)
    access, desk = await access_of(firm), firm.services.invitations
    old = await desk.invite(access, email=MAYA, role="org:admin", expires_in_days=30)
    dead = await desk.copy_link(access, invitation=old.clerk_id)
    new = await desk.resend(access, invitation=old.clerk_id)
    assert (new.email, new.role, new.status) == (MAYA, "org:admin", "pending")
    assert new.clerk_id != old.clerk_id
    assert new.expires_at is not None
    assert round((new.expires_at - new.created_at) / 86_400_000) == 30
    assert await accept(firm, dead) == 410
    assert await accept(firm, await desk.copy_link(access, invitation=new.clerk_id)) < 400
    assert statuses(firm) == ["revoked", "accepted"]
