"""C1: who acts as somebody else is named everywhere, and destructive changes are blocked meanwhile."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from instep.auth.authenticator import SESSION_COOKIE
from instep.domain.models import SessionClaims
from tests.stories.test_doors import LASTING, routes_of
from tests.support.tokens import session_token
from tests.support.world import OURS, Firm, make_firm

pytestmark = pytest.mark.anyio

SEED: dict[str, Any] = {
    "users": [
        {"email_address": "dana@example.com", "first_name": "Dana"},
        {"email_address": "omar@example.com", "first_name": "Omar"},
        {"email_address": "ivy@example.com", "first_name": "Ivy", "public_metadata": {"role": "admin"}},
        {"email_address": "sasha@example.com", "first_name": "Sasha"},
    ],
    "organizations": [
        {
            "name": "Northwind",
            "slug": "northwind",
            "members": [{"user": "dana@example.com", "role": "org:admin"}, {"user": "omar@example.com"}],
            "invitations": [{"email_address": "ada@example.com", "created_at": "-3d", "expires_at": "+4d"}],
        }
    ],
    "events": True,
}
PLACE = "/v1/organizations/northwind"


class Desk:
    """A firm in which Sasha, of the support, acts as somebody."""

    def __init__(self, firm: Firm) -> None:
        self.firm = firm

    def as_(self, email: str) -> Any:
        """Return the API as Sasha who acts as the person with this address."""
        act = {"sub": self.firm.user_id("sasha@example.com")}
        return self.firm.api(None, authorization=f"Bearer {session_token(self.firm, email, act=act)}")

    async def console_as(self, email: str) -> Any:
        """Return the console as Sasha who acts as the person with this address."""
        actor = self.firm.user_id("sasha@example.com")
        claims = SessionClaims(user=self.firm.user_id(email), session="sess_1", actor=actor)
        token = await self.firm.services.authenticator.sessions.open(claims)
        return self.firm.api(None, cookie=f"{SESSION_COOKIE}={token}", origin=OURS)

    async def id_of(self, email: str) -> str:
        """Return instep's id of somebody."""
        found = (await self.firm.api().get("/v1/users", params={"query": email})).json()["data"]
        (id,) = [it["id"] for it in found if it["email"] == email]
        return str(id)

    async def audit(self, **query: str) -> list[Any]:
        """Return the audit, newest first."""
        found: list[Any] = (await self.firm.api().get("/v1/audit", params=query)).json()["data"]
        return found


async def settled(url: str, key: str, **settings: str) -> Desk:
    named: dict[str, Any] = {**settings}
    firm = make_firm(url, private_key=key, **named)
    firm.emulator.seed(SEED)
    await firm.settle()
    return Desk(firm)


@pytest.fixture
async def desk(migrated_url: str, clerk_key: str) -> AsyncIterator[Desk]:
    """The default policy, on both databases."""
    desk = await settled(migrated_url, clerk_key)
    yield desk
    await desk.firm.close()


@pytest.fixture
async def safe(sqlite_migrated_url: str, clerk_key: str) -> AsyncIterator[Desk]:
    """The default policy, on SQLite."""
    desk = await settled(sqlite_migrated_url, clerk_key)
    yield desk
    await desk.firm.close()


async def test_c1_audit_and_operations_name_both_people(desk: Desk) -> None:
    dana, sasha = await desk.id_of("dana@example.com"), await desk.id_of("sasha@example.com")
    client = desk.as_("dana@example.com")
    made = await client.post(f"{PLACE}/invitations", json={"email": "new@example.com"})
    assert made.status_code == 201, made.text
    edited = await client.patch(f"/v1/users/{dana}", json={"first_name": "Danuta"})
    assert edited.status_code == 200, edited.text

    (entries, operations) = (
        await desk.audit(person=sasha),
        (await desk.firm.api().get("/v1/operations")).json()["data"],
    )
    for action in ("invitation.send", "profile.edit"):
        found = [it for it in entries if it["action"] == action]
        assert {it["outcome"] for it in found} == {"asked", "done"}, "found under the impersonator"
        assert {(it["actor"], it["impersonator"]) for it in found} == {(dana, sasha)}
        assert [(it["actor"], it["impersonator"]) for it in operations if it["kind"] == action] == [(dana, sasha)]

    ivy = await desk.firm.services.authenticator.sessions.open(
        SessionClaims(user=desk.firm.user_id("ivy@example.com"), session="sess_2")
    )
    console = desk.firm.api(None, cookie=f"{SESSION_COOKIE}={ivy}", origin=OURS)
    assert "Sasha as Dan" in (await console.get("/audit")).text
    csv = (await desk.firm.api().get("/v1/audit/export")).text
    assert csv.splitlines()[0].endswith("impersonator")
    assert sasha in csv


