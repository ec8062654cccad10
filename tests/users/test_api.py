"""Users through REST: every case of the profile edit, and all other routes with their refusals."""

from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from instep.core.clock import MINUTE
from instep.mirror.tables import users
from tests.support.world import Firm, make_firm
from tests.users.firms import (
    ADA,
    BOB,
    CLEO,
    LOU,
    clerk_user,
    count_rows,
    furnish,
    operations,
    person,
    recover,
    refuse,
    require_equal,
    silence,
    standing,
)

pytestmark = pytest.mark.anyio


async def edit(firm: Firm, ref: str, **fields: Any) -> httpx2.Response:
    """Edit somebody by the break-glass key."""
    async with firm.api() as api:
        return await api.patch(f"/v1/users/{(await person(firm, ref)).id}", json=fields)


async def mirrored(firm: Firm) -> list[Any]:
    """Everything the mirror has of people."""
    query = sa.select(users).order_by(users.c.id)
    return await firm.services.db.read(lambda conn: list(conn.execute(query).all()))


async def test_the_name_of_someone_in_clerk_is_changed_on_both_sides(firm: Firm) -> None:
    await furnish(firm)
    answer = await edit(firm, BOB, first_name=" Robert ", username="robin", public_metadata={"team": {"id": 1}})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["first_name"], body["last_name"], body["username"]) == ("Robert", "Brown", "robin")
    assert body["public_metadata"] == {"team": {"id": 1}}
    there = clerk_user(firm, firm.user_id(BOB))
    assert there is not None
    assert (there.first_name, there.username, there.public_metadata) == ("Robert", "robin", {"team": {"id": 1}})
    await require_equal(firm)
    await edit(firm, BOB, last_name=None, username="robin", public_metadata={"team": None})
    assert (await person(firm, BOB)).last_name is None
    await firm.settle()
    await require_equal(firm)


async def test_attributes_belong_to_the_database_alone(firm: Firm) -> None:
    await furnish(firm)
    versions = [it.version for it in await mirrored(firm)]
    body = (await edit(firm, BOB, attributes={"floor": 3, "keys": {"a": 1, "b": 2}})).json()
    body = (await edit(firm, BOB, attributes={"keys": {"a": None}})).json()
    assert body["attributes"] == {"floor": 3, "keys": {"b": 2}}
    assert [it.version for it in await mirrored(firm)] == versions


async def test_the_address_of_someone_in_clerk_requires_an_invitation(firm: Firm) -> None:
    await furnish(firm)
    before = await mirrored(firm)
    answer = await edit(firm, BOB, email="robert@example.com")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["requires_invitation"], body["outcome"]) == (True, "requires_invitation")
    assert body["consequences"] == [
        f"robert@example.com is invited to Acme as org:member, and {BOB} is deactivated there.",
        f"robert@example.com is invited to Beta as org:member, and {BOB} is deactivated there.",
        f"{BOB} can no longer sign in after that. The user signs in with robert@example.com instead.",
    ]
    assert await mirrored(firm) == before
    assert [it.kind for it in await operations(firm)] == ["user.create"]


async def test_someone_without_a_clerk_account_is_edited_in_the_database_only(firm: Firm) -> None:
    await furnish(firm)
    calls = len(firm.emulator.request_log.list())
    body = (await edit(firm, LOU, first_name="Louis", email="louis@example.com", attributes={"a": 1})).json()
    assert (body["first_name"], body["email"], body["attributes"]) == ("Louis", "louis@example.com", {"a": 1})
    assert body["status"] == "local"
    assert len(firm.emulator.request_log.list()) == calls
    async with firm.api() as api:
        found = (await api.get("/v1/users", params={"query": "louis"})).json()
    assert [it["id"] for it in found["data"]] == [body["id"]]


async def test_a_failure_of_clerks_leaves_the_database_untouched(firm: Firm) -> None:
    await furnish(firm)
    before = await mirrored(firm)
    firm.emulator.fail("UpdateUser", status=500, count=1)
    answer = await edit(firm, BOB, first_name="Robert")
    assert (answer.status_code, answer.json()["code"]) == (503, "clerk_sync_failed")
    assert answer.json()["detail"] == (
        "Failed to sync with Clerk authentication system: Clerk failed with status 500. Nothing was changed."
    )
    assert await mirrored(firm) == before
    await recover(firm)
    assert await mirrored(firm) == before
    await require_equal(firm)


