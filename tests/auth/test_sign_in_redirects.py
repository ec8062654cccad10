"""Return paths of a sign-in: only own pages."""

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instep.auth.sign_in_redirects import (
    get_attempt_count,
    get_attempts_cookie_name,
    get_sign_in_state,
    sanitize_return_path,
)

OURS = "https://people.example.com"


@pytest.mark.parametrize(
    "path",
    ["/", "/organizations/firm-1/members", "/organizations/firm-1/members?query=a%20b&status=active", "/a?b=", "/a?b"],
)
def test_own_pages_are_unchanged(path: str) -> None:
    assert sanitize_return_path(path) == path


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
def test_anything_else_becomes_the_home_page(text: str | None) -> None:
    assert sanitize_return_path(text) in ("/", "/[")


def test_clerks_parameters_are_removed() -> None:
    assert sanitize_return_path("/a?x=1&__clerk_db_jwt=secret&__clerk_handshake=secret&y=2") == "/a?x=1&y=2"
    assert sanitize_return_path("/a?__clerk_db_jwt=secret") == "/a"


@given(st.text() | st.text(alphabet="/\\.:?#@ \t\nevilx%5c2f").map("/{}".format))
def test_no_text_leads_to_another_site(text: str) -> None:
    path = sanitize_return_path(text)
    assert path.startswith("/")
    assert not path.startswith(("//", "/\\"))
    assert urlsplit(urljoin(OURS, path)).netloc == "people.example.com"


def test_the_state_stays_during_a_sign_in() -> None:
    state = get_sign_in_state({})
    assert get_sign_in_state({"instep_sign_in": state}) == state
    assert get_sign_in_state({"instep_sign_in": "chosen by someone"}) != "chosen by someone"


@pytest.mark.parametrize(("value", "tries"), [("0", 0), ("3", 3), ("4", 0), ("-1", 0), ("٣", 0), ("x", 0)])
def test_attempts_are_counted_per_page(value: str, tries: int) -> None:
    assert get_attempt_count({get_attempts_cookie_name("/a"): value}, "/a") == tries
    assert get_attempt_count({get_attempts_cookie_name("/a"): value}, "/b") == 0
