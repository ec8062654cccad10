"""Keep first, answer, then work: a delivery is verified, kept once, and answered after the commit.

Deliveries that arrive while a commit is under way share the next one. Which instance a delivery comes from is looked at
by the worker: whatever is signed correctly is kept.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from instep.identity.events import Delivery
from instep.inbox import store
from instep.kit.clock import Clock
from instep.kit.db import Db, ValueRefusedError
from instep.kit.waits import limit_waits

MAX_BODY = 1024 * 1024
# Seconds. Clerk gives up after 15, and a delivery may wait for the commit before its own.
DATABASE_WAIT = 4.0


class Opener(Protocol):
    """Verifies a delivery; see instep.clerk.webhook.Verifier."""

    def open(self, headers: Mapping[str, str], body: bytes, *, now: int) -> Delivery: ...


@dataclass
class Receiver:
    """Takes deliveries in. `wake` is called after each commit, so that the worker starts at once.

    `database_wait`: seconds that a delivery waits for the database; then Clerk is asked to send it again.
    """

    db: Db
    opener: Opener
    clock: Clock
    wake: Callable[[], None]
    database_wait: float = DATABASE_WAIT
    _waiting: list[tuple[Delivery, asyncio.Future[None]]] = field(default_factory=list)
    _writing: asyncio.Task[None] | None = None

    async def receive(self, headers: Mapping[str, str], body: bytes) -> Delivery:
        """Verify, keep, and return once it is safe on disk.

        Raises BadSignature, BadDelivery (nothing is kept) and DatabaseDown (Clerk sends it again).
        """
        delivery = self.opener.open(headers, body, now=self.clock())
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((delivery, done))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())
        await done
        return delivery

    async def _write_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            await self._write(batch)
        self._writing = None

    async def _write(self, batch: list[tuple[Delivery, asyncio.Future[None]]]) -> None:
        error: Exception | None = None
        try:
            with limit_waits(self.database_wait):
                await self.db.write(store.put, [delivery for delivery, _ in batch])
        except ValueRefusedError as refused:
            if len(batch) > 1:  # one that the database does not take: the others are kept without it
                for one in batch:
                    await self._write([one])
                return
            error = refused
        except Exception as raised:  # every waiting request must be answered, whatever went wrong
            error = raised
        for _, done in batch:
            if done.cancelled():
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)
        self.wake()