async def test_c1_what_somebody_does_themselves_names_nobody_else(safe: Desk) -> None:
    await safe.as_("dana@example.com").post(f"{PLACE}/invitations", json={"email": "a@example.com"})
    token = session_token(safe.firm, "dana@example.com")
    client = safe.firm.api(None, authorization=f"Bearer {token}")
    await client.post(f"{PLACE}/invitations", json={"email": "b@example.com"})
    await safe.firm.settle()
    entries = await safe.audit()
    mine = [it["impersonator"] for it in entries if it["target"].endswith("b@example.com")]
    assert mine
    assert set(mine) == {None}
    assert {it["impersonator"] for it in entries if it["actor"] in ("clerk", "system")} <= {None}


@pytest.mark.parametrize("act", [{}, {"iss": "https://dashboard.clerk.com"}, {"sub": "user_of_another_instance"}])
async def test_c1_an_actor_that_nobody_knows_is_an_actor(safe: Desk, act: dict[str, str]) -> None:
    token = session_token(safe.firm, "dana@example.com", act=act)
    client = safe.firm.api(None, authorization=f"Bearer {token}")
    omar = await safe.id_of("omar@example.com")
    assert (await client.delete(f"{PLACE}/members/{omar}")).status_code == 403
    await client.post(f"{PLACE}/invitations", json={"email": "a@example.com"})
    (entry, *_) = await safe.audit(action="invitation.send")
    assert entry["impersonator"] == act.get("sub", "unknown")


async def blocked_calls(desk: Desk) -> list[tuple[str, str, Any]]:
    """Return every kind of change that the issue names as blocked."""
    omar, dana = await desk.id_of("omar@example.com"), await desk.id_of("dana@example.com")
    return [
        ("DELETE", f"{PLACE}/members/{omar}", None),
        ("PATCH", f"{PLACE}/members/{omar}", {"role": "org:admin"}),
        ("POST", f"{PLACE}/members/{omar}/deactivate", None),
        ("POST", f"{PLACE}/members/bulk", {"action": "remove", "user_ids": [omar]}),
        ("POST", f"{PLACE}/transfer", {"user_id": omar}),
        ("POST", f"{PLACE}/leave", None),
        ("POST", f"{PLACE}/invitations", {"text": "x@example.com y@example.com"}),
        ("DELETE", f"/v1/users/{omar}", None),
        ("POST", f"/v1/users/{omar}/ban", None),
        ("POST", f"/v1/users/{omar}/password", {"password": "correct horse battery"}),
        ("POST", f"/v1/users/{omar}/email", {"email": "other@example.com"}),
        ("PATCH", f"/v1/users/{omar}", {"email": "other@example.com"}),
        ("PATCH", f"/v1/users/{omar}", {"public_metadata": {"role": "admin"}}),
        ("POST", f"/v1/users/{omar}/sessions/end", {}),
        ("POST", f"/v1/users/{dana}/sessions/end", {}),
        ("POST", "/v1/users", {"email": "x@example.com", "public_metadata": {"role": "admin"}}),
        ("POST", "/v1/invitations", {"email": "x@example.com", "role": "admin"}),
        ("POST", "/v1/keys", {"name": "a key"}),
        ("DELETE", "/v1/keys/key_x", None),
    ]


async def test_c1_destructive_changes_are_blocked_and_the_attempt_is_audited(safe: Desk) -> None:
    client = safe.as_("ivy@example.com")
    before = safe.firm.state()
    sasha, ivy = await safe.id_of("sasha@example.com"), await safe.id_of("ivy@example.com")
    for method, path, body in await blocked_calls(safe):
        tried = len(await safe.audit(person=sasha, limit="200"))
        answer = await client.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "impersonation"), f"{method} {path}: {answer.text}"
        entries = await safe.audit(person=sasha, limit="200")
        assert len(entries) == tried + 1, f"{method} {path}"
        assert (entries[0]["actor"], entries[0]["impersonator"], entries[0]["outcome"]) == (ivy, sasha, "refused")
    assert safe.firm.state() == before


async def test_c1_the_organizations_audit_shows_what_was_tried_in_it(safe: Desk) -> None:
    omar = await safe.id_of("omar@example.com")
    await safe.as_("dana@example.com").delete(f"{PLACE}/members/{omar}")
    token = session_token(safe.firm, "dana@example.com")
    client = safe.firm.api(None, authorization=f"Bearer {token}")
    entries = (await client.get("/v1/audit", params={"organization": "northwind"})).json()["data"]
    assert (entries[0]["action"], entries[0]["outcome"]) == ("member.remove", "refused")


async def test_c1_invite_and_resend_pass(safe: Desk) -> None:
    client = safe.as_("dana@example.com")
    assert (await client.post(f"{PLACE}/invitations", json={"email": "new@example.com"})).status_code == 201
    invitation = safe.firm.state()["organization_invitations"][0]["id"]
    resent = await client.post(f"{PLACE}/invitations/{invitation}/resend")
    assert resent.status_code == 200, resent.text


