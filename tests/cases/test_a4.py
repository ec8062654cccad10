"""A4: a person has one living membership in an organization, whatever webhook was lost or late."""

from typing import Any

import pytest
import sqlalchemy as sa

from instep.core.schema_migrations import migrate_schema
from instep.mirror.tables import memberships
from tests.cases.mirror_events import (
    MAYA,
    OMAR,
    SLUG,
    deliver,
    found,
    membership_of,
    migrate_to,
    people,
    settled,
    statuses,
)
from tests.support.world import Firm

pytestmark = pytest.mark.anyio

AGAIN = "orgmem_" + "z" * 27


async def again(firm: Firm, email: str = MAYA, **changes: Any) -> dict[str, Any]:
    """Return the membership of somebody who was removed and came back with a lower role."""
    later = firm.clock()
    fresh = {"id": AGAIN, "role": "org:member", "created_at": later, "updated_at": later}
    return {**await membership_of(firm, email), **fresh, **changes}


async def test_a4_a_newer_membership_ends_the_older_one(firm: Firm) -> None:
    await settled(firm)
    await deliver(firm, "organizationMembership.created", await again(firm))
    assert (await statuses(firm))[MAYA] == ["org:member active"]
    totals = (await people(firm))["totals"]
    assert (totals["members"], totals["admins"]) == (3, 1)


async def test_a4_the_older_membership_stays_ended_when_it_is_heard_of_last(firm: Firm) -> None:
    await settled(firm)
    old = await membership_of(firm, MAYA)
    await deliver(firm, "organizationMembership.created", await again(firm))
    await deliver(firm, "organizationMembership.updated", {**old, "updated_at": firm.clock()})
    assert (await statuses(firm))[MAYA] == ["org:member active"]


async def test_a4_an_unknown_older_membership_never_comes_to_life(firm: Firm) -> None:
    await settled(firm)
    old = {**await membership_of(firm, MAYA), "id": "orgmem_" + "0" * 27, "created_at": 1, "role": "org:owner"}
    await deliver(firm, "organizationMembership.created", old)
    await deliver(firm, "organizationMembership.updated", {**old, "updated_at": firm.clock()})
    assert (await statuses(firm))[MAYA] == ["org:admin active"]


async def test_a4_the_end_of_the_older_one_is_in_the_audit_of_the_organization(firm: Firm) -> None:
    await settled(firm)
    old = (await membership_of(firm, MAYA))["id"]
    await deliver(firm, "organizationMembership.created", await again(firm))
    entries = found(await firm.api().get("/v1/audit", params={"organization": SLUG, "limit": 100}))["data"]
    (ended,) = [it for it in entries if it["action"] == "membership.gone" and it["target"] == old]
    assert ended["details"]["before"] == {"role": "org:admin", "status": "active"}
    assert ended["details"]["after"]["status"] == "removed"


async def test_a4_leaving_and_coming_back_at_once_is_one_end_in_the_audit(firm: Firm) -> None:
    """Both webhooks are processed in one transaction: the deletion says it, the newer membership not once more."""
    await settled(firm)
    old = (await membership_of(firm, MAYA))["id"]
    path = f"/v1/organizations/{firm.organization_id(SLUG)}/memberships"
    await firm.clerk().delete(f"{path}/{firm.user_id(MAYA)}")
    await firm.clerk().post(path, json={"user_id": firm.user_id(MAYA), "role": "org:member"})
    await firm.settle()
    entries = found(await firm.api().get("/v1/audit", params={"organization": SLUG, "limit": 100}))["data"]
    (ended,) = [it for it in entries if it["action"] == "membership.gone" and it["target"] == old]
    assert ended["actor"] == "clerk"
    assert (await statuses(firm))[MAYA] == ["org:member active"]


async def test_a4_removing_a_person_leaves_them_no_membership(firm: Firm) -> None:
    """Also where a process of an older version had left two."""
    await settled(firm)
    user = firm.user_id(MAYA)

    def double(conn: sa.Connection) -> None:
        row = conn.execute(
            sa.select(memberships).where(memberships.c.role == "org:admin", memberships.c.sort_name == "maya")
        ).one()
        values = {**row._mapping, "id": "mbr_double", "clerk_id": AGAIN, "role": "org:member"}
        conn.execute(sa.insert(memberships).values(**values))

    await firm.services.db.write(double)
    removed = await firm.api().delete(f"/v1/organizations/{SLUG}/members/{user}")
    assert removed.status_code == 200, removed.text
    assert MAYA not in await statuses(firm)
    assert (await people(firm))["totals"]["members"] == 2


