"""D3: lists of addresses are read as mail programs write them, and nothing that was typed gets lost."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instep.invitations.bulk_service import parse_invitees


@pytest.mark.parametrize(
    ("text", "people"),
    [
        (
            '"Doe, Jane" <jane@x.com>; Roe, Richard <richard@x.com>',
            [("jane@x.com", "Doe, Jane"), ("richard@x.com", "Roe, Richard")],
        ),
        (
            "Roe, Richard <richard@x.com>, Doe, Jane <jane@x.com>",
            [("richard@x.com", "Roe, Richard"), ("jane@x.com", "Doe, Jane")],
        ),
        ('"a \\"b\\" c" <q@x.com>', [("q@x.com", 'a "b" c')]),
        ("a@x.com b@x.com\nc@x.com\td@x.com", [(f"{it}@x.com", None) for it in "abcd"]),
        ("Maya Cohen <maya@x.com>\r\nOmar <omar@x.com>", [("maya@x.com", "Maya Cohen"), ("omar@x.com", "Omar")]),
        ("O'Neil, Pat (Sales) <pat@x.com>", [("pat@x.com", "O'Neil, Pat (Sales)")]),
        ("rubbish; jane@x.com", [("rubbish", None), ("jane@x.com", None)]),
        ('"unclosed <jane@x.com>', [("jane@x.com", '" unclosed')]),
        ("<a@x.com b@x.com>", [("a@x.com", None), ("b@x.com", None)]),
    ],
)
def test_d3_names_and_addresses_of_a_pasted_list(text: str, people: list[tuple[str, str | None]]) -> None:
    assert [(it.email, it.name) for it in parse_invitees(text)] == people


PARTS = ["Doe", "Jane", '"Doe, Jane"', "<", ">", '"', ",", ";", "\n", "\t", "j@x.com", "<r@y.com>", "\\", "é"]


@given(st.lists(st.sampled_from(PARTS)).filter(lambda parts: "@" in "".join(parts)))
def test_d3_nothing_that_was_typed_gets_lost(parts: list[str]) -> None:
    text = " ".join(parts)
    kept = " ".join(f"{it.name or ''} {it.email}" for it in parse_invitees(text))
    for word in re.findall(r"[\w@.]+", text):
        assert word in kept, (word, kept)
