"""What instep expects of Clerk, held by the shipped fake, by the emulator, and by Clerk itself where a key is set."""

import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from instep.core.clock import DAY
from instep.domain.errors import ClerkRejectedError
from instep.domain.events import Absence, Observation
from instep.domain.models import (
    ADMIN_ROLE,
    MEMBER_ROLE,
    ClerkId,
    ClerkMembership,
    ClerkOrganization,
    ClerkUser,
    EntityKey,
    NewClerkInvitation,
)
from instep.domain.reconcile import NeedsRefetch
from tests.contract.stages import REAL_KEY, Emulated, InMemory, Real, Stage

pytestmark = pytest.mark.anyio

UNKNOWN_USER = ClerkId("user_2aaaaaaaaaaaaaaaaaaaaaaaaaa")
UNKNOWN_ORGANIZATION = ClerkId("org_2aaaaaaaaaaaaaaaaaaaaaaaaaa")
UNKNOWN_INVITATION = ClerkId("orginv_2aaaaaaaaaaaaaaaaaaaaaaaaaa")
EVERY = ("pending", "accepted", "revoked", "expired")


STAGES = {"in memory": InMemory, "emulated": Emulated} | ({"real": Real} if os.environ.get(REAL_KEY) else {})


@pytest.fixture(params=list(STAGES))
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    stage: Any = STAGES[request.param]()
    yield stage
    await stage.close()


def test_the_contract_is_tried_on_clerk_itself() -> None:
    if "real" not in STAGES:
        pytest.skip(f"{REAL_KEY} is not set: the contract was tried on the fake and the emulator, not on Clerk itself")


@pytest.fixture
async def dana(stage: Stage) -> ClerkId:
    return await stage.user("dana")


@pytest.fixture
async def firm(stage: Stage, dana: ClerkId) -> ClerkId:
    return await stage.organization(dana)


def wanted(stage: Stage, name: str = "ben", **changes: Any) -> NewClerkInvitation:
    fields: dict[str, Any] = {"email": stage.address(name), "role": MEMBER_ROLE, "expires_in_days": 7, "notify": False}
    return NewClerkInvitation(**(fields | changes))


async def refusal(doing: Any) -> tuple[int, str]:
    with pytest.raises(ClerkRejectedError) as refused:
        await doing
    assert str(refused.value)
    return refused.value.status, refused.value.code


# Directory.look


async def test_a_user_is_seen_as_they_are(stage: Stage, dana: ClerkId) -> None:
    (found,) = await stage.clerk.fetch([NeedsRefetch(EntityKey("user", dana))])
    assert isinstance(found, Observation)
    assert isinstance(found.entity, ClerkUser)
    assert (found.entity.email, found.entity.is_email_verified) == (stage.address("dana"), True)
    assert found.version > 0


async def test_an_organization_and_a_membership_are_seen_as_they_are(
    stage: Stage, dana: ClerkId, firm: ClerkId
) -> None:
    membership = await stage.clerk.find_membership(firm, dana)
    assert membership is not None
    asks = [NeedsRefetch(EntityKey("organization", firm)), NeedsRefetch(membership.key, membership.entity)]
    found = {news.key: news for news in await stage.clerk.fetch(asks)}
    assert isinstance(found[EntityKey("organization", firm)].entity, ClerkOrganization)
    assert found[membership.key] == membership
    assert membership.entity.role == ADMIN_ROLE


async def test_what_clerk_does_not_have_is_gone(stage: Stage, dana: ClerkId, firm: ClerkId) -> None:
    never = ClerkMembership(clerk_id=ClerkId("orgmem_2a"), organization=firm, user=dana, role=MEMBER_ROLE)
    nowhere = ClerkMembership(
        clerk_id=ClerkId("orgmem_2b"), organization=UNKNOWN_ORGANIZATION, user=dana, role=MEMBER_ROLE
    )
    asks = [
        NeedsRefetch(EntityKey("user", UNKNOWN_USER)),
        NeedsRefetch(EntityKey("organization", UNKNOWN_ORGANIZATION)),
        NeedsRefetch(EntityKey("membership", never.clerk_id), never),
        NeedsRefetch(EntityKey("membership", nowhere.clerk_id), nowhere),
    ]
    found = await stage.clerk.fetch(asks)
    assert {news.key for news in found} == {ask.key for ask in asks}
    assert all(isinstance(news, Absence) for news in found)


