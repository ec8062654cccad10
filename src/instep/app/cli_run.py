"""What every command of the CLI does: settings, services, one piece of work, and everything closed again."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import typer

from instep.access.principal import BREAK_GLASS, Access
from instep.access.store import find_access
from instep.app.config import load_settings, unknown_settings
from instep.app.wiring import Services, make_services
from instep.kit.errors import PermanentError
from instep.kit.schema import check
from instep.kit.waits import REQUEST_WAIT, limit_waits

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Organization = Annotated[str, typer.Argument(help="instep's id, Clerk's id or the slug.")]


def with_services(use: Callable[[Services], Coroutine[Any, Any, Any]]) -> Any:
    """Run something with services made from the settings, and close them."""

    async def run() -> Any:
        for line in unknown_settings():
            typer.echo(f"instep: warning: {line}", err=True)
        services = make_services(load_settings())
        try:
            check(services.db.engine)
            with limit_waits(REQUEST_WAIT):
                return await use(services)
        finally:
            await services.close()

    return asyncio.run(run())


async def access_to(services: Services, ref: str) -> Access:
    """Whoever can run commands on this machine may do everything, in every organization."""
    access = await services.db.read(find_access, BREAK_GLASS, ref)
    if access is None:
        raise PermanentError(f"There is no organization {ref}.", code="not_found")
    return access
