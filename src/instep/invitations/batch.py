"""Many invitations asked for at once: the batch, its parts of ten, and what became of each row. Pure."""

from collections.abc import Sequence
from typing import Any, Literal

from msgspec import Struct

from instep.invitations.limits import BULK_SIZE
from instep.journal.model import Json, Operation

BATCH = "invitation.batch"
PART = "invitation.bulk"
Status = Literal["queued", "sent", "refused", "skipped"]


class Row(Struct, frozen=True, kw_only=True):
    """One address of a batch and how it stands. `code` and `reason` say why it was refused or skipped."""

    email: str
    role: str
    name: str | None = None
    status: Status
    invitation_id: str | None = None
    code: str | None = None
    reason: str | None = None


class Batch(Struct, frozen=True, kw_only=True):
    """Many invitations. `id` is that of the operation which asked for them; `done` counts what is not queued."""

    id: str
    organization_id: str
    asked_at: int
    total: int
    done: int
    sent: int
    rows: tuple[Row, ...]

    @property
    def is_done(self) -> bool:
        """Whether nothing is queued any more."""
        return self.done == self.total


def target_of(batch: str, number: int) -> str:
    """What one part of a batch is about."""
    return f"batch:{batch}:{number}"


def parts_of(rows: Sequence[Json]) -> list[list[Json]]:
    """The rows that are to be sent, by tens."""
    wanted = [row for row in rows if not row.get("code")]
    return [wanted[at : at + BULK_SIZE] for at in range(0, len(wanted), BULK_SIZE)]


def batch_of(operation: Operation, parts: Sequence[Operation]) -> Batch:
    """How a batch stands, by the operation that asked for it and those that carry it out."""
    outcomes = {row["n"]: outcome for part in parts for row, outcome in zip(*_of(part), strict=True)}
    rows = tuple(_row(row, outcomes.get(row["n"])) for row in operation.intent["rows"])
    return Batch(
        id=operation.id,
        organization_id=operation.organization_id or "",
        asked_at=operation.asked_at,
        total=len(rows),
        done=sum(row.status != "queued" for row in rows),
        sent=sum(row.status == "sent" for row in rows),
        rows=rows,
    )


def results_of(part: Operation) -> list[Any]:
    """What is known of each row of a part: an invitation, a refusal (with a code), or nothing yet."""
    made = part.done.get("bulk", {}).get("rows") or [None] * len(part.intent["rows"])
    rest = part.done.get("rest", {}).get("rows") or made
    return [one or other for one, other in zip(made, rest, strict=True)]


def _of(part: Operation) -> tuple[list[Json], list[Any]]:
    ended = None if part.state in ("open", "settled") else {"code": part.code or part.state, "reason": part.reason}
    return part.intent["rows"], [it or ended for it in results_of(part)]


def _row(row: Json, outcome: Any) -> Row:
    known = {"email": row["email"], "role": row["role"], "name": row.get("name")}
    if row.get("code"):
        return Row(**known, status="skipped", code=row["code"], reason=row.get("reason"))
    if outcome is None:
        return Row(**known, status="queued")
    if outcome.get("code"):
        return Row(**known, status="refused", code=outcome["code"], reason=outcome.get("reason"))
    return Row(**known, status="sent", invitation_id=outcome["id"])
