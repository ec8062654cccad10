"""Who may knock where: every route of the app, with everyone who may come. A route that is not in the table fails."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from instep.auth.principal import BREAK_GLASS_PRINCIPAL
from instep.mirror.tables import users
from instep.webhooks.receiver import WEBHOOK_PATHS
from tests.support.firms import BOTH_PROFILES
from tests.support.town import BROWSER, WHO, Town

pytestmark = pytest.mark.anyio

# How each door answers to WHO: nobody, stranger, other admin, member, admin, instance admin, break-glass.
KINDS = {
    "open": "in in in in in in in",
    "members": "401 404 404 in in in in",
    "members page": "sign-in 404 404 in in in in",
    "admins": "401 404 404 403 in in in",
    "admins page": "sign-in 404 404 403 in in in",
    "instance admins": "401 403 403 403 403 in in",
    "instance admins page": "sign-in 403 403 403 403 in in",
    "instance admins, hidden": "401 404 404 404 404 in in",
    "themselves": "401 404 404 404 404 in in",
    "whoever shares a firm": "401 404 404 in in in in",
    "whoever may change them": "401 404 404 403 in in in",
    "whoever was there": "401 404 404 404 in in in",
    "whoever is signed in, page": "sign-in in in in in in in",
    "home": "sign-in 403 303 303 303 in in",
    "whoever knows the key": "guess guess guess guess guess guess guess",
}

BY_RIGHTS = ("home", "members", "admins", "instance admins", "whoever may change them")  # once more under `minimal`

ORGANIZATION = "/v1/organizations/{organization_id}"
PAGE = "/organizations/{organization_id}"
TABLE = {
    "members": f"""
        GET {ORGANIZATION}/people
        GET {ORGANIZATION}/people/export
        POST {ORGANIZATION}/leave
    """,
    "admins": f"""
        PATCH {ORGANIZATION}/members/{{user_id}}
        DELETE {ORGANIZATION}/members/{{user_id}}
        POST {ORGANIZATION}/members/{{user_id}}/deactivate
        POST {ORGANIZATION}/members/{{user_id}}/reactivate
        POST {ORGANIZATION}/members/{{user_id}}/restore
        GET {ORGANIZATION}/members/{{user_id}}/consequences
        POST {ORGANIZATION}/members/bulk
        POST {ORGANIZATION}/transfer
        POST {ORGANIZATION}/invitations
        POST {ORGANIZATION}/invitations/preview
        POST {ORGANIZATION}/invitations/{{invitation_id}}/resend
        POST {ORGANIZATION}/invitations/{{invitation_id}}/revoke
        GET {ORGANIZATION}/invitations/{{invitation_id}}/link
        GET {ORGANIZATION}/invitations/{{invitation_id}}/timeline
    """,
    "members page": f"""
        GET {PAGE}/members
        GET {PAGE}/members/{{user_id}}
        GET {PAGE}/members/{{user_id}}/details
        GET {PAGE}/members/{{user_id}}/edit
        POST {PAGE}/members/{{user_id}}/edit
        GET {PAGE}/members/live
        GET {PAGE}/members/export
        GET {PAGE}/leave
        POST {PAGE}/leave
    """,
    "admins page": f"""
        GET {PAGE}/members/bulk
        POST {PAGE}/members/bulk
        GET {PAGE}/invitations/bulk
        POST {PAGE}/invitations/bulk
        GET {PAGE}/invitations/many
        POST {PAGE}/invitations/many
        GET {PAGE}/invitations/batches/{{batch_id}}
        GET {PAGE}/invitations/batches/{{batch_id}}/results
        GET {PAGE}/invitations/new
        POST {PAGE}/invitations
        POST {PAGE}/invitations/lost/{{operation_id}}/again
        GET {PAGE}/invitations/{{invitation_id}}/revoke
        POST {PAGE}/invitations/{{invitation_id}}/revoke
        POST {PAGE}/invitations/{{invitation_id}}/resend
        POST {PAGE}/invitations/{{invitation_id}}/link
        GET {PAGE}/invitations/{{invitation_id}}/timeline
        GET {PAGE}/members/{{member}}/role
        POST {PAGE}/members/{{member}}/role
        GET {PAGE}/members/{{member}}/deactivate
        POST {PAGE}/members/{{member}}/deactivate
        GET {PAGE}/members/{{member}}/reactivate
        POST {PAGE}/members/{{member}}/reactivate
        GET {PAGE}/members/{{member}}/remove
        POST {PAGE}/members/{{member}}/remove
        GET {PAGE}/operations
        GET {PAGE}/operations/{{operation_id}}/outcome
        POST {PAGE}/operations/{{operation_id}}/retry
        GET {PAGE}/operations/{{operation_id}}/give-up
        POST {PAGE}/operations/{{operation_id}}/give-up
        GET {PAGE}/audit
        GET {PAGE}/audit/export
        GET {PAGE}/people/{{user_id}}/story
        GET {PAGE}/members/{{user_id}}/sessions/end
        POST {PAGE}/members/{{user_id}}/sessions/end
        GET {PAGE}/attention
        GET {PAGE}/attention/live
    """,
    "instance admins": """
        GET /v1/operations
        GET /v1/audit
        GET /v1/audit/export
        GET /v1/users
        POST /v1/users
        GET /v1/keys
        POST /v1/keys
        DELETE /v1/keys/{key_id}
    """,
    "instance admins page": """
        GET /operations
        GET /operations/{operation_id}/outcome
        POST /operations/{operation_id}/retry
        GET /operations/{operation_id}/give-up
        POST /operations/{operation_id}/give-up
        GET /audit
        GET /audit/export
        GET /people/{user_id}/story
        GET /users/{user_id}/details
        GET /users/{user_id}/sessions/end
        POST /users/{user_id}/sessions/end
        GET /users/{user_id}/password
        POST /users/{user_id}/password
        GET /users
        POST /users
        GET /users/new
        GET /users/{user_id}
        GET /users/{user_id}/edit
        POST /users/{user_id}/edit
        GET /users/{user_id}/email
        POST /users/{user_id}/email
        POST /users/{user_id}/email/reinvite
        POST /users/{user_id}/email/verify
        GET /users/{user_id}/ban
        POST /users/{user_id}/ban
        GET /users/{user_id}/unban
        POST /users/{user_id}/unban
        GET /users/{user_id}/delete
        POST /users/{user_id}/delete
        GET /users/{user_id}/restore
        POST /users/{user_id}/restore
        GET /invitations
        POST /invitations
        GET /invitations/new
        POST /invitations/{invitation_id}/resend
        GET /invitations/{invitation_id}/revoke
        POST /invitations/{invitation_id}/revoke
        GET /keys
        POST /keys
        GET /keys/new
        GET /keys/{key_id}/revoke
        POST /keys/{key_id}/revoke
        GET /sync
        POST /sync/check
        POST /sync/first
        POST /sync/changed
        GET /sync/plan
        POST /sync/plan
        GET /sync/runs/{run}
        GET /sync/runs/{run}/apply
        POST /sync/runs/{run}/apply
        POST /sync/runs/{run}/withdraw
        GET /deliveries
        POST /deliveries/replay
        GET /deliveries/{delivery_id}
        POST /deliveries/{delivery_id}/replay
        GET /attention
        GET /attention/live
    """,
    "instance admins, hidden": """
        GET /v1/sync
        POST /v1/sync/check
        POST /v1/sync/plans
        GET /v1/sync/plans/{plan_id}
        POST /v1/sync/plans/{plan_id}/apply
        GET /v1/deliveries
        POST /v1/deliveries/{delivery_id}/replay
        GET /v1/invitations
        POST /v1/invitations
        POST /v1/invitations/{invitation_id}/revoke
        POST /v1/invitations/{invitation_id}/resend
        GET /v1/batches/{batch_id}
        GET /v1/operations/{operation_id}
        POST /v1/operations/{operation_id}/retry
        POST /v1/operations/{operation_id}/give-up
    """,
    "whoever shares a firm": """
        GET /v1/users/{user_id}
    """,
    "whoever may change them": """
        PATCH /v1/users/{user_id}
        POST /v1/users/{user_id}/email
        DELETE /v1/users/{user_id}
        POST /v1/users/{user_id}/restore
        POST /v1/users/{user_id}/ban
        POST /v1/users/{user_id}/unban
        POST /v1/users/{user_id}/password
        POST /v1/users/{user_id}/email/verify
        GET /v1/users/{user_id}/sessions
        POST /v1/users/{user_id}/sessions/end
    """,
    "whoever is signed in, page": """
        GET /commands
        GET /places
    """,
    "home": "GET /",
    "whoever knows the key": "POST /sign-in/key",
    "open": """
        GET /openapi.json
        GET /docs
        GET /sign-in
        GET /sign-in/start
        GET /sign-in/callback
        POST /sign-out
        GET /static/{version}/{name}
        GET /health/live
        GET /health/ready
        GET /metrics
    """,
}
BODIES: dict[str, Any] = {
    "PATCH /v1/organizations/{organization_id}/members/{user_id}": {"role": "org:member"},
    "POST /v1/organizations/{organization_id}/members/bulk": {"action": "deactivate", "user_ids": ["usr_x"]},
    "POST /v1/organizations/{organization_id}/transfer": {"user_id": "usr_x"},
    "POST /v1/organizations/{organization_id}/invitations": {"email": "new@example.com"},
    "POST /v1/organizations/{organization_id}/invitations/preview": {"text": "new@example.com"},
    "POST /v1/users": {"email": "new@example.com"},
    "PATCH /v1/users/{user_id}": {"first_name": "Other"},
    "POST /v1/users/{user_id}/password": {"password": "correct horse battery"},
    "POST /v1/users/{user_id}/email": {"email": "other@example.com"},
    "POST /v1/users/{user_id}/email/verify": {"verification": "ver_1", "code": "424242"},
    "POST /v1/keys": {"name": "of a test"},
    "POST /v1/invitations": {"email": "new@example.com"},
}
ROWS = {route.strip(): kind for kind, routes in TABLE.items() for route in routes.splitlines() if route.strip()}
LASTING = {"POST", "PUT", "PATCH", "DELETE"}


def routes_of(routes: list[Any]) -> Iterator[str]:
    """Every route of the app, as `METHOD path`."""
    for route in routes:
        if hasattr(route, "original_router"):
            yield from routes_of(route.original_router.routes)
        else:
            yield from (f"{method} {route.path}" for method in sorted(set(route.methods or ()) - {"HEAD"}))


async def test_every_route_of_the_app_is_in_the_table(town: Town) -> None:
    found = set(routes_of(town.firm.app.app.router.routes))
    assert found - ROWS.keys() == set(), "add who may knock there"
    assert ROWS.keys() - found == set(), "these are no routes any more"


async def test_the_doors_before_the_app_are_clerks_alone(town: Town) -> None:
    for path in WEBHOOK_PATHS:
        statuses = {(await town.knock(who, "POST", path)).status for who in WHO}
        assert statuses == {400}, "no sign-in opens it, only a signature"


def ids(town: Town) -> dict[str, str]:
    """What stands in the addresses: Northwind, and Dana, its admin; what is changed is never there."""
    rows = town.firm.services.db.read_sync(lambda conn: conn.execute(sa.select(users.c.email, users.c.id)).all())
    dana = next(id for email, id in rows if email == "dana@example.com")
    invitation = town.firm.state()["organization_invitations"][0]["id"]
    _, _, version, name = town.firm.services.pages.static.url("console.css").split("/")
    known = {"user_id": dana, "member_id": dana, "invitation_id": invitation}
    return known | {"version": version, "name": name}


def address(path: str, known: dict[str, str]) -> str:
    values = {"organization_id": "northwind"} | known
    if path.startswith("/invitations/"):
        values["invitation_id"] = "x_1"  # one to the application: the test made none
    return re.sub(r"{(\w+)}", lambda found: values.get(found[1], "op_x"), path)


@pytest.mark.parametrize(
    ("kind", "profile"),
    [*((kind, "default") for kind in TABLE), *((kind, "minimal") for kind in BY_RIGHTS)],
    indirect=["profile"],
)
async def test_everyone_is_let_in_where_they_may_be_and_nowhere_else(town: Town, kind: str) -> None:
    known = ids(town)
    nobody_there = known | dict.fromkeys(("user_id", "member_id", "invitation_id"), "x_1")
    expected = dict(zip(WHO, KINDS[kind].split(), strict=True))
    wrong = []
    for route in (it for it, of in ROWS.items() if of == kind):
        method, path = route.split(" ")
        body = json.dumps(BODIES.get(route, {})).encode()
        for who in WHO:
            is_lasting = method in LASTING and expected[who] == "in"
            if is_lasting and path.endswith(("/leave", "/sign-out")):
                continue  # they would be gone for all the rest
            there = nobody_there if is_lasting else known
            place = address(path, there)
            answer = await town.knock(who, method, place, body.replace(b"usr_x", there["user_id"].encode()))
            may_miss = is_lasting or "x_1" in place or "op_x" in place
            if not fits(expected[who], answer.status, answer.headers, may_miss):
                wrong.append(f"{route}: {who} gets {answer.status}, not {expected[who]}")
    assert not wrong, "\n".join(wrong)


def fits(expected: str, status: int, headers: dict[str, str], may_miss: bool) -> bool:
    """Whether an answer is the expected one. Who is let in may find nothing there, where the test made nothing."""
    if expected == "sign-in":
        location = headers.get("location", "")
        return status in (303, 307) and ("/sign-in" in location or "/v1/client/handshake" in location)
    if expected == "guess":
        return status in (401, 429)
    if expected == "in":
        return status < 400 or status in (409, 422) or (status == 404 and may_miss)
    return status == int(expected)


async def test_a_member_who_opens_an_admins_profile_can_change_nothing_in_it(town: Town) -> None:
    dana, before = ids(town)["user_id"], town.firm.state()
    member = town.firm.api(None, **town.keys["member"], **BROWSER)
    for path, form in (
        (f"/organizations/northwind/members/{dana}/edit", {"first_name": "Hacked", "last_name": "Hacked"}),
        (f"/organizations/northwind/members/{dana}/role", {"role": "org:member"}),
    ):
        assert (await member.post(path, data=form)).status_code in (403, 422)
    api = await member.patch(f"/v1/users/{dana}", json={"first_name": "Hacked"})
    assert (api.status_code, api.json()["code"]) == (403, "forbidden")
    assert town.firm.state() == before


@BOTH_PROFILES
async def test_a_barred_person_is_let_in_nowhere(town: Town) -> None:
    """Deactivated here, whatever Clerk says."""
    person = sa.update(users).where(users.c.email == "dana@example.com").values(is_active=False)
    town.firm.services.db.write_sync(lambda conn: conn.execute(person))
    known = ids(town)
    for route, kind in ROWS.items():
        method, path = route.split(" ")
        if kind != "open":
            body = json.dumps(BODIES.get(route, {})).encode()
            answer = await town.knock("admin", method, address(path, known), body)
            assert answer.status in (401, 403), f"{route}: {answer.status}"


async def test_another_site_may_change_nothing_with_somebodys_cookie(town: Town) -> None:
    known = ids(town)
    for route, kind in ROWS.items():
        method, path = route.split(" ")
        if method in LASTING and (kind != "open" or path == "/sign-out"):
            for site in ("cross-site", "same-site", "none"):
                town.keys["forged"] = town.keys["instance admin"] | {"sec-fetch-site": site}
                body = json.dumps(BODIES.get(route, {})).encode()
                answer = await town.knock("forged", method, address(path, known), body)
                assert answer.status == 403, f"{route} from {site}: {answer.status}"


async def test_a_key_does_nothing_that_it_is_not_good_for_on_the_pages_either(town: Town) -> None:
    """A program can send any header that a browser sends."""
    known = ids(town)
    for name, scope in (("reader", "read"), ("writer", "write")):
        _, secret = await town.firm.services.api_keys.create(
            BREAK_GLASS_PRINCIPAL, name=name, scopes=frozenset({scope}), organization_id=None
        )
        town.keys[name] = BROWSER | {"authorization": f"Bearer {secret}"}
    let_in = []
    for route, kind in ROWS.items():
        method, path = route.split(" ")
        if kind in ("open", "whoever knows the key"):
            continue
        body = json.dumps(BODIES.get(route, {})).encode()
        who = "reader" if method in LASTING else "writer"
        answer = await town.knock(who, method, address(path, known), body)
        if answer.status != 403:
            let_in.append(f"{route}: the {who} gets {answer.status}")
    assert not let_in, "\n".join(let_in)
