"""Lists of the control pages: rows, buttons and forms."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from clerk_emulator.control.service import ControlService
from clerk_emulator.state import memberships
from clerk_emulator.wire.fault_injection import DELIVERY_FAULTS
from clerk_emulator.wire.webhook_payloads import EVENT_TYPES

MAX_ROWS = 200


@dataclass(frozen=True, slots=True)
class ActionButton:
    """A button for an action on a row."""

    action: str
    text: str
    values: dict[str, str]
    choices: tuple[str, ...] = ()  # of the field `type` before the button


@dataclass(frozen=True, slots=True)
class ListRow:
    """A row of a list."""

    cells: tuple[Any, ...]
    buttons: tuple[ActionButton, ...] = ()
    link: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class FormField:
    """A form field; with choices it is a select."""

    name: str
    label: str
    kind: str = "text"
    value: str = ""
    choices: tuple[str, ...] = ()
    is_required: bool = False


@dataclass(frozen=True, slots=True)
class ActionForm:
    """A form above a list."""

    action: str
    text: str
    fields: tuple[FormField, ...] = ()


@dataclass(frozen=True, slots=True)
class ListPage:
    """A list page."""

    title: str
    columns: tuple[str, ...]
    rows: Callable[[ControlService], Iterator[ListRow]]
    form: ActionForm | None = field(default=None)


def format_time(milliseconds: int) -> str:
    """Return a time in readable form."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _format_short_time(milliseconds: int) -> str:
    return format_time(milliseconds)[:16]


def _users(control: ControlService) -> Iterator[ListRow]:
    for row in control.instance.users.page(0, MAX_ROWS):
        name = " ".join(part for part in (row.first_name, row.last_name) if part)
        ban = ActionButton("unban" if row.banned else "ban", "Unban" if row.banned else "Ban", {"id": row.id})
        action, text = ("reprovision", "Reprovision") if row.deprovisioned else ("deprovision", "Deprovision")
        states = [word for word, is_set in (("banned", row.banned), ("deprovisioned", row.deprovisioned)) if is_set]
        cells = (row.identifier, name, ", ".join(states), _format_short_time(row.created_at))
        buttons = (
            ban,
            ActionButton(action, text, {"id": row.id}),
            ActionButton("delete-user", "Delete", {"id": row.id}),
        )
        yield ListRow(cells, buttons, note=row.id)


def _organizations(control: ControlService) -> Iterator[ListRow]:
    for row in control.instance.organizations.page(0, MAX_ROWS):
        members = memberships.count(control.instance, row.id)
        pending = memberships.count_pending_invitations(control.instance, row.id)
        cells = (row.name, row.slug, members, pending, _format_short_time(row.created_at))
        yield ListRow(cells, (ActionButton("delete-organization", "Delete", {"id": row.id}),), note=row.id)


def _invitations(control: ControlService) -> Iterator[ListRow]:
    now = control.instance.now
    for row in control.instance.organization_invitations.page(0, MAX_ROWS):
        owner = control.instance.organizations.find(row.organization_id)
        status = row.status(now)
        cells = (row.email_address, owner.name if owner else "", row.role, status, _format_short_time(row.expires_at))
        buttons = (
            ActionButton("accept", "Accept", {"id": row.id}),
            ActionButton("revoke", "Revoke", {"id": row.id}),
        )
        yield ListRow(cells, buttons if status == "pending" else (), note=row.id)


def _mail(control: ControlService) -> Iterator[ListRow]:
    for row in control.mail(MAX_ROWS):
        yield ListRow(
            (_format_short_time(row["created_at"]), row["to"], row["subject"], row["text"]), link=row["link"] or ""
        )


def _deliveries(control: ControlService) -> Iterator[ListRow]:
    for row in control.webhook_admin.list_deliveries()[:MAX_ROWS]:
        last = row["attempts"][-1] if row["attempts"] else {}
        answer = last.get("status") or last.get("error") or ""
        cells = (row["event"], row["status"], len(row["attempts"]), answer, row["fault"] or "")
        yield ListRow(
            cells,
            (ActionButton("replay", "Replay", {"id": row["id"]}),),
            f"/_emulator/deliveries/{row['id']}",
            row["message_id"],
        )


