"""A whole firm in one process: Clerk's emulator and instep wired together, and nothing goes on unless it is told to.

`firm.settle()` carries every webhook to instep's door and works the inbox until nothing is due. Both read one clock
that moves a millisecond at every look, so that nothing in Clerk happens at the same moment. Under the emulator's
profile `minimal` webhooks are late and some are lost: `settle()` lets that time pass, and ends with one sync where any
can be lost, as `instep sync apply` does it.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2
import uvicorn

from clerk_emulator import Emulator
from clerk_emulator.serve.server import bind, server_url
from clerk_emulator.state.clock import Clock as EmulatorClock
from clerk_emulator.wire.omitted_fields import remove_omitted
from instep.app.asgi import InstepAsgiApp, make_app
from instep.app.config import make_settings
from instep.app.container import Services, make_services
from instep.clerk.client import ClerkClient
from instep.core.clock import SECOND
from instep.members.service import CLERK_TIMEOUT
from instep.sync import repository
from instep.sync.models import Run
from instep.webhooks import repository as webhooks_repository
from tests.support.clocks import Ticking
from tests.support.svix import SECRET

KEY = "a key of more than twenty characters"
OURS = "http://127.0.0.1:8000"
DOOR = f"{OURS}/webhooks/clerk"
ALL = 10_000


class QuietServer(uvicorn.Server):
    """A server that leaves the signals to pytest."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass
class Firm:
    """Clerk's emulator and instep, side by side."""

    emulator: Emulator
    services: Services
    app: InstepAsgiApp
    clock: Ticking
    _clients: list[httpx2.AsyncClient] = field(default_factory=list)

    async def settle(self) -> None:
        """Carry every webhook, late ones too, work whatever is due in the inbox, and make up for lost webhooks."""
        settings = self.emulator.state.settings
        self.clock.advance(settings.webhook_delay_seconds * SECOND)
        await self.emulator.webhooks.drain()
        while await self.services.delivery_processor.run_once():
            pass
        if settings.webhook_loss_percent:
            await self.sync()

    async def sync(self) -> Run:
        """Do what `instep sync apply` does: the first sync of an empty database, else a plan, applied whole.

        Deletions aren't limited: a story's firm is so small that each is a large part of it.
        """
        sync = self.services.sync_services.sync
        if await sync.needs_backfill():
            return await sync.backfill(actor="test")
        plan = await sync.plan(actor="test", allow_gone=ALL)
        applied = await sync.apply(plan.id, actor="test")
        left = [
            it
            for it in await self.services.db.read(repository.list_findings, plan.id, limit=ALL)
            if it.outcome != "applied"
        ]
        assert not left, left
        return applied

    async def settle_patiently(self) -> None:
        """`settle`, and again whenever something that was put off is due, until nothing waits."""
        await self.settle()
        while (due := await self.services.db.read(webhooks_repository.find_next_due_at)) is not None:
            self.clock.at = max(self.clock.at, due)
            await self.settle()

    def api(self, key: str | None = KEY, **headers: str) -> httpx2.AsyncClient:
        """instep's API, by the break-glass key unless told otherwise."""
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        return self._client(self.app, OURS, headers)

    def clerk(self) -> httpx2.AsyncClient:
        """Clerk's Backend API, raw."""
        return self._client(
            self.emulator, self.emulator.site.url, {"authorization": f"Bearer {self.emulator.secret_key}"}
        )

    def browser(self) -> httpx2.AsyncClient:
        """Somebody's browser at Clerk's own pages."""
        return self._client(self.emulator, self.emulator.site.url, {})

    def state(self) -> dict[str, Any]:
        """Everything that Clerk has."""
        return self.emulator.control.state()

    def shown_state(self) -> dict[str, Any]:
        """Everything that Clerk has, without what its API and webhooks leave out."""
        shown: dict[str, Any] = remove_omitted(self.emulator.state.settings, self.state())
        return shown

    def user_id(self, email: str) -> str:
        """Clerk's id of the person with this address."""
        (found,) = [user.id for user in self.emulator.state.users.oldest_first() if user.identifier == email]
        return found

    def organization_id(self, slug: str) -> str:
        """Clerk's id of an organization."""
        (found,) = [it["id"] for it in self.state()["organizations"] if it["slug"] == slug]
        return str(found)

    @contextlib.asynccontextmanager
    async def port(self) -> AsyncIterator[str]:
        """The emulator on a port, for clients that need one; gives its address. Webhooks still wait for `settle`."""
        listener = bind("127.0.0.1", 0)
        config = uvicorn.Config(self.emulator, log_level="warning", access_log=False, lifespan="off", ws="none")
        server = QuietServer(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield server_url("127.0.0.1", listener)
        finally:
            server.should_exit = True
            await serving
            listener.close()

    async def close(self) -> None:
        """Close everything."""
        for client in self._clients:
            await client.aclose()
        await self.emulator.webhooks.stop()
        await self.services.close()

    def _client(self, app: Any, url: str, headers: dict[str, str]) -> httpx2.AsyncClient:
        client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=url, headers=headers)
        self._clients.append(client)
        return client


def make_emulator(clock: Ticking, private_key: str | None = None, profile: str | None = None) -> Emulator:
    """An emulator whose ids and times are the same in every run."""
    return Emulator(clock=EmulatorClock(wall=clock), id_seed=7, private_key=private_key, profile=profile)


def make_firm(
    url: str,
    *,
    private_key: str | None = None,
    patience: float = CLERK_TIMEOUT,
    profile: str | None = None,
    **settings: str,
) -> Firm:
    """A firm on a migrated database, with nobody in it yet.

    `patience`: how long the list waits for Clerk. `profile`: the emulator's, such as `minimal`.
    """
    clock = Ticking()
    emulator = make_emulator(clock, private_key, profile)
    client = ClerkClient(emulator.secret_key, api_url=emulator.site.url, transport=httpx2.ASGITransport(app=emulator))
    values = {
        "INSTEP_DATABASE_URL": url,
        "INSTEP_PUBLIC_URL": OURS,
        "INSTEP_ADMIN_KEY": KEY,
        "INSTEP_RATE_LIMIT": "off",  # a test asks as fast as it can; those of the limit set it
        "CLERK_SECRET_KEY": emulator.secret_key,
        "CLERK_API_URL": emulator.site.url,
        "CLERK_FRONTEND_API_URL": emulator.site.url,
        "CLERK_WEBHOOK_SIGNING_SECRET": SECRET,
        **({"CLERK_PUBLISHABLE_KEY": emulator.publishable_key} if private_key else {}),
        **settings,
    }
    services = make_services(make_settings(values), clerk=client, clock=clock)
    services = replace(services, members=replace(services.members, clerk_timeout=patience))
    app = make_app(services)
    emulator.webhooks.connect(DOOR, secret=SECRET, transport=httpx2.ASGITransport(app=app))
    return Firm(emulator, services, app, clock)
