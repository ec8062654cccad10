"""View models, template contexts and confirmation dialogs of the sync pages."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from instep.console.components import ConfirmationDialog, StatusBadge
from instep.core.clock import HOUR, SECOND, is_in_future
from instep.core.i18n import FormattedTime, Localizer
from instep.domain.models import ENTITY_KINDS, ClerkMembership, ClerkOrganization, ClerkUser
from instep.sync import messages
from instep.sync.models import PLAN_LIFETIME, FindingRow, Run, RunDetails, SyncOverview
from instep.sync.plan import DELETION_KINDS, FieldDifference, FieldOwnership, Finding

PAGE_SIZE = 50
TemplateContext = dict[str, Any]


class RenderContext(Struct, frozen=True, kw_only=True):
    """Display names by id, the localizer and the present time (Unix ms)."""

    names: Mapping[str, str]
    localizer: Localizer
    now: int


def build_overview_context(
    overview: SyncOverview, context: RenderContext, *, policy: FieldOwnership, check_interval: int
) -> TemplateContext:
    """Build the context of the overview. `check_interval`: time between automatic checks in milliseconds; 0: never."""
    localizer, now = context.localizer, context.now
    ended = [it for it in overview.runs if it.state not in ("asked", "running")]
    advice = messages.advise_on_run(ended[0], localizer) if ended else None
    fresh = overview.freshness
    return {
        "current": [build_active_run(it, context) for it in overview.unfinished],
        "runs": [_build_run_view(it, context) for it in overview.runs],
        "check": _build_run_view(overview.last_check, context) if overview.last_check else None,
        "last_sync": _build_run_view(overview.last_sync, context) if overview.last_sync else None,
        "kinds": count_findings_by_kind(overview.last_check, localizer) if overview.last_check else [],
        "reads": build_count_views(overview.last_check, localizer) if overview.last_check else [],
        "is_plan_applicable": bool(overview.last_check and is_applicable(overview.last_check, now)),
        "advice": advice,
        "problem": _build_run_view(ended[0], context) if advice else None,
        "suspected_deletions": max(overview.suspected_deletions.values(), default=0),
        "warning": messages.describe_freshness(fresh, localizer),
        "looked": localizer.ago(fresh.looked_at, now) if fresh else None,
        "newest": localizer.ago(overview.newest_event_at, now) if overview.newest_event_at else None,
        "rules": build_ownership_views(policy, localizer),
        "check_interval": _describe_interval(check_interval, localizer),
    }


def build_run_context(run: Run, details: RunDetails, context: RenderContext) -> TemplateContext:
    """Build the context of a run's page, with a page of its rows."""
    localizer, now = context.localizer, context.now
    is_open = is_applicable(run, now) and not details.is_busy
    names = {it.finding.key.id: it.finding.label for it in details.rows if it.finding.label} | dict(context.names)
    rows = [
        build_finding_view(it, names, localizer, now=now, is_applicable=is_open and run.kind == "plan")
        for it in details.rows[:PAGE_SIZE]
    ]
    apply_run = details.apply_run
    is_busy = apply_run is not None and apply_run.state in ("asked", "running") and details.is_busy
    advice = messages.advise_on_run(run, localizer)
    return {
        "run": _build_run_view(run, context),
        "current": [build_active_run(run, context)] if run.state in ("asked", "running") else [],
        "rows": rows,
        "kinds": count_findings_by_kind(run, localizer),
        "reads": build_count_views(run, localizer),
        "total": run.differences if run.kind in ("check", "plan") else len(rows),
        "hash": run.hash or "",
        "valid_for": messages.format_duration(run.expires_at - now, localizer)
        if is_applicable(run, now) and run.expires_at
        else "",
        "is_expired": run.expires_at is not None and not is_in_future(run.expires_at, now, PLAN_LIFETIME),
        "open_rows": details.open_rows if is_open else 0,
        "active_apply": build_active_run(apply_run, context) if apply_run and is_busy else None,
        "applied": _build_run_view(apply_run, context) if apply_run and not is_busy else None,
        "applied_advice": messages.advise_on_run(apply_run, localizer) if apply_run and not is_busy else None,
        "advice": advice,
        "suspected_deletions": max(details.suspected_deletions.values(), default=0),
        "plan_href": f"/sync/runs/{run.plan_id}" if run.plan_id else "",
        "is_over_limit": run.state == "done" and run.code == "fuse",
        "is_active": run.state in ("asked", "running") or is_busy,
        "after": details.rows[PAGE_SIZE - 1].number if len(details.rows) > PAGE_SIZE else 0,
    }


