"""Parsing lists of invitees, and the verdict for each person."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instep.invitations.bulk_service import MAX_INVITEES, MAX_TEXT_LENGTH, decide_invitees, parse_invitees
from instep.invitations.models import InviteeInput
from instep.invitations.policies import InvitationRefusedError


def pairs(text: str) -> list[tuple[str, str, str | None]]:
    return [(it.email, it.role, it.name) for it in parse_invitees(text)]


@pytest.mark.parametrize("between", [" ", ",", ";", "\n", ", ", " ;\n\n", "\t", "\r\n"])
def test_addresses_may_be_separated_by_anything(between: str) -> None:
    assert [it.email for it in parse_invitees(between.join(["a@x.com", "b@x.com", "c@x.com"]))] == [
        "a@x.com",
        "b@x.com",
        "c@x.com",
    ]


def test_names_before_addresses_are_kept() -> None:
    text = 'a@x.com Maya Cohen <m@x.com>, "Leo Marchetti" <l@x.com>; <n@x.com> b@x.com'
    assert [(email, name) for email, _, name in pairs(text)] == [
        ("a@x.com", None),
        ("m@x.com", "Maya Cohen"),
        ("l@x.com", "Leo Marchetti"),
        ("n@x.com", None),
        ("b@x.com", None),
    ]


@pytest.mark.parametrize("comma", [",", ";", "\t"])
def test_a_csv_has_address_role_and_name(comma: str) -> None:
    text = "\ufeffName,E-Mail,Ignored,Role\r\nMaya Cohen,m@x.com,1,Admin\r\n,l@x.com,,\r\n\r\n"
    text += ",n@x.com,,org:sales\r\n,o@x.com,,sales"
    assert pairs(text.replace(",", comma)) == [
        ("m@x.com", "org:admin", "Maya Cohen"),
        ("l@x.com", "org:member", None),
        ("n@x.com", "org:sales", None),
        ("o@x.com", "org:sales", None),
    ]


def test_quotes_in_a_csv_are_parsed() -> None:
    assert pairs('email,name\nm@x.com,"Cohen, Maya"') == [("m@x.com", "org:member", "Cohen, Maya")]


@pytest.mark.parametrize("text", ["", "  \n ", ",;", "email,name\n"])
def test_an_empty_list_is_refused(text: str) -> None:
    with pytest.raises(InvitationRefusedError) as caught:
        parse_invitees(text)
    assert caught.value.code == "nobody"


@pytest.mark.parametrize("text", ["a@x.com " * (MAX_INVITEES + 1), "x" * (MAX_TEXT_LENGTH + 1)])
def test_a_list_that_is_too_long_is_refused(text: str) -> None:
    with pytest.raises(InvitationRefusedError) as caught:
        parse_invitees(text)
    assert caught.value.code == "too_many"


@pytest.mark.parametrize("text", ["a <", "a ", "<", '"', "<x", "x", "@", "a@x.com,", "email,", "<a@x.com>"])
def test_a_malicious_list_takes_linear_time(text: str) -> None:
    """It is parsed or refused."""
    with contextlib.suppress(InvitationRefusedError):
        decide_invitees(
            parse_invitees(text * (190_000 // len(text))), membership_statuses={}, invited=(), free_seats=None
        )


@given(st.text(max_size=200))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        invitees = parse_invitees(text)
    except InvitationRefusedError:
        return
    decide_invitees(invitees, membership_statuses={}, invited=(), free_seats=None)


def test_each_person_has_a_verdict() -> None:
    invitees = [
        InviteeInput(email=f"{name}@x.com") for name in ("new", "mem", "off", "inv", "old", "New", "more", "late")
    ]
    invitees.insert(3, InviteeInput(email="nobody"))
    lines = decide_invitees(
        invitees,
        membership_statuses={"mem@x.com": "member", "off@x.com": "deactivated", "old@x.com": "former"},
        invited={"inv@x.com"},
        free_seats=3,
    )
    assert [(it.email, it.verdict) for it in lines] == [
        ("new@x.com", "new"),
        ("mem@x.com", "member"),
        ("off@x.com", "member"),
        ("nobody", "invalid"),
        ("inv@x.com", "invited"),
        ("old@x.com", "former"),
        ("New@x.com", "duplicate"),
        ("more@x.com", "new"),
        ("late@x.com", "over_seats"),
    ]
    assert lines[2].note == "Is a deactivated member. Reactivate them instead."
    assert lines[3].note == "nobody is not a valid email address."


def test_without_a_seat_limit_everyone_can_be_invited() -> None:
    assert all(
        it.is_sent
        for it in decide_invitees(
            [InviteeInput(email=f"p{n}@x.com") for n in range(99)], membership_statuses={}, invited=(), free_seats=None
        )
    )
