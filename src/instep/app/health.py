"""Health and metrics endpoints."""

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

from instep.app.container import Services
from instep.auth.authenticator import parse_bearer_token
from instep.core.clock import Clock
from instep.core.db import Database, limit_database_waits
from instep.core.db_errors import DatabaseUnavailableError
from instep.core.errors import InstepError, describe_error
from instep.core.http import make_problem_response
from instep.webhooks import repository

log = structlog.get_logger(__name__)
READINESS_TIMEOUT = 1.5  # seconds that readiness waits for a lock
METRICS_TIMEOUT = 2.0  # seconds for which `/metrics` waits for the database; then it is left out
MIN_FREE_BYTES = 1024 * 1024  # bytes beside an SQLite file


@dataclass
class ReadinessCheck:
    """Checks by a write that this process can store data. Concurrent requests share one write."""

    db: Database
    clock: Clock
    _probe: asyncio.Task[None] | None = None

    async def check(self) -> None:
        """Write to the database.

        Raises DatabaseUnavailableError, also where hardly any disk space is left beside an SQLite file.
        """
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._write_probe())
        await asyncio.shield(self._probe)

    async def _write_probe(self) -> None:
        require_disk_space(self.db)
        with limit_database_waits(READINESS_TIMEOUT):
            await self.db.write(repository.probe_write, at=self.clock())


def require_disk_space(db: Database) -> None:
    """Raise DatabaseUnavailableError where an SQLite file has no space to grow."""
    path = db.engine.url.database
    if not db.is_sqlite or not path or path == ":memory:":
        return
    try:
        free = shutil.disk_usage(Path(path).parent).free
    except OSError as error:
        raise DatabaseUnavailableError(detail=str(error)) from error
    if free < MIN_FREE_BYTES:
        raise DatabaseUnavailableError(detail=f"the disk is full: {free} bytes are free beside the database")


def make_health_routes(services: Services) -> list[Route]:
    """Return the routes of `/health/live`, `/health/ready` and `/metrics`; none is part of the OpenAPI document."""
    readiness = ReadinessCheck(services.db, services.clock)

    async def live(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_: Request) -> Response:
        await readiness.check()
        return JSONResponse({"status": "ok"})

    async def metrics(request: Request) -> Response:
        key = services.settings.instep_metrics_key
        if key is not None and not _is_valid_key(parse_bearer_token(request.headers.get("authorization", "")), key):
            return make_problem_response(
                401,
                "Metrics key missing",
                code="unauthenticated",
                detail="Send INSTEP_METRICS_KEY as Authorization: Bearer.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        pending, freshness = await _count_pending_deliveries(services.db), services.sync_services.freshness.last
        live_connections = services.pubsub.count_listeners()
        text = services.metrics.text(pending=pending, live_connections=live_connections, freshness=freshness)
        return Response(text, media_type="text/plain; version=0.0.4")

    return [Route("/health/live", live), Route("/health/ready", ready), Route("/metrics", metrics)]


async def _count_pending_deliveries(db: Database) -> dict[str, int] | None:
    """Return deliveries by state; None while the database does not respond."""
    try:
        with limit_database_waits(METRICS_TIMEOUT):
            async with asyncio.timeout(METRICS_TIMEOUT):
                return await db.read(repository.count_by_state)
    except (InstepError, TimeoutError) as error:
        log.warning("metrics_database_unavailable", error=describe_error(error) or "timeout")
        return None


def _is_valid_key(token: str | None, key: SecretStr) -> bool:
    return secrets.compare_digest((token or "").encode(), key.get_secret_value().encode())