async def test_a4_a_person_who_comes_back_by_our_own_change_has_one_membership(firm: Firm) -> None:
    await settled(firm)
    path = f"/v1/organizations/{firm.organization_id(SLUG)}/memberships"
    await firm.clerk().delete(f"{path}/{firm.user_id(OMAR)}")
    await firm.clerk().post(path, json={"user_id": firm.user_id(OMAR), "role": "org:admin"})
    changed = await firm.api().patch(
        f"/v1/organizations/{SLUG}/members/{firm.user_id(OMAR)}", json={"role": "org:admin"}
    )
    assert changed.status_code == 200, changed.text
    assert (await statuses(firm))[OMAR] == ["org:admin active"]
    await firm.settle()
    assert (await statuses(firm))[OMAR] == ["org:admin active"]


async def test_a4_a_first_sync_takes_in_one_membership_of_a_pair(firm: Firm) -> None:
    await settled(firm)
    path = f"/v1/organizations/{firm.organization_id(SLUG)}/memberships"
    await firm.clerk().delete(f"{path}/{firm.user_id(MAYA)}")
    await firm.clerk().post(path, json={"user_id": firm.user_id(MAYA), "role": "org:member"})
    await firm.services.sync_services.sync.backfill(actor="system")
    assert (await statuses(firm))[MAYA] == ["org:member active"]


def test_a4_an_update_of_instep_ends_the_doubles_that_are_there(database_url: str) -> None:
    engine = sa.create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    migrate_to(engine, "0001")
    with engine.begin() as conn:
        conn.exec_driver_sql(
            "INSERT INTO instep_organizations (id, name, joined_at, changed_at) VALUES ('o', 'F', 1, 1)"
        )
        conn.exec_driver_sql(
            "INSERT INTO instep_users (id, clerk_id, sort_name, search_text, joined_at, changed_at, is_banned)"
            " VALUES ('u', 'user_1', 'u', 'u', 1, 1, true), ('v', 'user_2', 'v', 'v', 1, 1, false)"
        )
        conn.exec_driver_sql(
            "INSERT INTO instep_memberships (id, clerk_id, organization_id, user_id, role, status, sort_name,"
            " search_text, joined_at, changed_at) VALUES"
            " ('m1', 'orgmem_1', 'o', 'v', 'org:admin', 'active', 'v', 'v', 1, 1),"
            " ('m2', 'orgmem_2', 'o', 'v', 'org:member', 'active', 'v', 'v', 2, 1),"
            " ('m3', 'orgmem_3', 'o', 'u', 'org:member', 'active', 'u', 'u', 2, 1)"
        )
        conn.exec_driver_sql(
            "INSERT INTO instep_audit (id, at, actor, action, target, outcome)"
            " VALUES ('aud_1', 1, 'clerk', 'membership.seen', 'orgmem_2', 'done')"
        )
    migrate_schema(engine)
    with engine.connect() as conn:
        rows = conn.exec_driver_sql("SELECT id, status FROM instep_memberships ORDER BY id").all()
        assert [tuple(row) for row in rows] == [("m1", "removed"), ("m2", "active"), ("m3", "banned")]
        counts = conn.exec_driver_sql("SELECT status, members FROM instep_member_counts WHERE members > 0").all()
        assert sorted(map(tuple, counts)) == [("active", 1), ("banned", 1), ("removed", 1)]
        audit = conn.exec_driver_sql("SELECT target, action, organization_id FROM instep_audit ORDER BY at").all()
        assert [tuple(row) for row in audit] == [
            ("orgmem_2", "membership.seen", "o"),
            ("orgmem_1", "membership.gone", "o"),
        ]
    with pytest.raises(sa.exc.DBAPIError), engine.begin() as conn:
        conn.exec_driver_sql("UPDATE instep_audit SET actor = 'x'")
    engine.dispose()
