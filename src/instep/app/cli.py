"""Entry point of the CLI; modules of commands are imported lazily."""

import sys
from collections import UserDict
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from instep import __version__
from instep.core.errors import InstepError, describe_error
from instep.core.input_limits import is_storable_text

_COMMAND_MODULES = {
    "instep.app.cli_server": "serve work migrate doctor demo",
    "instep.members.cli": "people role deactivate reactivate remove restore",
    "instep.invitations.cli": "invite preview-invitations resend revoke",
    "instep.users.cli": "users user edit user-create user-delete user-restore user-ban user-unban user-email "
    "user-verify user-password",
    "instep.app.cli_operations": "audit operations",
    "instep.app.cli_instance": "instance",
    "instep.sync.cli": "deliveries replay sync",
}


class _LazyCommands(UserDict[str, Any]):
    """Commands by name; one of another module is its module's name until it is looked up."""

    def __getitem__(self, name: str) -> Any:
        found = super().__getitem__(name)
        if isinstance(found, str):
            found = self[name] = get_group(import_module(found).app).commands[name]
        return found


class _LazyGroup(TyperGroup):
    def __init__(self, *, commands: Any = None, **attrs: Any) -> None:
        lazy = {command: module for module, names in _COMMAND_MODULES.items() for command in names.split()}
        super().__init__(commands=_LazyCommands(dict(commands or {}) | lazy), **attrs)  # type: ignore[arg-type]


app = typer.Typer(cls=_LazyGroup, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


def main() -> None:
    """Run the command; a known failure prints one line, never a traceback."""
    if not all(is_storable_text(it) for it in sys.argv):  # invalid UTF-8 arrives as lone surrogates
        typer.echo("instep: an argument is not UTF-8 text.", err=True)
        sys.exit(2)
    try:
        app()
    except InstepError as error:
        typer.echo(f"instep: {describe_error(error)}", err=True)
        sys.exit(1)


@app.callback()
def instep() -> None:
    """Keep Clerk and your own database in sync."""


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)
