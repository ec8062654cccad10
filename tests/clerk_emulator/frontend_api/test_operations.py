"""The Frontend API responds to every request of a browser."""

import re
from itertools import count
from typing import Any, cast

import anyio.from_thread
import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings, strategies

from clerk_emulator import Emulator
from clerk_emulator.frontend_api.browser import COOKIE
from clerk_emulator.frontend_api.route_table import ROUTES
from clerk_emulator.state import domains, organization_invitations, organizations, sessions, sign_ins, sign_ups, users
from tests.clerk_emulator.specification import load

PARTS = 3
NUMBERS = count(1)


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_that_the_specification_allows_is_a_server_error(emulator: Emulator, part: int) -> None:
    document = load("fapi-2026-05-12.yml")
    emulator.state.settings.organization_domains_enabled = True
    paths: dict[str, Any] = {}
    for route in ROUTES[part::PARTS]:
        path = f"/v1{route.path}"
        paths.setdefault(path, {})[route.method.lower()] = document["paths"][path][route.method.lower()]
    schema = schemathesis.openapi.from_dict({**document, "paths": paths})
    with anyio.from_thread.start_blocking_portal() as portal:
        for found in schema.get_all_operations():
            attack(portal, emulator, cast(Any, found).ok())


def attack(portal: Any, emulator: Emulator, operation: Any) -> None:
    """Call an operation with a few generated requests of a signed-in user, some about existing objects."""

    async def call(case: Any, is_known: bool) -> httpx2.Response:
        token, known = prepare(emulator)
        path = re.sub(r"{(\w+)}", lambda found: known.get(found[1], "none") if is_known else "none", case.path)
        query = {**plain(case.query), "_clerk_session_id": known["session_id"], "_method": case.method}
        async with httpx2.AsyncClient(
            transport=httpx2.ASGITransport(emulator), base_url="http://127.0.0.1:8001", cookies={COOKIE: token}
        ) as http:
            if case.method == "GET":
                return await http.get(f"/__clerk{path}", params=query)
            return await http.post(f"/__clerk{path}", params=query, data=plain(case.body))

    @settings(max_examples=4, database=None, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(), is_known=strategies.sampled_from((True, True, True, False)))
    def attempt(case: Any, is_known: bool) -> None:
        response = portal.call(call, case, is_known)
        assert response.status_code < 500, f"{case.method} {case.path}: {response.text}"

    attempt()


def plain(values: Any) -> dict[str, Any]:
    """Return the values of a form or a query as they are sent."""
    if not isinstance(values, dict):
        return {}
    pairs = ((name, value if isinstance(value, list) else [value]) for name, value in values.items())
    return {name: [str(one).encode("utf-8", "replace").decode() for one in many] for name, many in pairs}


def prepare(emulator: Emulator) -> tuple[str, dict[str, str]]:
    """Sign in a new administrator of a new organization; return the client's token, and ids for paths."""
    one = emulator.state
    number = next(NUMBERS)
    draft = {"email_address": [f"u{number}@example.com"], "phone_number": [f"+1555555{number:04}"]}
    user = users.create(one, {**draft, "password": "a good one"})
    firm = organizations.create(one, {"name": "Northwind", "created_by": user.id, "max_allowed_memberships": 0})
    invitation = organization_invitations.create(
        one, firm, {"email_address": f"v{number}@example.com", "role": "org:member"}
    )
    domain = domains.create(one, firm, {"name": f"n{number}.example"})
    client = sessions.create_client(one)
    signing_in, signing_up = sign_ins.start(one, client), sign_ups.start(one, client, {})
    sign_ins.identify(one, signing_in, f"u{number}@example.com")
    session = sessions.start(one, user, client)
    known = {
        "organization_id": firm.id,
        "user_id": user.id,
        "session_id": session.id,
        "invitation_id": invitation.id,
        "domain_id": domain.id,
        "sign_in_id": signing_in.id,
        "sign_up_id": signing_up.id,
        "email_id": user.email_addresses[0].id,
        "phone_number_id": user.phone_numbers[0].id,
    }
    return client.token, known
