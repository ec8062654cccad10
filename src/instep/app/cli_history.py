"""Commands about what happened: operations, with retry and give-up, and the audit."""

from collections.abc import Callable, Coroutine, Sequence
from enum import StrEnum, auto
from typing import Annotated, Any

import typer
from pydantic import BaseModel, TypeAdapter
from rich.console import Console
from rich.table import Column, Table

from instep.app.cli_run import AsJson, access_to, with_services
from instep.app.wiring import Services, make_operations
from instep.audit.store import Filter, Kept
from instep.history.api import entry_answer, operation_answer
from instep.history.flows import Audit
from instep.identity.refusals import NOT_FOUND, Refused
from instep.journal.model import Operation
from instep.journal.store import find
from instep.kit.clock import to_iso


class State(StrEnum):
    """How an operation stands."""

    open = auto()
    settled = auto()
    refused = auto()
    attention = auto()
    given_up = auto()


UNFINISHED = (State.open, State.attention)
app = typer.Typer()
operations = typer.Typer(help="What is open and what needs attention; try it again, or end it.")


app.add_typer(operations, name="operations")


Within = Annotated[str | None, typer.Option("--organization", help="instep's id, Clerk's id or the slug.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000)]
Id = Annotated[str, typer.Argument(help="The operation's id, such as op_...")]


@operations.callback(invoke_without_command=True)
def show(
    context: typer.Context,
    organization: Within = None,
    state: Annotated[list[State] | None, typer.Option(help="Can be repeated; open and attention by default.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List operations, newest first: what is open and what needs attention, unless --state says otherwise."""
    if context.invoked_subcommand is not None:
        return

    async def run(services: Services) -> list[Operation]:
        scope = (await access_to(services, organization)).organization_id if organization else None
        return await make_operations(services).list(scope, states=tuple(state or UNFINISHED), limit=limit)

    found: list[Operation] = with_services(run)
    if as_json:
        _print_json([operation_answer(it) for it in found])
        return
    table = Table(Column("Operation", no_wrap=True), "What", "To", "State", "Asked", "Why")
    for it in found:
        table.add_row(it.id, it.kind, it.target, it.state, to_iso(it.asked_at), it.reason)
    Console().print(table if found else "Nothing is open, and nothing needs attention.")


@operations.command()
def retry(id: Id, as_json: AsJson = False) -> None:
    """Try one again that needs attention; the server's worker takes it on."""
    _end(id, lambda services, found: make_operations(services).retry(found), as_json)


@operations.command()
def give_up(id: Id, as_json: AsJson = False) -> None:
    """End one as it stands: nothing more is tried, and what was done stays done."""
    _end(id, lambda services, found: make_operations(services).give_up(found), as_json)


@app.command()
def audit(
    organization: Within = None,
    person: Annotated[str | None, typer.Option(help="An id: who did it, or to whom.")] = None,
    query: Annotated[str, typer.Option(help="A part of the action, or of whom it was done to.")] = "",
    unclosed: Annotated[bool, typer.Option(help="Only what was asked for and has not ended.")] = False,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List what happened, newest first: who, what, to whom, when, from where."""

    async def run(services: Services) -> list[Kept]:
        scope = (await access_to(services, organization)).organization_id if organization else None
        wanted = Filter(organization_id=scope, person=person, words=query, is_unclosed=unclosed)
        return await Audit(services.db).list(wanted, limit=limit)

    found: list[Kept] = with_services(run)
    if as_json:
        _print_json([entry_answer(it) for it in found])
        return
    table = Table("When", "Who", "What", "To", "Outcome", "From")
    for it in found:
        who = f"{it.impersonator} as {it.actor}" if it.impersonator else it.actor
        table.add_row(to_iso(it.at), who, it.action, it.target, it.outcome, it.origin)
    Console().print(table if found else "Nothing was found.")


def _end(id: str, do: Callable[[Services, Operation], Coroutine[Any, Any, Operation]], as_json: bool) -> None:
    async def run(services: Services) -> Operation:
        found = await services.db.read(find, id)
        if found is None:
            raise Refused(f"There is no operation {id}.", code="operation_not_found", status=NOT_FOUND)
        return await do(services, found)

    ended: Operation = with_services(run)
    if as_json:
        _print_json(operation_answer(ended))
    else:
        typer.echo(f"{ended.id}: {ended.state}")


def _print_json(answer: BaseModel | Sequence[BaseModel]) -> None:
    typer.echo(TypeAdapter(Any).dump_json(answer, indent=2).decode())
