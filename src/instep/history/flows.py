"""Reading what happened, and ending by hand what could not be finished."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from instep.access.principal import Access, Principal
from instep.audit.store import Filter, Kept, list_entries
from instep.identity.refusals import CONFLICT, FORBIDDEN, NOT_FOUND, Refused
from instep.journal import store
from instep.journal.model import Operation
from instep.kit.clock import Clock
from instep.kit.db import Conn, Db

PAGE = 500
MOST_EXPORTED = 100_000


@dataclass(frozen=True)
class Operations:
    """The operations. `noted` writes the audit of one that is given up, `told` hears that fewer need a person."""

    db: Db
    noted: Callable[[Conn, Operation], None]
    clock: Clock
    told: Callable[[], None] = lambda: None

    async def list(
        self, scope: str | None, *, states: tuple[str, ...] = (), before: str = "", limit: int = 50
    ) -> list[Operation]:
        """Newest first; `scope` is an organization, None all of them (see `scope_of`)."""
        return await self.db.read(
            store.list_operations, states=states, organization_id=scope, before=before, limit=limit
        )

    async def find(self, principal: Principal, accesses: dict[str, Access], id: str) -> Operation:
        """One that this principal may see; Refused with 404 for any other."""
        found = await self.db.read(store.find, id)
        if found is None or not _may_see(principal, accesses, found):
            raise Refused("There is no such operation.", code="operation_not_found", status=NOT_FOUND)
        return found

    async def find_own(self, principal: Principal, id: str) -> Operation | None:
        """One that this principal asked for."""
        found = await self.db.read(store.find, id)
        return found if found is not None and found.actor == principal.id else None

    async def retry(self, operation: Operation) -> Operation:
        """Try one that needs attention again: the worker takes it on within a second. Refused where it does not."""
        again = await self.db.write(store.reopen, operation.id, now=self.clock())
        if again is None:
            words = "Only an operation that needs attention can be tried again."
            raise Refused(words, code="not_retryable", status=CONFLICT)
        self.told()
        return again

    async def give_up(self, operation: Operation) -> Operation:
        """End one that is open or needs attention, as it stands. Refused where it has ended."""
        ended = await self.db.write(self._give_up, operation.id)
        if ended is None:
            raise Refused("This operation has ended already.", code="operation_ended", status=CONFLICT)
        self.told()
        return ended

    def _give_up(self, conn: Conn, id: str) -> Operation | None:
        ended = store.give_up(conn, id, now=self.clock())
        if ended is not None:
            self.noted(conn, ended)
        return ended


@dataclass(frozen=True)
class Audit:
    """The audit, for reading."""

    db: Db

    async def list(self, wanted: Filter, *, before: str = "", limit: int = 50) -> list[Kept]:
        """Entries, newest first."""
        return await self.db.read(list_entries, wanted, before=before, limit=limit)

    async def export(self, wanted: Filter) -> AsyncIterator[Kept]:
        """Every entry, newest first, read page by page; 100,000 at the most."""
        before, count = "", 0
        while count < MOST_EXPORTED:
            page = await self.list(wanted, before=before, limit=PAGE)
            for entry in page:
                yield entry
            if len(page) < PAGE:
                return
            before, count = page[-1].id, count + len(page)


def scope_of(principal: Principal, access: Access | None) -> str | None:
    """Which organization's history they may read: the one they ask for, as its admin; without one, all of them.

    Raises Refused (403).
    """
    if access is not None and access.may_act:
        return access.organization_id
    if access is None and principal.is_instance_admin:
        return None
    whose = "this organization" if access else "the installation"
    raise Refused(f"Only admins of {whose} can see this.", code="forbidden", status=FORBIDDEN)


def _may_see(principal: Principal, accesses: dict[str, Access], operation: Operation) -> bool:
    if principal.is_instance_admin:
        return True
    access = accesses.get(operation.organization_id or "")
    return access is not None and access.may_act
