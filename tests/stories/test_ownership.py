"""Fields that belong to the database: no webhook and no reading overwrites them; our own changes do, on both sides."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa

from instep.mirror.tables import memberships, organizations, users
from tests.support.firms import EVERYWHERE
from tests.support.world import Firm, make_firm

pytestmark = [pytest.mark.anyio, EVERYWHERE]
MAYA = "maya@example.com"
SEED = {
    "users": [{"email_address": MAYA, "first_name": "Maya", "last_name": "Lane", "public_metadata": {"team": "south"}}],
    "organizations": [{"name": "Northwind", "slug": "northwind", "members": [{"user": MAYA}]}],
    "events": True,
}


@pytest.fixture
async def owner(migrated_url: str, clerk_key: str, profile: str) -> AsyncIterator[Firm]:
    """A firm whose database owns first names, metadata and roles, with Maya in it, who is another here than there."""
    owns = "deactivation attributes first_name public_metadata role"
    firm = make_firm(migrated_url, private_key=clerk_key, profile=profile, INSTEP_DATABASE_OWNS=owns)
    firm.emulator.state.settings.webhook_loss_percent = 0  # no sync to make up for it: it would write what is ours
    firm.emulator.seed(SEED)
    await firm.settle()
    set_here(firm, users, first_name="Maja", public_metadata={"team": "north"}, sort_name="maja lane")
    set_here(firm, memberships, role="org:admin", sort_name="maja lane")
    yield firm
    await firm.close()


def set_here(firm: Firm, table: sa.Table, **values: Any) -> None:
    firm.services.db.write_sync(lambda conn: conn.execute(sa.update(table).values(**values)))


def here(firm: Firm, table: sa.Table) -> dict[str, Any]:
    (row,) = firm.services.db.read_sync(lambda conn: conn.execute(sa.select(table)).all())
    return dict(row._mapping)


async def in_clerk(firm: Firm, method: str, path: str, **body: Any) -> None:
    async with firm.clerk() as clerk:
        answer = await clerk.request(method, f"/v1/{path}", json=body)
        assert answer.is_success, answer.text


async def test_a_webhook_brings_what_is_clerks_and_leaves_what_is_ours(owner: Firm) -> None:
    her = owner.user_id(MAYA)
    await in_clerk(owner, "PATCH", f"users/{her}", first_name="Other", last_name="Meadow")
    await in_clerk(owner, "PATCH", f"users/{her}/metadata", public_metadata={"team": "west"})
    path = f"organizations/{owner.organization_id('northwind')}/memberships/{her}"
    await in_clerk(owner, "PATCH", f"{path}/metadata", public_metadata={"desk": 3})
    await owner.settle()
    row = here(owner, users)
    assert (row["first_name"], row["last_name"], row["public_metadata"]) == ("Maja", "Meadow", {"team": "north"})
    assert (row["sort_name"], row["search_text"].split()[:2]) == ("maja meadow", ["maja", "meadow"])
    assert here(owner, memberships)["version"] == owner.state()["memberships"][0]["updated_at"]
    assert here(owner, memberships)["role"] == "org:admin"
    assert here(owner, memberships)["sort_name"] == "maja meadow"


async def test_a_reading_leaves_what_is_ours_too(owner: Firm) -> None:
    await in_clerk(owner, "PATCH", f"users/{owner.user_id(MAYA)}", first_name="Other", last_name="Meadow")
    sessions = owner.services.authenticator.sessions
    assert sessions.import_user is not None
    await sessions.import_user(owner.user_id(MAYA))
    await owner.services.sync_services.sync.apply_recent_changes(actor="test")
    assert (here(owner, users)["first_name"], here(owner, users)["last_name"]) == ("Maja", "Meadow")


async def test_sync_shows_whose_the_fields_are_and_writes_ours_to_clerk(owner: Firm) -> None:
    await in_clerk(owner, "PATCH", f"users/{owner.user_id(MAYA)}", first_name="Other")
    await owner.settle()
    sync = owner.services.sync_services.sync
    plan = await sync.plan(actor="test")
    assert plan.counts == {"field_differs": 1, "role_differs": 1}
    await sync.apply(plan.id, actor="test")
    (there,) = owner.state()["users"]
    assert (there["first_name"], there["public_metadata"]) == ("Maja", {"team": "north"})
    assert owner.state()["memberships"][0]["role"] == "org:admin"
    assert (await sync.check(actor="test")).counts == {}


async def test_what_we_change_ourselves_is_changed_on_both_sides_and_nothing_else_of_ours(owner: Firm) -> None:
    id = here(owner, users)["id"]
    async with owner.api() as api:
        edited = await api.patch(f"/v1/users/{id}", json={"first_name": "Mia"})
    assert edited.is_success, edited.text
    row = here(owner, users)
    assert (row["first_name"], row["public_metadata"]) == ("Mia", {"team": "north"})
    assert owner.state()["users"][0]["first_name"] == "Mia"


async def test_a_role_that_we_change_is_changed_here_too(owner: Firm) -> None:
    organization = here(owner, organizations)["id"]
    await in_clerk(owner, "POST", "users", email_address=["bo@example.com"], skip_password_requirement=True)
    member = {"user_id": owner.user_id("bo@example.com"), "role": "org:member"}
    await in_clerk(owner, "POST", f"organizations/{owner.organization_id('northwind')}/memberships", **member)
    await owner.settle()
    query = sa.select(memberships.c.id).where(memberships.c.role == "org:member")
    (joined,) = owner.services.db.read_sync(lambda conn: conn.execute(query).scalars().all())
    async with owner.api() as api:
        path = f"/v1/organizations/{organization}/members/{joined}"
        changed = await api.patch(path, json={"role": "org:admin"})
    assert changed.is_success, changed.text
    roles = sa.select(memberships.c.role)
    assert owner.services.db.read_sync(lambda conn: conn.execute(roles).scalars().all()) == ["org:admin", "org:admin"]


async def test_whoever_is_new_here_comes_with_everything_clerk_says(owner: Firm) -> None:
    await in_clerk(
        owner, "POST", "users", email_address=["bo@example.com"], first_name="Bo", skip_password_requirement=True
    )
    await owner.settle()
    query = sa.select(users.c.first_name).where(users.c.email == "bo@example.com")
    assert owner.services.db.read_sync(lambda conn: conn.execute(query).scalar()) == "Bo"
