"""Rate limits of invitations: refusals name the time when sending is possible again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instep.core.clock import DAY, HOUR, MINUTE
from instep.invitations.models import InvitationSendRecord
from instep.invitations.policies import (
    BULK_CALLS_PER_HOUR,
    DAILY_LIMIT_PER_ACTOR,
    DAILY_LIMIT_PER_ADDRESS,
    DAILY_LIMIT_PER_ORGANIZATION,
    RESEND_COOLDOWN,
    InvitationRefusedError,
    check_daily_limits,
    check_resend_cooldown,
    find_resend_cooldowns,
    schedule_bulk_calls,
)

NOW = 1_795_219_200_000  # 00:00 UTC


def sent(ago: int = HOUR, **changes: object) -> InvitationSendRecord:
    values = {"sent_at": NOW - ago, "actor": "ada", "is_here": True, "is_resend": False, "emails": ("x@example.com",)}
    return InvitationSendRecord(**{**values, **changes})  # type: ignore[arg-type]


def emails(count: int) -> tuple[str, ...]:
    return tuple(f"p{number}@example.com" for number in range(count))


def test_one_person_can_send_one_hundred_a_day_anywhere() -> None:
    before = [sent(emails=emails(DAILY_LIMIT_PER_ACTOR), is_here=False)]
    with pytest.raises(
        InvitationRefusedError, match=r"One person can send 100 .* Try again at 23:00 UTC, in 23 h\."
    ) as caught:
        check_daily_limits(before, actor="ada", emails=["new@example.com"], now=NOW)
    assert (caught.value.code, caught.value.status) == ("limited", 429)
    check_daily_limits(before, actor="bob", emails=["new@example.com"], now=NOW)
    check_daily_limits(before, actor="ada", emails=["new@example.com"], now=NOW + 23 * HOUR)


def test_one_organization_can_send_one_hundred_a_day() -> None:
    before = [sent(emails=emails(60)), sent(ago=2 * HOUR, actor="eve", emails=emails(40))]
    check_daily_limits(before[:1], actor="bob", emails=list(emails(40)), now=NOW)
    with pytest.raises(InvitationRefusedError, match=r"One organization can send 100 .*in 22 h\."):
        check_daily_limits(before, actor="bob", emails=["new@example.com"], now=NOW)


def test_one_address_can_be_sent_ten_a_day_in_one_organization() -> None:
    before = [sent(ago=(10 - number) * MINUTE) for number in range(DAILY_LIMIT_PER_ADDRESS)]
    with pytest.raises(InvitationRefusedError, match=r"x@example.com can be sent 10 invitations .*in 24 h"):
        check_daily_limits(before, actor="bob", emails=["X@example.com"], now=NOW)
    check_daily_limits(before, actor="bob", emails=["y@example.com"], now=NOW)
    check_daily_limits([sent(is_here=False)] * 10, actor="bob", emails=["x@example.com"], now=NOW)


def test_more_than_the_limit_at_once_is_never_possible() -> None:
    with pytest.raises(InvitationRefusedError) as caught:
        check_daily_limits([], actor="ada", emails=emails(101), now=NOW)
    assert "Try again" not in str(caught.value)


@given(st.lists(st.integers(0, 2 * DAY), max_size=120), st.integers(1, 100))
def test_sending_is_possible_at_the_named_time(agos: list[int], wanted: int) -> None:
    before = [sent(ago=ago, emails=(f"{ago}@example.com",)) for ago in agos]
    recent = [ago for ago in agos if ago < DAY]
    too_many = len(recent) + wanted - DAILY_LIMIT_PER_ORGANIZATION
    if too_many <= 0:
        check_daily_limits(before, actor="eve", emails=emails(wanted), now=NOW)
    else:
        with pytest.raises(InvitationRefusedError):
            check_daily_limits(before, actor="eve", emails=emails(wanted), now=NOW)
        again = NOW + DAY - sorted(recent, reverse=True)[too_many - 1]
        check_daily_limits(before, actor="eve", emails=emails(wanted), now=again)


def test_a_minute_must_pass_between_two_resends() -> None:
    resent = [sent(ago=20_000, is_resend=True), sent(ago=1000)]
    with pytest.raises(InvitationRefusedError, match=r"Try again in 40 s\.") as caught:
        check_resend_cooldown(resent, email="X@example.com", now=NOW)
    assert (caught.value.code, caught.value.status) == ("cooldown", 429)
    check_resend_cooldown(resent, email="x@example.com", now=NOW - 20_000 + RESEND_COOLDOWN)
    assert find_resend_cooldowns(resent, now=NOW) == {"x@example.com": NOW - 20_000 + RESEND_COOLDOWN}


@given(st.lists(st.integers(-HOUR, 5 * HOUR), max_size=120), st.integers(0, 60))
def test_no_hour_has_more_bulk_calls_than_clerk_takes(before: list[int], count: int) -> None:
    """For newly planned calls: earlier ones may exceed the limit among themselves."""
    starts = schedule_bulk_calls(before, count=count, now=0)
    assert len(starts) == count
    assert all(start >= 0 for start in starts)
    planned = sorted(before)
    for start in starts:
        planned = sorted([*planned, start])
        assert sum(start - HOUR < it <= start for it in planned) <= BULK_CALLS_PER_HOUR
