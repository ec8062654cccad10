"""Audit entries as rows of text for pages."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from instep.audit.repository import AuditEntryRow
from instep.console import labels
from instep.console.components import StatusBadge
from instep.console.labels import LabelContext
from instep.core.i18n import FormattedTime, Localizer


class AuditEntryView(Struct, frozen=True, kw_only=True):
    """An audit entry as text. `organization_name` is empty on the pages of a single organization."""

    id: str
    at: FormattedTime
    actor_label: str
    action_label: str
    target_label: str
    organization_name: str
    status: StatusBadge
    details: tuple[tuple[str, str], ...]
    request_id: str | None


def make_audit_entry_view(
    entry: AuditEntryRow, context: LabelContext, localizer: Localizer, *, has_organization: bool
) -> AuditEntryView:
    """Return an audit entry as text."""
    names = context.names
    return AuditEntryView(
        id=entry.id,
        at=localizer.ago(entry.at, context.now),
        actor_label=labels.format_actor_with_impersonator(entry.actor, entry.impersonator, names, localizer),
        action_label=labels.format_action(entry.action, localizer),
        target_label=labels.format_target(entry.target, names, localizer),
        organization_name=names.get(entry.organization_id or "", "") if has_organization else "",
        status=make_outcome_status(entry.outcome, localizer),
        details=_list_details(entry, localizer),
        request_id=entry.request_id,
    )


def make_outcome_status(outcome: str, localizer: Localizer) -> StatusBadge:
    """Return the badge of an entry's outcome."""
    _ = localizer.gettext
    badges: dict[str, StatusBadge] = {
        "asked": StatusBadge(_("Requested"), "clock", "info"),
        "done": StatusBadge(_("Done"), "circle-check", "good"),
        "refused": StatusBadge(_("Refused"), "circle-x", "quiet"),
        "attention": StatusBadge(_("Needs attention"), "triangle-alert", "warn"),
        "given up": StatusBadge(_("Given up"), "circle-minus", "quiet"),
    }
    return badges.get(outcome) or StatusBadge(outcome.capitalize(), "circle-minus", "quiet")


def _list_details(entry: AuditEntryRow, localizer: Localizer) -> tuple[tuple[str, str], ...]:
    """Return the remaining values with their names: action, target, cause, origin, and the entry's details."""
    _ = localizer.gettext
    values = [(_("Action"), entry.action), (_("Target"), entry.target)]
    values += [(_("Operation or delivery"), entry.cause or ""), (_("IP address"), entry.origin or "")]
    values += _flatten_details(entry.details)
    return tuple((name, text) for name, text in values if text)


def _flatten_details(details: Mapping[str, Any], parent: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in details.items():
        label = f"{parent} {name}".strip().replace("_", " ")
        if isinstance(value, dict):
            found += _flatten_details(value, label)
        elif value not in (None, "", []):
            found.append((label, value if isinstance(value, str) else msgspec.json.encode(value).decode()))
    return found
