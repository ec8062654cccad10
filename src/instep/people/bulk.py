"""Changing many members at once: each is an operation of its own, with a result of its own."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from instep.access.principal import Access
from instep.identity.refusals import FORBIDDEN, Refused
from instep.journal.model import Unsettled
from instep.kit.errors import InstepError, PermanentError
from instep.kit.said import said
from instep.people.changes import Changed, MemberChanges

Action = Literal["role", "deactivate", "reactivate", "remove"]
Outcome = Literal["done", "unchanged", "open", "refused"]
MOST = 500
AT_ONCE = 4


class BulkRow(Struct, frozen=True, kw_only=True):
    """What became of one person. `member` is who was asked for; `message` says why not, or what Clerk did not do."""

    member: str
    outcome: Outcome
    code: str | None = None
    message: str = ""
    operation_id: str | None = None


class BulkResult(Struct, frozen=True, kw_only=True):
    """What became of each, in the order in which they were named, and in how many words it can be said."""

    rows: tuple[BulkRow, ...]

    def count(self, *outcomes: Outcome) -> int:
        """How many ended so."""
        return sum(row.outcome in outcomes for row in self.rows)


@dataclass(frozen=True)
class Bulk:
    """Many changes, a few at once."""

    changes: MemberChanges

    async def __call__(
        self,
        access: Access,
        action: Action,
        members: Sequence[str],
        *,
        role: str | None = None,
        idempotency_key: str | None = None,
    ) -> BulkResult:
        """Change each of `members` (ids, ours or Clerk's), whatever becomes of the others.

        The last admin stays here too: each change is checked as it begins, with all others that are under way.
        Raises Refused for a wish that makes no sense, or from someone who may not act; then nothing was changed.
        """
        if not access.may_act:
            raise Refused("Only admins can make changes.", code="forbidden", status=FORBIDDEN)
        if action == "role" and not role:
            raise Refused("Say which role.", code="role_missing", field="role")
        wanted = list(dict.fromkeys(members))
        if not 0 < len(wanted) <= MOST:
            raise Refused(said("Choose from 1 to %(most)s people.", most=MOST), code="too_many", field="members")
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(member: str) -> BulkRow:
            key = f"{idempotency_key}:{member}" if idempotency_key else None
            async with turns:
                return await self._one(access, action, member, role or "", key)

        return BulkResult(rows=tuple(await asyncio.gather(*map(one, wanted))))

    async def _one(self, access: Access, action: Action, member: str, role: str, key: str | None) -> BulkRow:
        try:
            return _row(member, await self._change(access, action, member, role, key))
        except Unsettled as unsettled:
            operation = unsettled.operation.id
            return BulkRow(member=member, outcome="open", message=str(unsettled), operation_id=operation)
        except InstepError as error:
            code = error.code if isinstance(error, PermanentError) else "temporarily_unavailable"
            return BulkRow(member=member, outcome="refused", code=code, message=str(error))

    async def _change(self, access: Access, action: Action, member: str, role: str, key: str | None) -> Changed:
        changes = self.changes
        if action == "role":
            return await changes.set_role(access, member=member, role=role, idempotency_key=key)
        if action == "deactivate":
            return await changes.deactivate(access, member=member, idempotency_key=key)
        if action == "reactivate":
            return await changes.reactivate(access, member=member, idempotency_key=key)
        return await changes.remove(access, member=member, idempotency_key=key)


def _row(member: str, changed: Changed) -> BulkRow:
    outcome: Outcome = "open" if changed.is_open else "done" if changed.operation_id else "unchanged"
    message = " ".join(changed.notices)
    return BulkRow(member=member, outcome=outcome, message=message, operation_id=changed.operation_id)
