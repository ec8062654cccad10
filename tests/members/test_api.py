"""REST routes of members: each change, bulk changes, the impact of a change, and the export."""

import csv
import io
from typing import Any

import httpx2
import pytest

from instep.auth.authenticator import SESSION_COOKIE
from instep.domain.models import ADMIN_ROLE, MEMBER_ROLE, SessionClaims
from tests.members.firms import (
    ADA,
    BOB,
    DAN,
    EVE,
    KIM,
    SLUG,
    ZOE,
    furnish,
    in_clerk,
    member,
    open_sessions,
    recover,
    refuse,
    sign_in,
    status_and_role,
)
from tests.support.world import Firm

pytestmark = pytest.mark.anyio
HOME = f"/v1/organizations/{SLUG}"


async def as_(firm: Firm, email: str) -> httpx2.AsyncClient:
    """The API in the hand of a person who is signed in to the console."""
    sign_in(firm, email)
    claims = SessionClaims(user=firm.user_id(email), session="sess_of_" + email.partition("@")[0])
    token = await firm.services.authenticator.sessions.open(claims)
    return firm.api(None, cookie=f"{SESSION_COOKIE}={token}", **{"sec-fetch-site": "same-origin"})


def status_and_code(response: httpx2.Response) -> tuple[int, str | None]:
    return response.status_code, response.json().get("code")


