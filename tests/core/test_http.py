"""Origin checks, security headers and problem responses."""

import pytest

from instep.core.http import SecurityHeaders, is_same_origin_request

OURS = "https://instep.example"


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-origin", "origin": "https://other.example"}, True),
        ({"sec-fetch-site": "same-site", "origin": OURS}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"origin": OURS}, True),
        ({"origin": "https://instep.example:443"}, True),
        ({"origin": "https://instep.example:444"}, False),
        ({"origin": "http://instep.example"}, False),
        ({"origin": "https://instep.example.evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": "https://instep.example:nonsense"}, False),
        ({}, False),
    ],
)
def test_only_same_origin_requests_may_change_something(headers: dict[str, str], verdict: bool) -> None:
    assert is_same_origin_request(headers, OURS) is verdict


def test_an_invalid_public_url_allows_nothing() -> None:
    """A setting with a mistake must not make "null" our origin."""
    assert not is_same_origin_request({"origin": "null"}, "")


def test_only_scripts_with_the_nonce_run() -> None:
    policy = SecurityHeaders().content_security("abc")
    assert "script-src 'nonce-abc' 'strict-dynamic';" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_framing_is_denied_unless_allowed() -> None:
    assert SecurityHeaders().headers("")["X-Frame-Options"] == "DENY"
    allowed = SecurityHeaders(frame_ancestors=("https://app.example",)).headers("")
    assert "frame-ancestors https://app.example" in allowed["Content-Security-Policy"]
    assert "X-Frame-Options" not in allowed


def test_a_form_may_redirect_to_clerk_and_back() -> None:
    assert (
        "form-action 'self' https://clerk.example"
        in SecurityHeaders(form_hosts=("https://clerk.example",)).headers("")["Content-Security-Policy"]
    )
