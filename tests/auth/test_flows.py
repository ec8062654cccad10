"""Console sessions: how long they hold, and what ends them."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from instep.auth import repository
from instep.auth.break_glass import BreakGlassKey
from instep.auth.principal import BREAK_GLASS_PRINCIPAL, DeniedPrincipal, Principal
from instep.auth.sessions import (
    BREAK_GLASS_SESSION_LIFETIME,
    SESSION_CHECK_GRACE,
    SESSION_CHECK_INTERVAL,
    SESSION_CHECK_RETRY_INTERVAL,
    SessionService,
)
from instep.core.db import Database
from instep.domain.errors import ClerkRejectedError, ClerkUnavailableError
from instep.domain.models import ClerkSession
from tests.auth.world import KEY, FakeClerk, FakeClock, change_user, claims, put_user, sessions

pytestmark = pytest.mark.anyio
DOWN = ClerkUnavailableError("no answer")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def clerk() -> FakeClerk:
    return FakeClerk()


@pytest.fixture
def flow(db: Database, clerk: FakeClerk, clock: FakeClock) -> SessionService:
    db.write_sync(put_user, 1)
    return sessions(db, clerk, clock)


async def is_in(flow: SessionService, token: str) -> bool:
    return isinstance(await flow.find(token), Principal)


async def test_a_session_is_its_persons(flow: SessionService) -> None:
    who = await flow.find(await flow.open(claims(actor="user_boss")))
    assert isinstance(who, Principal)
    assert (who.user_id, who.name, who.actor) == ("usr_1", "First1 Last1", "user_boss")


async def test_the_token_is_random_and_kept_only_as_a_hash(flow: SessionService, db: Database) -> None:
    first, second = await flow.open(claims()), await flow.open(claims())
    assert first != second
    assert len(first) == 43
    assert db.read_sync(repository.find_session, token_hashes=[first]) is None


@pytest.mark.parametrize("token", ["", "nonsense", "\x00", "\ud800", "x" * 100_000])
async def test_any_other_token_is_nobodys(flow: SessionService, token: str) -> None:
    await flow.open(claims())
    assert await flow.find(token) is None


async def test_clerk_is_asked_once_a_minute_and_no_more(
    flow: SessionService, clerk: FakeClerk, clock: FakeClock
) -> None:
    token = await flow.open(claims())
    clock.advance(SESSION_CHECK_INTERVAL - 1)
    assert await is_in(flow, token)
    assert clerk.asked == []
    for minute in range(1, 4):
        clock.advance(SESSION_CHECK_INTERVAL)
        for _ in range(3):
            assert await is_in(flow, token)
        assert clerk.asked == ["sess_1"] * minute


async def test_many_requests_at_once_ask_clerk_once(flow: SessionService, clerk: FakeClerk, clock: FakeClock) -> None:
    token = await flow.open(claims())
    clock.advance(SESSION_CHECK_INTERVAL)
    assert all(await asyncio.gather(*(is_in(flow, token) for _ in range(20))))
    assert clerk.asked == ["sess_1"]


async def test_of_two_replicas_one_takes_the_question(db: Database, clock: FakeClock) -> None:
    db.write_sync(repository.insert_session, token_hash="hash", claims=claims(), at=clock())
    before = clock()
    clock.advance(SESSION_CHECK_INTERVAL)
    taken = [
        db.write_sync(repository.claim_session_check, token_hash="hash", tried_at=before, at=clock()) for _ in range(2)
    ]
    assert taken == [True, False]


@pytest.mark.parametrize(
    "status", ["ended", "revoked", "removed", "expired", "abandoned", "replaced", "pending", "unheard-of"]
)
async def test_a_session_that_is_over_at_clerk_is_over_within_a_minute(
    flow: SessionService, clerk: FakeClerk, clock: FakeClock, status: str
) -> None:
    token = await flow.open(claims())
    clerk.sessions["sess_1"] = ClerkSession("sess_1", "user_1", status)
    clock.advance(SESSION_CHECK_INTERVAL)
    assert not await is_in(flow, token)
    clerk.sessions["sess_1"] = ClerkSession("sess_1", "user_1", "active")
    assert not await is_in(flow, token)


async def test_a_session_that_clerk_does_not_have_is_over(
    flow: SessionService, clerk: FakeClerk, clock: FakeClock
) -> None:
    token = await flow.open(claims())
    clerk.sessions.clear()
    clock.advance(SESSION_CHECK_INTERVAL)
    assert not await is_in(flow, token)


async def test_a_session_that_clerk_gives_to_someone_else_is_over(
    flow: SessionService, clerk: FakeClerk, clock: FakeClock
) -> None:
    token = await flow.open(claims())
    clerk.sessions["sess_1"] = ClerkSession("sess_1", "user_2", "active")
    clock.advance(SESSION_CHECK_INTERVAL)
    assert not await is_in(flow, token)


@pytest.mark.parametrize("failure", [DOWN, ClerkRejectedError("no", code="clerk_key_invalid", status=401)])
async def test_while_clerk_is_down_work_goes_on_for_ten_minutes(
    flow: SessionService, clerk: FakeClerk, clock: FakeClock, failure: Exception
) -> None:
    token = await flow.open(claims())
    clerk.failure = failure
    clock.advance(SESSION_CHECK_GRACE - 1)
    assert await is_in(flow, token)
    clock.advance(1)
    assert not await is_in(flow, token)
    clerk.failure = None
    assert await is_in(flow, token)


async def test_a_clerk_that_is_down_is_not_asked_by_every_request(
    flow: SessionService, clerk: FakeClerk, clock: FakeClock
) -> None:
    token = await flow.open(claims())
    clerk.failure = DOWN
    clock.advance(SESSION_CHECK_INTERVAL)
    for _ in range(5):
        assert await is_in(flow, token)
    assert len(clerk.asked) == 1
    clock.advance(SESSION_CHECK_RETRY_INTERVAL)
    assert await is_in(flow, token)
    assert len(clerk.asked) == 2


async def test_a_clerk_that_hangs_counts_as_down(flow: SessionService, clerk: FakeClerk, clock: FakeClock) -> None:
    async def hang(id: str) -> None:
        await asyncio.Event().wait()

    clerk.find_session = clerk.revoke_session = hang  # type: ignore[method-assign]
    hasty = replace(flow, clerk_timeout=0.001)
    token = await hasty.open(claims())
    clock.advance(SESSION_CHECK_INTERVAL)
    assert await is_in(hasty, token)
    assert await hasty.end(token) is False


async def test_after_a_night_of_silence_all_requests_of_a_page_come_through(
    flow: SessionService, clerk: FakeClerk, clock: FakeClock
) -> None:
    token = await flow.open(claims())
    clock.advance(SESSION_CHECK_GRACE * 50)
    assert all(await asyncio.gather(*(is_in(flow, token) for _ in range(5))))


@pytest.mark.parametrize("changes", [{"is_active": False}, {"is_banned": True}, {"deleted_at": 1}, {"gone_at": 1}])
async def test_a_barred_person_is_out_at_the_next_request(
    flow: SessionService, db: Database, changes: dict[str, Any]
) -> None:
    token = await flow.open(claims())
    assert await is_in(flow, token)
    db.write_sync(change_user, 1, **changes)
    assert isinstance(await flow.find(token), DeniedPrincipal)
    assert isinstance(await flow.resolve_claims(claims()), DeniedPrincipal)


async def test_a_reactivated_person_is_in_again(flow: SessionService, db: Database) -> None:
    token = await flow.open(claims())
    db.write_sync(change_user, 1, is_active=False)
    assert not await is_in(flow, token)
    db.write_sync(change_user, 1, is_active=True)
    assert await is_in(flow, token)


async def test_signing_out_ends_every_session_on_the_same_one_of_clerks(flow: SessionService, clerk: FakeClerk) -> None:
    first, second, other = await flow.open(claims()), await flow.open(claims()), await flow.open(claims(2))
    assert await flow.end(first) is True
    assert clerk.revoked == ["sess_1"]
    assert [await is_in(flow, token) for token in (first, second, other)] == [False, False, True]
    assert await flow.end(first) is True
    assert clerk.revoked == ["sess_1"]


async def test_signing_out_holds_here_also_when_clerk_is_down(flow: SessionService, clerk: FakeClerk) -> None:
    token = await flow.open(claims())
    clerk.failure = DOWN
    assert await flow.end(token) is False
    assert not await is_in(flow, token)


async def test_the_news_that_a_session_ended_ends_ours(flow: SessionService, db: Database) -> None:
    token = await flow.open(claims())
    assert db.write_sync(repository.end_sessions_of_clerk_session, "sess_1", at=1) == 1
    assert not await is_in(flow, token)


async def test_a_token_from_a_cookie_is_adopted_only_on_clerks_word(flow: SessionService, clerk: FakeClerk) -> None:
    assert await flow.adopt(claims()) is not None
    clerk.failure = DOWN
    assert await flow.adopt(claims()) is None
    clerk.failure = None
    clerk.sessions.clear()
    assert await flow.adopt(claims()) is None


async def test_the_key_opens_a_session_of_one_hour(flow: SessionService, clerk: FakeClerk, clock: FakeClock) -> None:
    token = await flow.open_break_glass()
    clerk.failure = DOWN
    clock.advance(BREAK_GLASS_SESSION_LIFETIME - 1)
    assert await flow.find(token) == BREAK_GLASS_PRINCIPAL
    clock.advance(1)
    assert await flow.find(token) is None


@pytest.mark.parametrize("key", [None, "", "another key"])
async def test_a_changed_or_removed_key_ends_what_it_opened(flow: SessionService, key: str | None) -> None:
    token = await flow.open_break_glass()
    assert await replace(flow, break_glass=BreakGlassKey(key)).find(token) is None
    assert await replace(flow, break_glass=BreakGlassKey(KEY)).find(token) == BREAK_GLASS_PRINCIPAL


async def test_a_session_by_key_can_be_signed_out(flow: SessionService, clerk: FakeClerk) -> None:
    token = await flow.open_break_glass()
    assert await flow.end(token) is True
    assert clerk.revoked == []
    assert await flow.find(token) is None


async def test_someone_not_in_the_mirror_yet_is_signed_in_and_belongs_nowhere(
    flow: SessionService, db: Database
) -> None:
    who = await flow.find(await flow.open(claims(2)))
    assert (
        who == Principal(kind="person", name="user_2", clerk_user_id="user_2") == await flow.resolve_claims(claims(2))
    )
    assert isinstance(who, Principal)
    assert db.read_sync(repository.list_accesses, who) == []


async def test_someone_not_in_the_mirror_yet_can_be_brought_in_at_once(flow: SessionService, db: Database) -> None:
    async def bring(clerk_user_id: str) -> None:
        if clerk_user_id not in brought:
            db.write_sync(put_user, int(clerk_user_id.removeprefix("user_")))
        brought.add(clerk_user_id)

    brought: set[str] = set()
    flow = replace(flow, import_user=bring)
    for who in (await flow.find(await flow.open(claims(2))), await flow.resolve_claims(claims(3))):
        assert isinstance(who, Principal)
        assert who.user_id in ("usr_2", "usr_3")


async def test_someone_who_has_just_joined_is_read_in_when_they_sign_in(db: Database, flow: SessionService) -> None:
    """Known already, and in no organization yet: the webhook of the membership may still be on its way."""
    db.write_sync(put_user, 5)
    asked: list[str] = []

    async def bring(clerk_user_id: str) -> None:
        asked.append(clerk_user_id)

    await replace(flow, import_user=bring).open(claims(5))
    assert asked == ["user_5"]


async def test_bringing_in_may_fail_without_harm(flow: SessionService) -> None:
    async def fail(clerk_user_id: str) -> None:
        raise DOWN

    who = await replace(flow, import_user=fail).resolve_claims(claims(2))
    assert isinstance(who, Principal)
    assert who.user_id is None
