"""Console page of operations: rows, states and results as text."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from instep.console import labels
from instep.console.components import StatusBadge
from instep.console.labels import LabelContext
from instep.core.i18n import FormattedTime, Localizer
from instep.operations.workflow import Operation

UNFINISHED_STATES: tuple[str, ...] = ("attention", "open")
FINISHED_STATES: tuple[str, ...] = ("settled", "refused", "given_up")
OPERATION_STATES = (*UNFINISHED_STATES, *FINISHED_STATES)


def make_operation_status(key: str, words: Localizer) -> StatusBadge:
    """How an operation stands."""
    _ = words.gettext
    known: dict[str, StatusBadge] = {
        "open": StatusBadge(_("Syncing"), "refresh-cw", "info"),
        "attention": StatusBadge(_("Needs attention"), "triangle-alert", "warn"),
        "settled": StatusBadge(_("Done"), "circle-check", "good"),
        "refused": StatusBadge(_("Refused"), "circle-x", "quiet"),
        "given_up": StatusBadge(_("Given up"), "circle-minus", "quiet"),
    }
    return known[key]


class OperationView(Struct, frozen=True, kw_only=True):
    """One operation. `place` is the organization, where operations of several are shown."""

    id: str
    what: str
    whom: str
    place: str
    who: str
    state: str
    status: StatusBadge
    asked: FormattedTime
    changed: FormattedTime
    reason: str
    next_try: FormattedTime | None
    attempts: int
    steps: tuple[str, ...]
    request_id: str | None
    can_retry: bool
    can_give_up: bool
    href: str


def make_operation_view(it: Operation, read_sync: LabelContext, words: Localizer, *, has_place: bool) -> OperationView:
    """An operation in words."""
    return OperationView(
        id=it.id,
        what=labels.format_action(it.kind, words),
        whom=labels.format_target(it.target, read_sync.names, words),
        place=read_sync.names.get(it.organization_id or "", "") if has_place else "",
        who=labels.format_actor_with_impersonator(it.actor, it.impersonator, read_sync.names, words),
        state=it.state,
        status=make_operation_status(it.state, words),
        asked=words.ago(it.asked_at, read_sync.now),
        changed=words.ago(it.changed_at, read_sync.now),
        reason=words.gettext(it.reason) if it.reason else "",
        next_try=words.until(it.due_at, read_sync.now) if it.due_at and it.due_at > read_sync.now else None,
        attempts=it.attempts,
        steps=tuple(step.replace("_", " ") for step, value in it.done.items() if value),
        request_id=it.request_id,
        can_retry=it.state == "attention",
        can_give_up=it.state in UNFINISHED_STATES,
        href=f"{read_sync.base}/operations/{it.id}",
    )


def describe_operation_result(
    it: Operation, names: Mapping[str, str], words: Localizer
) -> tuple[str, str, Literal["success", "error"]]:
    """How an operation ended, for a toast: title, text and tone."""
    whom = labels.format_target(it.target, names, words)
    title = f"{labels.format_action(it.kind, words)}: {whom}"
    status = make_operation_status(it.state, words)
    if it.state == "settled":
        return title, status.text, "success"
    return title, " ".join(part for part in (f"{status.text}.", it.reason or "") if part), "error"
