"""Console sessions: how long they hold, and what ends them."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from instep.access import store
from instep.access.flows import BREAK_GLASS_FOR, CHECK_EVERY, GRACE, RETRY_AFTER, Sessions
from instep.access.limits import BreakGlass
from instep.access.principal import BREAK_GLASS, Barred, Principal
from instep.identity.ports import ProviderDown, ProviderRefused
from instep.identity.session import SessionState
from instep.kit.db import Db
from tests.access.world import KEY, FakeClerk, FakeClock, change_user, claims, put_user, sessions

pytestmark = pytest.mark.anyio
DOWN = ProviderDown("no answer")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def clerk() -> FakeClerk:
    return FakeClerk()


@pytest.fixture
def flow(db: Db, clerk: FakeClerk, clock: FakeClock) -> Sessions:
    db.writing(put_user, 1)
    return sessions(db, clerk, clock)


async def is_in(flow: Sessions, token: str) -> bool:
    return isinstance(await flow.find(token), Principal)


async def test_a_session_is_its_persons(flow: Sessions) -> None:
    who = await flow.find(await flow.open(claims(actor="user_boss")))
    assert isinstance(who, Principal)
    assert (who.user_id, who.name, who.actor) == ("usr_1", "First1 Last1", "user_boss")


async def test_the_token_is_random_and_kept_only_as_a_hash(flow: Sessions, db: Db) -> None:
    first, second = await flow.open(claims()), await flow.open(claims())
    assert first != second
    assert len(first) == 43
    assert db.reading(store.find_session, token_hashes=[first]) is None


@pytest.mark.parametrize("token", ["", "nonsense", "\x00", "\ud800", "x" * 100_000])
async def test_any_other_token_is_nobodys(flow: Sessions, token: str) -> None:
    await flow.open(claims())
    assert await flow.find(token) is None


async def test_clerk_is_asked_once_a_minute_and_no_more(flow: Sessions, clerk: FakeClerk, clock: FakeClock) -> None:
    token = await flow.open(claims())
    clock.advance(CHECK_EVERY - 1)
    assert await is_in(flow, token)
    assert clerk.asked == []
    for minute in range(1, 4):
        clock.advance(CHECK_EVERY)
        for _ in range(3):
            assert await is_in(flow, token)
        assert clerk.asked == ["sess_1"] * minute


async def test_many_requests_at_once_ask_clerk_once(flow: Sessions, clerk: FakeClerk, clock: FakeClock) -> None:
    token = await flow.open(claims())
    clock.advance(CHECK_EVERY)
    assert all(await asyncio.gather(*(is_in(flow, token) for _ in range(20))))
    assert clerk.asked == ["sess_1"]


async def test_of_two_replicas_one_takes_the_question(db: Db, clock: FakeClock) -> None:
    db.writing(store.put_session, token_hash="hash", claims=claims(), at=clock())
    before = clock()
    clock.advance(CHECK_EVERY)
    taken = [db.writing(store.claim_check, token_hash="hash", tried_at=before, at=clock()) for _ in range(2)]
    assert taken == [True, False]


@pytest.mark.parametrize(
    "status", ["ended", "revoked", "removed", "expired", "abandoned", "replaced", "pending", "unheard-of"]
)
async def test_a_session_that_is_over_at_clerk_is_over_within_a_minute(
    flow: Sessions, clerk: FakeClerk, clock: FakeClock, status: str
) -> None:
    token = await flow.open(claims())
    clerk.sessions["sess_1"] = SessionState("sess_1", "user_1", status)
    clock.advance(CHECK_EVERY)
    assert not await is_in(flow, token)
    clerk.sessions["sess_1"] = SessionState("sess_1", "user_1", "active")
    assert not await is_in(flow, token)


async def test_a_session_that_clerk_does_not_have_is_over(flow: Sessions, clerk: FakeClerk, clock: FakeClock) -> None:
    token = await flow.open(claims())
    clerk.sessions.clear()
    clock.advance(CHECK_EVERY)
    assert not await is_in(flow, token)


async def test_a_session_that_clerk_gives_to_someone_else_is_over(
    flow: Sessions, clerk: FakeClerk, clock: FakeClock
) -> None:
    token = await flow.open(claims())
    clerk.sessions["sess_1"] = SessionState("sess_1", "user_2", "active")
    clock.advance(CHECK_EVERY)
    assert not await is_in(flow, token)


@pytest.mark.parametrize("failure", [DOWN, ProviderRefused("no", code="clerk_key_invalid", status=401)])
async def test_while_clerk_is_down_work_goes_on_for_ten_minutes(
    flow: Sessions, clerk: FakeClerk, clock: FakeClock, failure: Exception
) -> None:
    token = await flow.open(claims())
    clerk.failure = failure
    clock.advance(GRACE - 1)
    assert await is_in(flow, token)
    clock.advance(1)
    assert not await is_in(flow, token)
    clerk.failure = None
    assert await is_in(flow, token)


async def test_a_clerk_that_is_down_is_not_asked_by_every_request(
    flow: Sessions, clerk: FakeClerk, clock: FakeClock
) -> None:
    token = await flow.open(claims())
    clerk.failure = DOWN
    clock.advance(CHECK_EVERY)
    for _ in range(5):
        assert await is_in(flow, token)
    assert len(clerk.asked) == 1
    clock.advance(RETRY_AFTER)
    assert await is_in(flow, token)
    assert len(clerk.asked) == 2


async def test_a_clerk_that_hangs_counts_as_down(flow: Sessions, clerk: FakeClerk, clock: FakeClock) -> None:
    async def hang(id: str) -> None:
        await asyncio.Event().wait()

    clerk.find_session = clerk.revoke_session = hang  # type: ignore[method-assign]
    hasty = replace(flow, ask_for=0.001)
    token = await hasty.open(claims())
    clock.advance(CHECK_EVERY)
    assert await is_in(hasty, token)
    assert await hasty.end(token) is False


async def test_after_a_night_of_silence_all_requests_of_a_page_come_through(
    flow: Sessions, clerk: FakeClerk, clock: FakeClock
) -> None:
    token = await flow.open(claims())
    clock.advance(GRACE * 50)
    assert all(await asyncio.gather(*(is_in(flow, token) for _ in range(5))))


@pytest.mark.parametrize("changes", [{"is_active": False}, {"is_banned": True}, {"deleted_at": 1}, {"gone_at": 1}])
async def test_a_barred_person_is_out_at_the_next_request(flow: Sessions, db: Db, changes: dict[str, Any]) -> None:
    token = await flow.open(claims())
    assert await is_in(flow, token)
    db.writing(change_user, 1, **changes)
    assert isinstance(await flow.find(token), Barred)
    assert isinstance(await flow.find_bearer(claims()), Barred)


async def test_a_reactivated_person_is_in_again(flow: Sessions, db: Db) -> None:
    token = await flow.open(claims())
    db.writing(change_user, 1, is_active=False)
    assert not await is_in(flow, token)
    db.writing(change_user, 1, is_active=True)
    assert await is_in(flow, token)


async def test_signing_out_ends_every_session_on_the_same_one_of_clerks(flow: Sessions, clerk: FakeClerk) -> None:
    first, second, other = await flow.open(claims()), await flow.open(claims()), await flow.open(claims(2))
    assert await flow.end(first) is True
    assert clerk.revoked == ["sess_1"]
    assert [await is_in(flow, token) for token in (first, second, other)] == [False, False, True]
    assert await flow.end(first) is True
    assert clerk.revoked == ["sess_1"]


async def test_signing_out_holds_here_also_when_clerk_is_down(flow: Sessions, clerk: FakeClerk) -> None:
    token = await flow.open(claims())
    clerk.failure = DOWN
    assert await flow.end(token) is False
    assert not await is_in(flow, token)


async def test_the_news_that_a_session_ended_ends_ours(flow: Sessions, db: Db) -> None:
    token = await flow.open(claims())
    assert db.writing(store.end_sessions_of, "sess_1", at=1) == 1
    assert not await is_in(flow, token)


async def test_a_token_from_a_cookie_is_adopted_only_on_clerks_word(flow: Sessions, clerk: FakeClerk) -> None:
    assert await flow.adopt(claims()) is not None
    clerk.failure = DOWN
    assert await flow.adopt(claims()) is None
    clerk.failure = None
    clerk.sessions.clear()
    assert await flow.adopt(claims()) is None


async def test_the_key_opens_a_session_of_one_hour(flow: Sessions, clerk: FakeClerk, clock: FakeClock) -> None:
    token = await flow.open_by_key()
    clerk.failure = DOWN
    clock.advance(BREAK_GLASS_FOR - 1)
    assert await flow.find(token) == BREAK_GLASS
    clock.advance(1)
    assert await flow.find(token) is None


@pytest.mark.parametrize("key", [None, "", "another key"])
async def test_a_changed_or_removed_key_ends_what_it_opened(flow: Sessions, key: str | None) -> None:
    token = await flow.open_by_key()
    assert await replace(flow, break_glass=BreakGlass(key)).find(token) is None
    assert await replace(flow, break_glass=BreakGlass(KEY)).find(token) == BREAK_GLASS


async def test_a_session_by_key_can_be_signed_out(flow: Sessions, clerk: FakeClerk) -> None:
    token = await flow.open_by_key()
    assert await flow.end(token) is True
    assert clerk.revoked == []
    assert await flow.find(token) is None


async def test_someone_not_in_the_mirror_yet_is_signed_in_and_belongs_nowhere(flow: Sessions, db: Db) -> None:
    who = await flow.find(await flow.open(claims(2)))
    assert who == Principal(kind="person", name="user_2", clerk_user_id="user_2") == await flow.find_bearer(claims(2))
    assert isinstance(who, Principal)
    assert db.reading(store.list_accesses, who) == []


async def test_someone_not_in_the_mirror_yet_can_be_brought_in_at_once(flow: Sessions, db: Db) -> None:
    async def bring(clerk_user_id: str) -> None:
        if clerk_user_id not in brought:
            db.writing(put_user, int(clerk_user_id.removeprefix("user_")))
        brought.add(clerk_user_id)

    brought: set[str] = set()
    flow = replace(flow, just_in_time=bring)
    for who in (await flow.find(await flow.open(claims(2))), await flow.find_bearer(claims(3))):
        assert isinstance(who, Principal)
        assert who.user_id in ("usr_2", "usr_3")


async def test_someone_who_has_just_joined_is_read_in_when_they_sign_in(db: Db, flow: Sessions) -> None:
    """Known already, and in no organization yet: the webhook of the membership may still be on its way."""
    db.writing(put_user, 5)
    asked: list[str] = []

    async def bring(clerk_user_id: str) -> None:
        asked.append(clerk_user_id)

    await replace(flow, just_in_time=bring).open(claims(5))
    assert asked == ["user_5"]


async def test_bringing_in_may_fail_without_harm(flow: Sessions) -> None:
    async def fail(clerk_user_id: str) -> None:
        raise DOWN

    who = await replace(flow, just_in_time=fail).find_bearer(claims(2))
    assert isinstance(who, Principal)
    assert who.user_id is None
