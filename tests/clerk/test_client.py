"""Lists of the client: an unreadable row does not fail the others."""

import httpx2
import pytest

from instep.clerk.client import ClerkClient
from instep.domain.models import ClerkId

pytestmark = pytest.mark.anyio

GOOD = {"id": "orginv_1", "email_address": "ben@example.com", "role": "org:member", "status": "pending"}


def make_client(*rows: object) -> ClerkClient:
    def answer(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={"data": rows, "total_count": len(rows)})

    return ClerkClient("sk_test_x", transport=httpx2.MockTransport(answer))


async def test_one_bad_invitation_does_not_hide_the_others() -> None:
    clerk = make_client({"id": 3}, GOOD, {**GOOD, "id": "orginv_2"})
    found = await clerk.list_invitations(ClerkId("org_1"), statuses=["pending"])
    assert [item.clerk_id for item in found] == ["orginv_1", "orginv_2"]
    await clerk.close()
