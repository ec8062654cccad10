"""Every operation and response against both versions of Clerk's specification and its error catalogue."""

import json
import re
from dataclasses import dataclass, field
from typing import Any, cast

import anyio.from_thread
import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings, strategies

from clerk_emulator import Emulator
from clerk_emulator.backend_api.handlers import HANDLERS
from clerk_emulator.backend_api.images import UPLOAD_OPERATIONS
from clerk_emulator.backend_api.operations import OPERATIONS, BackendOperation, match_operation
from tests.clerk_emulator.backend_api import scenario
from tests.clerk_emulator.clients import Backend
from tests.clerk_emulator.specification import divergences, error_codes, follow, load, schema_errors

VERSIONS = ("2025-11-10", "2026-05-12")
MAY_TELL = {  # operations whose schema has a secret, a token or a link
    "ticket": {
        "CreateOrganizationInvitation",
        "CreateOrganizationInvitationBulk",
        "ListOrganizationInvitations",
        "ListPendingOrganizationInvitations",
        "ListInstanceOrganizationInvitations",
        "UsersGetOrganizationInvitations",
        "GetOrganizationInvitation",
        "RevokeOrganizationInvitation",
        "CreateInvitation",
        "CreateBulkInvitations",
        "ListInvitations",
        "RevokeInvitation",
        "CreateSignInToken",
        "RevokeSignInToken",
        "CreateActorToken",
        "RevokeActorToken",
        "InviteWaitlistEntry",
        "ListWaitlistEntries",
    },
    "machine": {"CreateMachine", "GetMachineSecretKey", "RotateMachineSecretKey"},
    "machine token": {"createM2MToken"},
    "API key": {"createApiKey", "getApiKeySecret"},
}


@dataclass
class Findings:
    """The observed operations and violations."""

    seen: set[str] = field(default_factory=set)
    invalid: set[str] = field(default_factory=set)
    leaks: set[str] = field(default_factory=set)


class Checked(Backend):
    """A Backend that checks responses against the specification."""

    document: Any = None
    version = ""
    emulator: Emulator
    findings: Findings

    async def raw(self, method: str, path: str, body: Any = None, **query: Any) -> httpx2.Response:
        """Check and return the whole response."""
        response = await super().raw(method, path, body, __clerk_api_version=self.version, **query)
        found = match_operation(method, path)
        assert found is not None, path
        if response.status_code < 300:
            self.findings.seen.add(found[0].id)
        self.findings.invalid |= {
            f"{found[0].id} {response.status_code}: {text}" for text in self.check(found[0], response)
        }
        self.findings.leaks |= leaks(self.emulator, found[0].id, response.text)
        return response

    def check(self, operation: BackendOperation, response: httpx2.Response) -> list[str]:
        """Return the violations of a response."""
        item = self.document["paths"].get(operation.path, {}).get(operation.method.lower())
        if item is None:
            return []
        invalid = []
        if response.status_code >= 400:
            for error in response.json()["errors"]:
                if not {(response.status_code, error["code"]), (0, error["code"])} & error_codes():
                    invalid.append(f"code {error['code']} is not in the catalogue with this status")
        declared = item["responses"].get(str(response.status_code))
        if declared is None:
            return [*invalid, "this status is not declared"]
        content = follow(self.document, declared).get("content", {}).get("application/json", {})
        if not content:
            return invalid if response.status_code >= 400 or not response.content else [*invalid, "no body is declared"]
        return [*invalid, *schema_errors(self.document, content["schema"], response.json())]


def leaks(emulator: Emulator, operation: str, text: str) -> set[str]:
    """Return the secrets in a response whose schema has none."""
    one = emulator.state
    secrets = {
        "key": [emulator.secret_key, emulator.site.keyring.private_pem],
        "password": [user.password or "" for user in one.users],
        "browser": [client.token for client in one.clients.values()],
        "refresh token": [session.refresh_token or "" for session in one.sessions],
        "endpoint": [endpoint.secret for endpoint in emulator.webhooks.endpoints.values()],
        "code": [f'"{found.code}"' for found in one.verifications.values()],
        "ticket": [
            row.ticket
            for row in (*one.organization_invitations, *one.invitations, *one.sign_in_tokens, *one.actor_tokens)
        ],
        "machine": [row.secret_key for row in one.machines],
        "machine token": [row.secret for row in one.machine_tokens],
        "API key": [row.secret for row in one.api_keys],
    }
    return {
        f"{operation} tells the secret of a {kind}"
        for kind, values in secrets.items()
        if operation not in MAY_TELL.get(kind, ()) and any(value and value in text for value in values)
    }