async def test_each_change_over_rest_by_either_id(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    api, bob = firm.api(), firm.user_id(BOB)
    ours = (await member(firm, BOB)).user_id
    changed = (await api.patch(f"{HOME}/members/{bob}", json={"role": ADMIN_ROLE})).json()
    assert (changed["member"]["role"], changed["is_open"], changed["notices"]) == (ADMIN_ROLE, False, [])
    assert changed["operation"].startswith("op_")
    again = (await api.patch(f"{HOME}/members/{ours}", json={"role": ADMIN_ROLE})).json()
    assert again["operation"] is None
    for name, status in (("deactivate", "deactivated"), ("reactivate", "active")):
        answer = await api.post(f"{HOME}/members/{bob}/{name}")
        assert (answer.status_code, answer.json()["member"]["status"]) == (200, status)
    removed = await api.delete(f"{HOME}/members/{bob}")
    assert removed.json()["member"]["status"] == "removed"
    assert (await api.post(f"{HOME}/members/{bob}/restore")).json()["member"]["status"] == "active"
    assert in_clerk(firm, BOB) == ADMIN_ROLE


async def test_a_member_is_refused_and_another_organization_learns_nothing(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    bob, zoe, eve = await as_(firm, BOB), await as_(firm, ZOE), firm.user_id(EVE)
    assert status_and_code(await bob.patch(f"{HOME}/members/{eve}", json={"role": ADMIN_ROLE})) == (403, "forbidden")
    assert status_and_code(await bob.get(f"{HOME}/members/{eve}/consequences")) == (403, "forbidden")
    assert status_and_code(await bob.post(f"{HOME}/members/bulk", json={"action": "remove", "user_ids": [eve]})) == (
        403,
        "forbidden",
    )
    assert status_and_code(await zoe.delete(f"{HOME}/members/{eve}")) == (404, "not_found")
    assert status_and_code(await firm.api(None).delete(f"{HOME}/members/{eve}")) == (401, "unauthenticated")
    assert status_and_code(await zoe.delete(f"/v1/organizations/globex/members/{firm.user_id(BOB)}")) == (
        404,
        "not_found",
    )
    left = await bob.post(f"{HOME}/leave")
    assert left.json()["member"]["status"] == "removed"
    assert (await bob.get(f"{HOME}/people")).status_code == 404


async def test_transfer_and_the_last_admin(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    ada = await as_(firm, ADA)
    await ada.delete(f"{HOME}/members/{firm.user_id(DAN)}")
    problem = await ada.post(f"{HOME}/leave")
    assert status_and_code(problem) == (409, "last_admin")
    assert problem.json()["detail"] == "This is the last admin. Make someone else an admin first."
    assert status_and_code(await firm.api().post(f"{HOME}/transfer", json={"user_id": firm.user_id(BOB)})) == (
        403,
        "not_owner",
    )
    given = await ada.post(f"{HOME}/transfer", json={"user_id": firm.user_id(BOB)})
    assert given.json()["member"]["role"] == ADMIN_ROLE
    assert await status_and_role(firm, ADA) == ("active", MEMBER_ROLE)


async def test_an_unknown_outcome_is_a_202_with_the_operation(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    firm.emulator.fail("UpdateOrganizationMembership", status=429, retry_after=5, count=1)
    answer = await firm.api().patch(f"{HOME}/members/{firm.user_id(BOB)}", json={"role": ADMIN_ROLE})
    assert answer.status_code == 202
    await recover(firm)
    assert await status_and_role(firm, BOB) == ("active", ADMIN_ROLE)


async def test_a_repeated_request_is_one_change(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    api, path = firm.api(), f"{HOME}/members/{firm.user_id(BOB)}/deactivate"
    both = [(await api.post(path, headers={"Idempotency-Key": "k1"})).json()["operation"] for _ in range(2)]
    assert both[0] == both[1]
    assert status_and_code(await api.post(path)) == (409, "deactivated")


async def test_a_bulk_change_has_a_result_for_each_member(firm: Firm) -> None:
    await furnish(firm)
    api = firm.api()
    refuse(firm, "DeleteOrganizationMembership", "organization_membership_managed_by_scim", status=409)
    ids = [firm.user_id(it) for it in (ADA, DAN)]
    payload = {"action": "role", "role": MEMBER_ROLE, "user_ids": [*ids, firm.user_id(BOB), "user_none", ids[0]]}
    answer = (await api.post(f"{HOME}/members/bulk", json=payload)).json()
    outcomes = [(row["outcome"], row["code"]) for row in answer["data"]]
    assert sorted(outcomes[:2], key=str) == [("done", None), ("refused", "last_admin")], "one of two admins stays"
    assert outcomes[2:] == [("unchanged", None), ("refused", "not_found")]
    assert (answer["done"], answer["refused"]) == (2, 2)
    removed = {"action": "remove", "user_ids": [firm.user_id(BOB)]}
    row = (await api.post(f"{HOME}/members/bulk", json=removed)).json()["data"][0]
    assert (row["outcome"], row["code"], row["message"]) == (
        "refused",
        "managed_by_directory",
        "This is managed by your directory. Change it there.",
    )
    out = {"action": "deactivate", "user_ids": [firm.user_id(it) for it in (BOB, EVE, KIM)]}
    headers = {"Idempotency-Key": "many"}
    first = (await api.post(f"{HOME}/members/bulk", json=out, headers=headers)).json()
    again = (await api.post(f"{HOME}/members/bulk", json=out, headers=headers)).json()
    assert first == again
    assert [row["outcome"] for row in first["data"]] == ["done"] * 3
    back = {"action": "reactivate", "user_ids": [firm.user_id(KIM)]}
    assert (await api.post(f"{HOME}/members/bulk", json=back)).json()["done"] == 1


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({"action": "role", "user_ids": ["a"]}, "role_missing"),
        ({"action": "erase", "user_ids": ["a"]}, "invalid_request"),
        ({"action": "remove", "user_ids": []}, "invalid_request"),
    ],
)
async def test_an_invalid_bulk_request_changes_nobody(sqlite_firm: Firm, payload: dict[str, Any], code: str) -> None:
    firm = await furnish(sqlite_firm)
    assert status_and_code(await firm.api().post(f"{HOME}/members/bulk", json=payload)) == (422, code)


async def test_the_impact_of_a_removal_can_be_previewed(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    for _ in range(2):
        sign_in(firm, ADA)
    async with firm.clerk() as clerk:
        for email, inviter in (("new@x.example", ADA), ("other@x.example", DAN)):
            payload = {"email_address": email, "role": MEMBER_ROLE, "inviter_user_id": firm.user_id(inviter)}
            path = f"/v1/organizations/{firm.organization_id(SLUG)}/invitations"
            assert (await clerk.post(path, json=payload)).is_success
    root, ada = firm.api(), firm.user_id(ADA)
    impact = (await root.get(f"{HOME}/members/{ada}/consequences")).json()
    assert (impact["sessions"], impact["invitations"]) == (open_sessions(firm, ADA), ["new@x.example"])
    assert (impact["no_removal"], impact["no_deactivation"]) == (None, None)
    await root.delete(f"{HOME}/members/{firm.user_id(DAN)}")
    last = (await root.get(f"{HOME}/members/{ada}/consequences")).json()
    assert last["no_removal"] == last["no_deactivation"] == "This is the last admin. Make someone else an admin first."
    firm.emulator.fail("*", status=503)
    blind = (await root.get(f"{HOME}/members/{ada}/consequences")).json()
    assert (blind["sessions"], blind["invitations"]) == (None, None)


async def test_the_impact_names_only_visible_organizations(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    path = f"{HOME}/members/{firm.user_id(EVE)}/consequences"
    assert (await firm.api().get(path)).json()["organizations"] == ["Globex"]
    assert (await (await as_(firm, ADA)).get(path)).json()["organizations"] == []


async def test_the_csv_export_contains_no_formulas(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    async with firm.clerk() as clerk:
        await clerk.patch(f"/v1/users/{firm.user_id(BOB)}", json={"first_name": "=1+1", "last_name": '"quoted", too'})
    await firm.settle()
    answer = await firm.api().get(f"{HOME}/people/export", params={"limit": 1})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="people.csv"'
    assert answer.text.startswith("\ufeffkind,email,"), "a spreadsheet takes it for what it is"
    rows = list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))
    assert [row["email"] for row in rows] == sorted((ADA, BOB, DAN, EVE, KIM), key=lambda it: (it != BOB, it))
    assert (rows[0]["first_name"], rows[0]["last_name"]) == ("'=1+1", '"quoted", too')
    assert (rows[1]["kind"], rows[1]["role"], rows[1]["status"]) == ("member", ADMIN_ROLE, "active")


async def test_the_export_applies_filters_and_reads_all_pages(
    sqlite_firm: Firm, monkeypatch: pytest.MonkeyPatch
) -> None:
    firm = await furnish(sqlite_firm)
    monkeypatch.setattr("instep.members.service.EXPORT_PAGE_SIZE", 2)
    async with firm.clerk() as clerk:
        path = f"/v1/organizations/{firm.organization_id(SLUG)}/invitations"
        for n in range(3):
            await clerk.post(path, json={"email_address": f"new{n}@x.example", "role": MEMBER_ROLE})
    api = firm.api()
    everyone = (await api.get(f"{HOME}/people/export", params={"format": "json"})).json()
    assert len(everyone["data"]) == 8
    listed = (await api.get(f"{HOME}/people", params={"limit": 100})).json()
    assert everyone["data"] == listed["data"]
    admins = (await api.get(f"{HOME}/people/export", params={"format": "json", "role": ADMIN_ROLE})).json()
    assert [it["member"]["email"] for it in admins["data"]] == [ADA, DAN]
    nobody = (await api.get(f"{HOME}/people/export", params={"format": "json", "query": "nobody"})).json()
    assert nobody == {"warnings": [], "data": []}
    assert status_and_code(await api.get(f"{HOME}/people/export", params={"status": "odd"})) == (422, "unknown_status")


async def test_an_export_without_invitations_is_marked_incomplete(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    firm.emulator.fail("ListOrganizationInvitations", status=503)
    answer = await firm.api().get(f"{HOME}/people/export")
    assert answer.status_code == 200
    assert "Pending invitations could not be loaded" in answer.headers["instep-incomplete"]
