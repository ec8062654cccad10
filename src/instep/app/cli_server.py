"""Commands that run an installation: serve, work, migrate, doctor, demo."""

import asyncio
from typing import Annotated

import typer

from instep.app import demo as demo_
from instep.app.config import Settings, load_demo_settings, load_settings
from instep.app.doctor import examine
from instep.app.server import Server, check_free, make_server, work_until_told
from instep.app.timer import install
from instep.app.wiring import Services, make_services
from instep.kit import log
from instep.kit.schema import check
from instep.kit.schema import migrate as migrate_

app = typer.Typer()


def _opened() -> tuple[Settings, Services]:
    """What a process that stays needs: its log set up, and a database whose schema is this version's."""
    settings = load_settings()
    log.configure(is_json=settings.instep_log_json)
    services = make_services(settings)
    check(services.db.engine)
    return settings, services


@app.command()
def serve() -> None:
    """Serve the console, the API and the webhooks, with the worker inside."""
    settings, services = _opened()
    check_free(settings.instep_host, settings.instep_port, hint="INSTEP_PORT=... instep serve")
    server = make_server(services, host=settings.instep_host, port=settings.instep_port)
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(_serve(server, services))


async def _serve(server: Server, services: Services) -> None:
    try:
        await server.serve()
    finally:
        await services.close()


@app.command()
def work() -> None:
    """Work the inbox and open operations, without serving: as many beside each other as you like, on PostgreSQL."""
    asyncio.run(work_until_told(_opened()[1]))


@app.command()
def migrate() -> None:
    """Bring the database's schema to this version."""
    services = make_services(load_settings())
    version = migrate_(services.db.engine)
    asyncio.run(install(services.db))
    typer.echo(f"The schema is at version {version}.")
    services.db.close()


@app.command()
def doctor() -> None:
    """Say what is missing or wrong, one line each, and try each connection. Exit 1 if anything is."""
    findings = asyncio.run(examine(load_settings()))
    for finding in findings:
        typer.echo(f"{'ok   ' if finding.is_good else 'WRONG'}  {finding.what}: {finding.text}")
    if not all(finding.is_good for finding in findings):
        raise typer.Exit(1)


@app.command()
def demo(fresh: Annotated[bool, typer.Option("--fresh", help="Start over with an empty data folder.")] = False) -> None:
    """Start a Clerk stand-in and instep with a made-up firm; Ctrl-C stops both."""
    wanted = load_demo_settings()
    place = demo_.Place(wanted.instep_data_dir, wanted.instep_port, wanted.clerk_emulator_port)
    log.configure(is_json=False)
    asyncio.run(demo_.run(place, is_fresh=fresh))
