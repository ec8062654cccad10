"""Writing and reading the audit. Entries are written in the transaction of their effect and never changed."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from instep.audit.tables import audit
from instep.kit.db import Conn, put_rows
from instep.kit.ids import new_id


class Entry(Struct, frozen=True, kw_only=True):
    """One thing that happened. `actor` is who (`clerk`, a user's id, `system`), `cause` why (a delivery, a request)."""

    actor: str
    action: str
    target: str
    cause: str | None = None
    details: Mapping[str, Any] = {}


def record(conn: Conn, entries: Sequence[Entry], *, now: int) -> None:
    """Append entries. `now`: Unix milliseconds."""
    rows = [
        {
            "id": new_id("aud"),
            "at": now,
            "actor": it.actor,
            "action": it.action,
            "target": it.target,
            "cause": it.cause,
            "details": dict(it.details),
        }
        for it in entries
    ]
    put_rows(conn, audit, rows, key="id")
