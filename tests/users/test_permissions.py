"""Permissions on users, in the present state of the mirror and through the service."""

from typing import Any

import pytest

from instep.auth.principal import Principal
from instep.domain.errors import ChangeRejectedError
from instep.mirror.membership_status import deactivate_membership
from instep.mirror.tables import memberships
from instep.users.models import UserChanges, UserFilter
from tests.support.world import Firm
from tests.users.firms import ADA, BOB, CLEO, LOU, furnish, person, principal_of, users_of

pytestmark = pytest.mark.anyio


async def refused(doing: Any) -> tuple[int, str]:
    with pytest.raises(ChangeRejectedError) as caught:
        await doing
    return caught.value.status, caught.value.code


async def test_an_organization_admin_edits_its_members_and_sees_nothing_of_others(firm: Firm) -> None:
    await furnish(firm)
    ada, service = await principal_of(firm, ADA), users_of(firm)
    bob = await service.edit_profile(ada, firm.user_id(BOB), UserChanges(first_name="Robert"))
    assert not isinstance(bob, tuple)
    found = await service.get(ada, firm.user_id(BOB))
    assert [it.name for it in found.memberships] == ["Acme"]
    assert not found.is_complete
    for ref in (CLEO, LOU):
        id = (await person(firm, ref)).id
        assert await refused(service.get(ada, id)) == (404, "user_not_found")
        assert await refused(service.edit_profile(ada, id, UserChanges(first_name="X"))) == (404, "user_not_found")
    assert await refused(
        service.edit_profile(ada, firm.user_id(BOB), UserChanges(public_metadata={"role": "admin"}))
    ) == (
        403,
        "forbidden",
    )
    assert await refused(service.list(ada, UserFilter())) == (403, "forbidden")
    for doing in (
        service.delete(ada, firm.user_id(BOB)),
        service.ban(ada, firm.user_id(BOB)),
        service.create(ada, UserChanges(email="x@example.com")),
        service.set_password(ada, firm.user_id(BOB), "correct horse"),
        service.verify_email(ada, firm.user_id(BOB), "op_1", "424242"),
    ):
        assert await refused(doing) == (403, "forbidden")


async def test_a_member_edits_their_own_names_and_nobody_elses(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    bob, service = await principal_of(firm, BOB), users_of(firm)
    await service.edit_profile(bob, firm.user_id(BOB), UserChanges(first_name="Robert"))
    assert len((await service.get(bob, firm.user_id(BOB))).memberships) == 2
    assert await refused(service.edit_profile(bob, firm.user_id(BOB), UserChanges(username="robin"))) == (
        403,
        "forbidden",
    )
    assert await refused(service.edit_profile(bob, firm.user_id(ADA), UserChanges(first_name="X"))) == (
        403,
        "forbidden",
    )


async def test_a_deactivated_admin_changes_nobody(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    ada, db = await principal_of(firm, ADA), firm.services.db
    ids = await db.read(lambda conn: [row.id for row in conn.execute(memberships.select())])
    for id in ids:
        await db.write(deactivate_membership, id, scope="database", now=1)
    assert await refused(users_of(firm).edit_profile(ada, firm.user_id(BOB), UserChanges(first_name="X"))) == (
        404,
        "user_not_found",
    )


async def test_an_instance_admin_is_edited_by_instance_admins_only(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    async with firm.api() as api:
        await api.patch(f"/v1/users/{firm.user_id(BOB)}", json={"public_metadata": {"role": "admin"}})
    ada, bob = await principal_of(firm, ADA), await principal_of(firm, BOB)
    assert await refused(users_of(firm).edit_profile(ada, firm.user_id(BOB), UserChanges(first_name="X"))) == (
        403,
        "forbidden",
    )
    await users_of(firm).edit_profile(bob, firm.user_id(ADA), UserChanges(username="adam"))
    for doing in (users_of(firm).ban(bob, bob.id), users_of(firm).delete(bob, bob.id)):
        assert await refused(doing) == (409, "yourself")


async def test_an_api_key_for_one_organization_is_its_admin(sqlite_firm: Firm) -> None:
    firm = await furnish(sqlite_firm)
    async with firm.api() as api:
        found = (await api.get("/v1/users", params={"query": BOB})).json()["data"][0]
    acme = next(it["organization_id"] for it in found["organizations"] if it["name"] == "Acme")
    key = Principal(
        kind="api_key", name="CI", key_id="key_1", bound_organization_id=acme, scopes=frozenset(["read", "write"])
    )
    assert [it.name for it in (await users_of(firm).get(key, found["id"])).memberships] == ["Acme"]
    await users_of(firm).edit_profile(key, found["id"], UserChanges(first_name="Robert"))
    assert await refused(users_of(firm).get(key, firm.user_id(CLEO))) == (404, "user_not_found")
