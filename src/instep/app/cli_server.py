"""CLI commands that run an installation: serve, work, migrate, doctor and demo."""

import asyncio
from typing import Annotated

import structlog
import typer

from instep.app import demo as app_demo
from instep.app.config import Settings, find_unknown_settings, load_demo_settings, load_settings
from instep.app.container import Services, make_services
from instep.app.database import make_db
from instep.app.doctor import run_diagnostics
from instep.app.server import Server, make_server, require_free_port, run_worker_until_stopped
from instep.core import logging
from instep.core.schema_migrations import check_schema
from instep.core.schema_migrations import migrate_schema as migrate_

logger = structlog.get_logger(__name__)
app = typer.Typer()


def _open_services() -> tuple[Settings, Services]:
    """Configure the log of a long-running process and open its services; check the database schema."""
    settings = load_settings()
    logging.configure_logging(is_json=settings.instep_log_json)
    for line in find_unknown_settings():
        logger.warning("unknown_setting", message=line)
    services = make_services(settings)
    try:
        check_schema(services.db.engine)
    except BaseException:
        services.db.close()
        raise
    return settings, services


@app.command()
def serve() -> None:
    """Serve the console, the API and the webhooks, with the worker inside."""
    settings, services = _open_services()
    require_free_port(settings.instep_host, settings.port, hint="INSTEP_PORT=... instep serve")
    server = make_server(services, host=settings.instep_host, port=settings.port)
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(_serve(server, services))


async def _serve(server: Server, services: Services) -> None:
    try:
        server.on_started = lambda url: _log_serving(services, url)
        await server.serve()
    finally:
        await services.close()


def _log_serving(services: Services, url: str) -> None:
    """Log the address, the database and the location of the worker in one event."""
    settings = services.settings
    database = services.db.engine.url.render_as_string(hide_password=True)
    worker = "here" if settings.instep_worker else "elsewhere: run `instep work`"
    logger.info("serving", listening=url, public_url=settings.instep_public_url, database=database, worker=worker)


@app.command()
def work() -> None:
    """Process deliveries and operations without serving. On PostgreSQL any number of workers can run."""
    asyncio.run(run_worker_until_stopped(_open_services()[1]))


@app.command()
def migrate() -> None:
    """Migrate the database schema to this version."""
    db = make_db(load_settings())
    try:
        version = migrate_(db.engine)
    finally:
        db.close()
    typer.echo(f"The schema is at version {version}.")


@app.command()
def doctor() -> None:
    """Check settings, database, Clerk and webhooks; print one line each. Exit 1 if there is a problem."""
    results = asyncio.run(run_diagnostics(load_settings()))
    for result in results:
        typer.echo(f"{'ok   ' if result.is_good else 'WRONG'}  {result.what}: {result.text}")
    if not all(result.is_good for result in results):
        raise typer.Exit(1)


@app.command()
def demo(
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over with an empty data directory.")] = False,
) -> None:
    """Start a Clerk emulator and instep with sample data; Ctrl-C stops both."""
    wanted = load_demo_settings()
    location = app_demo.DemoLocation(wanted.instep_data_dir, wanted.instep_port, wanted.clerk_emulator_port)
    logging.configure_logging(is_json=False)
    asyncio.run(app_demo.run_demo(location, is_fresh=fresh))