def build_active_run(run: Run, context: RenderContext) -> TemplateContext:
    """Build the context of a run that waits or is running."""
    stage = build_progress_view(run, context.localizer, now=context.now) if run.state == "running" else None
    return {
        "run": _build_run_view(run, context),
        "stage": stage,
        "done": messages.describe_result(run, context.localizer),
    }


def is_applicable(run: Run, now: int) -> bool:
    """Return whether a plan can still be applied."""
    return run.kind == "plan" and run.state == "done" and is_in_future(run.expires_at or 0, now, PLAN_LIFETIME)


def _describe_interval(interval: int, localizer: Localizer) -> str:
    _ = localizer.gettext
    if interval == HOUR:
        return _("A check runs automatically every hour.")
    return (
        _("A check runs automatically every %(span)s.", span=messages.format_duration(interval, localizer))
        if interval
        else ""
    )


class RunView(Struct, frozen=True, kw_only=True):
    """One run. `duration` is the time it took, or has been running."""

    id: str
    kind: str
    title: str
    status: StatusBadge
    state: str
    actor: str
    started: FormattedTime
    duration: str
    result: str
    reason: str
    href: str


def _build_run_view(run: Run, context: RenderContext) -> RunView:
    return build_run_view(run, context.names, context.localizer, now=context.now)


MAX_SELECTED_ROWS = 1_000
CONFIRM_WORD_THRESHOLD = 2  # deletions from which a confirmation word is required


def confirm_apply(
    run: Run, counts: Mapping[tuple[str, str], int], chosen: Sequence[int] | None, localizer: Localizer
) -> ConfirmationDialog:
    """Build the dialog before rows are fixed. `counts` are open rows by kind of finding and by side."""
    _, number = localizer.gettext, sum(counts.values())
    gone = sum(count for (kind, _side), count in counts.items() if kind in DELETION_KINDS)
    there = sum(count for (_kind, side), count in counts.items() if side == "clerk")
    here = number - gone - there
    consequences = []
    if here:
        consequences.append(
            localizer.ngettext(
                "%(num)s row is written to the database.", "%(num)s rows are written to the database.", here
            )
        )
    if there:
        consequences.append(
            localizer.ngettext(
                "%(num)s row is written to Clerk, then read back.",
                "%(num)s rows are written to Clerk, then read back.",
                there,
            )
        )
    if gone:
        consequences.append(
            localizer.ngettext(
                "%(num)s row is marked as deleted here.", "%(num)s rows are marked as deleted here.", gone
            )
        )
    consequences.append(_("Each row is checked again first. Rows that changed since the plan are skipped and listed."))
    return ConfirmationDialog(
        title=localizer.ngettext("Fix %(num)s row?", "Fix %(num)s rows?", number),
        confirm_label=localizer.ngettext("Fix %(num)s row", "Fix %(num)s rows", number),
        action=f"/sync/runs/{run.id}/apply",
        cancel_url=f"/sync/runs/{run.id}",
        impact=tuple(consequences),
        is_destructive=gone > 0,
        confirmation_text=_("delete") if gone >= CONFIRM_WORD_THRESHOLD else "",
        fields=tuple(("row", str(it)) for it in chosen or ()),
    )


