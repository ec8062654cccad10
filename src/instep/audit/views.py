"""Audit entries as rows of text for pages."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from instep.audit.entries import AuditEntryRow
from instep.console import labels
from instep.console.components import StatusBadge
from instep.console.labels import LabelContext
from instep.core.i18n import FormattedTime, Localizer
from instep.operations.workflow import Operation


class AuditEntryView(Struct, frozen=True, kw_only=True):
    """One entry of the audit. `by` and `to` are the addresses of the audit of that person alone."""

    id: str
    at: FormattedTime
    who: str
    actor: str
    what: str
    action: str
    whom: str
    target: str
    place: str
    status: StatusBadge
    details: tuple[tuple[str, str], ...]
    request_id: str | None


def make_audit_entry_view(
    it: AuditEntryRow, read_sync: LabelContext, words: Localizer, *, has_place: bool
) -> AuditEntryView:
    """An entry in words."""
    return AuditEntryView(
        id=it.id,
        at=words.ago(it.at, read_sync.now),
        who=labels.format_actor_with_impersonator(it.actor, it.impersonator, read_sync.names, words),
        actor=it.actor,
        what=labels.format_action(it.action, words),
        action=it.action,
        whom=labels.format_target(it.target, read_sync.names, words),
        target=it.target,
        place=read_sync.names.get(it.organization_id or "", "") if has_place else "",
        status=make_outcome_status(it.outcome, words),
        details=_entry_details(it, words),
        request_id=it.request_id,
    )


def make_outcome_status(key: str, words: Localizer) -> StatusBadge:
    """How an entry of the audit stands."""
    _ = words.gettext
    known: dict[str, StatusBadge] = {
        "asked": StatusBadge(_("Asked"), "clock", "info"),
        "done": StatusBadge(_("Done"), "circle-check", "good"),
        "refused": StatusBadge(_("Refused"), "circle-x", "quiet"),
        "attention": StatusBadge(_("Needs attention"), "triangle-alert", "warn"),
        "given up": StatusBadge(_("Given up"), "circle-minus", "quiet"),
    }
    return known.get(key) or StatusBadge(key.capitalize(), "circle-minus", "quiet")


def collect_ids(rows: Sequence[Operation] | Sequence[AuditEntryRow]) -> list[str]:
    """Every id that should be told by a name."""
    texts: list[str] = []
    for it in rows:
        texts += [it.actor, it.impersonator or "", it.target, it.organization_id or ""]
    return list(dict.fromkeys(labels.extract_ids(texts)))


def _entry_details(it: AuditEntryRow, words: Localizer) -> tuple[tuple[str, str], ...]:
    """What else is known, by name: before and after, the cause, where it came from."""
    _ = words.gettext
    known = [(_("Action"), it.action), (_("Whom or what"), it.target)]
    known += [(_("Operation or delivery"), it.cause or ""), (_("From"), it.origin or "")]
    known += _flatten_details(it.details)
    return tuple((name, text) for name, text in known if text)


def _flatten_details(details: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in details.items():
        label = f"{above} {name}".strip().replace("_", " ")
        if isinstance(value, dict):
            found += _flatten_details(value, label)
        elif value not in (None, "", []):
            found.append((label, value if isinstance(value, str) else msgspec.json.encode(value).decode()))
    return found