async def test_of_many_questions_each_is_answered(stage: Stage) -> None:
    ids = [await stage.user(f"person{n}") for n in range(5)]
    asks = [NeedsRefetch(EntityKey("user", id)) for id in [*ids, UNKNOWN_USER]]
    found = {news.key.id: isinstance(news, Observation) for news in await stage.clerk.fetch(asks)}
    assert found == {**dict.fromkeys(ids, True), UNKNOWN_USER: False}


async def test_nothing_asked_is_nothing_answered(stage: Stage) -> None:
    assert await stage.clerk.fetch([]) == []


async def test_a_membership_that_was_left_is_gone_though_the_person_came_back(stage: Stage, firm: ClerkId) -> None:
    maya = await stage.user("maya")
    first = await stage.clerk.add_member(firm, maya, MEMBER_ROLE)
    await stage.clerk.remove_member(firm, maya)
    second = await stage.clerk.add_member(firm, maya, MEMBER_ROLE)
    assert first.key != second.key
    found = await stage.clerk.fetch([NeedsRefetch(it.key, it.entity) for it in (first, second)])
    assert {news.key: type(news) for news in found} == {first.key: Absence, second.key: Observation}


async def test_the_memberships_of_a_person_come_after_their_organizations(stage: Stage, firm: ClerkId) -> None:
    maya = await stage.user("maya")
    assert await stage.clerk.list_user_memberships(maya) == []
    made = await stage.clerk.add_member(firm, maya, MEMBER_ROLE)
    organization, membership = await stage.clerk.list_user_memberships(maya)
    assert organization.key == EntityKey("organization", firm)
    assert membership == made


# Invitations


async def test_an_invitation_is_made_as_it_was_wanted(stage: Stage, dana: ClerkId, firm: ClerkId) -> None:
    ask = wanted(stage, role=ADMIN_ROLE, inviter=dana, public_metadata={"a": 1}, private_metadata={"b": 2})
    made = await stage.clerk.create_invitation(firm, ask)
    assert (made.email, made.role, made.status) == (ask.email, ADMIN_ROLE, "pending")
    assert (made.public_metadata, made.private_metadata) == ({"a": 1}, {"b": 2})
    assert made.expires_at is not None
    assert abs(made.expires_at - made.created_at - 7 * DAY) < 60_000
    assert await stage.clerk.find_invitation(firm, made.clerk_id) == made
    assert made in await stage.clerk.list_invitations(firm, statuses=["pending"])
    assert await stage.clerk.find_accept_url(firm, made.clerk_id)


async def test_invitations_are_listed_newest_first_by_status_and_address(stage: Stage, firm: ClerkId) -> None:
    made = [await stage.clerk.create_invitation(firm, wanted(stage, name)) for name in ("ada", "bo", "cy")]
    await stage.clerk.revoke_invitation(firm, made[1].clerk_id, revoked_by=None)

    async def ids(*statuses: str, **more: Any) -> list[str]:
        return [it.clerk_id for it in await stage.clerk.list_invitations(firm, statuses=statuses, **more)]

    assert await ids("pending") == [made[2].clerk_id, made[0].clerk_id]
    assert await ids("revoked") == [made[1].clerk_id]
    assert await ids(*EVERY) == [it.clerk_id for it in reversed(made)]
    assert await ids(*EVERY, email=stage.address("ada")) == [made[0].clerk_id]


async def test_an_address_is_invited_once_at_a_time(stage: Stage, firm: ClerkId) -> None:
    first = await stage.clerk.create_invitation(firm, wanted(stage))
    again = stage.clerk.create_invitation(firm, wanted(stage))
    assert await refusal(again) == (400, "organization_invitation_not_unique")
    await stage.clerk.revoke_invitation(firm, first.clerk_id, revoked_by=None)
    assert (await stage.clerk.create_invitation(firm, wanted(stage))).clerk_id != first.clerk_id