def confirm_deletion_limit(allowed: int, localizer: Localizer) -> ConfirmationDialog:
    """Build the dialog before a plan with a raised deletion limit."""
    _ = localizer.gettext
    return ConfirmationDialog(
        title=localizer.ngettext("Allow %(num)s deletion?", "Allow up to %(num)s deletions of each kind?", allowed),
        confirm_label=_("Allow and plan"),
        action="/sync/plan",
        cancel_url="/sync",
        impact=(
            _("Everything is compared again, and a plan is created. Nothing is changed yet."),
            _("The plan lists each row that would be marked as deleted here, after checking again in Clerk."),
            _("This applies to this plan only."),
        ),
        confirmation_text=_("allow"),
        fields=(("allow_gone", str(allowed)),),
    )


def parse_number(text: str) -> int | None:
    """Parse a non-negative whole number; None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 8 else None


def parse_selected_rows(texts: Sequence[str]) -> list[int] | None:
    """Parse the numbers of selected rows; None where none is given, which means all."""
    found = [number for text in texts[:MAX_SELECTED_ROWS] if (number := parse_number(text)) is not None]
    return found if texts else None


MAX_VALUE_LENGTH = 300


class FieldChangeView(Struct, frozen=True, kw_only=True):
    """One field before and after, on the side where it is fixed.

    `owner` names the source of truth, `is_ours`: it is the database. `is_kept`: neither side is written.
    """

    name: str
    before: str
    after: str
    owner: str = ""
    is_ours: bool = False
    is_kept: bool = False


class FindingView(Struct, frozen=True, kw_only=True):
    """One finding. `repair` says where it is fixed; `is_repairable`: it needs no manual review."""

    number: int
    kind: str
    title: str
    entity: str
    label: str
    clerk_id: str
    changes: tuple[FieldChangeView, ...]
    repair: StatusBadge
    is_repairable: bool
    last_writer: str
    changed: FormattedTime | None
    note: str
    outcome: StatusBadge | None
    outcome_reason: str
    can_apply: bool


class EntityCountView(Struct, frozen=True):
    """Number of entities of a kind that were fetched, and Clerk's total."""

    name: str
    fetched: str
    total: str
    is_whole: bool
    note: str


class ProgressView(Struct, frozen=True, kw_only=True):
    """Progress of a run."""

    name: str
    done: str
    total: str
    percent: int | None
    rate: str
    left: str


class FieldOwnershipView(Struct, frozen=True):
    """Source of truth of a field; `is_fixed`: it can't be configured."""

    name: str
    owner: str
    way: str
    is_fixed: bool


def build_run_view(run: Run, names: Mapping[str, str], localizer: Localizer, *, now: int) -> RunView:
    """Build the view of a run."""
    duration = (run.ended_at or now) - run.started_at
    return RunView(
        id=run.id,
        kind=run.kind,
        title=messages.describe_run_kind(run.kind, localizer),
        status=messages.make_run_badge(run, localizer),
        state=run.state,
        actor=describe_actors(run, names, localizer),
        started=localizer.ago(run.started_at, now),
        duration=_describe_run_time(run, duration, localizer),
        result=messages.describe_result(run, localizer),
        reason=messages.describe_reason(run, localizer),
        href=f"/sync/runs/{run.id}",
    )


def _describe_run_time(run: Run, duration: int, localizer: Localizer) -> str:
    if run.state == "asked":
        return ""
    return messages.format_duration(duration, localizer) if duration >= SECOND else localizer.gettext("under 1 s")


def describe_actor(actor_id: str, names: Mapping[str, str], localizer: Localizer) -> str:
    """Return the name of the actor who requested a run."""
    _ = localizer.gettext
    known = {"break_glass": _("Break-glass key"), "system": _("Scheduled"), "cli": _("CLI")}
    return names.get(actor_id) or known.get(actor_id) or actor_id


def describe_actors(run: Run, names: Mapping[str, str], localizer: Localizer) -> str:
    """Return the name of the actor of a run, and of the impersonator where there is one."""
    actor = describe_actor(run.actor, names, localizer)
    if run.impersonator is None:
        return actor
    return localizer.gettext(
        "%(impersonator)s as %(actor)s",
        impersonator=describe_actor(run.impersonator, names, localizer),
        actor=actor,
    )


