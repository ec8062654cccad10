"""Search terms match by a plain rule, and the encoded text gives the same result."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from instep.mirror.search import (
    TRIGRAM_LENGTH,
    build_search_text,
    fold_text,
    is_search_match,
    list_trigrams,
    parse_search_query,
    select_index_term,
)

SIGNS = st.characters(exclude_categories=["Cs"]) | st.sampled_from("aAbBzZ019 @.-_%*\"'/\\ëËßİıñ김Ада\u0301")
TEXTS = st.text(SIGNS, max_size=12)
HELD_TO_BEGINNINGS = set("abcdefghijklmnopqrstuvwxyz0123456789@.-")


def is_meant(query: str, parts: list[str]) -> bool:
    """Apply the rule without any character codes."""
    words = [word for part in parts for word in fold_text(part).split()]
    for wanted in fold_text(query).split():
        is_short = len(wanted) < TRIGRAM_LENGTH and HELD_TO_BEGINNINGS.issuperset(wanted)
        if not any(word.startswith(wanted) if is_short else wanted in word for word in words):
            return False
    return True


@given(query=TEXTS, parts=st.lists(TEXTS, max_size=3))
@example(query="@ex", parts=["maya@example.com"])
@example(query="a b", parts=["ab"])
@example(query="ss", parts=["Straße"])
def test_the_encoded_text_matches_like_the_plain_rule(query: str, parts: list[str]) -> None:
    assert is_search_match(query, parts) == is_meant(query, parts)


@given(parts=st.lists(TEXTS, min_size=1, max_size=3), start=st.integers(0, 10), length=st.integers(3, 8))
def test_any_three_characters_of_a_word_match(parts: list[str], start: int, length: int) -> None:
    for word in (word for part in parts for word in fold_text(part).split()):
        piece = word[start : start + length]
        assert len(piece) < TRIGRAM_LENGTH or is_search_match(piece, parts)


@given(parts=st.lists(TEXTS, max_size=3), query=TEXTS)
def test_no_character_is_special_in_a_database(parts: list[str], query: str) -> None:
    said = build_search_text(parts) + "".join(parse_search_query(query))
    assert said == "" or said.replace(" ", "").isalnum()
    assert said.isascii()
    assert all(len(needle) >= TRIGRAM_LENGTH for needle in parse_search_query(query))


@pytest.mark.parametrize(
    ("query", "name"),
    [("zoe", "Zoë"), ("strasse", "Straße"), ("istanbul", "İSTANBUL"), ("\uff4daya", "Maya"), ("가", "가")],
)
def test_case_accents_and_equivalent_characters_match(query: str, name: str) -> None:
    assert is_search_match(query, [name])


@pytest.mark.parametrize(
    ("query", "is_so"),
    [("m", True), ("ma", True), ("co", True), ("ay", False), ("a", False), ("aya", True), ("com", True), ("김", True)],
)
def test_one_or_two_plain_letters_match_a_beginning(query: str, is_so: bool) -> None:
    assert is_search_match(query, ["Maya Cohen 박김", "maya@example.com"]) == is_so


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("maya.cohen@example.com", "mayaQcohen"),
        ("@example.com", "XexampleQc"),
        ("mayamayamaya", "mayamayama"),
        ("z", "  z"),
    ],
)
def test_the_index_term_is_the_distinctive_part(query: str, part: str) -> None:
    assert [select_index_term(needle) for needle in parse_search_query(query)] == [part]


@given(needle=st.text("abcA", min_size=3, max_size=60))
def test_trigrams_are_those_of_the_term_and_few(needle: str) -> None:
    found = list_trigrams(select_index_term(needle))
    assert 1 <= len(found) <= 8
    assert all(len(it) == TRIGRAM_LENGTH and it in needle for it in found)