def _endpoints(control: ControlService) -> Iterator[ListRow]:
    for row in control.webhook_admin.list_endpoints():
        cells = (row["url"], ", ".join(row["events"]) or "all events", "" if row["enabled"] else "disabled")
        buttons = (
            ActionButton("send-example", "Send example", {"id": row["id"]}, EVENT_TYPES),
            ActionButton("remove-endpoint", "Remove", {"id": row["id"]}),
        )
        yield ListRow(cells, buttons, note=row["id"])


def _requests(control: ControlService) -> Iterator[ListRow]:
    for row in control.request_log.list()[::-1][:MAX_ROWS]:
        yield ListRow(
            (_format_short_time(row.at), row.method, row.path, row.operation or "", row.status or "", row.fault or "")
        )


def _faults(control: ControlService) -> Iterator[ListRow]:
    for row in control.faults.list():
        hidden = ("id", "operation", "event", "hits", "hang_ms", "delay_ms")
        effect = ", ".join(f"{name} {value}" for name, value in row.describe().items() if name not in hidden and value)
        cells = (row.id, row.operation or row.event, effect, row.hits)
        yield ListRow(cells, (ActionButton("remove-fault", "Remove", {"id": row.id}),))


NEW_USER = ActionForm(
    "add-user",
    "Add user",
    (
        FormField("email_address", "Email address", "email", is_required=True),
        FormField("first_name", "First name"),
        FormField("last_name", "Last name"),
        FormField("password", "Password", "password"),
    ),
)
NEW_ORGANIZATION = ActionForm(
    "add-organization",
    "Add organization",
    (
        FormField("name", "Name", is_required=True),
        FormField("created_by", "Email address of its administrator", "email"),
    ),
)
NEW_INVITATION = ActionForm(
    "invite",
    "Invite",
    (
        FormField("email_address", "Email address", "email", is_required=True),
        FormField("organization", "Organization id or slug", is_required=True),
        FormField("role", "Role (default role if empty)"),
    ),
)
NEW_ENDPOINT = ActionForm(
    "add-endpoint",
    "Add endpoint",
    (FormField("url", "URL", "url", is_required=True), FormField("secret", "Signing secret (generated if empty)")),
)
NEW_FAULT = ActionForm(
    "add-fault",
    "Add fault",
    (
        FormField("target", "Operation or event, such as CreateUser or user.created", is_required=True),
        FormField("status", "Response status of an operation", "number", value="500"),
        FormField("do", "Effect on an event", choices=DELIVERY_FAULTS),
        FormField("count", "Count (unlimited if empty)", "number", value="1"),
    ),
)
LISTS: dict[str, ListPage] = {
    "users": ListPage("Users", ("Identifier", "Name", "", "Created"), _users, NEW_USER),
    "organizations": ListPage(
        "Organizations",
        ("Name", "Slug", "Members", "Pending", "Created"),
        _organizations,
        NEW_ORGANIZATION,
    ),
    "invitations": ListPage(
        "Invitations",
        ("Address", "Organization", "Role", "Status", "Expires"),
        _invitations,
        NEW_INVITATION,
    ),
    "mail": ListPage("Inbox", ("At", "To", "Subject", "Text"), _mail),
    "endpoints": ListPage("Endpoints", ("URL", "Events", ""), _endpoints, NEW_ENDPOINT),
    "deliveries": ListPage("Deliveries", ("Event", "Status", "Attempts", "Response", "Fault"), _deliveries),
    "requests": ListPage("Requests", ("At", "Method", "Path", "Operation", "Status", "Fault"), _requests),
    "faults": ListPage("Faults", ("Id", "Target", "Effect", "Count"), _faults, NEW_FAULT),
}
