"""An operation that the emulator does not have is refused once, with a status that no client tries again."""

import pytest
from clerk_backend_api import Clerk, models
from clerk_backend_api.utils import BackoffStrategy, RetryConfig

from clerk_emulator.backend_api.handlers import HANDLERS
from clerk_emulator.backend_api.operations import OPERATIONS
from tests.support.emulated import asking_with_key, emulated

MISSING = [operation for operation in OPERATIONS if operation.id not in HANDLERS]


def test_i3_clerks_python_client_asks_once() -> None:
    # By default it tries for an hour; with these settings what is tried again is seen after 50 ms.
    tries = RetryConfig("backoff", BackoffStrategy(1, 1, 1, 50, 0), False)
    with (
        emulated() as emulator,
        Clerk(bearer_auth=emulator.secret_key, server_url=f"{emulator.url}/v1", retry_config=tries) as clerk,
    ):
        with pytest.raises(models.ClerkErrors) as refused:
            clerk.billing.list_plans()
        asked = [entry.operation for entry in emulator.emulator.request_log.list()]
    (error,) = refused.value.data.errors
    assert (refused.value.status_code, error.code) == (400, "emulator_not_implemented")
    assert asked == ["GetCommercePlanList"]


@pytest.mark.anyio
async def test_i3_no_operation_is_answered_with_a_status_that_is_tried_again() -> None:
    with emulated() as clerk:
        async with asking_with_key(clerk) as http:
            for operation in MISSING:
                path = operation.path.replace("{", "").replace("}", "")
                answer = await http.request(operation.method, f"/v1{path}", json={})
                (error,) = answer.json()["errors"]
                assert (answer.status_code, error["code"]) == (400, "emulator_not_implemented"), operation
                assert error["meta"] == {"operationId": operation.id}


@pytest.mark.anyio
async def test_i3_a_parameter_that_is_not_emulated_is_not_tried_again_either() -> None:
    body = {"email_address": ["ada@example.com"], "totp_secret": "JBSWY3DPEHPK3PXP"}
    with emulated() as clerk:
        async with asking_with_key(clerk) as http:
            answer = await http.post("/v1/users", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, "emulator_not_implemented")
