"""Rows that an earlier version stored are brought within the bounds; all others stay as they are."""

from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command

from instep.core.db import create_engine
from instep.core.schema_migrations import _make_alembic_config, migrate_schema
from instep.mirror.tables import memberships, organizations, users

GOOD: dict[str, Any] = {"joined_at": 1_764_440_000_000, "digest": "d", "version": 5, "changed_at": 1}
NAMES = {"sort_name": "maya", "search_text": "  maya"}
WRONG = (1_764_440_000_000_000, -1, 2**62)


def user(id: str, **changes: Any) -> dict[str, Any]:
    kept = {"public_metadata": {"a": 1}, "attributes": {"b": 2}, "last_active_at": 7, "last_sign_in_at": 8}
    return {"id": id, "clerk_id": id, **GOOD, **NAMES, **kept, **changes}


@pytest.mark.parametrize("metadata", [["a"], "text", 5, None])
def test_times_and_metadata_are_brought_within_bounds(database_url: str, metadata: Any) -> None:
    engine = create_engine(database_url)
    with engine.connect().execution_options(instep_writes=True) as conn, conn.begin():
        command.upgrade(_make_alembic_config(conn), "0001")
        rows = [user("usr_0")]
        rows += [user(f"usr_{at}", joined_at=at, last_active_at=at, last_sign_in_at=at) for at in WRONG]
        rows += [user("usr_x", public_metadata=metadata, attributes=metadata)]
        for row in rows:  # None is JSON's null here
            conn.execute(sa.insert(users).values(**{k: sa.JSON.NULL if v is None else v for k, v in row.items()}))
        conn.execute(sa.insert(organizations).values(id="ogn_1", name="Firm", **GOOD | {"joined_at": WRONG[0]}))
        belonging = {"organization_id": "ogn_1", "user_id": "usr_0", "role": "org:member", "status": "active"}
        conn.execute(sa.insert(memberships).values(id="mbr_1", **belonging, **NAMES, **GOOD | {"joined_at": WRONG[0]}))
    migrate_schema(engine)
    with engine.connect() as conn:
        names = ("joined_at", "last_active_at", "public_metadata", "attributes", "digest")
        found = {row.id: tuple(getattr(row, name) for name in names) for row in conn.execute(sa.select(users))}
        joined = [conn.execute(sa.select(it.c.joined_at)).scalar_one() for it in (organizations, memberships)]
    engine.dispose()
    assert found.pop("usr_0") == (1_764_440_000_000, 7, {"a": 1}, {"b": 2}, "d")
    assert found.pop("usr_x") == (1_764_440_000_000, 7, {}, {}, "")
    assert [it[:2] for it in found.values()] == [(0, None)] * len(WRONG)
    assert joined == [0, 0]
