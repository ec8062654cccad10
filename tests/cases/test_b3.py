"""Half of a surrogate pair, or a NUL, in a request is refused before anything is opened."""

import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from tests.support.bounds import HOME, Probe, make_probe
from tests.support.hostile import ORGANIZATION

pytestmark = pytest.mark.anyio
JSON = {"content-type": "application/json"}
REQUESTS = [
    ("POST", "/v1/users/user_mate1/password", '{"password": "a long pass%s word"}'),
    ("PATCH", "/v1/users/user_mate1", '{"first_name": "May%sa"}'),
    ("PATCH", "/v1/users/user_mate1", '{"public_metadata": {"a": ["%s"]}}'),
    ("POST", "/v1/users", '{"email": "a@example.com", "last_name": "%s"}'),
    ("POST", f"{HOME}/invitations", '{"email": "a@example.com", "name": "%s"}'),
    ("PATCH", f"{HOME}/members/user_mate1", '{"role": "org:%s"}'),
    ("POST", "/v1/keys", '{"name": "key%s", "scopes": ["read"]}'),
]

FORMS = [
    ("/users/user_mate1/password", "password=a%00b"),
    ("/users/user_mate1/edit", "first_name=May%00a"),
    (f"/organizations/{ORGANIZATION}/invitations", "email=a@example.com&name=%00&role=org:member"),
]


@pytest.fixture
async def probe(migrated_url: str) -> AsyncIterator[Probe]:
    """instep on each database, with good people in it."""
    probe = await make_probe(migrated_url)
    await probe.feed([], [])
    yield probe
    await probe.close()


async def nothing_was_opened(probe: Probe) -> bool:
    return (await probe.api.get("/v1/operations")).json()["data"] == [] and probe.clerk.wrote == []


@pytest.mark.parametrize("bad", ["\\ud800", "\\udc00", "\\u0000"])
async def test_b3_a_text_that_cannot_be_kept_is_refused_and_nothing_is_opened(probe: Probe, bad: str) -> None:
    for method, path, body in REQUESTS:
        answer = await probe.api.request(method, path, content=(body % bad).encode(), headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), path
        assert answer.json()["errors"][0]["at"].startswith("body.")
    assert await nothing_was_opened(probe)


async def test_b3_whole_characters_beyond_the_first_plane_are_taken(probe: Probe) -> None:
    body = b'{"attributes": {"mood": "\\ud83d\\ude00"}}'
    answer = await probe.api.patch("/v1/users/user_mate1", content=body, headers=JSON)
    assert (answer.status_code, answer.json()["attributes"]) == (200, {"mood": "\U0001f600"})


async def test_b3_who_may_not_ask_is_not_told_what_is_wrong(probe: Probe) -> None:
    path, body = "/v1/users/user_mate1/password", b'{"password": "\\ud800"}'
    answer = await probe.api.post(path, content=body, headers={**JSON, "authorization": "Bearer nobody"})
    assert answer.status_code == 401


async def test_b3_a_form_is_refused_as_well(probe: Probe) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    for path, form in FORMS:
        answer = await probe.console.post(path, content=form.encode(), headers=headers)
        assert answer.status_code == 422, path
        assert "NUL" in answer.text
    assert await nothing_was_opened(probe)


async def test_b3_a_nul_in_an_address_is_no_failure_of_ours(probe: Probe) -> None:
    for path, status in (
        ("/v1/users/a%00b", 404),
        (f"{HOME}/invitations/%00/timeline", 404),
        ("/v1/organizations/%00/people", 404),
        ("/v1/users?query=%00", 422),
        ("/v1/users?organization=%00", 422),
        (f"{HOME}/people?role=%00", 422),
        ("/v1/deliveries?cursor=1.%00", 422),
        ("/v1/audit?target=%00", 422),
        ("/users/a%00b", 404),
        ("/deliveries/a%00b", 404),
    ):
        client = probe.api if path.startswith("/v1/") else probe.console
        assert (await client.get(path)).status_code == status, path


def test_b3_an_argument_of_a_command_that_is_no_utf_8_is_refused_in_one_line() -> None:
    command: list[str | bytes] = [sys.executable, "-c", "from instep.app.cli import main; main()", "users", b"\xff\xfe"]
    ended = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert ended.stderr == b"instep: an argument is not UTF-8 text.\n"