@pytest.mark.parametrize("policy", ["force", "verify"])
async def test_a_duplicate_address_is_an_error_and_changes_nothing(sqlite_firm: Firm, policy: Any) -> None:
    firm = await furnish(sqlite_firm, policy=policy)
    before = await mirrored(firm)
    for ref, taken in ((BOB, ADA.upper()), (LOU, ADA), (BOB, LOU)):
        answer = await edit(firm, ref, email=taken)
        assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (409, "email_taken", "email")
    async with firm.clerk() as clerk:  # one that only Clerk knows of
        await clerk.post("/v1/users", json={"email_address": ["new@example.com"], "skip_password_requirement": True})
    if policy == "force":
        answer = await edit(firm, BOB, email="new@example.com")
        assert (answer.status_code, answer.json()["code"]) == (409, "email_taken")
        assert answer.json()["clerk_code"] == "form_identifier_exists"
    assert await mirrored(firm) == before


async def test_a_duplicate_address_is_an_error_also_before_inviting_anew(firm: Firm) -> None:
    await furnish(firm)
    assert (await edit(firm, BOB, email=ADA)).json()["code"] == "email_taken"
    async with firm.api() as api:
        answer = await api.post(f"/v1/users/{firm.user_id(BOB)}/email", json={"email": ADA})
    assert (answer.status_code, answer.json()["code"]) == (409, "email_taken")


async def test_a_duplicate_username_is_an_error_and_changes_nothing(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    before = await mirrored(firm)
    answer = await edit(firm, ADA, username="BOBBY")
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (409, "username_taken", "username")
    refuse(firm, "UpdateUser", "form_identifier_exists", param="username")
    answer = await edit(firm, ADA, username="known_to_clerk_only")
    assert (answer.json()["code"], answer.json()["trace_id"]) == ("username_taken", "trace_1")
    assert await mirrored(firm) == before


async def test_a_lost_response_is_resolved_where_the_call_took_effect(firm: Firm) -> None:
    await furnish(firm)
    silence(firm, "PATCH", "/users/", after=True)
    answer = await edit(firm, BOB, first_name="Robert")
    assert (answer.status_code, answer.json()["first_name"]) == (200, "Robert")
    await require_equal(firm)


async def test_a_lost_response_is_resolved_where_the_call_had_no_effect(firm: Firm) -> None:
    await furnish(firm)
    silence(firm, "PATCH", "/users/", after=False)
    answer = await edit(firm, BOB, first_name="Robert")
    assert answer.status_code == 202
    assert answer.json()["operation"]["state"] == "open"
    assert (await person(firm, BOB)).first_name == "Bob"
    await recover(firm)
    assert (await person(firm, BOB)).first_name == "Robert"
    await require_equal(firm)


async def test_without_a_key_nothing_is_changed(migrated_url: str, clerk_key: str) -> None:
    firm = await furnish(make_firm(migrated_url, private_key=clerk_key))
    before = await mirrored(firm)
    firm.services.clerk._backend._is_configured = False
    answer = await edit(firm, BOB, first_name="Robert")
    assert (answer.status_code, answer.json()["code"]) == (503, "clerk_sync_failed")
    assert answer.json()["detail"] == (
        "Failed to sync with Clerk authentication system: Clerk authentication not configured. Nothing was changed."
    )
    assert await mirrored(firm) == before
    assert (await edit(firm, LOU, first_name="Louis")).status_code == 200
    await firm.close()


async def test_a_rate_limit_of_clerk_is_waited_for(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    firm.emulator.fail("UpdateUser", status=429, retry_after=600, count=1)
    answer = await edit(firm, BOB, first_name="Robert")
    assert (answer.status_code, answer.headers["retry-after"]) == (202, "600")
    firm.clock.advance(9 * MINUTE)
    assert await firm.services.executor.resume_due() == 0
    firm.clock.advance(2 * MINUTE)
    await recover(firm)
    assert (await person(firm, BOB)).first_name == "Robert"


async def test_metadata_refused_after_the_names_needs_attention(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    refuse(firm, "UpdateUserMetadata", "form_param_value_invalid")
    answer = await edit(firm, BOB, first_name="Robert", public_metadata={"a": 1}, attributes={"a": 1})
    assert answer.status_code == 409
    assert answer.json()["detail"] == (
        "The names were changed in Clerk; the metadata and the attributes were not. No: form_param_value_invalid."
    )
    await firm.settle()
    await require_equal(firm)
    assert (await operations(firm, "profile.edit"))[0].state == "attention"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"email": "no address"}, "invalid_email"),
        ({"email": ""}, "invalid_email"),
        ({"first_name": "a\x00b"}, "invalid_request"),
        ({"last_name": "x" * 300}, "invalid_name"),
        ({"public_metadata": {"a": "x" * 9000}}, "invalid_metadata"),
        ({"attributes": {"a": "\x00"}}, "invalid_request"),
        ({"first_name": "A", "email": "new@example.com"}, "email_alone"),
    ],
)
async def test_invalid_input_is_refused_before_anything_is_tried(
    sqlite_firm: Firm, fields: dict[str, Any], code: str
) -> None:
    firm = await furnish(sqlite_firm)
    before = await operations(firm)
    answer = await edit(firm, BOB, **fields)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert await operations(firm) == before