async def test_a_member_is_not_invited(stage: Stage, dana: ClerkId, firm: ClerkId) -> None:
    assert await refusal(stage.clerk.create_invitation(firm, wanted(stage, "dana"))) == (
        400,
        "already_a_member_in_organization",
    )


async def test_seats_count_members_and_pending_invitations(stage: Stage, dana: ClerkId) -> None:
    firm = await stage.organization(dana, seats=2)
    made = await stage.clerk.create_invitation(firm, wanted(stage, "ada"))
    full = stage.clerk.create_invitation(firm, wanted(stage, "bo"))
    assert await refusal(full) == (403, "organization_membership_quota_exceeded")
    await stage.clerk.revoke_invitation(firm, made.clerk_id, revoked_by=None)
    await stage.clerk.create_invitation(firm, wanted(stage, "bo"))


async def test_an_unknown_role_is_refused(stage: Stage, firm: ClerkId) -> None:
    status, code = await refusal(stage.clerk.create_invitation(firm, wanted(stage, role="org:nobody")))
    assert (status, code) in [(404, "resource_not_found"), (422, "form_param_value_invalid")]


async def test_what_is_no_address_is_refused(stage: Stage, firm: ClerkId) -> None:
    status, code = await refusal(stage.clerk.create_invitation(firm, wanted(stage, email="no address")))
    assert (status, code) == (422, "form_param_format_invalid")


async def test_an_unknown_organization_is_404(stage: Stage) -> None:
    assert (await refusal(stage.clerk.create_invitation(UNKNOWN_ORGANIZATION, wanted(stage))))[0] == 404
    assert (await refusal(stage.clerk.list_invitations(UNKNOWN_ORGANIZATION, statuses=["pending"])))[0] == 404


async def test_several_are_invited_at_once(stage: Stage, firm: ClerkId) -> None:
    made = await stage.clerk.create_invitations(firm, [wanted(stage, name) for name in ("ada", "bo")])
    assert sorted(it.email for it in made) == [stage.address("ada"), stage.address("bo")]
    assert len(await stage.clerk.list_invitations(firm, statuses=["pending"])) == 2


async def test_what_is_revoked_cannot_be_revoked_again(stage: Stage, dana: ClerkId, firm: ClerkId) -> None:
    made = await stage.clerk.create_invitation(firm, wanted(stage))
    assert (await stage.clerk.revoke_invitation(firm, made.clerk_id, revoked_by=dana)).status == "revoked"
    again = stage.clerk.revoke_invitation(firm, made.clerk_id, revoked_by=dana)
    assert await refusal(again) == (404, "organization_invitation_not_pending")


async def test_an_unknown_invitation_is_none_to_find_and_404_to_revoke(stage: Stage, firm: ClerkId) -> None:
    assert await stage.clerk.find_invitation(firm, UNKNOWN_INVITATION) is None
    assert await stage.clerk.find_accept_url(firm, UNKNOWN_INVITATION) is None
    assert (await refusal(stage.clerk.revoke_invitation(firm, UNKNOWN_INVITATION, revoked_by=None)))[0] == 404


async def test_an_accepted_one_is_over_and_the_invitee_a_member(stage: Stage, firm: ClerkId) -> None:
    if not stage.can_accept:
        pytest.skip("nobody is there to press the button")
    maya = await stage.user("maya")
    made = await stage.clerk.create_invitation(firm, wanted(stage, "maya", role=ADMIN_ROLE))
    await stage.accept(firm, made.clerk_id, maya)
    after = await stage.clerk.find_invitation(firm, made.clerk_id)
    assert after is not None
    assert after.status == "accepted"
    joined = await stage.clerk.find_membership(firm, maya)
    assert joined is not None
    assert joined.entity.role == ADMIN_ROLE
    assert (await refusal(stage.clerk.revoke_invitation(firm, made.clerk_id, revoked_by=None)))[
        1
    ] == "organization_invitation_not_pending"


