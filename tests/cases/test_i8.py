"""What Clerk refuses, the emulator refuses, with the codes of Clerk's catalogue."""

from collections.abc import Iterator
from typing import Any

import pytest

from clerk_emulator.pytest_plugin import Clerk
from tests.support.emulated import asking, asking_with_key, emulated

pytestmark = pytest.mark.anyio
PASSWORD = "correct horse battery"
REDIRECTS = [
    "/x",
    "x",
    "",
    "//app.example/x",
    "http://",
    "https:///x",
    "javascript:alert(1)",
    "data:text/html,x",
    "http://[",
]


@pytest.fixture
def clerk() -> Iterator[Clerk]:
    """Return an emulator in process with one administrator."""
    with emulated() as clerk:
        clerk.seed(
            users=[{"id": "user_ada", "email_address": "ada@example.com", "password": PASSWORD}],
            organizations=[{"id": "org_firm", "name": "Northwind Law", "created_by": "user_ada"}],
        )
        yield clerk


async def refusal(clerk: Clerk, method: str, path: str, body: Any = None, **query: Any) -> tuple[int, str]:
    """Return status and code of a refusal of the Backend API."""
    before = len(clerk.events)
    async with asking_with_key(clerk) as http:
        answer = await http.request(method, f"/v1{path}", json=body, params=query)
    assert answer.status_code >= 400, answer.text
    assert len(clerk.events) == before, "what is refused changes nothing"
    return answer.status_code, answer.json()["errors"][0]["code"]


@pytest.mark.parametrize(
    ("username", "code"),
    [
        ("a b!", "form_username_invalid_character"),
        ("ab", "form_username_invalid_length"),
        ("abc", "form_username_invalid_length"),
        ("x" * 65, "form_username_invalid_length"),
        ("josé", "form_username_invalid_character"),
        ("ada.north", "form_username_invalid_character"),
        ("ada@north", "form_username_invalid_character"),
        ("ada\n", "form_username_invalid_character"),
        ("12345", "form_username_needs_non_number_char"),
    ],
)
async def test_i8_a_username_that_clerk_refuses_is_refused(clerk: Clerk, username: str, code: str) -> None:
    assert await refusal(clerk, "POST", "/users", {"username": username}) == (422, code)
    assert await refusal(clerk, "PATCH", "/users/user_ada", {"username": username}) == (422, code)
    async with asking(clerk) as http:
        await http.post("/sign-in", data={"user_id": "user_ada"})
        answer = await http.patch("/__clerk/v1/me", data={"username": username})
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, code)


@pytest.mark.parametrize("username", ["abcd", "Ada_North-1", "x" * 64, "1234a", "____"])
async def test_i8_a_username_that_clerk_takes_is_taken(clerk: Clerk, username: str) -> None:
    async with asking_with_key(clerk) as http:
        assert (await http.post("/v1/users", json={"username": username})).json()["username"] == username


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("password123", "form_password_pwned"),
        ("Password123", "form_password_pwned"),
        ("12345678", "form_password_pwned"),
        ("qwertyuiop", "form_password_pwned"),
        ("short", "form_password_length_too_short"),
        ("x" * 73, "form_password_length_too_long"),
        ("é" * 40, "form_password_size_in_bytes_exceeded"),
        ("bo@example.com", "form_password_matches_identifier"),
        ("Bo_Brown", "form_password_matches_identifier"),
    ],
)
async def test_i8_a_password_that_clerk_refuses_is_refused(clerk: Clerk, password: str, code: str) -> None:
    body = {"email_address": ["bo@example.com"], "username": "bo_brown", "password": password}
    assert await refusal(clerk, "POST", "/users", body) == (422, code)
    async with asking_with_key(clerk) as http:
        made = await http.post("/v1/users", json={**body, "password": PASSWORD})
    change = f"/users/{made.json()['id']}"
    assert await refusal(clerk, "PATCH", change, {"password": password}) == (422, code)
    async with asking_with_key(clerk) as http:
        unchecked = {"password": password, "skip_password_checks": True}
        assert (await http.patch(f"/v1{change}", json=unchecked)).status_code == 200


async def test_i8_browsers_get_the_same_rules_for_passwords(clerk: Clerk) -> None:
    async with asking(clerk) as http:
        signed_up = await http.post("/__clerk/v1/client/sign_ups", data={"password": "password123"})
        await http.post("/sign-in", data={"user_id": "user_ada"})
        words = {"current_password": PASSWORD, "new_password": "password123"}
        changed = await http.post("/__clerk/v1/me/change_password", data=words)
    for answer in (signed_up, changed):
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "form_password_pwned")


@pytest.mark.parametrize(
    "path", ["/users", "/organizations", "/organizations/org_firm/memberships", "/invitations", "/sessions", "/clients"]
)
@pytest.mark.parametrize("limit", [501, 100_000, 0, -1])
async def test_i8_a_page_has_1_to_500_rows(clerk: Clerk, path: str, limit: int) -> None:
    assert await refusal(clerk, "GET", path, limit=limit) == (422, "form_param_value_invalid")
    async with asking_with_key(clerk) as http:
        assert (await http.get(f"/v1{path}", params={"limit": 500})).status_code == 200


@pytest.mark.parametrize("redirect", REDIRECTS)
async def test_i8_an_invitation_leads_to_a_whole_address(clerk: Clerk, redirect: str) -> None:
    wrong = (422, "form_param_format_invalid")
    invitation = {"email_address": "cy@example.com", "redirect_url": redirect}
    assert await refusal(clerk, "POST", "/invitations", invitation) == wrong
    assert await refusal(clerk, "POST", "/invitations/bulk", [invitation]) == wrong
    to_firm = {**invitation, "role": "org:member"}
    assert await refusal(clerk, "POST", "/organizations/org_firm/invitations", to_firm) == wrong
    assert await refusal(clerk, "POST", "/organizations/org_firm/invitations/bulk", [to_firm]) == wrong
    assert await refusal(clerk, "POST", "/redirect_urls", {"url": redirect}) == wrong


@pytest.mark.parametrize("redirect", ["https://app.example/x?y=1", "http://localhost:3000", "myapp://callback", None])
async def test_i8_a_whole_address_is_taken(clerk: Clerk, redirect: str | None) -> None:
    async with asking_with_key(clerk) as http:
        body = {"email_address": "cy@example.com", "redirect_url": redirect}
        assert (await http.post("/v1/invitations", json=body)).status_code == 200


@pytest.mark.parametrize("locale", ["not a locale", "x", "de_", "-en", "é"])
async def test_i8_a_locale_is_a_language_tag(clerk: Clerk, locale: str) -> None:
    assert await refusal(clerk, "PATCH", "/users/user_ada", {"locale": locale}) == (422, "form_param_format_invalid")
    async with asking_with_key(clerk) as http:
        for taken in ("de", "en-US", "zh-Hant-TW", "sr-Latn-RS", None):
            assert (await http.patch("/v1/users/user_ada", json={"locale": taken})).status_code == 200