async def test_c1_every_page_has_a_banner_and_the_console_blocks_too(safe: Desk) -> None:
    console = await safe.console_as("ivy@example.com")
    omar = await safe.id_of("omar@example.com")
    pages = ["/organizations/northwind/members", "/users", f"/users/{omar}", "/audit", "/operations", "/keys", "/sync"]
    for path in [*pages, "/deliveries", "/invitations", "/organizations/northwind/audit", "/commands"]:
        page = await console.get(path)
        assert page.status_code == 200, path
        assert 'id="impersonation"' in page.text, path
        assert "Sasha" in page.text, path
    assert 'id="impersonation"' in (await console.get("/organizations/nowhere/members")).text
    home = "/organizations/northwind"
    for path, form in (
        (f"{home}/members/{omar}/remove", {}),
        (f"{home}/members/{omar}/role", {"role": "org:admin"}),
        (f"{home}/members/bulk", {}),
        (f"{home}/invitations/many", {"text": "x@example.com"}),
        (f"{home}/members/{omar}/sessions/end", {}),
        (f"/users/{omar}/delete", {}),
        (f"/users/{omar}/password", {"password": "correct horse battery"}),
        (f"/users/{omar}/email", {"email": "x@example.com"}),
        ("/keys", {"name": "x", "scopes": "read"}),
    ):
        answer = await console.post(path, data=form)
        assert answer.status_code == 403, path
        assert "while you impersonate someone" in answer.text, path
    sent = await console.post(f"{home}/invitations", data={"email": "new@example.com", "role": "org:member"})
    assert sent.status_code in (200, 303), sent.text
    assert (await safe.audit(action="invitation.send"))[0]["impersonator"] == await safe.id_of("sasha@example.com")


async def test_c1_who_acts_themselves_sees_no_banner(safe: Desk) -> None:
    claims = SessionClaims(user=safe.firm.user_id("ivy@example.com"), session="sess_1")
    token = await safe.firm.services.authenticator.sessions.open(claims)
    page = await safe.firm.api(None, cookie=f"{SESSION_COOKIE}={token}").get("/users")
    assert page.status_code == 200
    assert 'id="impersonation"' not in page.text


async def test_c1_refuse_lets_nobody_in_who_acts_as_somebody_else(sqlite_migrated_url: str, clerk_key: str) -> None:
    desk = await settled(sqlite_migrated_url, clerk_key, INSTEP_IMPERSONATION="refuse")
    client, console = desk.as_("dana@example.com"), await desk.console_as("dana@example.com")
    for method, path in (("GET", f"{PLACE}/people"), ("POST", f"{PLACE}/invitations")):
        answer = await client.request(method, path, json={"email": "x@example.com"} if method == "POST" else None)
        assert (answer.status_code, answer.json()["code"]) == (403, "impersonation"), path
    page = await console.get("/organizations/northwind/members")
    assert page.status_code == 403
    assert "/sign-out" in page.text
    sasha = await desk.id_of("sasha@example.com")
    assert {it["action"] for it in await desk.audit(person=sasha)} == {"impersonation.read", "invitation.send"}
    await desk.firm.close()


async def test_c1_allow_blocks_nothing_and_names_both(sqlite_migrated_url: str, clerk_key: str) -> None:
    desk = await settled(sqlite_migrated_url, clerk_key, INSTEP_IMPERSONATION="allow")
    omar, sasha = await desk.id_of("omar@example.com"), await desk.id_of("sasha@example.com")
    answer = await desk.as_("dana@example.com").delete(f"{PLACE}/members/{omar}")
    assert answer.status_code == 200, answer.text
    assert {it["impersonator"] for it in await desk.audit(action="member.remove")} == {sasha}
    run = await desk.as_("ivy@example.com").post("/v1/sync/check")
    assert run.status_code == 200, run.text
    await desk.firm.close()


async def test_c1_every_route_that_changes_something_is_either_safe_or_blocked_by_name(safe: Desk) -> None:
    """A new route is blocked until somebody decides; this makes them decide."""
    from instep.auth.impersonation import OTHER_ACTION, find_blocked_request

    undecided = []
    for route in set(routes_of(safe.firm.app.app.router.routes)):
        method, path = route.split(" ")
        is_open = path in ("/sign-out", "/sign-in/key")
        if method in LASTING and not is_open and find_blocked_request("safe", method, path) == OTHER_ACTION:
            undecided.append(route)
    assert not undecided


def test_c1_a_database_of_before_is_migrated_and_an_older_process_goes_on_writing(database_url: str) -> None:
    import sqlalchemy as sa
    from alembic import command

    from instep.core.db import create_engine
    from instep.core.schema_migrations import _make_alembic_config, check_schema, migrate_schema

    entry = (
        "INSERT INTO instep_audit (id, at, actor, action, target, outcome) VALUES ('{}', 1, 'usr_1', 'a', 'b', 'done')"
    )
    engine = create_engine(database_url)
    with engine.connect().execution_options(instep_writes=True) as conn, conn.begin():
        command.upgrade(_make_alembic_config(conn), "0001")
        conn.execute(sa.text(entry.format("aud_1")))
    migrate_schema(engine)
    check_schema(engine)
    with engine.connect().execution_options(instep_writes=True) as conn, conn.begin():
        conn.execute(sa.text(entry.format("aud_2")))
        rows = conn.execute(sa.text("SELECT id, impersonator FROM instep_audit ORDER BY id")).all()
    assert [tuple(row) for row in rows] == [("aud_1", None), ("aud_2", None)]
    engine.dispose()
