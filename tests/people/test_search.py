"""What is typed into the search box, and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instep.kit.clock import DAY
from instep.people.activity import ACTIVITIES, SOURCES, Activity
from instep.people.merge import STATUSES
from instep.people.search import Search, address, ask_of, parse, text_of

NOW = 1_772_000_000_000


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("", Search()),
        ("maya cohen", Search(words="maya cohen")),
        ("  maya   cohen ", Search(words="maya cohen")),
        ("role:admin maya", Search(words="maya", roles=frozenset({"org:admin"}))),
        ("maya Role:ADMIN", Search(words="maya", roles=frozenset({"org:admin"}))),
        ("role:team:lead", Search(roles=frozenset({"team:lead"}))),
        ("status:invited status:expired", Search(statuses=frozenset({"invited", "expired"}))),
        ("status:happy", Search(words="status:happy")),
        ("role:", Search(words="role:")),
        ("is:drifted a:b", Search(words="is:drifted a:b")),
        ("source:LOCAL active:7d maya", Search(words="maya", source="local", active="7d")),
        ("active:never active:idle", Search(active="idle")),
        ("source:mars active:", Search(words="source:mars active:")),
    ],
)
def test_reading(text: str, meant: Search) -> None:
    assert parse(text) == meant


WORDS = st.lists(st.text(st.characters(exclude_categories=["Z", "C"], exclude_characters=":"), min_size=1), max_size=3)


@given(
    words=WORDS.map(lambda words: " ".join(word for text in words for word in text.split())),
    statuses=st.frozensets(st.sampled_from(STATUSES)),
    roles=st.frozensets(st.sampled_from(["org:admin", "org:member", "team:lead"])),
    source=st.sampled_from(["", *SOURCES]),
    active=st.sampled_from(["", *ACTIVITIES]),
)
def test_writing_and_reading_give_the_same_filter(
    words: str, statuses: frozenset[str], roles: frozenset[str], source: str, active: str
) -> None:
    search = Search(words=words, statuses=statuses, roles=roles, source=source, active=active)
    assert parse(text_of(search)) == search


def test_tokens_come_first_in_a_fixed_order() -> None:
    search = parse("maya status:expired role:member status:active role:admin")
    assert text_of(search) == "role:admin role:member status:active status:expired maya"


SHOWN = {"active", "banned", "deprovisioned", "invited", "expired"}


def test_the_deactivated_are_shown_only_when_asked_for() -> None:
    assert ask_of(Search(), limit=25, now=NOW).statuses == SHOWN
    assert ask_of(Search(has_deactivated=True), limit=25, now=NOW).statuses == frozenset()
    assert ask_of(parse("status:deactivated"), limit=25, now=NOW).statuses == {"deactivated"}


def test_a_chip_turns_one_choice_over() -> None:
    search = parse("status:invited maya")
    assert text_of(search.toggle_status("invited")) == "maya"
    assert text_of(search.toggle_role("org:admin")) == "role:admin status:invited maya"
    assert text_of(search.without("words")) == "status:invited"


def test_a_source_and_a_time_are_one_at_a_time() -> None:
    search = parse("source:local maya")
    assert text_of(search.toggle_source("clerk")) == "source:clerk maya"
    assert text_of(search.toggle_source("local").toggle_active("never")) == "active:never maya"
    assert text_of(parse("active:7d").toggle_active("7d")) == ""


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("active:7d", Activity(since=NOW - 7 * DAY)),
        ("active:30d", Activity(since=NOW - 30 * DAY)),
        ("active:idle", Activity(until=NOW - 30 * DAY)),
        ("active:never", Activity(is_never=True)),
        ("", None),
    ],
)
def test_a_time_is_counted_back_from_now(text: str, meant: Activity | None) -> None:
    ask = ask_of(parse(text), limit=25, now=NOW)
    assert ask.activity == meant
    assert ask.wants_invitations() is (meant is None)


def test_whoever_is_only_here_was_not_invited() -> None:
    assert not ask_of(parse("source:local"), limit=25, now=NOW).wants_invitations()
    assert ask_of(parse("source:clerk"), limit=25, now=NOW).wants_invitations()


def test_the_filter_lives_in_the_address() -> None:
    assert address("/members", Search()) == "/members"
    search = parse("role:admin a&b", has_deactivated=True)
    assert address("/members", search, cursor="7b") == "/members?q=role%3Aadmin+a%26b&deactivated=1&cursor=7b"
