"""A5: an admin is who may manage members by the instance's roles, whatever these are called."""

import copy
from typing import Any

import pytest

from clerk_emulator.state import role_sets, roles
from instep.app.doctor import run_diagnostics
from instep.auth.authenticator import SESSION_COOKIE
from instep.clerk.session_tokens import _Claims, normalize_claims
from instep.domain.models import SessionClaims
from instep.members.repository import find_organizations_without_admin
from tests.cases.mirror_events import DANA, MAYA, OMAR, SEED, SLUG, deliver, found, people, settled, statuses
from tests.support.world import Firm, make_firm

pytestmark = pytest.mark.anyio

MANAGE = ["org:sys_memberships:read", "org:sys_memberships:manage"]
OLD = {"org:admin": "admin", "org:member": "basic_member"}


async def with_roles(firm: Firm, named: dict[str, str], *, only: bool = True) -> Firm:
    """Return the firm at an instance whose roles have other keys, before instep has read any role.

    `named` gives the key of the admin's and of the member's role; `only`: the usual ones do not exist.
    """
    state = firm.emulator.state
    for usual, key in named.items():
        if key not in state.roles:
            roles._add_role(state, key, key.title(), MANAGE if usual == "org:admin" else MANAGE[:1])
            role_sets.add_to_initial(state, key)
    state.settings.domains_default_role = named["org:member"]
    state.settings.creator_role = named["org:admin"]
    seed = copy.deepcopy(SEED)
    for member in seed["organizations"][0]["members"]:
        member["role"] = named[member["role"]]
    firm.emulator.seed(seed)
    if only:
        for usual in named:
            if usual not in named.values():
                del state.roles[usual]
    await firm.settle()
    return firm


async def read_roles(firm: Firm) -> None:
    """Read the roles of the instance, as a worker does when it starts."""
    await firm.services.sync_services.role_reader.read_when_due()


async def signed_in(firm: Firm, email: str) -> Any:
    """Return the API as somebody who is signed in on the console."""
    claims = SessionClaims(user=firm.user_id(email), session=f"sess_{email}")
    token = await firm.services.authenticator.sessions.open(claims)
    return firm.api(None, cookie=f"{SESSION_COOKIE}={token}", **{"sec-fetch-site": "same-origin"})


@pytest.mark.parametrize("named", [OLD, {"org:admin": "org:owner", "org:member": "org:staff"}], ids=["old", "owner"])
async def test_a5_admins_of_any_key_change_members_and_invite(firm: Firm, named: dict[str, str]) -> None:
    await with_roles(firm, named)
    await read_roles(firm)
    dana, omar = await signed_in(firm, DANA), await signed_in(firm, OMAR)
    assert (
        await omar.post(f"/v1/organizations/{SLUG}/invitations", json={"email": "x@example.com"})
    ).status_code == 403
    invited = await dana.post(f"/v1/organizations/{SLUG}/invitations", json={"email": "new@example.com"})
    assert (invited.status_code, invited.json()["role"]) == (201, named["org:member"])
    path = f"/v1/organizations/{SLUG}/members"
    made = await dana.patch(f"{path}/{firm.user_id(OMAR)}", json={"role": named["org:admin"]})
    assert made.status_code == 200, made.text
    assert (await people(firm))["totals"]["admins"] == 3
    for email in (MAYA, OMAR):
        lowered = await dana.patch(f"{path}/{firm.user_id(email)}", json={"role": named["org:member"]})
        assert lowered.status_code == 200, lowered.text
    last = await dana.patch(f"{path}/{firm.user_id(DANA)}", json={"role": named["org:member"]})
    assert (last.status_code, last.json()["code"]) == (409, "last_admin")
    assert await firm.services.db.read(find_organizations_without_admin) == []


async def test_a5_until_roles_are_read_both_of_clerks_first_roles_make_an_admin(firm: Firm) -> None:
    await with_roles(firm, OLD)
    dana = await signed_in(firm, DANA)
    wanted = {"email": "new@example.com", "role": "basic_member"}
    assert (await dana.post(f"/v1/organizations/{SLUG}/invitations", json=wanted)).status_code == 201
    assert (await people(firm))["totals"]["admins"] == 2


async def test_a5_a_role_that_the_instance_does_not_have_is_422(firm: Firm) -> None:
    await settled(firm)
    await read_roles(firm)
    role = {"role": "org:unheard_of"}
    changed = await firm.api().patch(f"/v1/organizations/{SLUG}/members/{firm.user_id(OMAR)}", json=role)
    assert (changed.status_code, changed.json()["code"]) == (422, "unknown_role")
    invited = await firm.api().post(f"/v1/organizations/{SLUG}/invitations", json={"email": "n@example.com", **role})
    assert (invited.status_code, invited.json()["code"]) == (422, "unknown_role")
    text = {"text": "email,role\nx@example.com,org:unheard_of\ny@example.com,Admin\n"}
    preview = found(await firm.api().post(f"/v1/organizations/{SLUG}/invitations/preview", json=text))
    assert [(it["verdict"], it["role"]) for it in preview["lines"]] == [
        ("invalid", "org:unheard_of"),
        ("new", "org:admin"),
    ]


