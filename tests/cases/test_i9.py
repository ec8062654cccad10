"""Whatever SUPPORTED.md calls unsupported is refused as it says there, wherever it is asked for."""

from collections.abc import Iterator

import pytest

from clerk_emulator.backend_api.operations import match_operation
from clerk_emulator.frontend_api.operations import OPERATIONS
from clerk_emulator.frontend_api.supported_operations import list_supported
from clerk_emulator.pytest_plugin import Clerk
from tests.support.emulated import asking, emulated

MISSING = [operation for operation in OPERATIONS if operation.id not in list_supported()]


@pytest.fixture
def clerk() -> Iterator[Clerk]:
    """Return an emulator in process."""
    with emulated() as clerk:
        yield clerk


def filled(path: str) -> str:
    """Return a path with a value for each placeholder."""
    return path.replace("{", "x").replace("}", "")


@pytest.mark.anyio
@pytest.mark.parametrize("prefix", ["", "/__clerk"])
async def test_i9_an_unsupported_operation_of_browsers_is_refused_by_its_name(clerk: Clerk, prefix: str) -> None:
    async with asking(clerk) as http:
        for operation in MISSING:
            path = filled(operation.path)
            if not prefix and match_operation(operation.method, path.removeprefix("/v1")):
                continue  # the Backend API has it at the root, for those who show a secret key
            answer = await http.request(operation.method, prefix + path)
            assert answer.headers["content-type"] == "application/json", operation
            (error,) = answer.json()["errors"]
            assert (answer.status_code, error["code"]) == (400, "emulator_not_implemented"), operation
            assert error["meta"] == {"operationId": operation.id}


@pytest.mark.anyio
@pytest.mark.parametrize("prefix", ["", "/__clerk"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_i9_what_clerk_does_not_have_is_404_in_clerks_form(clerk: Clerk, prefix: str, method: str) -> None:
    async with asking(clerk) as http:
        for path in ("/nowhere", "/oauth", "/v1", "/npm"):
            answer = await http.request(method, prefix + path)
            assert answer.headers["content-type"] == "application/json", path
            assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, "resource_not_found"), path


@pytest.mark.anyio
async def test_i9_what_is_missing_stands_in_the_journal(clerk: Clerk) -> None:
    async with asking(clerk) as http:
        await http.get("/__clerk/oauth/authorize")
    entry = clerk.emulator.request_log.list()[-1].describe()
    assert (entry["operationId"], entry["status"]) == ("frontend/requestOAuthAuthorize", 400)


@pytest.mark.anyio
async def test_i9_a_page_of_another_address_can_read_the_refusal(clerk: Clerk) -> None:
    origin = "http://localhost:3000"
    async with asking(clerk) as http:
        answer = await http.get("/__clerk/v1/saml/metadata/conn_1.xml", headers={"origin": origin})
    assert answer.headers["access-control-allow-origin"] == origin
    assert answer.status_code == 400
