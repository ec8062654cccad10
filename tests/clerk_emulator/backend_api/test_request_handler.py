"""Backend API: keys, versions, bodies and unknown operations."""

import pytest

from clerk_emulator import Emulator
from clerk_emulator.backend_api.operations import OPERATIONS, match_operation
from tests.clerk_emulator.clients import Backend

pytestmark = pytest.mark.anyio


async def test_a_wrong_key_is_401(backend: Backend) -> None:
    backend.http.headers["Authorization"] = "Bearer sk_test_wrong"
    assert await backend.no("GET", "/users") == (401, "clerk_key_invalid")
    del backend.http.headers["Authorization"]
    assert await backend.no("GET", "/users") == (401, "clerk_key_invalid")
    backend.http.headers["Authorization"] = "Basic abc"
    assert await backend.no("GET", "/users") == (401, "authorization_header_format_invalid")


async def test_an_unknown_version_or_two_versions_are_400(backend: Backend) -> None:
    assert (await backend.raw("GET", "/users", __clerk_api_version="2025-11-10")).status_code == 200
    assert await backend.no("GET", "/users", __clerk_api_version="1999-01-01") == (400, "api_version_invalid")
    backend.http.headers["Clerk-API-Version"] = "2025-11-10"
    assert await backend.no("GET", "/users", __clerk_api_version="2025-11-10") == (400, "api_version_invalid")


async def test_the_content_type_is_exactly_json(backend: Backend) -> None:
    for path in ("/users", "/nowhere", "/machines"):
        assert (await backend.raw("GET", path)).headers["content-type"] == "application/json"


async def test_an_unsupported_operation_is_rejected_with_its_id(backend: Backend) -> None:
    answer = await backend.raw("GET", "/billing/plans")
    error = answer.json()["errors"][0]
    assert (answer.status_code, error["code"]) == (400, "emulator_not_implemented")
    assert error["meta"] == {"operationId": "GetCommercePlanList"}


async def test_an_unsupported_parameter_is_rejected_and_changes_nothing(backend: Backend, emulator: Emulator) -> None:
    body = {"email_address": ["ada@example.com"], "totp_secret": "JBSWY3DPEHPK3PXP"}
    assert await backend.no("POST", "/users", body) == (400, "emulator_not_implemented")
    assert not len(emulator.state.users)


async def test_an_unknown_path_is_404(backend: Backend) -> None:
    assert await backend.no("GET", "/nowhere") == (404, "resource_not_found")
    assert await backend.no("PATCH", "/users") == (404, "resource_not_found")


async def test_errors_have_a_trace_id_and_both_messages(backend: Backend) -> None:
    body = (await backend.raw("GET", "/users/user_nobody")).json()
    assert len(body["clerk_trace_id"]) == 32
    assert body["errors"][0].keys() >= {"code", "message", "long_message"}


@pytest.mark.parametrize("content", [b"{", b"[1,", b"\xff\xfe", b"[" * 100_000])
async def test_an_invalid_json_body_is_400(backend: Backend, content: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = await backend.http.post("/v1/users", content=content, headers=headers)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, "request_body_invalid")


async def test_a_body_of_another_type_is_415(backend: Backend) -> None:
    answer = await backend.http.post("/v1/users", data={"first_name": "Ada"})
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (415, "unsupported_content_type")


async def test_all_invalid_parameters_are_reported_together(backend: Backend) -> None:
    answer = await backend.raw("POST", "/users", {"first_name": 5, "nonsense": 1})
    problems = {(one["code"], one["meta"]["param_name"]) for one in answer.json()["errors"]}
    assert problems == {("form_param_value_invalid", "first_name"), ("form_param_unknown", "nonsense")}


async def test_the_request_log_has_operation_path_and_status(backend: Backend, emulator: Emulator) -> None:
    await backend.raw("GET", "/users/user_nobody", limit=3)
    entry = emulator.request_log.list()[-1].describe()
    assert (entry["operationId"], entry["path"], entry["status"]) == ("GetUser", "/v1/users/user_nobody", 404)


def test_every_operation_is_found_by_its_own_path() -> None:
    assert len(OPERATIONS) == 249
    for operation in OPERATIONS:
        path = operation.path.replace("{", "x").replace("}", "y")
        found = match_operation(operation.method, path)
        assert found is not None
        assert found[0] == operation