async def test_a5_a_custom_role_can_be_given_filtered_by_and_is_offered(firm: Firm) -> None:
    await settled(firm)
    await firm.clerk().post("/v1/organization_roles", json={"name": "Content manager", "key": "org:content"})
    role_sets.add_to_initial(firm.emulator.state, "org:content")
    await firm.settle()
    await read_roles(firm)
    path = f"/v1/organizations/{SLUG}/members/{firm.user_id(OMAR)}"
    found(await firm.api().patch(path, json={"role": "org:content"}))
    assert (await statuses(firm))[OMAR] == ["org:content active"]
    page = (await firm.api().get(f"/organizations/{SLUG}/members", params={"q": "role:content"})).text
    assert OMAR in page
    assert MAYA not in page
    assert "Content manager" in page
    form = (await firm.api().get(f"/organizations/{SLUG}/invitations/new")).text
    assert 'value="org:content"' in form


async def test_a5_webhooks_keep_the_roles_fresh(firm: Firm) -> None:
    """A role that loses the permission makes no admin any more, from its webhook on; and back."""
    await settled(firm)
    await read_roles(firm)
    role = next(
        it for it in found(await firm.clerk().get("/v1/organization_roles"))["data"] if it["key"] == "org:admin"
    )
    dana = await signed_in(firm, DANA)
    weak = {**role, "permissions": role["permissions"][:0], "updated_at": firm.clock()}
    await deliver(firm, "role.updated", weak)
    assert (await people(firm))["totals"]["admins"] == 0
    assert (
        await dana.post(f"/v1/organizations/{SLUG}/invitations", json={"email": "x@example.com"})
    ).status_code == 403
    await deliver(firm, "role.updated", {**role, "updated_at": weak["updated_at"] - 1})
    assert (await people(firm))["totals"]["admins"] == 0, "an older version changes nothing"
    await deliver(firm, "role.updated", {**role, "updated_at": firm.clock()})
    assert (await people(firm))["totals"]["admins"] == 2


async def test_a5_a_change_of_permissions_has_the_roles_read_again(firm: Firm) -> None:
    await settled(firm)
    await read_roles(firm)
    firm.emulator.state.roles["org:member"].permissions.append("org:sys_memberships:manage")
    firm.emulator.state.roles["org:member"].updated_at = firm.clock()
    await deliver(firm, "permission.updated", {"object": "permission", "id": "perm_1", "key": "org:x:y"})
    assert (await people(firm))["totals"]["admins"] == 3


async def test_a5_a_deleted_role_stays_deleted(firm: Firm) -> None:
    await settled(firm)
    made = (await firm.clerk().post("/v1/organization_roles", json={"name": "Guest", "key": "org:guest"})).json()
    await firm.settle()
    await read_roles(firm)
    await deliver(firm, "role.deleted", {"id": made["id"], "object": "role", "deleted": True})
    await firm.services.sync_services.role_reader.read()
    changed = await firm.api().patch(
        f"/v1/organizations/{SLUG}/members/{firm.user_id(OMAR)}", json={"role": "org:guest"}
    )
    assert (changed.status_code, changed.json()["code"]) == (422, "unknown_role")


async def test_a5_a_webhook_of_one_role_is_not_taken_for_all_of_them(firm: Firm) -> None:
    """Before the roles were read, admins by their usual keys stay admins."""
    await settled(firm)
    await firm.clerk().post("/v1/organization_roles", json={"name": "Guest", "key": "org:guest"})
    await firm.settle()
    assert (await people(firm))["totals"]["admins"] == 2


async def test_a5_sync_reads_the_roles(firm: Firm) -> None:
    await with_roles(firm, {"org:admin": "org:owner", "org:member": "org:member"})
    assert (await people(firm))["totals"]["admins"] == 0
    await firm.services.sync_services.sync.check(actor="system")
    assert (await people(firm))["totals"]["admins"] == 2


async def test_a5_the_settings_name_further_admins_roles(sqlite_migrated_url: str, clerk_key: str) -> None:
    firm = make_firm(sqlite_migrated_url, private_key=clerk_key, INSTEP_ADMIN_ROLES="org:member")
    try:
        await settled(firm)
        await read_roles(firm)
        assert (await people(firm))["totals"]["admins"] == 3
        omar = await signed_in(firm, OMAR)
        invited = await omar.post(f"/v1/organizations/{SLUG}/invitations", json={"email": "n@example.com"})
        assert invited.status_code == 201, invited.text
    finally:
        await firm.close()


async def test_a5_an_organization_is_handed_over_in_the_roles_of_the_instance(firm: Firm) -> None:
    await with_roles(firm, OLD)
    await read_roles(firm)
    dana = await signed_in(firm, DANA)
    moved = await dana.post(f"/v1/organizations/{SLUG}/transfer", json={"user_id": firm.user_id(OMAR)})
    assert moved.status_code == 200, moved.text
    assert await statuses(firm) == {
        DANA: ["basic_member active"],
        MAYA: ["admin active"],
        OMAR: ["admin active"],
    }


async def test_a5_doctor_names_the_roles_and_the_events_to_subscribe_to(firm: Firm) -> None:
    await with_roles(firm, OLD)
    async with firm.port() as address:
        settings = firm.services.settings.model_copy(update={"clerk_api_url": address})
        said = {it.what: it for it in await run_diagnostics(settings)}
    assert said["Roles"].is_good
    assert "admins: admin; default: basic_member" in said["Roles"].text
    assert "role.*, permission.*" in " ".join(it.text for it in said.values())


def test_a5_a_token_names_a_role_and_decides_nothing_by_it() -> None:
    """`o.rol` has no prefix, also where the role's key has none: rights come from the mirror alone."""
    claims = {"v": 2, "sub": "user_1", "sid": "sess_1", "iss": "x", "exp": 1, "nbf": 1, "iat": 1}
    import msgspec

    told = normalize_claims(msgspec.convert({**claims, "o": {"id": "org_1", "rol": "basic_member"}}, _Claims))
    assert told.role == "org:basic_member"
