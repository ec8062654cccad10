"""Run a CLI command with services built from the settings."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import typer

from instep.app.config import find_unknown_settings, load_settings
from instep.app.container import Services, make_services
from instep.auth.principal import BREAK_GLASS_PRINCIPAL, OrganizationAccess
from instep.auth.repository import find_access
from instep.core.db import REQUEST_WAIT_BUDGET, limit_database_waits
from instep.core.errors import PermanentError
from instep.core.schema_migrations import check_schema

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OrganizationArgument = Annotated[str, typer.Argument(help="instep's ID, Clerk's ID or the slug.")]


def run_with_services(use: Callable[[Services], Coroutine[Any, Any, Any]]) -> Any:
    """Run with services built from the settings, and close them."""

    async def run() -> Any:
        for line in find_unknown_settings():
            typer.echo(f"instep: warning: {line}", err=True)
        services = make_services(load_settings())
        try:
            check_schema(services.db.engine)
            with limit_database_waits(REQUEST_WAIT_BUDGET):
                return await use(services)
        finally:
            await services.close()

    return asyncio.run(run())


async def get_admin_access(services: Services, ref: str) -> OrganizationAccess:
    """Return full access to an organization: CLI users may do everything, in every organization."""
    access = await services.db.read(find_access, BREAK_GLASS_PRINCIPAL, ref)
    if access is None:
        raise PermanentError(f"There is no organization {ref}.", code="not_found")
    return access
