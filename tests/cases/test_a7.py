"""A7: a field that Clerk did not send is as it was, not empty."""

from typing import Any

import pytest

from tests.cases.mirror_events import DANA, MAYA, OMAR, SLUG, deliver, found, membership_of, people, settled, user_of
from tests.support.world import Firm

pytestmark = pytest.mark.anyio


async def organization(firm: Firm) -> tuple[Any, ...]:
    """Return what the mirror holds of the organization."""
    (row,) = (await firm.services.db.read(_organizations)).values()
    return row["name"], row["slug"], row["max_members"], row["public_metadata"], row["version"]


def _organizations(conn: Any) -> dict[str, Any]:
    from instep.mirror.tables import organizations

    return {row.id: row._mapping for row in conn.execute(organizations.select())}


async def test_a7_an_embedded_organization_with_missing_fields_empties_nothing(firm: Firm) -> None:
    await settled(firm)
    before = await organization(firm)
    assert before[2:4] == (50, {"plan": "gold"})
    membership = await membership_of(firm, OMAR)
    whole = membership["organization"]
    for missing in (
        ("public_metadata", "max_allowed_memberships"),
        ("slug", "name", "public_metadata", "max_allowed_memberships"),
    ):
        for version in (whole["updated_at"], firm.clock()):
            partial = {name: value for name, value in whole.items() if name not in missing}
            data = {**membership, "updated_at": firm.clock(), "organization": partial | {"updated_at": version}}
            await deliver(firm, "organizationMembership.updated", data)
            assert (await organization(firm))[:4] == before[:4]


async def test_a7_an_embedded_organization_with_missing_fields_does_not_win_by_its_version(firm: Firm) -> None:
    """The whole one, which comes after it with the same version, counts."""
    await settled(firm)
    membership = await membership_of(firm, OMAR)
    whole = {**membership["organization"], "updated_at": firm.clock(), "public_metadata": {"plan": "silver"}}
    partial = {name: value for name, value in whole.items() if name != "public_metadata"}
    await deliver(
        firm,
        "organizationMembership.updated",
        {**membership, "updated_at": firm.clock(), "organization": partial},
    )
    await deliver(firm, "organization.updated", whole)
    assert (await organization(firm))[3] == {"plan": "silver"}


async def test_a7_a_user_with_missing_fields_keeps_them(firm: Firm) -> None:
    await settled(firm)
    path = f"/v1/users/{firm.user_id(MAYA)}"
    await firm.api().patch(path, json={"first_name": "Maya", "public_metadata": {"floor": 3}})
    await firm.settle()
    await deliver(firm, "user.updated", await user_of(firm, MAYA, banned=True))
    before = found(await firm.api().get(path))
    kept = ("first_name", "email_addresses", "primary_email_address_id", "public_metadata", "external_id", "banned")
    sent = await user_of(firm, MAYA, last_name="Cohen")
    await deliver(
        firm, "user.updated", {name: value for name, value in sent.items() if name not in (*kept, "deprovisioned")}
    )
    after = found(await firm.api().get(path))
    assert after["last_name"] == "Cohen"
    assert {name: after[name] for name in ("first_name", "email", "public_metadata", "status")} == {
        name: before[name] for name in ("first_name", "email", "public_metadata", "status")
    }


async def test_a7_an_organization_with_missing_fields_keeps_them(firm: Firm) -> None:
    await settled(firm)
    whole = (await membership_of(firm, OMAR))["organization"]
    data = {"id": whole["id"], "name": "Northwind & Co", "updated_at": firm.clock()}
    await deliver(firm, "organization.updated", data)
    assert (await organization(firm))[:4] == ("Northwind & Co", SLUG, 50, {"plan": "gold"})


async def test_a7_a_membership_that_says_nothing_of_its_person_changes_nothing_of_them(firm: Firm) -> None:
    await settled(firm)
    await firm.clerk().post(f"/v1/users/{firm.user_id(MAYA)}/ban")
    await firm.settle()
    membership = await membership_of(firm, MAYA)
    person = {"user_id": firm.user_id(MAYA)}
    await deliver(firm, "organizationMembership.updated", {**membership, "public_user_data": person})
    assert (await people(firm))["totals"]["banned"] == 1


async def test_a7_a_membership_that_says_its_person_is_barred_has_them_read_again(firm: Firm) -> None:
    """The webhook of the ban itself was lost."""
    await settled(firm)
    await firm.clerk().post(f"/v1/users/{firm.user_id(DANA)}/ban")
    membership = await membership_of(firm, DANA)
    person = {**membership["public_user_data"], "banned": True, "deprovisioned": False}
    await deliver(firm, "organizationMembership.updated", {**membership, "public_user_data": person})
    assert (await people(firm))["totals"]["banned"] == 1
