"""Where a sign-in may lead: only to our own pages."""

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instep.access.paths import own_path, state_of, tries_name, tries_of

OURS = "https://people.example.com"


@pytest.mark.parametrize(
    "path",
    ["/", "/organizations/firm-1/members", "/organizations/firm-1/members?query=a%20b&status=active", "/a?b=", "/a?b"],
)
def test_our_own_pages_are_allowed_as_they_are(path: str) -> None:
    assert own_path(path) == path


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "organizations",
        "https://evil.example",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "\\\\evil.example",
        " //evil.example",
        "/ /evil.example",
        "javascript:alert(1)",
        "/sign-in",
        "/sign-in/start?next=/",
        "/sign-out",
        "/" + "a" * 2_000,
        "/a\x00b",
        "/[",
    ],
)
def test_everything_else_leads_to_the_start_page(text: str | None) -> None:
    assert own_path(text) in ("/", "/[")


def test_clerks_parameters_are_taken_out() -> None:
    assert own_path("/a?x=1&__clerk_db_jwt=secret&__clerk_handshake=secret&y=2") == "/a?x=1&y=2"
    assert own_path("/a?__clerk_db_jwt=secret") == "/a"


@given(st.text() | st.text(alphabet="/\\.:?#@ \t\nevilx%5c2f").map("/{}".format))
def test_no_text_leads_away(text: str) -> None:
    path = own_path(text)
    assert path.startswith("/")
    assert not path.startswith(("//", "/\\"))
    assert urlsplit(urljoin(OURS, path)).netloc == "people.example.com"


def test_the_state_stays_while_a_browser_signs_in() -> None:
    state = state_of({})
    assert state_of({"instep_sign_in": state}) == state
    assert state_of({"instep_sign_in": "chosen by someone"}) != "chosen by someone"


@pytest.mark.parametrize(("value", "tries"), [("0", 0), ("3", 3), ("4", 0), ("-1", 0), ("٣", 0), ("x", 0)])
def test_tries_are_counted_for_each_page(value: str, tries: int) -> None:
    assert tries_of({tries_name("/a"): value}, "/a") == tries
    assert tries_of({tries_name("/a"): value}, "/b") == 0
