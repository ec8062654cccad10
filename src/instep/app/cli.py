"""The command line. A command's module is loaded when the command is asked for: each starts as fast as it can.

Exit codes: 0 done, 1 failed (one line on standard error says why), 2 the command was not understood.
"""

import sys
from collections import UserDict
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from instep import __version__
from instep.kit.bounds import is_keepable
from instep.kit.errors import InstepError, described

_MODULES = {
    "cli_server": "serve work migrate doctor demo",
    "cli_people": "people role deactivate reactivate remove restore",
    "cli_invitations": "invite preview-invitations resend revoke",
    "cli_profiles": "users user edit user-create user-delete user-restore user-ban user-unban user-email user-verify "
    "user-password",
    "cli_history": "audit operations",
    "cli_instance": "instance",
    "cli_sync": "deliveries replay sync",
}


class _Commands(UserDict[str, Any]):
    """Commands by their names; one of another module stands there as the module's name until it is looked up."""

    def __getitem__(self, name: str) -> Any:
        found = super().__getitem__(name)
        if isinstance(found, str):
            found = self[name] = get_group(import_module(f"instep.app.{found}").app).commands[name]
        return found


class _Group(TyperGroup):
    def __init__(self, *, commands: Any = None, **attrs: Any) -> None:
        beside = {command: module for module, names in _MODULES.items() for command in names.split()}
        super().__init__(commands=_Commands(dict(commands or {}) | beside), **attrs)  # type: ignore[arg-type]


app = typer.Typer(cls=_Group, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


def main() -> None:
    """Run the command; a failure that instep knows is one line, never a traceback."""
    if not all(is_keepable(it) for it in sys.argv):  # bytes that are no UTF-8 arrive as halves of pairs
        typer.echo("instep: an argument is not UTF-8 text.", err=True)
        sys.exit(2)
    try:
        app()
    except InstepError as error:
        typer.echo(f"instep: {described(error)}", err=True)
        sys.exit(1)


@app.callback()
def instep() -> None:
    """Keeps Clerk and your own database in step."""


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)
