"""Runs and findings as plain JSON, for the API, the command line and files."""

from typing import Any

from instep.kit.clock import to_iso
from instep.sync.model import Freshness, Run
from instep.sync.store import Row


def run_as_json(run: Run) -> dict[str, Any]:
    """A run."""
    return {
        "id": run.id,
        "kind": run.kind,
        "state": run.state,
        "actor": run.actor,
        "impersonator": run.impersonator,
        "started_at": to_iso(run.started_at),
        "ended_at": to_iso(run.ended_at),
        "plan_id": run.plan_id,
        "totals": run.totals,
        "counts": run.counts,
        "hash": run.hash,
        "expires_at": to_iso(run.expires_at),
        "reason": run.reason,
        "code": run.code,
    }


def finding_as_json(row: Row) -> dict[str, Any]:
    """A finding: what differs, whose word counts, who wrote last, how it is mended, and what became of it."""
    it = row.finding
    return {
        "number": row.number,
        "kind": it.kind,
        "thing": it.key.kind,
        "clerk_id": it.key.id,
        "id": it.here,
        "label": it.label,
        "differences": [
            {"field": d.field, "clerk": d.clerk, "here": d.here, "belongs_to": d.owner} for d in it.differences
        ],
        "wrote_last": it.wrote_last,
        "wrote_at": to_iso(it.wrote_at),
        "mend": it.mend,
        "note": it.note,
        "outcome": row.outcome,
        "outcome_reason": row.outcome_reason,
    }


def freshness_as_json(fresh: Freshness | None) -> dict[str, Any] | None:
    """How the webhook stood when it was last looked at."""
    if fresh is None:
        return None
    return {
        "looked_at": to_iso(fresh.looked_at),
        "newest_event_at": to_iso(fresh.newest_event_at),
        "behind": fresh.behind,
        "warning": fresh.words,
    }
