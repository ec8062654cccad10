"""The table of operations, and every answer, against both versions of Clerk's specification."""

from typing import Any

import pytest

from clerk_emulator.routes.api import HANDLERS
from clerk_emulator.routes.operations import OPERATIONS, match
from tests.clerk_emulator.people import Backend
from tests.clerk_emulator.specification import faults, follow, load

VERSIONS = ("2025-11-10", "2026-05-12")


class Checked(Backend):
    """A Backend whose answers are held against the specification."""

    document: Any = None
    seen: set[str] = set()  # noqa: RUF012 - one test, one class
    version = ""

    async def raw(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        response = await super().raw(method, path, body, __clerk_api_version=self.version, **query)
        found = match(method, path)
        assert found is not None
        operation = self.document["paths"][found[0].path][method.lower()]
        declared = operation["responses"]
        assert str(response.status_code) in declared, f"{found[0].id}: {response.status_code} is not declared"
        answer = follow(self.document, declared[str(response.status_code)])
        content = answer.get("content", {}).get("application/json", {})
        if content:
            wrong = faults(self.document, content["schema"], response.json())
            assert not wrong, f"{found[0].id} {response.status_code}: {wrong}"
        if response.status_code == 200:
            self.seen.add(found[0].id)
        return response


@pytest.fixture(params=VERSIONS)
def checked(request: pytest.FixtureRequest, backend: Backend) -> Checked:
    document = load(f"bapi-{request.param}.yml")
    kind = type("Checked", (Checked,), {"document": document, "seen": set(), "version": request.param})
    made: Checked = kind(backend.http)
    return made


async def act_people(api: Checked) -> dict[str, Any]:
    user = await api.user("ada@example.com", first_name="Ada", password="correct horse", external_id="e1", locale="en")
    path = f"/users/{user['id']}"
    await api("GET", path)
    await api("GET", "/users", query="ada")
    await api("GET", "/users/count")
    await api("PATCH", path, {"last_name": "North", "username": "ada"})
    await api("PATCH", f"{path}/metadata", {"public_metadata": {"a": {"b": [1]}}})
    await api("PUT", f"{path}/metadata", {"private_metadata": {"c": None}})
    for verb in ("ban", "unban", "lock", "unlock"):
        await api("POST", f"{path}/{verb}")
        if verb in ("ban", "unban"):
            await api("POST", f"/users/{verb}", {"user_ids": [user["id"]]})
    await api("POST", f"{path}/verify_password", {"password": "correct horse"})
    await api("POST", f"{path}/remove_password", {})
    await api.no("GET", "/users/user_none")
    await api.no("POST", "/users", {"email_address": ["ada@example.com"]})
    email = await api("POST", "/email_addresses", {"user_id": user["id"], "email_address": "two@example.com"})
    mail = f"/email_addresses/{email['id']}"
    proof = await api("POST", f"{mail}/prepare_verification")
    await api("POST", f"{mail}/attempt_verification", {"verification_id": proof["id"], "code": "424242"})
    await api("GET", mail)
    await api("PATCH", mail, {"primary": True})
    await api("DELETE", f"/email_addresses/{user['primary_email_address_id']}")
    await api("PUT", f"{path}/email_address", {"email_address": "ada@example.com"})
    return user


async def act_organizations(api: Checked, admin: dict[str, Any]) -> dict[str, Any]:
    firm: dict[str, Any] = await api("POST", "/organizations", {"name": "Northwind", "created_by": admin["id"]})
    path = f"/organizations/{firm['id']}"
    await api("GET", path, include_members_count="true", include_missing_member_with_elevated_permissions="true")
    await api("GET", "/organizations")
    await api("PATCH", path, {"max_allowed_memberships": 50})
    await api("PATCH", f"{path}/metadata", {"public_metadata": {"a": 1}})
    await api("PUT", f"{path}/metadata", {"public_metadata": {}})
    bo = await api.user("bo@example.com")
    await api("POST", f"{path}/memberships", {"user_id": bo["id"], "role": "org:member"})
    await api("GET", f"{path}/memberships")
    await api("GET", "/organization_memberships")
    await api("GET", f"/users/{bo['id']}/organization_memberships")
    await api("PATCH", f"{path}/memberships/{bo['id']}", {"role": "org:admin"})
    await api("PATCH", f"{path}/memberships/{bo['id']}/metadata", {"public_metadata": {"a": 1}})
    await api("DELETE", f"{path}/memberships/{bo['id']}")
    return firm


async def act_invitations(api: Checked, firm: dict[str, Any], admin: dict[str, Any]) -> None:
    path = f"/organizations/{firm['id']}/invitations"
    made = await api.invite(firm, "cy@example.com", inviter_user_id=admin["id"])
    await api("POST", f"{path}/bulk", [{"email_address": "bo@example.com", "role": "org:member"}])
    await api("GET", path)
    await api("GET", f"{path}/pending")
    await api("GET", f"{path}/{made['id']}")
    await api("GET", "/organization_invitations")
    bo = (await api("GET", "/users", email_address="bo@example.com"))[0]
    await api("GET", f"/users/{bo['id']}/organization_invitations")
    await api("POST", f"{path}/{made['id']}/revoke")
    await api.no("POST", f"{path}/{made['id']}/revoke")
    await api.no("POST", path, {"email_address": "bo@example.com", "role": "org:member"})
    invitation = await api("POST", "/invitations", {"email_address": "di@example.com"})
    await api("POST", "/invitations/bulk", [{"email_address": "ed@example.com"}])
    await api("GET", "/invitations")
    await api("POST", f"/invitations/{invitation['id']}/revoke")


async def act_rest(api: Checked, admin: dict[str, Any], firm: dict[str, Any]) -> None:
    session = await api("POST", "/sessions", {"user_id": admin["id"], "active_organization_id": firm["id"]})
    await api("GET", f"/sessions/{session['id']}")
    await api("GET", "/sessions", user_id=admin["id"])
    await api("POST", f"/sessions/{session['id']}/tokens", {})
    await api("POST", f"/sessions/{session['id']}/revoke")
    role = (await api("GET", "/organization_roles"))["data"][0]
    await api("GET", f"/organization_roles/{role['id']}")
    permission = (await api("GET", "/organization_permissions"))["data"][0]
    await api("GET", f"/organization_permissions/{permission['id']}")
    for path in ("/jwks", "/instance", "/domains", "/instance/organization_settings"):
        await api("GET", path)
    await api("PATCH", "/instance/organization_settings", {"max_allowed_memberships": 9})
    await api("DELETE", f"/organizations/{firm['id']}")
    await api("DELETE", f"/users/{admin['id']}")


@pytest.mark.anyio
async def test_every_answer_is_as_specified(checked: Checked) -> None:
    admin = await act_people(checked)
    firm = await act_organizations(checked, admin)
    await act_invitations(checked, firm, admin)
    await act_rest(checked, admin, firm)
    assert not set(HANDLERS) - checked.seen, "an operation was never called here"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_table_of_operations_is_the_specifications(version: str) -> None:
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
