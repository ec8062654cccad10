"""The unified list: two kinds that are never mixed up, in one order, on pages that show every row exactly once."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instep.core.clock import DAY, HOUR
from instep.domain.models import ADMIN_ROLE, MEMBER_ROLE, ClerkId, ClerkInvitation
from instep.members.listing import (
    EXPIRED_VISIBLE_FOR,
    INVITATIONS_UNAVAILABLE,
    build_invitation_rows,
    decode_cursor,
    encode_cursor,
    merge_page,
)
from instep.members.models import (
    MEMBER_STATUSES,
    STATUSES,
    InvalidMemberCursorError,
    InvitationRow,
    InvitationsUnavailable,
    MemberCursor,
    MemberFilter,
    MemberListPage,
    MemberQueryResult,
    MemberRow,
)
from instep.mirror.search import is_search_match

NOW = 1_795_219_200_000


def invitation(n: int = 1, **changes: Any) -> ClerkInvitation:
    """Invitation `n`, sent `n` hours ago, good for a week."""
    fields: dict[str, Any] = {
        "clerk_id": ClerkId(f"orginv_{n}"),
        "email": f"guest{n}@example.com",
        "role": MEMBER_ROLE,
        "status": "pending",
        "created_at": NOW - n * HOUR,
        "expires_at": NOW + 7 * DAY,
    }
    return ClerkInvitation(**(fields | changes))


def member(n: int = 1, **changes: Any) -> MemberRow:
    fields: dict[str, Any] = {
        "id": f"mbr_{n}",
        "clerk_id": f"orgmem_{n}",
        "user_id": f"usr_{n}",
        "clerk_user_id": f"user_{n}",
        "email": f"person{n}@example.com",
        "first_name": f"Person{n}",
        "last_name": None,
        "username": None,
        "image_url": None,
        "role": MEMBER_ROLE,
        "status": "active",
        "sort_name": f"person{n:03}",
        "joined_at": NOW - n * DAY,
        "last_active_at": None,
    }
    return MemberRow(**(fields | changes))


def page_of(filters: MemberFilter, everyone: Sequence[MemberRow]) -> MemberQueryResult:
    """What the database would give for this page of these members."""
    ordered = sorted(everyone, key=lambda it: (MEMBER_STATUSES.index(it.status), it.sort_name, it.id))
    wanted = [
        it
        for it in ordered
        if it.status in filters.member_statuses()
        and (not filters.roles or it.role in filters.roles)
        and is_search_match(filters.query, (it.email,))
    ]
    if filters.cursor is not None and filters.cursor.member is not None:
        status, *place = filters.cursor.member
        after = (MEMBER_STATUSES.index(status), *place)
        wanted = [it for it in wanted if (MEMBER_STATUSES.index(it.status), it.sort_name, it.id) > after]
    counts = Counter((it.status, it.role) for it in everyone)
    return MemberQueryResult(rows=wanted[: filters.limit + 1], counts=counts, seats=30)


def shown(invitations: Sequence[ClerkInvitation], *, joined: Collection[str] = ()) -> list[tuple[str, str]]:
    return [
        (row.id.removeprefix("orginv_"), row.status)
        for row in build_invitation_rows(invitations, now=NOW, joined=joined)
    ]


def test_invitations_come_first_newest_on_top_then_members_as_the_database_ordered_them() -> None:
    rows = build_invitation_rows([invitation(3), invitation(1), invitation(2)], now=NOW, joined=())
    people = merge_page(
        MemberFilter(), page_of(MemberFilter(), [member(2), member(1), member(3, status="deactivated")]), rows
    )
    assert [row.id for row in people.rows] == ["orginv_1", "orginv_2", "orginv_3", "mbr_1", "mbr_2", "mbr_3"]


def test_a_member_and_an_invitation_of_one_address_stay_two_rows_of_two_kinds() -> None:
    rows = build_invitation_rows([invitation(1, email="person1@example.com")], now=NOW, joined=())
    people = merge_page(MemberFilter(), page_of(MemberFilter(), [member(1)]), rows)
    assert [type(row) for row in people.rows] == [InvitationRow, MemberRow]
    assert people.totals.members == 1
    assert people.totals.invitations == 1


def test_two_invitations_of_the_same_time_have_a_stable_order() -> None:
    pair = [invitation(1, created_at=NOW), invitation(2, created_at=NOW)]
    assert shown(pair) == shown(pair[::-1])


@pytest.mark.parametrize("status", ["accepted", "revoked", "completed", "a word of tomorrow"])
def test_only_pending_and_expired_invitations_are_shown(status: str) -> None:
    assert shown([invitation(1, status=status)]) == []


@pytest.mark.parametrize(
    ("status", "expires_at", "expected"),
    [
        ("pending", NOW + 1, "invited"),
        ("pending", NOW, "expired"),
        ("pending", NOW - 1, "expired"),
        ("pending", None, "invited"),
        ("expired", NOW + DAY, "expired"),
        ("expired", None, "expired"),
    ],
)
def test_expiry_is_computed_from_the_clock(status: str, expires_at: int | None, expected: str) -> None:
    assert shown([invitation(1, status=status, expires_at=expires_at)]) == [("1", expected)]


@pytest.mark.parametrize(
    ("left", "is_expiring"), [(48 * HOUR, False), (48 * HOUR - 1, True), (1, True), (0, False), (-1, False)]
)
def test_an_invitation_expires_soon_within_48_hours_and_not_after_its_expiry(left: int, is_expiring: bool) -> None:
    (row,) = build_invitation_rows([invitation(1, expires_at=NOW + left)], now=NOW, joined=())
    assert row.is_expiring is is_expiring


def test_an_invitation_without_expiry_never_expires_soon() -> None:
    (row,) = build_invitation_rows([invitation(1, expires_at=None)], now=NOW, joined=())
    assert not row.is_expiring


def test_an_expired_invitation_is_hidden_once_its_address_was_invited_again() -> None:
    old = invitation(5, email="Ada@Example.com", status="expired", expires_at=NOW - DAY)
    assert shown([old, invitation(1, email="ada@example.com")]) == [("1", "invited")]


def test_only_the_newest_expired_invitation_of_an_address_is_shown() -> None:
    expired: dict[str, Any] = {"email": "ada@example.com", "status": "expired", "expires_at": NOW - DAY}
    assert shown([invitation(5, **expired), invitation(3, **expired)]) == [("3", "expired")]


def test_an_expired_invitation_is_hidden_once_its_address_joined() -> None:
    old = invitation(5, email="Ada@Example.com", expires_at=NOW - DAY)
    assert shown([old], joined={"ada@example.com"}) == []
    assert shown([old], joined={"bo@example.com"}) == [("5", "expired")]


def test_a_pending_invitation_stays_even_if_its_address_joined_another_way() -> None:
    assert shown([invitation(1)], joined={"guest1@example.com"}) == [("1", "invited")]


def test_an_expired_invitation_is_hidden_after_30_days() -> None:
    edge = NOW - EXPIRED_VISIBLE_FOR
    assert shown([invitation(1, expires_at=edge)]) == [("1", "expired")]
    assert shown([invitation(1, expires_at=edge - 1)]) == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-40, 8), st.sampled_from(["pending", "expired"]))))
def test_no_address_is_shown_both_as_invited_and_as_expired(drawn: list[tuple[str, int, str]]) -> None:
    them = [
        invitation(n, email=f"{name}@example.com", status=status, expires_at=NOW + days * DAY)
        for n, (name, days, status) in enumerate(drawn)
    ]
    rows = build_invitation_rows(them, now=NOW, joined=())
    of = {status: [row.email for row in rows if row.status == status] for status in ("invited", "expired")}
    assert not set(of["invited"]) & set(of["expired"])
    assert len(of["expired"]) == len(set(of["expired"]))
    assert len(of["invited"]) == sum(it.status == "pending" and (it.expires_at or 0) > NOW for it in them)


def test_without_clerk_members_come_with_a_warning() -> None:
    people = merge_page(
        MemberFilter(), page_of(MemberFilter(), [member(1)]), InvitationsUnavailable("Clerk failed with status 500.")
    )
    assert [row.id for row in people.rows] == ["mbr_1"]
    assert people.warnings == (INVITATIONS_UNAVAILABLE,)
    assert INVITATIONS_UNAVAILABLE == "Pending invitations could not be loaded. Accepted members are still shown."
    assert (people.totals.invitations, people.totals.expired_invitations, people.totals.seats_used) == (None,) * 3
    assert people.totals.members == 1


def test_invitations_that_were_not_requested_are_no_failure() -> None:
    people = merge_page(MemberFilter(), page_of(MemberFilter(), [member(1)]), None)
    assert people.warnings == ()
    assert people.totals.invitations is None


def test_the_totals_count_the_whole_organization_whatever_the_filter() -> None:
    everyone = [member(1, role=ADMIN_ROLE), member(2), member(3, status="deactivated", role=ADMIN_ROLE)]
    rows = build_invitation_rows([invitation(1), invitation(2), invitation(3, expires_at=NOW - 1)], now=NOW, joined=())
    filters = MemberFilter(query="nobody", roles=frozenset({"org:none"}))
    totals = merge_page(filters, page_of(filters, everyone), rows).totals
    assert (totals.members, totals.active, totals.deactivated, totals.admins) == (3, 2, 1, 1)
    assert (totals.invitations, totals.expired_invitations) == (2, 1)
    assert (totals.seats, totals.seats_used) == (30, 5)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (MemberFilter(statuses=frozenset({"invited"})), ["orginv_1", "orginv_2"]),
        (MemberFilter(statuses=frozenset({"expired"})), ["orginv_3"]),
        (MemberFilter(statuses=frozenset({"active"})), ["mbr_1"]),
        (MemberFilter(statuses=frozenset({"deactivated", "expired"})), ["orginv_3", "mbr_2"]),
        (MemberFilter(roles=frozenset({ADMIN_ROLE})), ["orginv_2", "mbr_1"]),
        (MemberFilter(query="GUEST2"), ["orginv_2"]),
        (MemberFilter(query="guest2 example"), ["orginv_2"]),
        (MemberFilter(query="guest2 nowhere"), []),
    ],
)
def test_the_filter_applies_to_both_kinds(filters: MemberFilter, expected: list[str]) -> None:
    everyone = [member(1, role=ADMIN_ROLE), member(2, status="deactivated")]
    invited = [invitation(1), invitation(2, role=ADMIN_ROLE), invitation(3, expires_at=NOW - 1)]
    people = merge_page(filters, page_of(filters, everyone), build_invitation_rows(invited, now=NOW, joined=()))
    assert [row.id for row in people.rows] == expected


def test_clerk_is_called_only_where_invitations_can_be_on_the_page() -> None:
    assert MemberFilter().includes_invitations()
    assert MemberFilter(statuses=frozenset({"expired", "active"})).includes_invitations()
    assert not MemberFilter(statuses=frozenset({"active", "deactivated"})).includes_invitations()
    assert MemberFilter(cursor=MemberCursor((NOW, "orginv_1"))).includes_invitations()
    assert not MemberFilter(cursor=MemberCursor(None, ("active", "maya", "mbr_1"))).includes_invitations()


def walk(filters: MemberFilter, everyone: Sequence[MemberRow], rows: Sequence[InvitationRow]) -> list[MemberListPage]:
    """Every page from here to the end."""
    pages = []
    while True:
        asked = rows if filters.includes_invitations() else None
        pages.append(merge_page(filters, page_of(filters, everyone), asked))
        if pages[-1].next_cursor is None:
            return pages
        filters = msgspec.structs.replace(filters, cursor=decode_cursor(pages[-1].next_cursor))


@given(
    limit=st.integers(1, 7),
    invited=st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=12),
    joined=st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=14),
    statuses=st.frozensets(st.sampled_from(STATUSES)),
    query=st.sampled_from(["", "son1", "g"]),
)
def test_walking_the_pages_shows_every_row_exactly_once(
    limit: int,
    invited: list[tuple[int, bool]],
    joined: list[tuple[str, bool]],
    statuses: frozenset[str],
    query: str,
) -> None:
    """Also where names and times are equal; and the totals of the first page are those of every page."""
    rows = build_invitation_rows(
        [
            invitation(n, created_at=NOW - hours * HOUR, expires_at=NOW + (DAY if is_open else -DAY))
            for n, (hours, is_open) in enumerate(invited)
        ],
        now=NOW,
        joined=(),
    )
    everyone = [
        member(n, sort_name=name, status="active" if is_active else "deactivated")
        for n, (name, is_active) in enumerate(joined)
    ]
    filters = MemberFilter(limit=limit, statuses=statuses, query=query)
    whole = msgspec.structs.replace(filters, limit=1_000)
    at_once = merge_page(whole, page_of(whole, everyone), rows if filters.includes_invitations() else None)
    shown_at_all: list[InvitationRow | MemberRow] = [*rows, *everyone]
    wanted = [row for row in shown_at_all if row.status in (statuses or STATUSES)]
    expected = {row.id for row in wanted if is_search_match(query, (row.email,))}
    pages = walk(filters, everyone, rows)
    walked = [row.id for page in pages for row in page.rows]
    assert walked == [row.id for row in at_once.rows]
    assert len(walked) == len(expected)
    assert set(walked) == expected
    assert all(len(page.rows) == limit for page in pages[:-1])
    if filters.includes_invitations():
        assert all(page.totals == pages[0].totals for page in pages)


cursors = st.builds(
    MemberCursor,
    st.none() | st.tuples(st.integers(0, 2**53), st.text()),
    st.none() | st.tuples(st.text(), st.text(), st.text()),
    st.none() | st.integers(0, 2**31),
    st.none() | st.integers(0, 2**31),
)


@given(cursors)
def test_a_cursor_survives_encoding(cursor: MemberCursor) -> None:
    if any("\0" in text for text in (*(cursor.member or ()), (cursor.invitation or (0, ""))[1])):
        with pytest.raises(InvalidMemberCursorError):
            decode_cursor(encode_cursor(cursor))
    else:
        assert decode_cursor(encode_cursor(cursor)) == cursor


@given(st.text() | st.binary().map(bytes.hex) | st.sampled_from(["[]", "[[1],2]", '{"a":1}', "null", '"x"', "[1e999]"]))
def test_any_other_text_is_an_invalid_cursor(text: str) -> None:
    for candidate in (text, text.encode("utf-8", "replace").hex()):
        try:
            assert isinstance(decode_cursor(candidate), MemberCursor)
        except InvalidMemberCursorError:
            continue
