"""CLI commands `operations` and `audit`."""

from collections.abc import Callable, Coroutine, Sequence
from enum import StrEnum, auto
from typing import Annotated, Any

import typer
from pydantic import BaseModel, TypeAdapter
from rich.console import Console
from rich.table import Column, Table

from instep.app.cli_runtime import JsonOption, get_admin_access, run_with_services
from instep.app.container import Services, make_operations
from instep.audit.api import to_audit_entry
from instep.audit.filters import AuditFilter
from instep.audit.repository import AuditEntryRow
from instep.audit.service import AuditService
from instep.core.clock import to_iso
from instep.core.i18n import lazy_gettext
from instep.domain.errors import NOT_FOUND, ChangeRejectedError
from instep.operations.api import to_operation_response
from instep.operations.repository import find_operation
from instep.operations.workflow import Operation


class OperationStateOption(StrEnum):
    """State of an operation."""

    open = auto()
    settled = auto()
    refused = auto()
    attention = auto()
    given_up = auto()


DEFAULT_STATES = (OperationStateOption.open, OperationStateOption.attention)
app = typer.Typer()
operations_app = typer.Typer(help="List operations that are open or need attention; retry or abandon them.")


app.add_typer(operations_app, name="operations")


OrganizationOption = Annotated[
    str | None, typer.Option("--organization", help="Organization: instep's ID, Clerk's ID or the slug.")
]
LimitOption = Annotated[int, typer.Option(min=1, max=10_000, help="Maximum number of entries.")]
OperationIdArgument = Annotated[str, typer.Argument(metavar="OPERATION", help="Operation ID, such as op_...")]


@operations_app.callback(invoke_without_command=True)
def list_operations(
    context: typer.Context,
    organization: OrganizationOption = None,
    state: Annotated[
        list[OperationStateOption] | None, typer.Option(help="Can be repeated. Default: open and attention.")
    ] = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List operations, newest first: those that are open or need attention, unless --state is given."""
    if context.invoked_subcommand is not None:
        return

    async def run(services: Services) -> list[Operation]:
        scope = (await get_admin_access(services, organization)).organization_id if organization else None
        return await make_operations(services).list(scope, states=tuple(state or DEFAULT_STATES), limit=limit)

    found: list[Operation] = run_with_services(run)
    if as_json:
        _print_json([to_operation_response(it) for it in found])
        return
    table = Table(Column("Operation", no_wrap=True), "Kind", "Target", "State", "Requested", "Reason")
    for it in found:
        table.add_row(it.id, it.kind, it.target, it.state, to_iso(it.asked_at), it.reason)
    Console().print(table if found else "No operation is open or needs attention.")


@operations_app.command()
def retry(operation_id: OperationIdArgument, as_json: JsonOption = False) -> None:
    """Retry an operation that needs attention; the server's worker executes it."""
    _end_operation(operation_id, lambda services, found: make_operations(services).retry(found), as_json)


@operations_app.command()
def give_up(operation_id: OperationIdArgument, as_json: JsonOption = False) -> None:
    """Abandon an operation: nothing more is tried, and what was done is kept."""
    _end_operation(operation_id, lambda services, found: make_operations(services).give_up(found), as_json)


@app.command()
def audit(
    organization: OrganizationOption = None,
    person: Annotated[str | None, typer.Option(help="ID of a person: the actor or the target.")] = None,
    query: Annotated[str, typer.Option(help="Part of the action or of the target.")] = "",
    unclosed: Annotated[bool, typer.Option(help="Only operations that were requested and have not ended.")] = False,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List the audit log, newest first: who did what to whom, when and from where."""

    async def run(services: Services) -> list[AuditEntryRow]:
        scope = (await get_admin_access(services, organization)).organization_id if organization else None
        wanted = AuditFilter(organization_id=scope, person=person, query=query, is_unclosed=unclosed)
        return await AuditService(services.db).list(wanted, limit=limit)

    found: list[AuditEntryRow] = run_with_services(run)
    if as_json:
        _print_json([to_audit_entry(it) for it in found])
        return
    table = Table("Time", "Actor", "Action", "Target", "Outcome", "Origin")
    for it in found:
        who = f"{it.impersonator} as {it.actor}" if it.impersonator else it.actor
        table.add_row(to_iso(it.at), who, it.action, it.target, it.outcome, it.origin)
    Console().print(table if found else "No entries found.")


def _end_operation(
    operation_id: str, do: Callable[[Services, Operation], Coroutine[Any, Any, Operation]], as_json: bool
) -> None:
    async def run(services: Services) -> Operation:
        found = await services.db.read(find_operation, operation_id)
        if found is None:
            text = lazy_gettext("There is no operation %(id)s.", id=operation_id)
            raise ChangeRejectedError(text, code="operation_not_found", status=NOT_FOUND)
        return await do(services, found)

    ended: Operation = run_with_services(run)
    if as_json:
        _print_json(to_operation_response(ended))
    else:
        typer.echo(f"{ended.id}: {ended.state}")


def _print_json(answer: BaseModel | Sequence[BaseModel]) -> None:
    typer.echo(TypeAdapter(Any).dump_json(answer, indent=2).decode())
