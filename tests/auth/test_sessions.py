"""Console sessions: their lifetime and their end."""

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
def session_service(db: Database, clerk: FakeClerk, clock: FakeClock) -> SessionService:
    db.write_sync(put_user, 1)
    return sessions(db, clerk, clock)


async def is_signed_in(session_service: SessionService, token: str) -> bool:
    return isinstance(await session_service.find(token), Principal)


async def test_a_session_identifies_its_user(session_service: SessionService) -> None:
    who = await session_service.find(await session_service.open(claims(actor="user_boss")))
    assert isinstance(who, Principal)
    assert (who.user_id, who.name, who.actor) == ("usr_1", "First1 Last1", "user_boss")


async def test_the_token_is_random_and_stored_only_as_a_hash(session_service: SessionService, db: Database) -> None:
    first, second = await session_service.open(claims()), await session_service.open(claims())
    assert first != second
    assert len(first) == 43
    assert db.read_sync(repository.find_session, token_hashes=[first]) is None


@pytest.mark.parametrize("token", ["", "nonsense", "\x00", "\ud800", "x" * 100_000])
async def test_any_other_token_identifies_nobody(session_service: SessionService, token: str) -> None:
    await session_service.open(claims())
    assert await session_service.find(token) is None


async def test_clerk_is_asked_at_most_once_a_minute(
    session_service: SessionService, clerk: FakeClerk, clock: FakeClock
) -> None:
    token = await session_service.open(claims())
    clock.advance(SESSION_CHECK_INTERVAL - 1)
    assert await is_signed_in(session_service, token)
    assert clerk.asked == []
    for minute in range(1, 4):
        clock.advance(SESSION_CHECK_INTERVAL)
        for _ in range(3):
            assert await is_signed_in(session_service, token)
        assert clerk.asked == ["sess_1"] * minute


async def test_concurrent_requests_ask_clerk_once(
    session_service: SessionService, clerk: FakeClerk, clock: FakeClock
) -> None:
    token = await session_service.open(claims())
    clock.advance(SESSION_CHECK_INTERVAL)
    assert all(await asyncio.gather(*(is_signed_in(session_service, token) for _ in range(20))))
    assert clerk.asked == ["sess_1"]


async def test_one_of_two_replicas_claims_the_check(db: Database, clock: FakeClock) -> None:
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
async def test_a_session_that_ended_in_clerk_ends_within_a_minute(
    session_service: SessionService, clerk: FakeClerk, clock: FakeClock, status: str
) -> None:
    token = await session_service.open(claims())
    clerk.sessions["sess_1"] = ClerkSession("sess_1", "user_1", status)
    clock.advance(SESSION_CHECK_INTERVAL)
    assert not await is_signed_in(session_service, token)
    clerk.sessions["sess_1"] = ClerkSession("sess_1", "user_1", "active")
    assert not await is_signed_in(session_service, token)


async def test_a_session_that_clerk_does_not_have_ends(
    session_service: SessionService, clerk: FakeClerk, clock: FakeClock
) -> None:
    token = await session_service.open(claims())
    clerk.sessions.clear()
    clock.advance(SESSION_CHECK_INTERVAL)
    assert not await is_signed_in(session_service, token)


async def test_a_session_that_belongs_to_another_user_in_clerk_ends(
    session_service: SessionService, clerk: FakeClerk, clock: FakeClock
) -> None:
    token = await session_service.open(claims())
    clerk.sessions["sess_1"] = ClerkSession("sess_1", "user_2", "active")
    clock.advance(SESSION_CHECK_INTERVAL)
    assert not await is_signed_in(session_service, token)


@pytest.mark.parametrize("failure", [DOWN, ClerkRejectedError("no", code="clerk_key_invalid", status=401)])
async def test_sessions_last_ten_minutes_while_clerk_is_down(
    session_service: SessionService, clerk: FakeClerk, clock: FakeClock, failure: Exception
) -> None:
    token = await session_service.open(claims())
    clerk.failure = failure
    clock.advance(SESSION_CHECK_GRACE - 1)
    assert await is_signed_in(session_service, token)
    clock.advance(1)
    assert not await is_signed_in(session_service, token)
    clerk.failure = None
    assert await is_signed_in(session_service, token)


async def test_an_unavailable_clerk_is_not_asked_by_every_request(
    session_service: SessionService, clerk: FakeClerk, clock: FakeClock
) -> None:
    token = await session_service.open(claims())
    clerk.failure = DOWN
    clock.advance(SESSION_CHECK_INTERVAL)
    for _ in range(5):
        assert await is_signed_in(session_service, token)
    assert len(clerk.asked) == 1
    clock.advance(SESSION_CHECK_RETRY_INTERVAL)
    assert await is_signed_in(session_service, token)
    assert len(clerk.asked) == 2


async def test_a_clerk_that_does_not_answer_in_time_counts_as_down(
    session_service: SessionService, clerk: FakeClerk, clock: FakeClock
) -> None:
    async def hang(id: str) -> None:
        await asyncio.Event().wait()

    clerk.find_session = clerk.revoke_session = hang  # type: ignore[method-assign, assignment]
    hasty = replace(session_service, clerk_timeout=0.001)
    token = await hasty.open(claims())
    clock.advance(SESSION_CHECK_INTERVAL)
    assert await is_signed_in(hasty, token)
    assert await hasty.end(token) is False


async def test_all_requests_of_a_page_pass_after_a_long_pause(
    session_service: SessionService, clerk: FakeClerk, clock: FakeClock
) -> None:
    token = await session_service.open(claims())
    clock.advance(SESSION_CHECK_GRACE * 50)
    assert all(await asyncio.gather(*(is_signed_in(session_service, token) for _ in range(5))))


