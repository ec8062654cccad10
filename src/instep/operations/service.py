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
    """List, retry and give up operations.

    `record_audit` writes the audit entry of an operation that is given up. `on_change` is called after each change of
    the number of operations that need attention.
    """

    db: Database
    record_audit: Callable[[Conn, Operation], None]
    clock: Clock
    on_change: Callable[[], None] = lambda: None

    async def list(
        self, organization_id: str | None, *, states: tuple[str, ...] = (), before: str = "", limit: int = 50
    ) -> list[Operation]:
        """Return operations, newest first, of one organization, or of all for None (see `resolve_admin_scope`)."""
        return await self.db.read(
            repository.list_operations, states=states, organization_id=organization_id, before=before, limit=limit
        )

    async def get(self, principal: Principal, accesses: dict[str, OrganizationAccess], operation_id: str) -> Operation:
        """Return an operation that the principal may see. Raises ChangeRejectedError (404) for any other."""
        found = await self.db.read(repository.find_operation, operation_id)
        if found is None or not _can_see_operation(principal, accesses, found):
            raise ChangeRejectedError("There is no such operation.", code="operation_not_found", status=NOT_FOUND)
        return found

    async def find_own(self, principal: Principal, operation_id: str) -> Operation | None:
        """Return an operation that the principal requested."""
        found = await self.db.read(repository.find_operation, operation_id)
        return found if found is not None and found.actor == principal.id else None

    async def retry(self, operation: Operation) -> Operation:
        """Reopen an operation; the worker resumes it within a second.

        Raises ChangeRejectedError if it does not need attention.
        """
        reopened = await self.db.write(repository.reopen_operation, operation.id, now=self.clock())
        if reopened is None:
            raise ChangeRejectedError(
                "Only an operation that needs attention can be retried.", code="not_retryable", status=CONFLICT
            )
        self.on_change()
        return reopened

    async def give_up(self, operation: Operation) -> Operation:
        """End an operation that is open or needs attention. Raises ChangeRejectedError if it has ended."""
        ended = await self.db.write(self._give_up, operation.id)
        if ended is None:
            raise ChangeRejectedError("This operation has already ended.", code="operation_ended", status=CONFLICT)
        self.on_change()
        return ended

    def _give_up(self, conn: Conn, operation_id: str) -> Operation | None:
        ended = repository.give_up_operation(conn, operation_id, now=self.clock())
        if ended is not None:
            self.record_audit(conn, ended)
        return ended


def _can_see_operation(principal: Principal, accesses: dict[str, OrganizationAccess], operation: Operation) -> bool:
    if principal.is_instance_admin:
        return True
    access = accesses.get(operation.organization_id or "")
    return access is not None and access.can_manage