async def test_an_unknown_user_is_a_404(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    async with firm.api() as api:
        for path, code in (("usr_none", "user_not_found"), ("x" * 300, "user_not_found"), ("%00", "http_404")):
            answer = await api.patch(f"/v1/users/{path}", json={"first_name": "A"})
            assert (answer.status_code, answer.json()["code"]) == (404, code)


async def test_a_repeated_request_edits_once(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    async with firm.api() as api:
        for _ in range(2):
            path, headers = f"/v1/users/{firm.user_id(BOB)}", {"Idempotency-Key": "k"}
            assert (await api.patch(path, json={"first_name": "Robert"}, headers=headers)).status_code == 200
    assert len(await operations(firm, "profile.edit")) == 1


async def test_a_user_is_created_in_clerk_and_here(firm: Firm) -> None:
    await furnish(firm)
    new = {"email": "Dora@example.com", "first_name": "Dora", "username": "dora", "public_metadata": {"role": "admin"}}
    async with firm.api() as api:
        answer = await api.post("/v1/users", json=new | {"attributes": {"floor": 1}})
        assert answer.status_code == 201, answer.text
        made = answer.json()
        assert (made["status"], made["role"], made["attributes"]) == ("active", "admin", {"floor": 1})
        assert made["external_id"] == made["id"]
        assert made["email"] == "dora@example.com"
        assert (await api.post("/v1/users", json=new)).json()["code"] == "email_taken"
        assert (await api.post("/v1/users", json=new | {"email": "d@example.com"})).json()["code"] == "username_taken"
        found = (await api.get(f"/v1/users/{made['clerk_id']}")).json()
    assert found == made
    await firm.settle()
    await require_equal(firm)
    assert await count_rows(firm) == 5


async def test_clerks_refusal_of_a_new_user_leaves_nothing_behind(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    refuse(firm, "CreateUser", "user_quota_exceeded", status=403)
    async with firm.api() as api:
        answer = await api.post("/v1/users", json={"email": "dora@example.com"})
    assert answer.json()["code"] == "clerk_sync_failed"
    assert answer.json()["clerk_code"] == "user_quota_exceeded"
    assert await count_rows(firm) == 4


async def test_deleting_and_restoring(firm: Firm) -> None:
    await furnish(firm)
    bob, id = await person(firm, BOB), firm.user_id(BOB)
    async with firm.api() as api:
        deleted = (await api.delete(f"/v1/users/{bob.id}")).json()
        assert (deleted["status"], deleted["organizations"]) == ("deleted", [])
        assert (await api.delete(f"/v1/users/{bob.id}")).json()["code"] == "deleted"
        assert (await api.patch(f"/v1/users/{bob.id}", json={"first_name": "X"})).json()["code"] == "deleted"
        assert clerk_user(firm, id) is None
        await firm.settle()
        restored = (await api.post(f"/v1/users/{bob.id}/restore")).json()
        assert (restored["id"], restored["status"], restored["clerk_id"]) == (bob.id, "local", None)
        assert (await api.post(f"/v1/users/{bob.id}/restore")).json()["code"] == "not_deleted"
        assert (await api.get(f"/v1/users/{id}")).status_code == 404
    await require_equal(firm)


@pytest.mark.parametrize("choice", ["ban", "keep"])
async def test_deleting_here_and_not_in_clerk_is_fully_undone(firm: Firm, choice: str) -> None:
    await furnish(firm)
    bob = await person(firm, BOB)
    before = await standing(firm, bob.id)
    async with firm.api() as api:
        deleted = (await api.delete(f"/v1/users/{bob.id}", params={"clerk": choice})).json()
        assert (deleted["status"], {it["status"] for it in deleted["organizations"]}) == ("deleted", {"deactivated"})
        await firm.settle()
        there = clerk_user(firm, firm.user_id(BOB))
        assert there is not None
        assert there.banned is (choice == "ban")
        restored = (await api.post(f"/v1/users/{bob.id}/restore")).json()
        assert (restored["status"], restored["clerk_id"]) == ("active", bob.clerk_id)
    assert await standing(firm, bob.id) == before
    await firm.settle()
    await require_equal(firm)


async def test_banning_and_unbanning(firm: Firm) -> None:
    await furnish(firm)
    bob = await person(firm, BOB)
    async with firm.api() as api:
        banned = (await api.post(f"/v1/users/{bob.id}/ban")).json()
        assert (banned["status"], banned["note"]) == ("banned", None)
        assert (await api.post(f"/v1/users/{bob.id}/unban")).json()["status"] == "active"
        local = (await person(firm, LOU)).id
        assert (await api.post(f"/v1/users/{local}/ban")).json()["status"] == "banned"
        assert (await api.post(f"/v1/users/{local}/unban")).json()["status"] == "local"
    await firm.settle()
    await require_equal(firm)


async def test_a_plan_without_bans_deactivates_here_and_signs_out(firm: Firm) -> None:
    await furnish(firm)
    bob = await person(firm, BOB)
    async with firm.clerk() as clerk:
        session = (await clerk.post("/v1/sessions", json={"user_id": bob.clerk_id})).json()
        for _ in range(2):
            refuse(firm, "BanUser", "unsupported_subscription_plan_features", status=402)
            async with firm.api() as api:
                banned = (await api.post(f"/v1/users/{bob.id}/ban")).json()
            assert banned["status"] == "deactivated"
            assert (
                banned["note"] == "Your Clerk plan does not include bans. Deactivated here, and signed out everywhere."
            )
        assert (await clerk.get(f"/v1/sessions/{session['id']}")).json()["status"] == "revoked"
    async with firm.api() as api:
        assert (await api.post(f"/v1/users/{bob.id}/unban")).json()["status"] == "active"


async def test_the_last_admin_is_neither_deleted_nor_banned_nor_reinvited(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    id = (await person(firm, ADA)).id
    async with firm.api() as api:
        answers = [
            await api.delete(f"/v1/users/{id}"),
            await api.post(f"/v1/users/{id}/ban"),
            await api.post(f"/v1/users/{id}/email", json={"email": "new@example.com"}),
            await api.patch(f"/v1/users/{id}", json={"email": "new@example.com"}),
        ]
    assert {(it.status_code, it.json()["code"]) for it in answers} == {(409, "last_admin")}
    assert answers[0].json()["detail"] == "This is the last admin. Make someone else an admin first. (Acme)"


async def test_the_list_has_all_users_with_their_status(firm: Firm) -> None:
    await furnish(firm)
    bob, cleo, lou = [await person(firm, it) for it in (BOB, CLEO, LOU)]
    async with firm.api() as api:

        async def ids(**wish: Any) -> list[str]:
            answer = await api.get("/v1/users", params=wish)
            assert answer.status_code == 200, answer.text
            return [it["email"] for it in answer.json()["data"]]

        assert set(await ids()) == {ADA, BOB, CLEO, LOU}
        await api.post(f"/v1/users/{bob.id}/ban")
        await api.delete(f"/v1/users/{lou.id}")
        assert await ids(status="banned") == [BOB]
        assert await ids(status="deleted") == [LOU]
        assert set(await ids(status=["active", "deleted"])) == {ADA, CLEO, LOU}
        assert set(await ids()) == {ADA, BOB, CLEO}
        assert set(await ids(organization="beta")) == {BOB, CLEO}
        assert await ids(organization="beta", query="clark") == [CLEO]
        assert await ids(query="CLEO@beta.example") == [CLEO]
        assert await ids(query=cleo.clerk_id) == [CLEO]
        assert await ids(query="cleo@be") == [CLEO]
        assert await ids(query="100%") == []
        (row,) = (await api.get("/v1/users", params={"query": BOB})).json()["data"]
        assert [(it["name"], it["role"], it["status"]) for it in row["organizations"]] == [
            ("Acme", "org:member", "banned"),
            ("Beta", "org:member", "banned"),
        ]


async def test_pages_continue_where_the_previous_ended(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    seen: list[str] = []
    async with firm.api() as api:
        cursor: str | None = None
        while True:
            params = {"limit": 1} | ({"cursor": cursor} if cursor else {})
            page = (await api.get("/v1/users", params=params)).json()
            seen += [it["email"] for it in page["data"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        for bad in ("?", "AAAA", "OTk5", "x" * 100):
            answer = await api.get("/v1/users", params={"cursor": bad})
            assert (answer.status_code, answer.json()["code"]) == (422, "bad_cursor")
    assert len(seen) == len(set(seen)) == 4
    assert seen[0] == LOU


async def test_nothing_is_revealed_without_signing_in(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    async with firm.api(key=None) as api:
        for method, path in (("GET", ""), ("POST", ""), ("GET", "/x"), ("PATCH", "/x"), ("DELETE", "/x")):
            answer = await api.request(method, f"/v1/users{path}", json={} if method == "PATCH" else None)
            assert answer.status_code in (401, 422), path
