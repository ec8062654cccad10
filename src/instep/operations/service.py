"""List, retry and give up operations."""

from collections.abc import Callable
from dataclasses import dataclass

from instep.auth.principal import OrganizationAccess, Principal
from instep.core.clock import Clock
from instep.core.db import Conn, Database
from instep.domain.errors import CONFLICT, NOT_FOUND, ChangeRejectedError
from instep.operations import repository
from instep.operations.workflow import Operation


@dataclass(frozen=True)
class OperationService:
    """The operations. `noted` writes the audit of one that is given up, `told` hears that fewer need a person."""

    db: Database
    record_audit: Callable[[Conn, Operation], None]
    clock: Clock
    told: Callable[[], None] = lambda: None

    async def list(
        self, scope: str | None, *, states: tuple[str, ...] = (), before: str = "", limit: int = 50
    ) -> list[Operation]:
        """Newest first; `scope` is an organization, None all of them (see `scope_of`)."""
        return await self.db.read(
            repository.list_operations, states=states, organization_id=scope, before=before, limit=limit
        )

    async def find(self, principal: Principal, accesses: dict[str, OrganizationAccess], id: str) -> Operation:
        """One that this principal may see; Refused with 404 for any other."""
        found = await self.db.read(repository.find_operation, id)
        if found is None or not _can_see_operation(principal, accesses, found):
            raise ChangeRejectedError("There is no such operation.", code="operation_not_found", status=NOT_FOUND)
        return found

    async def find_own(self, principal: Principal, id: str) -> Operation | None:
        """One that this principal asked for."""
        found = await self.db.read(repository.find_operation, id)
        return found if found is not None and found.actor == principal.id else None

    async def retry(self, operation: Operation) -> Operation:
        """Try one that needs attention again: the worker takes it on within a second. Refused where it does not."""
        again = await self.db.write(repository.reopen_operation, operation.id, now=self.clock())
        if again is None:
            words = "Only an operation that needs attention can be tried again."
            raise ChangeRejectedError(words, code="not_retryable", status=CONFLICT)
        self.told()
        return again

    async def give_up(self, operation: Operation) -> Operation:
        """End one that is open or needs attention, as it stands. Refused where it has ended."""
        ended = await self.db.write(self._give_up, operation.id)
        if ended is None:
            raise ChangeRejectedError("This operation has ended already.", code="operation_ended", status=CONFLICT)
        self.told()
        return ended

    def _give_up(self, conn: Conn, id: str) -> Operation | None:
        ended = repository.give_up_operation(conn, id, now=self.clock())
        if ended is not None:
            self.record_audit(conn, ended)
        return ended


def _can_see_operation(principal: Principal, accesses: dict[str, OrganizationAccess], operation: Operation) -> bool:
    if principal.is_instance_admin:
        return True
    access = accesses.get(operation.organization_id or "")
    return access is not None and access.can_manage