async def check_everything(emulator: Emulator, http: httpx2.AsyncClient, version: str) -> Findings:
    """Run the whole scenario with every response checked."""
    document, findings = load(f"bapi-{version}.yml"), Findings()
    emulator.webhooks.connect("http://127.0.0.1:9/never")
    more = {"document": document, "version": version, "emulator": emulator, "findings": findings}
    api: Checked = type("Checked", (Checked,), more)(http)
    await scenario.everything(api)
    return findings


@pytest.mark.anyio
@pytest.mark.parametrize("version", VERSIONS)
async def test_every_response_matches_the_specification_or_a_known_divergence(
    emulator: Emulator, backend: Backend, version: str
) -> None:
    findings = await check_everything(emulator, backend.http, version)
    assert not set(HANDLERS) - findings.seen - set(scenario.NEVER), "an operation was never answered with a yes here"
    assert not findings.invalid - set(divergences()), "not in the ledger"
    assert not findings.leaks


@pytest.mark.anyio
async def test_every_known_divergence_still_exists(clock: Any, private_key: str) -> None:
    invalid: set[str] = set()
    for version in VERSIONS:
        emulator = Emulator(clock=clock, private_key=private_key, id_seed=7)
        async with httpx2.AsyncClient(
            transport=httpx2.ASGITransport(emulator),
            base_url="http://127.0.0.1:8001",
            headers={"Authorization": f"Bearer {emulator.secret_key}"},
        ) as http:
            invalid |= (await check_everything(emulator, http, version)).invalid
    known = {key for key in divergences() if " " in key.partition(":")[0]}
    assert not known - invalid, "gone: take it out of the ledger"
    assert all(len(reason.split()) > 3 for reason in divergences().values()), "each has a reason"


def test_a_leak_is_found(emulator: Emulator) -> None:
    assert leaks(emulator, "GetUser", json.dumps({"x": emulator.secret_key})) == {"GetUser tells the secret of a key"}
    assert not leaks(emulator, "GetUser", "{}")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_operations_are_those_of_the_backend_specification(version: str) -> None:
    specified = {
        (method.upper(), path, operation["operationId"])
        for path, item in load(f"bapi-{version}.yml")["paths"].items()
        for method, operation in item.items()
        if method in ("get", "post", "put", "patch", "delete")
    }
    written = {(operation.method, operation.path, operation.id) for operation in OPERATIONS}
    if version == VERSIONS[-1]:
        assert written == specified
    assert specified <= written


@pytest.mark.parametrize("part", range(4))
def test_nothing_that_the_specification_allows_is_a_server_error(emulator: Emulator, part: int) -> None:
    document = load("bapi-2026-05-12.yml")
    supported = [one for one in OPERATIONS if one.id in HANDLERS and one.id not in UPLOAD_OPERATIONS][part::4]
    paths: dict[str, Any] = {}
    for one in supported:
        paths.setdefault(one.path, {})[one.method.lower()] = document["paths"][one.path][one.method.lower()]
    schema = schemathesis.openapi.from_dict({**document, "paths": paths})
    with anyio.from_thread.start_blocking_portal() as portal:
        for found in schema.get_all_operations():
            attack(portal, emulator, cast(Any, found).ok())


def attack(portal: Any, emulator: Emulator, operation: Any) -> None:
    """Call an operation with a few generated requests, some of them about existing objects."""
    ids = [seed_for(emulator), "user_none"]

    async def call(case: Any, place: int) -> httpx2.Response:
        path = re.sub(r"{\w+}", ids[place % 2], case.path)
        query = dict(case.query or {})
        body = case.body if isinstance(case.body, dict | list) else None
        async with httpx2.AsyncClient(
            transport=httpx2.ASGITransport(emulator),
            base_url="http://127.0.0.1:8001",
            headers={"Authorization": f"Bearer {emulator.secret_key}"},
        ) as http:
            return await http.request(case.method, f"/v1{path}", json=body, params=query)

    @settings(max_examples=3, database=None, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(), place=strategies.integers(0, 1))
    def attempt(case: Any, place: int) -> None:
        response = portal.call(call, case, place)
        assert response.status_code < 500, f"{case.method} {case.path}: {response.text}"

    attempt()


def seed_for(emulator: Emulator) -> str:
    """Return the id of an existing user."""
    user = next(iter(emulator.state.users), None)
    if user is None:
        emulator.seed({"users": [{"email_address": "ada@example.com", "username": "ada_north"}]})
        user = next(iter(emulator.state.users))
    return user.id