def build_progress_view(run: Run, localizer: Localizer, *, now: int) -> ProgressView | None:
    """Build the view of a run's progress; None before there is any."""
    stage = run.stage
    if not stage:
        return None
    done, total = int(stage["done"]), stage["total"]
    spent = max(1, now - int(stage["begun_at"])) / SECOND
    rate = max(0, done - int(stage["begun_with"])) / spent
    left = (total - done) / rate if total and rate >= 1 and total > done else 0
    _ = localizer.gettext
    return ProgressView(
        name=messages.describe_entity_kind_plural(stage["kind"], localizer),
        done=f"{done:,}",
        total=f"{total:,}" if total is not None else "",
        percent=min(100, done * 100 // total) if total else None,
        rate=_("%(n)s per second", n=f"{rate:,.0f}") if rate >= 1 else "",
        left=_("about %(span)s left", span=messages.format_duration(int(left * SECOND), localizer)) if left else "",
    )


def build_count_views(run: Run, localizer: Localizer) -> list[EntityCountView]:
    """Build the views of the numbers fetched, against Clerk's totals."""
    _ = localizer.gettext
    found = []
    for kind in ENTITY_KINDS:
        if total := run.totals.get(kind):
            unreadable = total.get("unreadable", 0)
            note = localizer.ngettext("%(num)s unreadable", "%(num)s unreadable", unreadable) if unreadable else ""
            is_whole = bool(total.get("is_whole", True))
            note = note if is_whole else _("incomplete")
            fetched, after = f"{total['fetched']:,}", f"{total['after']:,}"
            found.append(
                EntityCountView(messages.describe_entity_kind_plural(kind, localizer), fetched, after, is_whole, note)
            )
    return found


def build_finding_view(
    row: FindingRow, names: Mapping[str, str], localizer: Localizer, *, now: int, is_applicable: bool
) -> FindingView:
    """Build the view of a finding; `is_applicable`: its plan can still be applied."""
    finding = row.finding
    return FindingView(
        number=row.number,
        kind=finding.kind,
        title=messages.describe_finding_kind(finding.kind, localizer),
        entity=messages.describe_entity_kind(finding.key.kind, localizer),
        label=replace_ids_by_names(finding.label or finding.key.id, names),
        clerk_id=finding.key.id,
        changes=tuple(build_field_changes(finding, localizer)),
        repair=make_repair_badge(finding, localizer),
        is_repairable=finding.repair_target is not None,
        last_writer=_describe_last_writer(finding, localizer),
        changed=localizer.ago(finding.wrote_at, now) if finding.wrote_at else None,
        note=localizer.gettext(finding.note) if finding.note else "",
        outcome=_make_outcome_badge(row, localizer),
        outcome_reason=localizer.gettext(row.outcome_reason) if row.outcome_reason else "",
        can_apply=is_applicable and row.outcome is None and finding.repair_target is not None,
    )


def make_repair_badge(finding: Finding, localizer: Localizer) -> StatusBadge:
    """Return the badge that says where a row is fixed."""
    _ = localizer.gettext
    if finding.repair_target is None:
        return StatusBadge(_("Manual review"), "eye", "warn")
    if finding.repair_target == "clerk":
        return StatusBadge(_("Written to Clerk"), "upload", "info")
    if finding.kind in DELETION_KINDS:
        return StatusBadge(_("Deleted here"), "trash-2", "bad")
    return StatusBadge(_("Written to the database"), "database", "info")


def build_field_changes(finding: Finding, localizer: Localizer) -> list[FieldChangeView]:
    """Return the values before and after, by field. A row that one side lacks is one line."""
    _ = localizer.gettext
    if finding.differences:
        return [_build_field_change(difference, finding, localizer) for difference in finding.differences]
    deleted, missing, unlinked = _("Marked as deleted"), _("Missing here"), _("No Clerk account")
    known: dict[str, tuple[str, str, str]] = {
        "missing_here": (_("Row"), missing, _summarize_entity(finding, localizer)),
        "membership_only_in_clerk": (_("Row"), missing, _summarize_entity(finding, localizer)),
        "missing_in_clerk": (_("Row"), _("Active here"), deleted),
        "membership_only_here": (_("Row"), _("Active here"), deleted),
        "legacy_invited": (_("Status"), _("Invited"), _("Removed")),
    }
    if finding.kind == "not_linked" and finding.repair_target:
        return [FieldChangeView(name=_("Clerk account"), before=unlinked, after=finding.key.id)]
    found = known.get(finding.kind)
    return [FieldChangeView(name=found[0], before=found[1], after=found[2])] if found else []


def count_findings_by_kind(run: Run, localizer: Localizer) -> list[tuple[str, str, str, int]]:
    """Return the kinds a run found, in display order: key, name, meaning and number."""
    known = messages.describe_finding_kinds(localizer)
    return [(key, name, text, run.counts[key]) for key, (name, text) in known.items() if run.counts.get(key)]


def build_ownership_views(policy: FieldOwnership, localizer: Localizer) -> list[FieldOwnershipView]:
    """Build the views of the source of truth of each field."""
    _ = localizer.gettext
    found = []
    for name, is_free in messages.list_ownership_fields():
        is_ours = policy.owner(name) == "database"
        way = "clerk" if is_ours and name not in ("deactivation", "attributes") else "here"
        owner = _("The database") if is_ours else "Clerk"
        found.append(
            FieldOwnershipView(
                messages.describe_field(name, localizer), owner, "" if is_ours and way == "here" else way, not is_free
            )
        )
    return found


def collect_ids(rows: Sequence[FindingRow]) -> list[str]:
    """Return every id that should be displayed by name."""
    found: list[str] = []
    for row in rows:
        found += [row.finding.key.id, row.finding.here or ""]
        found += [part for part in row.finding.label.split(" ") if part.startswith(("user_", "org_"))]
    return list(dict.fromkeys(it for it in found if it))


def replace_ids_by_names(label: str, names: Mapping[str, str]) -> str:
    """Replace the ids in a label by names."""
    return " ".join(names.get(part, part) for part in label.split(" "))


def _build_field_change(difference: FieldDifference, finding: Finding, localizer: Localizer) -> FieldChangeView:
    clerk, here = format_value(difference.clerk, localizer), format_value(difference.here, localizer)
    is_ours = difference.owner == "database"
    owner = localizer.gettext("The database") if is_ours else "Clerk"
    name, is_kept = messages.describe_field(difference.field, localizer), finding.repair_target is None
    before, after = (clerk, here) if is_ours else (here, clerk)
    return FieldChangeView(name=name, before=before, after=after, owner=owner, is_ours=is_ours, is_kept=is_kept)


def format_value(value: Any, localizer: Localizer) -> str:
    """Format a value for display."""
    _ = localizer.gettext
    if value is None or value == "":
        return _("(empty)")
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= MAX_VALUE_LENGTH else text[:MAX_VALUE_LENGTH] + "…"


def _summarize_entity(finding: Finding, localizer: Localizer) -> str:
    entity = finding.observation.entity if finding.observation else None
    if isinstance(entity, ClerkUser):
        name = " ".join(part for part in (entity.first_name, entity.last_name) if part)
        return ", ".join(part for part in (name, entity.email) if part) or entity.clerk_id
    if isinstance(entity, ClerkOrganization):
        return entity.name
    if isinstance(entity, ClerkMembership):
        return localizer.gettext("Joined as %(role)s", role=entity.role.removeprefix("org:"))
    return localizer.gettext("Imported")


def _describe_last_writer(finding: Finding, localizer: Localizer) -> str:
    _ = localizer.gettext
    sides = {"clerk": _("Last changed in Clerk"), "database": _("Last changed in the database")}
    return sides.get(finding.wrote_last or "", "")


def _make_outcome_badge(row: FindingRow, localizer: Localizer) -> StatusBadge | None:
    _ = localizer.gettext
    if row.outcome == "applied":
        return StatusBadge(_("Fixed"), "circle-check", "good")
    if row.outcome == "skipped":
        return StatusBadge(_("Skipped"), "circle-minus", "warn")
    return None
