"""What the pages of history say: operations and audit entries in words. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from instep.audit.store import Kept
from instep.history import naming
from instep.journal.model import Operation
from instep.kit.signs import Status
from instep.kit.words import When, Words

UNFINISHED: tuple[str, ...] = ("attention", "open")
ENDED: tuple[str, ...] = ("settled", "refused", "given_up")
STATES = (*UNFINISHED, *ENDED)


class Reading(Struct, frozen=True, kw_only=True):
    """How it is read: `names` of ids, `base` the address above both pages, `now`."""

    names: Mapping[str, str]
    base: str
    now: int


def state(key: str, words: Words) -> Status:
    """How an operation stands."""
    _ = words.gettext
    known: dict[str, Status] = {
        "open": Status(_("Syncing"), "refresh-cw", "info"),
        "attention": Status(_("Needs attention"), "triangle-alert", "warn"),
        "settled": Status(_("Done"), "circle-check", "good"),
        "refused": Status(_("Refused"), "circle-x", "quiet"),
        "given_up": Status(_("Given up"), "circle-minus", "quiet"),
    }
    return known[key]


class OperationRow(Struct, frozen=True, kw_only=True):
    """One operation. `place` is the organization, where operations of several are shown."""

    id: str
    what: str
    whom: str
    place: str
    who: str
    state: str
    status: Status
    asked: When
    changed: When
    reason: str
    next_try: When | None
    attempts: int
    steps: tuple[str, ...]
    request_id: str | None
    may_retry: bool
    may_give_up: bool
    href: str


class EntryRow(Struct, frozen=True, kw_only=True):
    """One entry of the audit. `by` and `to` are the addresses of the audit of that person alone."""

    id: str
    at: When
    who: str
    actor: str
    what: str
    action: str
    whom: str
    target: str
    place: str
    status: Status
    details: tuple[tuple[str, str], ...]
    request_id: str | None


def operation_row(it: Operation, reading: Reading, words: Words, *, has_place: bool) -> OperationRow:
    """An operation in words."""
    return OperationRow(
        id=it.id,
        what=naming.action(it.kind, words),
        whom=naming.target(it.target, reading.names, words),
        place=reading.names.get(it.organization_id or "", "") if has_place else "",
        who=naming.actors(it.actor, it.impersonator, reading.names, words),
        state=it.state,
        status=state(it.state, words),
        asked=words.ago(it.asked_at, reading.now),
        changed=words.ago(it.changed_at, reading.now),
        reason=words.gettext(it.reason) if it.reason else "",
        next_try=words.until(it.due_at, reading.now) if it.due_at and it.due_at > reading.now else None,
        attempts=it.attempts,
        steps=tuple(step.replace("_", " ") for step, value in it.done.items() if value),
        request_id=it.request_id,
        may_retry=it.state == "attention",
        may_give_up=it.state in UNFINISHED,
        href=f"{reading.base}/operations/{it.id}",
    )


def entry_row(it: Kept, reading: Reading, words: Words, *, has_place: bool) -> EntryRow:
    """An entry in words."""
    return EntryRow(
        id=it.id,
        at=words.ago(it.at, reading.now),
        who=naming.actors(it.actor, it.impersonator, reading.names, words),
        actor=it.actor,
        what=naming.action(it.action, words),
        action=it.action,
        whom=naming.target(it.target, reading.names, words),
        target=it.target,
        place=reading.names.get(it.organization_id or "", "") if has_place else "",
        status=outcome(it.outcome, words),
        details=_details(it, words),
        request_id=it.request_id,
    )


def outcome(key: str, words: Words) -> Status:
    """How an entry of the audit stands."""
    _ = words.gettext
    known: dict[str, Status] = {
        "asked": Status(_("Asked"), "clock", "info"),
        "done": Status(_("Done"), "circle-check", "good"),
        "refused": Status(_("Refused"), "circle-x", "quiet"),
        "attention": Status(_("Needs attention"), "triangle-alert", "warn"),
        "given up": Status(_("Given up"), "circle-minus", "quiet"),
    }
    return known.get(key) or Status(key.capitalize(), "circle-minus", "quiet")


def ids_of(rows: Sequence[Operation] | Sequence[Kept]) -> list[str]:
    """Every id that should be told by a name."""
    texts: list[str] = []
    for it in rows:
        texts += [it.actor, it.impersonator or "", it.target, it.organization_id or ""]
    return list(dict.fromkeys(naming.ids_in(texts)))


def told(it: Operation, names: Mapping[str, str], words: Words) -> tuple[str, str, Literal["success", "error"]]:
    """How an operation ended, for a toast: title, text and tone."""
    whom = naming.target(it.target, names, words)
    title = f"{naming.action(it.kind, words)}: {whom}"
    status = state(it.state, words)
    if it.state == "settled":
        return title, status.text, "success"
    return title, " ".join(part for part in (f"{status.text}.", it.reason or "") if part), "error"


def _details(it: Kept, words: Words) -> tuple[tuple[str, str], ...]:
    """What else is known, by name: before and after, the cause, where it came from."""
    _ = words.gettext
    known = [(_("Action"), it.action), (_("Whom or what"), it.target)]
    known += [(_("Operation or delivery"), it.cause or ""), (_("From"), it.origin or "")]
    known += _flat(it.details)
    return tuple((name, text) for name, text in known if text)


def _flat(details: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in details.items():
        label = f"{above} {name}".strip().replace("_", " ")
        if isinstance(value, dict):
            found += _flat(value, label)
        elif value not in (None, "", []):
            found.append((label, value if isinstance(value, str) else msgspec.json.encode(value).decode()))
    return found
