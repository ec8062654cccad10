"""Health and figures: whether the process lives, whether it can keep anything, and what it counts."""

import asyncio
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from instep.access.gate import bearer_of
from instep.app.wiring import Services
from instep.inbox import store
from instep.kit.clock import Clock
from instep.kit.db import DatabaseDown, Db
from instep.kit.errors import InstepError, described
from instep.kit.problem import problem
from instep.kit.waits import limit_waits

log = structlog.get_logger(__name__)
READY_WAIT = 1.5  # seconds that readiness waits for a lock
FIGURES_WAIT = 2.0  # seconds that `/metrics` waits for the database, and then goes on without it
LEAST_FREE = 1024 * 1024  # bytes beside an SQLite file


@dataclass
class Readiness:
    """Tells whether this process can keep something, by doing it. Requests that come meanwhile share one write."""

    db: Db
    clock: Clock
    _trying: asyncio.Task[None] | None = None

    async def check(self) -> None:
        """Write to the database. Raises DatabaseDown, also where hardly any room is left beside an SQLite file."""
        if self._trying is None or self._trying.done():
            self._trying = asyncio.create_task(self._try())
        await asyncio.shield(self._trying)

    async def _try(self) -> None:
        require_room(self.db)
        with limit_waits(READY_WAIT):
            await self.db.write(store.try_write, at=self.clock())


def require_room(db: Db) -> None:
    """Raise DatabaseDown where an SQLite file has no room to grow."""
    path = db.engine.url.database
    if not db.is_sqlite or not path or path == ":memory:":
        return
    try:
        free = shutil.disk_usage(Path(path).parent).free
    except OSError as error:
        raise DatabaseDown(detail=str(error)) from error
    if free < LEAST_FREE:
        raise DatabaseDown(detail=f"the disk is full: {free} bytes are free beside the database")


def health_routes(services: Services) -> list[Route]:
    """Return the routes of `/health/live`, `/health/ready` and `/metrics`; none is part of the REST document."""
    readiness = Readiness(services.db, services.clock)

    async def live(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_: Request) -> Response:
        await readiness.check()
        return JSONResponse({"status": "ok"})

    async def metrics(request: Request) -> Response:
        key = services.settings.instep_metrics_key
        if key is not None and not _is_right(bearer_of(request.headers.get("authorization", "")), key):
            return problem(
                401,
                "Metrics key missing",
                code="unauthenticated",
                detail="Send INSTEP_METRICS_KEY as Authorization: Bearer.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        unsettled, fresh = await _unsettled(services.db), services.syncing.fresh.last
        text = services.metrics.text(unsettled=unsettled, listeners=services.live.listeners(), fresh=fresh)
        return Response(text, media_type="text/plain; version=0.0.4")

    return [Route("/health/live", live), Route("/health/ready", ready), Route("/metrics", metrics)]


async def _unsettled(db: Db) -> dict[str, int] | None:
    """Deliveries by state; None while the database does not answer."""
    try:
        with limit_waits(FIGURES_WAIT):
            async with asyncio.timeout(FIGURES_WAIT):
                return await db.read(store.count_by_state)
    except (InstepError, TimeoutError) as error:
        log.warning("metrics_without_database", error=described(error) or "timeout")
        return None


def _is_right(given: str | None, key: SecretStr) -> bool:
    return secrets.compare_digest((given or "").encode(), key.get_secret_value().encode())
