"""Clerk and the mirror, side by side in one shape: what must be equal after every story. Written without instep's own
reading of Clerk, so that one mistake cannot agree with itself."""

from typing import Any

import sqlalchemy as sa

from instep.audit.tables import audit
from instep.core.db import Conn, Database
from instep.mirror.tables import memberships, organizations, users

Side = dict[str, dict[str, dict[str, Any]]]


def clerk_side(state: dict[str, Any]) -> Side:
    """Everyone and everything that is in Clerk, by id. A member has the state of the person that bars them."""
    states = {it["id"]: _state(it) for it in state["users"]}
    return {
        "users": {it["id"]: _user(it) for it in state["users"]},
        "organizations": {it["id"]: _organization(it) for it in state["organizations"]},
        "memberships": {
            it["id"]: {
                "organization": it["organization"]["id"],
                "user": it["public_user_data"]["user_id"],
                "role": it["role"],
                "status": states[it["public_user_data"]["user_id"]],
                "joined_at": it["created_at"],
                "version": it["updated_at"],
            }
            for it in state["memberships"]
        },
    }


def _state(it: dict[str, Any]) -> str:
    return "banned" if it["banned"] else "deprovisioned" if it.get("deprovisioned") else "active"


def _user(it: dict[str, Any]) -> dict[str, Any]:
    primary = [one for one in it["email_addresses"] if one["id"] == it["primary_email_address_id"]]
    email = primary[0]["email_address"] if primary else None
    proof = (primary[0]["verification"] or {}) if primary else {}
    name = " ".join(part for part in (it["first_name"], it["last_name"]) if part)
    return {
        "email": email,
        "is_email_verified": proof.get("status") == "verified",
        "first_name": it["first_name"],
        "last_name": it["last_name"],
        "username": it["username"],
        "external_id": it["external_id"],
        "is_banned": it["banned"],
        "public_metadata": it["public_metadata"],
        "joined_at": it["created_at"],
        "version": it["updated_at"],
        "sort_name": (name or it["username"] or email or it["id"]).lower(),
        "is_active": True,
    }


def _organization(it: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": it["name"],
        "slug": it["slug"],
        "max_members": it["max_allowed_memberships"] or None,
        "public_metadata": it["public_metadata"],
        "joined_at": it["created_at"],
        "version": it["updated_at"],
    }


def mirror_side(db: Database) -> Side:
    """Everyone and everything that is alive in the mirror, by Clerk's id."""
    return db.read_sync(_mirror_side)


def _mirror_side(conn: Conn) -> Side:
    rows = {table.name: [row._mapping for row in conn.execute(sa.select(table))] for table in _TABLES}
    clerk_ids = {row["id"]: row["clerk_id"] for name in rows for row in rows[name]}
    names = {row["id"]: row["sort_name"] for row in rows["instep_users"]}
    assert all(row["sort_name"] == names[row["user_id"]] for row in rows["instep_memberships"]), "names were carried"
    return {
        "users": {
            row["clerk_id"]: {name: row[name] for name in _USER}
            for row in rows["instep_users"]
            if row["gone_at"] is None
        },
        "organizations": {
            row["clerk_id"]: {name: row[name] for name in _ORGANIZATION}
            for row in rows["instep_organizations"]
            if row["gone_at"] is None
        },
        "memberships": {
            row["clerk_id"]: {
                "organization": clerk_ids[row["organization_id"]],
                "user": clerk_ids[row["user_id"]],
                **{name: row[name] for name in ("role", "status", "joined_at", "version")},
            }
            for row in rows["instep_memberships"]
            if row["status"] in ("active", "banned", "deprovisioned")
        },
    }


_TABLES = (users, organizations, memberships)
_USER = (
    *("email", "is_email_verified", "first_name", "last_name", "username", "external_id", "is_banned"),
    *("public_metadata", "joined_at", "version", "sort_name", "is_active"),
)
_ORGANIZATION = ("name", "slug", "max_members", "public_metadata", "joined_at", "version")


def graves(db: Database) -> dict[str, set[str]]:
    """Clerk's ids of what the mirror calls dead, by kind."""

    def read(conn: Conn) -> dict[str, set[str]]:
        return {
            table.name.removeprefix("instep_"): set(
                conn.execute(sa.select(table.c.clerk_id).where(table.c.gone_at.is_not(None))).scalars()
            )
            for table in _TABLES
        }

    return db.read_sync(read)


def counted(db: Database) -> bool:
    """Whether the counts kept by triggers are those of the rows."""

    def read(conn: Conn) -> bool:
        kept = "SELECT organization_id, status, role, members FROM instep_member_counts WHERE members <> 0"
        real = "SELECT organization_id, status, role, count(*) FROM instep_memberships GROUP BY 1, 2, 3"
        ours, theirs = (sorted(map(tuple, conn.execute(sa.text(query)))) for query in (kept, real))
        return ours == theirs

    return db.read_sync(read)


def transitions(db: Database) -> list[tuple[str, str]]:
    """What the audit says happened: (action, Clerk's id), in the order of its keeping."""
    query = sa.select(audit.c.action, audit.c.target).order_by(audit.c.at, audit.c.id)
    return db.read_sync(lambda conn: [(action, target) for action, target in conn.execute(query)])
