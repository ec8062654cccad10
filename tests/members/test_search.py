"""Parsing and formatting the search text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instep.core.clock import DAY
from instep.members.listing import (
    ACTIVITIES,
    SOURCES,
    MemberSearch,
    build_filter,
    build_list_url,
    format_search,
    parse_search,
)
from instep.members.models import STATUSES, ActivityFilter

NOW = 1_772_000_000_000


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("", MemberSearch()),
        ("maya cohen", MemberSearch(words="maya cohen")),
        ("  maya   cohen ", MemberSearch(words="maya cohen")),
        ("role:admin maya", MemberSearch(words="maya", roles=frozenset({"org:admin"}))),
        ("maya Role:ADMIN", MemberSearch(words="maya", roles=frozenset({"org:admin"}))),
        ("role:team:lead", MemberSearch(roles=frozenset({"team:lead"}))),
        ("status:invited status:expired", MemberSearch(statuses=frozenset({"invited", "expired"}))),
        ("status:happy", MemberSearch(words="status:happy")),
        ("role:", MemberSearch(words="role:")),
        ("is:drifted a:b", MemberSearch(words="is:drifted a:b")),
        ("source:LOCAL active:7d maya", MemberSearch(words="maya", source="local", active="7d")),
        ("active:never active:idle", MemberSearch(active="idle")),
        ("source:mars active:", MemberSearch(words="source:mars active:")),
    ],
)
def test_parsing_a_search(text: str, meant: MemberSearch) -> None:
    assert parse_search(text) == meant


WORDS = st.lists(st.text(st.characters(exclude_categories=["Z", "C"], exclude_characters=":"), min_size=1), max_size=3)


@given(
    words=WORDS.map(lambda words: " ".join(word for text in words for word in text.split())),
    statuses=st.frozensets(st.sampled_from(STATUSES)),
    roles=st.frozensets(st.sampled_from(["org:admin", "org:member", "team:lead"])),
    source=st.sampled_from(["", *SOURCES]),
    active=st.sampled_from(["", *ACTIVITIES]),
)
def test_formatting_and_parsing_give_the_same_filter(
    words: str, statuses: frozenset[str], roles: frozenset[str], source: str, active: str
) -> None:
    search = MemberSearch(words=words, statuses=statuses, roles=roles, source=source, active=active)
    assert parse_search(format_search(search)) == search


def test_tokens_come_first_in_a_fixed_order() -> None:
    search = parse_search("maya status:expired role:member status:active role:admin")
    assert format_search(search) == "role:admin role:member status:active status:expired maya"


SHOWN = {"active", "banned", "deprovisioned", "invited", "expired"}


def test_deactivated_members_are_shown_only_on_request() -> None:
    assert build_filter(MemberSearch(), limit=25, now=NOW).statuses == SHOWN
    assert build_filter(MemberSearch(has_deactivated=True), limit=25, now=NOW).statuses == frozenset()
    assert build_filter(parse_search("status:deactivated"), limit=25, now=NOW).statuses == {"deactivated"}


def test_a_filter_menu_toggles_one_option() -> None:
    search = parse_search("status:invited maya")
    assert format_search(search.toggle_status("invited")) == "maya"
    assert format_search(search.toggle_role("org:admin")) == "role:admin status:invited maya"
    assert format_search(search.without("words")) == "status:invited"


def test_source_and_last_activity_are_single_choices() -> None:
    search = parse_search("source:local maya")
    assert format_search(search.toggle_source("clerk")) == "source:clerk maya"
    assert format_search(search.toggle_source("local").toggle_active("never")) == "active:never maya"
    assert format_search(parse_search("active:7d").toggle_active("7d")) == ""


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("active:7d", ActivityFilter(since=NOW - 7 * DAY)),
        ("active:30d", ActivityFilter(since=NOW - 30 * DAY)),
        ("active:idle", ActivityFilter(until=NOW - 30 * DAY)),
        ("active:never", ActivityFilter(is_never=True)),
        ("", None),
    ],
)
def test_a_range_of_activity_is_relative_to_now(text: str, meant: ActivityFilter | None) -> None:
    filters = build_filter(parse_search(text), limit=25, now=NOW)
    assert filters.activity == meant
    assert filters.includes_invitations() is (meant is None)


def test_local_members_exclude_invitations() -> None:
    assert not build_filter(parse_search("source:local"), limit=25, now=NOW).includes_invitations()
    assert build_filter(parse_search("source:clerk"), limit=25, now=NOW).includes_invitations()


def test_the_filter_is_part_of_the_url() -> None:
    assert build_list_url("/members", MemberSearch()) == "/members"
    search = parse_search("role:admin a&b", has_deactivated=True)
    assert build_list_url("/members", search, cursor="7b") == "/members?q=role%3Aadmin+a%26b&deactivated=1&cursor=7b"
