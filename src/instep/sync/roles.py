"""Reading the roles of the instance: at the start, with every run, and when a webhook leaves open what changed."""

from collections.abc import Callable
from dataclasses import dataclass

from instep.identity.ports import RoleSource
from instep.kit.clock import HOUR, Clock
from instep.kit.db import Conn, Db
from instep.mirror import roles

READ_EVERY = HOUR


@dataclass(frozen=True)
class RoleReader:
    """Keeps the roles of the instance as Clerk has them. `changed` hears that they are others now."""

    db: Db
    source: RoleSource
    clock: Clock
    changed: Callable[[], None] = lambda: None

    async def read(self) -> int:
        """Read all of them; gives how many there are. Raises ProviderDown and ProviderRefused."""
        found = await self.source.list_roles()
        if await self.db.write(roles.put_listed, found, now=self.clock()):
            self.changed()
        return len(found.roles)

    async def read_when_due(self) -> None:
        """Read them where they were never read, or not within the hour. Raises as `read`."""
        if await self.db.read(self._is_due):
            await self.read()

    def _is_due(self, conn: Conn) -> bool:
        last = roles.newest_list(conn)
        return last is None or not 0 <= self.clock() - last < READ_EVERY
