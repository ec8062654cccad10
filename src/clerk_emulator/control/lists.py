"""What the lists show: rows with cells and buttons, and the form above them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from clerk_emulator.control.desk import Desk
from clerk_emulator.lab.faults import DOINGS
from clerk_emulator.state import memberships
from clerk_emulator.wire.events import TYPES

MOST = 200


@dataclass(frozen=True, slots=True)
class Button:
    """Something to do with a row."""

    deed: str
    text: str
    values: dict[str, str]
    choices: tuple[str, ...] = ()  # of the field `type` before the button


@dataclass(frozen=True, slots=True)
class Row:
    """One thing."""

    cells: tuple[Any, ...]
    buttons: tuple[Button, ...] = ()
    link: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a form; with choices it is a list to choose from."""

    name: str
    label: str
    kind: str = "text"
    value: str = ""
    choices: tuple[str, ...] = ()
    is_required: bool = False


@dataclass(frozen=True, slots=True)
class Form:
    """A form above a list."""

    deed: str
    text: str
    fields: tuple[Field, ...] = ()


@dataclass(frozen=True, slots=True)
class Listing:
    """One list."""

    title: str
    columns: tuple[str, ...]
    rows: Callable[[Desk], Iterator[Row]]
    form: Form | None = field(default=None)


def time_text(milliseconds: int) -> str:
    """Return a time as a person reads it."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _short(milliseconds: int) -> str:
    return time_text(milliseconds)[:16]


def _users(desk: Desk) -> Iterator[Row]:
    for row in desk.instance.users.page(0, MOST):
        name = " ".join(part for part in (row.first_name, row.last_name) if part)
        ban = Button("unban" if row.banned else "ban", "Lift ban" if row.banned else "Ban", {"id": row.id})
        deed, text = ("reprovision", "Reprovision") if row.deprovisioned else ("deprovision", "Deprovision")
        states = [word for word, holds in (("banned", row.banned), ("deprovisioned", row.deprovisioned)) if holds]
        cells = (row.identifier, name, ", ".join(states), _short(row.created_at))
        buttons = (ban, Button(deed, text, {"id": row.id}), Button("delete-user", "Delete", {"id": row.id}))
        yield Row(cells, buttons, note=row.id)


def _organizations(desk: Desk) -> Iterator[Row]:
    for row in desk.instance.organizations.page(0, MOST):
        members = memberships.count(desk.instance, row.id)
        pending = memberships.count_pending(desk.instance, row.id)
        cells = (row.name, row.slug, members, pending, _short(row.created_at))
        yield Row(cells, (Button("delete-organization", "Delete", {"id": row.id}),), note=row.id)


def _invitations(desk: Desk) -> Iterator[Row]:
    now = desk.instance.now
    for row in desk.instance.organization_invitations.page(0, MOST):
        owner = desk.instance.organizations.find(row.organization_id)
        status = row.status(now)
        cells = (row.email_address, owner.name if owner else "", row.role, status, _short(row.expires_at))
        buttons = (
            Button("accept", "Accept", {"id": row.id}),
            Button("revoke", "Revoke", {"id": row.id}),
        )
        yield Row(cells, buttons if status == "pending" else (), note=row.id)


def _mail(desk: Desk) -> Iterator[Row]:
    for row in desk.mail(MOST):
        yield Row((_short(row["created_at"]), row["to"], row["subject"], row["text"]), link=row["link"] or "")


def _deliveries(desk: Desk) -> Iterator[Row]:
    for row in desk.office.list_deliveries()[:MOST]:
        last = row["attempts"][-1] if row["attempts"] else {}
        answer = last.get("status") or last.get("error") or ""
        cells = (row["event"], row["status"], len(row["attempts"]), answer, row["fault"] or "")
        yield Row(
            cells,
            (Button("replay", "Replay", {"id": row["id"]}),),
            f"/_emulator/deliveries/{row['id']}",
            row["message_id"],
        )


def _endpoints(desk: Desk) -> Iterator[Row]:
    for row in desk.office.list_endpoints():
        cells = (row["url"], ", ".join(row["events"]) or "all events", "" if row["enabled"] else "disabled")
        buttons = (
            Button("send-example", "Send example", {"id": row["id"]}, TYPES),
            Button("remove-endpoint", "Remove", {"id": row["id"]}),
        )
        yield Row(cells, buttons, note=row["id"])


def _requests(desk: Desk) -> Iterator[Row]:
    for row in desk.journal.list()[::-1][:MOST]:
        yield Row((_short(row.at), row.method, row.path, row.operation or "", row.status or "", row.fault or ""))


def _faults(desk: Desk) -> Iterator[Row]:
    for row in desk.faults.list():
        silent = ("id", "operation", "event", "hits", "hang_ms", "delay_ms")
        what = ", ".join(f"{name} {value}" for name, value in row.describe().items() if name not in silent and value)
        cells = (row.id, row.operation or row.event, what, row.hits)
        yield Row(cells, (Button("remove-fault", "Remove", {"id": row.id}),))


NEW_USER = Form(
    "add-user",
    "Add user",
    (
        Field("email_address", "Email address", "email", is_required=True),
        Field("first_name", "First name"),
        Field("last_name", "Last name"),
        Field("password", "Password", "password"),
    ),
)
NEW_ORGANIZATION = Form(
    "add-organization",
    "Add organization",
    (Field("name", "Name", is_required=True), Field("created_by", "Its administrator: an email address", "email")),
)
NEW_INVITATION = Form(
    "invite",
    "Invite",
    (
        Field("email_address", "Email address", "email", is_required=True),
        Field("organization", "Organization: id or slug", is_required=True),
        Field("role", "Role (empty: the default role)"),
    ),
)
NEW_ENDPOINT = Form(
    "add-endpoint",
    "Add endpoint",
    (Field("url", "URL", "url", is_required=True), Field("secret", "Signing secret (empty: a new one)")),
)
NEW_FAULT = Form(
    "add-fault",
    "Add fault",
    (
        Field("target", "Operation or event, such as CreateUser or user.created", is_required=True),
        Field("status", "An operation answers", "number", value="500"),
        Field("do", "An event is", choices=DOINGS),
        Field("count", "Times (empty: always)", "number", value="1"),
    ),
)
LISTS: dict[str, Listing] = {
    "users": Listing("Users", ("Identifier", "Name", "", "Created"), _users, NEW_USER),
    "organizations": Listing(
        "Organizations",
        ("Name", "Slug", "Members", "Pending", "Created"),
        _organizations,
        NEW_ORGANIZATION,
    ),
    "invitations": Listing(
        "Invitations",
        ("Address", "Organization", "Role", "Status", "Expires"),
        _invitations,
        NEW_INVITATION,
    ),
    "mail": Listing("Inbox", ("At", "To", "Subject", "Text"), _mail),
    "endpoints": Listing("Endpoints", ("URL", "Events", ""), _endpoints, NEW_ENDPOINT),
    "deliveries": Listing("Deliveries", ("Event", "Status", "Attempts", "Answer", "Fault"), _deliveries),
    "requests": Listing("Requests", ("At", "Method", "Path", "Operation", "Status", "Fault"), _requests),
    "faults": Listing("Faults", ("Id", "For", "What", "Times"), _faults, NEW_FAULT),
}