@pytest.mark.parametrize("changes", [{"is_active": False}, {"is_banned": True}, {"deleted_at": 1}, {"gone_at": 1}])
async def test_a_denied_user_is_denied_at_the_next_request(
    session_service: SessionService, db: Database, changes: dict[str, Any]
) -> None:
    token = await session_service.open(claims())
    assert await is_signed_in(session_service, token)
    db.write_sync(change_user, 1, **changes)
    assert isinstance(await session_service.find(token), DeniedPrincipal)
    assert isinstance(await session_service.resolve_claims(claims()), DeniedPrincipal)


async def test_a_reactivated_user_is_signed_in_again(session_service: SessionService, db: Database) -> None:
    token = await session_service.open(claims())
    db.write_sync(change_user, 1, is_active=False)
    assert not await is_signed_in(session_service, token)
    db.write_sync(change_user, 1, is_active=True)
    assert await is_signed_in(session_service, token)


async def test_signing_out_ends_all_console_sessions_of_the_clerk_session(
    session_service: SessionService, clerk: FakeClerk
) -> None:
    first, second, other = (
        await session_service.open(claims()),
        await session_service.open(claims()),
        await session_service.open(claims(2)),
    )
    assert await session_service.end(first) is True
    assert clerk.revoked == ["sess_1"]
    assert [await is_signed_in(session_service, token) for token in (first, second, other)] == [False, False, True]
    assert await session_service.end(first) is True
    assert clerk.revoked == ["sess_1"]


async def test_signing_out_works_while_clerk_is_down(session_service: SessionService, clerk: FakeClerk) -> None:
    token = await session_service.open(claims())
    clerk.failure = DOWN
    assert await session_service.end(token) is False
    assert not await is_signed_in(session_service, token)


async def test_the_end_of_a_clerk_session_ends_its_console_sessions(
    session_service: SessionService, db: Database
) -> None:
    token = await session_service.open(claims())
    assert db.write_sync(repository.end_sessions_of_clerk_session, "sess_1", at=1) == 1
    assert not await is_signed_in(session_service, token)


async def test_a_token_from_a_cookie_is_adopted_only_after_a_check_with_clerk(
    session_service: SessionService, clerk: FakeClerk
) -> None:
    assert await session_service.adopt(claims()) is not None
    clerk.failure = DOWN
    assert await session_service.adopt(claims()) is None
    clerk.failure = None
    clerk.sessions.clear()
    assert await session_service.adopt(claims()) is None


async def test_the_break_glass_key_opens_a_session_of_one_hour(
    session_service: SessionService, clerk: FakeClerk, clock: FakeClock
) -> None:
    token = await session_service.open_break_glass()
    clerk.failure = DOWN
    clock.advance(BREAK_GLASS_SESSION_LIFETIME - 1)
    assert await session_service.find(token) == BREAK_GLASS_PRINCIPAL
    clock.advance(1)
    assert await session_service.find(token) is None


@pytest.mark.parametrize("key", [None, "", "another key"])
async def test_changing_or_removing_the_key_ends_its_sessions(session_service: SessionService, key: str | None) -> None:
    token = await session_service.open_break_glass()
    assert await replace(session_service, break_glass=BreakGlassKey(key)).find(token) is None
    assert await replace(session_service, break_glass=BreakGlassKey(KEY)).find(token) == BREAK_GLASS_PRINCIPAL


async def test_a_break_glass_session_can_be_signed_out(session_service: SessionService, clerk: FakeClerk) -> None:
    token = await session_service.open_break_glass()
    assert await session_service.end(token) is True
    assert clerk.revoked == []
    assert await session_service.find(token) is None


async def test_a_user_not_in_the_mirror_is_signed_in_without_organizations(
    session_service: SessionService, db: Database
) -> None:
    who = await session_service.find(await session_service.open(claims(2)))
    assert (
        who
        == Principal(kind="person", name="user_2", clerk_user_id="user_2")
        == await session_service.resolve_claims(claims(2))
    )
    assert isinstance(who, Principal)
    assert db.read_sync(repository.list_accesses, who) == []


async def test_a_user_not_in_the_mirror_can_be_imported_immediately(
    session_service: SessionService, db: Database
) -> None:
    async def bring(clerk_user_id: str) -> None:
        if clerk_user_id not in brought:
            db.write_sync(put_user, int(clerk_user_id.removeprefix("user_")))
        brought.add(clerk_user_id)

    brought: set[str] = set()
    session_service = replace(session_service, import_user=bring)
    for who in (
        await session_service.find(await session_service.open(claims(2))),
        await session_service.resolve_claims(claims(3)),
    ):
        assert isinstance(who, Principal)
        assert who.user_id in ("usr_2", "usr_3")


async def test_a_user_who_joined_just_now_is_imported_at_sign_in(db: Database, session_service: SessionService) -> None:
    """Known already, and in no organization yet: the webhook of the membership may still be on its way."""
    db.write_sync(put_user, 5)
    asked: list[str] = []

    async def bring(clerk_user_id: str) -> None:
        asked.append(clerk_user_id)

    await replace(session_service, import_user=bring).open(claims(5))
    assert asked == ["user_5"]


async def test_a_failed_import_is_harmless(session_service: SessionService) -> None:
    async def fail(clerk_user_id: str) -> None:
        raise DOWN

    who = await replace(session_service, import_user=fail).resolve_claims(claims(2))
    assert isinstance(who, Principal)
    assert who.user_id is None
