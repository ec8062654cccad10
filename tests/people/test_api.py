"""The list over REST: the fast way of writing a page says what the plain one does."""

import msgspec

from instep.people import api, shapes
from instep.people.merge import InvitationRow, MemberRow, People, Totals

MEMBER = MemberRow(
    id="mbr_1",
    clerk_id=None,
    user_id="usr_1",
    clerk_user_id="user_1",
    email='"ä\u2028\x01"@example.com',
    first_name="Ada",
    last_name=None,
    username=None,
    image_url=None,
    role="org:admin",
    status="active",
    sort_name="ada",
    joined_at=1_700_000_000_001,
    last_active_at=None,
)
INVITATION = InvitationRow(
    id="orginv_1",
    email="new@example.com",
    role="org:member",
    status="invited",
    created_at=1_700_000_000_000,
    expires_at=None,
    inviter="Ada",
    is_expiring=False,
)
TOTALS = Totals(
    members=1, active=1, deactivated=0, admins=1, invitations=1, expired_invitations=0, seats=None, seats_used=2
)


def test_a_page_is_written_fast_as_it_is_described() -> None:
    people = People(rows=(INVITATION, MEMBER), totals=TOTALS, warnings=("One.",), next_cursor="ab")
    assert msgspec.json.decode(api._sent(people)) == msgspec.json.decode(shapes.as_json(people))
