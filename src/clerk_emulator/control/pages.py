"""The overview and the lists that a person looks at."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clerk_emulator.control.desk import Desk
from clerk_emulator.state import memberships
from clerk_emulator.wire.pages import page

MOST = 200
Rows = Iterator[tuple[Any, ...]]


def _users(desk: Desk) -> Rows:
    for row in desk.instance.users.page(0, MOST):
        name = " ".join(part for part in (row.first_name, row.last_name) if part)
        yield row.identifier, name, "banned" if row.banned else "", _time(row.created_at), row.id


def _organizations(desk: Desk) -> Rows:
    for row in desk.instance.organizations.page(0, MOST):
        members = memberships.count(desk.instance, row.id)
        pending = memberships.count_pending(desk.instance, row.id)
        yield row.name, row.slug, members, pending, _time(row.created_at), row.id


def _invitations(desk: Desk) -> Rows:
    now = desk.instance.now
    for row in desk.instance.organization_invitations.page(0, MOST):
        owner = desk.instance.organizations.find(row.organization_id)
        name = owner.name if owner else ""
        yield row.email_address, name, row.role, row.status(now), _time(row.expires_at), row.id


def _deliveries(desk: Desk) -> Rows:
    for row in desk.office.list_deliveries()[:MOST]:
        last = row["attempts"][-1] if row["attempts"] else {}
        answer = last.get("status") or last.get("error") or ""
        yield row["event"], row["status"], len(row["attempts"]), answer, row["fault"] or "", row["message_id"]


def _requests(desk: Desk) -> Rows:
    for row in desk.journal.list()[::-1][:MOST]:
        yield _time(row.at), row.method, row.path, row.operation or "", row.status or "", row.fault or ""


def _faults(desk: Desk) -> Rows:
    for row in desk.faults.list():
        what = {k: v for k, v in row.describe().items() if k not in ("id", "operation", "event", "hits") and v}
        yield row.id, row.operation or row.event, what, row.hits


LISTS: dict[str, tuple[str, tuple[str, ...], Callable[[Desk], Rows]]] = {
    "users": ("Users", ("Identifier", "Name", "", "Created", "Id"), _users),
    "organizations": (
        "Organizations",
        ("Name", "Slug", "Members", "Pending", "Created", "Id"),
        _organizations,
    ),
    "invitations": (
        "Invitations to organizations",
        ("Address", "Organization", "Role", "Status", "Expires", "Id"),
        _invitations,
    ),
    "deliveries": ("Deliveries", ("Event", "Status", "Attempts", "Answer", "Fault", "Message"), _deliveries),
    "requests": ("Requests", ("At", "Method", "Path", "Operation", "Status", "Fault"), _requests),
    "faults": ("Faults", ("Id", "For", "What", "Times"), _faults),
}


def routes(desk: Desk) -> list[Route]:
    """Return the routes of the pages."""

    async def overview(request: Request) -> Response:
        totals = desk.totals()
        counts = {
            **totals,
            "invitations": totals["organization_invitations"],
            "requests": len(desk.journal.list()),
            "faults": len(desk.faults.list()),
        }
        kinds = [(name, counts[name], LISTS[name][0]) for name in LISTS]
        key = desk.site.publishable_key
        return page("overview.html", title="Overview", kinds=kinds, url=desk.site.url, publishable_key=key, wide=True)

    async def listing(request: Request) -> Response:
        found = LISTS.get(request.path_params["name"])
        if found is None:
            return page("message.html", status=404, title="Not found", text="There is no such page.")
        title, columns, rows = found
        text = f"The newest {MOST}, at {_time(desk.instance.now)}."
        return page("table.html", title=title, text=text, columns=columns, rows=list(rows(desk)), wide=True)

    return [Route("/", overview), Route("/_emulator/pages/{name}", listing)]


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
