"""The doors of the whole app: ids, failures as problems or pages, headers, health and figures."""

import re
from typing import Any

import pytest
from structlog.testing import capture_logs

from instep.webhooks import repository
from tests.support.deliveries import delivery, user_body
from tests.support.faults import failing
from tests.support.town import Town
from tests.support.world import KEY, OURS, make_firm

pytestmark = pytest.mark.anyio

PAGES = ["/", "/sign-in", "/organizations/northwind/members", "/organizations/nowhere/members", "/no/such/page"]
PEOPLE = "/v1/organizations/northwind/people"


async def get(town: Town, path: str, who: str = "admin", **headers: str) -> Any:
    client = town.firm.api(None, **town.keys[who], **headers)
    return await client.get(path)


@pytest.mark.parametrize("path", [*PAGES, PEOPLE, "/v1/nothing", "/health/live", "/metrics", "/openapi.json"])
async def test_every_response_has_its_own_request_id(town: Town, path: str) -> None:
    seen = set()
    for _ in range(2):
        response = await get(town, path, **{"x-request-id": "forged"})
        id = response.headers["x-request-id"]
        assert re.fullmatch(r"req_[0-9a-f]{16}", id)
        seen.add(id)
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "http_404"),
        ("GET", "/v1/organizations/nowhere/people", 404, "not_found"),
        ("PUT", PEOPLE, 405, "http_405"),
        ("GET", f"{PEOPLE}?limit=0", 422, "invalid_request"),
        ("GET", f"{PEOPLE}?cursor=zz", 400, "bad_cursor"),
        ("GET", f"{PEOPLE}?status=sleeping", 422, "unknown_status"),
        ("GET", f"{PEOPLE}?query=%00", 422, "invalid_request"),
        ("GET", f"{PEOPLE}?role=%00", 422, "invalid_request"),
        ("POST", "/v1/organizations/northwind/invitations", 422, "invalid_request"),
    ],
)
async def test_a_failure_of_the_api_is_a_problem_with_a_stable_code(
    town: Town, method: str, path: str, status: int, code: str
) -> None:
    response = await town.firm.api().request(method, path)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status
    assert response.json()["title"]


@pytest.mark.parametrize(
    ("path", "who", "status"),
    [
        ("/v1/users", "nobody", 401),
        ("/v1/organizations/northwind/invitations", "nobody", 401),
        ("/v1/organizations/northwind/invitations", "stranger", 404),
        ("/v1/organizations/northwind/invitations", "admin", 422),
    ],
)
async def test_validation_errors_are_shown_only_to_callers_with_access(
    town: Town, path: str, who: str, status: int
) -> None:
    headers = {**town.keys[who], "origin": OURS, "sec-fetch-site": "same-origin"}
    response = await town.firm.api(None, **headers).post(path, json={"nonsense": 1})
    assert response.status_code == status


async def test_a_wrong_method_lists_the_allowed_ones(town: Town) -> None:
    assert "GET" in (await town.firm.api().put(PEOPLE)).headers["allow"]


async def test_an_unauthenticated_response_says_how_to_sign_in(town: Town) -> None:
    response = await get(town, PEOPLE, "nobody")
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("path", PAGES)
async def test_every_page_has_the_security_headers(town: Town, path: str) -> None:
    response = await get(town, path, **{"sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate"})
    if response.is_redirect:
        return
    headers = response.headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == "no-store"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    nonce = re.search(r"'nonce-([^']+)'", policy)
    assert nonce
    assert "unsafe" not in policy
    scripts = re.findall(r"<script\b[^>]*>", response.text)
    assert scripts
    assert all(f'nonce="{nonce[1]}"' in script for script in scripts)
    assert "style=" not in re.sub(r"<script.*?</script>", "", response.text, flags=re.S)


async def test_an_unknown_address_gets_a_not_found_page(town: Town) -> None:
    response = await get(town, "/no/such/page")
    assert response.status_code == 404
    assert response.headers["content-type"].startswith("text/html")
    assert response.headers["x-request-id"]


async def test_an_unexpected_error_shows_only_its_request_id(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_arguments: object) -> None:
        raise ZeroDivisionError("a secret detail")

    monkeypatch.setattr(type(town.firm.services.authenticator), "authenticate", broken)
    for path in (PEOPLE, "/organizations/northwind/members"):
        with capture_logs() as noted:
            answer = await town.knock("admin", "GET", path)
        assert answer.status == 500
        assert answer.headers["x-request-id"].startswith("req_")
        (line,) = [it for it in noted if it["event"] == "request_crashed"]
        assert line["request_id"] == answer.headers["x-request-id"]


async def test_it_is_alive_even_without_the_database_and_ready_only_with_it(town: Town) -> None:
    assert (await get(town, "/health/ready", "nobody")).json() == {"status": "ok"}
    with failing(town.firm.services.db):
        assert (await get(town, "/health/live", "nobody")).status_code == 200
        assert (await get(town, "/health/ready", "nobody")).status_code == 503


async def test_metrics_count_pending_and_processed_deliveries(town: Town) -> None:
    db = town.firm.services.db
    db.write_sync(repository.insert_deliveries, [delivery("msg_1", user_body(1), at=1)])
    text = (await get(town, "/metrics", "nobody")).text
    assert 'instep_webhook_deliveries_pending{state="new"} 1.0' in text
    assert re.search(r'instep_webhook_deliveries_total{outcome="changed"} \d+', text)
    for person in ("dana", "omar", "Northwind", "user_", "sk_test"):
        assert person not in text


async def test_metrics_require_their_key_if_set(sqlite_migrated_url: str) -> None:
    firm = make_firm(sqlite_migrated_url, INSTEP_METRICS_KEY="for figures")
    for header in ({}, {"authorization": "Bearer another"}, {"authorization": "Basic for figures"}):
        assert (await firm.api(None, **header).get("/metrics")).status_code == 401
    assert "instep_live_connections" in (await firm.api("for figures").get("/metrics")).text
    await firm.close()


async def test_a_sign_in_by_the_break_glass_key_is_in_the_audit_with_where_it_came_from(town: Town) -> None:
    form, headers = {"key": KEY}, {"origin": OURS, "sec-fetch-site": "same-origin"}
    response = await town.firm.api(None, **headers).post("/sign-in/key", data=form)
    assert response.status_code == 303
    (entry,) = (await town.firm.api().get("/v1/audit?action=session.break_glass")).json()["data"][:1]
    assert (entry["actor"], entry["origin"], entry["request_id"]) == (
        "break_glass",
        "127.0.0.1",
        response.headers["x-request-id"],
    )


async def test_the_documents_are_there_and_describe_every_failure_as_a_problem(town: Town) -> None:
    assert (await get(town, "/docs", "nobody")).status_code == 200
    document = (await get(town, "/openapi.json", "nobody")).json()
    assert PEOPLE.replace("northwind", "{organization_id}") in document["paths"]
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            bad = [it for status, it in operation["responses"].items() if status[0] in "45"]
            assert bad, f"{method} {path}"
            assert all(list(it["content"]) == ["application/problem+json"] for it in bad), f"{method} {path}"