async def test_an_invitation_expires_by_the_clock_and_frees_its_address_and_seat(stage: Stage, dana: ClerkId) -> None:
    if not stage.can_wait:
        pytest.skip("seven days are too long for a test")
    firm = await stage.organization(dana, seats=2)
    made = await stage.clerk.create_invitation(firm, wanted(stage))
    stage.wait(7 * DAY)
    assert [it.status for it in await stage.clerk.list_invitations(firm, statuses=EVERY)] == ["expired"]
    assert await stage.clerk.list_invitations(firm, statuses=["pending"]) == []
    assert (await refusal(stage.clerk.revoke_invitation(firm, made.clerk_id, revoked_by=None)))[0] == 404
    await stage.clerk.create_invitation(firm, wanted(stage))


# Memberships


async def test_a_role_changes_and_the_version_with_it(stage: Stage, firm: ClerkId) -> None:
    maya = await stage.user("maya")
    before = await stage.clerk.add_member(firm, maya, MEMBER_ROLE)
    after = await stage.clerk.set_role(firm, maya, ADMIN_ROLE)
    assert (after.key, after.entity.role) == (before.key, ADMIN_ROLE)
    assert after.version > before.version
    assert await stage.clerk.find_membership(firm, maya) == after


async def test_nobody_joins_twice(stage: Stage, dana: ClerkId, firm: ClerkId) -> None:
    assert await refusal(stage.clerk.add_member(firm, dana, MEMBER_ROLE)) == (400, "already_a_member_in_organization")


async def test_who_was_removed_is_no_member(stage: Stage, firm: ClerkId) -> None:
    maya = await stage.user("maya")
    joined = await stage.clerk.add_member(firm, maya, MEMBER_ROLE)
    gone = await stage.clerk.remove_member(firm, maya)
    assert (gone.key, gone.entity) == (joined.key, joined.entity)
    assert await stage.clerk.find_membership(firm, maya) is None
    assert (await refusal(stage.clerk.remove_member(firm, maya)))[0] == 404
    assert (await refusal(stage.clerk.set_role(firm, maya, ADMIN_ROLE)))[0] == 404


async def test_the_last_admin_stays(stage: Stage, dana: ClerkId, firm: ClerkId) -> None:
    needed = (400, "organization_minimum_permissions_needed")
    assert await refusal(stage.clerk.set_role(firm, dana, MEMBER_ROLE)) == needed
    assert await refusal(stage.clerk.remove_member(firm, dana)) == needed


# Sessions


async def test_a_session_is_active_until_it_is_revoked(stage: Stage, dana: ClerkId) -> None:
    id = await stage.session(dana)
    found = await stage.clerk.find_session(id)
    assert found is not None
    assert (found.user_id, found.status) == (dana, "active")
    await stage.clerk.revoke_session(id)
    await stage.clerk.revoke_session(id)
    over = await stage.clerk.find_session(id)
    assert over is None or over.status != "active"


async def test_an_unknown_session_is_none_and_revoking_it_is_fine(stage: Stage) -> None:
    assert await stage.clerk.find_session("sess_2aaaaaaaaaaaaaaaaaaaaaaaaaa") is None
    await stage.clerk.revoke_session("sess_2aaaaaaaaaaaaaaaaaaaaaaaaaa")


# Ids from outside


@pytest.mark.parametrize(
    "id", ["pending", "bulk", "..", ".", "", "x?status=accepted", "x/y", "%2e%2e", "a b", "\0", "é", "#"]
)
async def test_an_id_that_is_none_leads_nowhere_else(stage: Stage, dana: ClerkId, firm: ClerkId, id: str) -> None:
    it = ClerkId(id)
    assert await stage.clerk.find_invitation(firm, it) is None
    assert await stage.clerk.find_accept_url(firm, it) is None
    assert (await refusal(stage.clerk.revoke_invitation(firm, it, revoked_by=dana)))[0] == 404
    assert await stage.clerk.find_session(id) is None
    assert (await refusal(stage.clerk.create_invitation(it, wanted(stage))))[0] == 404
