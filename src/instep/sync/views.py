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
    """How it is read: `names` of ids, the words, `now`."""

    names: Mapping[str, str]
    words: Localizer
    now: int


def build_overview_context(
    look: SyncOverview, read_sync: RenderContext, *, policy: FieldOwnership, every: int
) -> TemplateContext:
    """How sync stands. `every`: how often a check runs by itself, in milliseconds; 0 never."""
    words, now = read_sync.words, read_sync.now
    ended = [it for it in look.runs if it.state not in ("asked", "running")]
    advice = messages.advise_on_run(ended[0], words) if ended else None
    fresh = look.freshness
    return {
        "current": [build_active_run(it, read_sync) for it in look.unfinished],
        "runs": [_build_run_view(it, read_sync) for it in look.runs],
        "check": _build_run_view(look.check, read_sync) if look.check else None,
        "mend": _build_run_view(look.mend, read_sync) if look.mend else None,
        "kinds": count_findings_by_kind(look.check, words) if look.check else [],
        "reads": build_count_views(look.check, words) if look.check else [],
        "is_plan_good": bool(look.check and is_applicable(look.check, now)),
        "advice": advice,
        "problem": _build_run_view(ended[0], read_sync) if advice else None,
        "fuse": max(look.suspects.values(), default=0),
        "warning": messages.describe_freshness(fresh, words),
        "looked": words.ago(fresh.looked_at, now) if fresh else None,
        "newest": words.ago(look.newest_event_at, now) if look.newest_event_at else None,
        "rules": build_ownership_views(policy, words),
        "every": _describe_interval(every, words),
    }


def build_run_context(run: Run, shown: RunDetails, read_sync: RenderContext) -> TemplateContext:
    """One run, with a page of its rows."""
    words, now = read_sync.words, read_sync.now
    is_open = is_applicable(run, now) and not shown.is_busy
    names = {it.finding.key.id: it.finding.label for it in shown.rows if it.finding.label} | dict(read_sync.names)
    rows = [
        build_finding_view(it, names, words, now=now, is_good=is_open and run.kind == "plan")
        for it in shown.rows[:PAGE_SIZE]
    ]
    mending = shown.mending
    is_busy = mending is not None and mending.state in ("asked", "running") and shown.is_busy
    advice = messages.advise_on_run(run, words)
    return {
        "run": _build_run_view(run, read_sync),
        "current": [build_active_run(run, read_sync)] if run.state in ("asked", "running") else [],
        "rows": rows,
        "kinds": count_findings_by_kind(run, words),
        "reads": build_count_views(run, words),
        "total": run.differences if run.kind in ("check", "plan") else len(rows),
        "hash": run.hash or "",
        "good_for": messages.format_duration(run.expires_at - now, words)
        if is_applicable(run, now) and run.expires_at
        else "",
        "is_expired": run.expires_at is not None and not is_in_future(run.expires_at, now, PLAN_LIFETIME),
        "open_rows": shown.open_rows if is_open else 0,
        "mending": build_active_run(mending, read_sync) if mending and is_busy else None,
        "mended": _build_run_view(mending, read_sync) if mending and not is_busy else None,
        "mended_advice": messages.advise_on_run(mending, words) if mending and not is_busy else None,
        "advice": advice,
        "fuse": max(shown.suspects.values(), default=0),
        "plan_href": f"/sync/runs/{run.plan_id}" if run.plan_id else "",
        "is_over": run.state == "done" and run.code == "fuse",
        "is_under_way": run.state in ("asked", "running") or is_busy,
        "after": shown.rows[PAGE_SIZE - 1].number if len(shown.rows) > PAGE_SIZE else 0,
    }


def build_active_run(run: Run, read_sync: RenderContext) -> TemplateContext:
    """A run that waits or is under way."""
    stage = build_progress_view(run, read_sync.words, now=read_sync.now) if run.state == "running" else None
    return {
        "run": _build_run_view(run, read_sync),
        "stage": stage,
        "done": messages.describe_result(run, read_sync.words),
    }


def is_applicable(run: Run, now: int) -> bool:
    """Whether a plan may still be applied."""
    return run.kind == "plan" and run.state == "done" and is_in_future(run.expires_at or 0, now, PLAN_LIFETIME)


def _describe_interval(every: int, words: Localizer) -> str:
    _ = words.gettext
    if every == HOUR:
        return _("A check runs by itself every hour.")
    return _("A check runs by itself every %(span)s.", span=messages.format_duration(every, words)) if every else ""


class RunView(Struct, frozen=True, kw_only=True):
    """One run. `took` is how long it ran, or has been running."""

    id: str
    kind: str
    what: str
    status: StatusBadge
    state: str
    who: str
    started: FormattedTime
    took: str
    result: str
    reason: str
    href: str


def _build_run_view(run: Run, read_sync: RenderContext) -> RunView:
    return build_run_view(run, read_sync.names, read_sync.words, now=read_sync.now)


MAX_SELECTED_ROWS = 1_000
CONFIRM_WORD_THRESHOLD = 2  # so many deletions at once, and the word is asked for


def confirm_apply(
    run: Run, counts: Mapping[tuple[str, str], int], chosen: Sequence[int] | None, words: Localizer
) -> ConfirmationDialog:
    """Before rows are mended: how many, and where. `counts` are open rows by kind of finding and by side."""
    _, number = words.gettext, sum(counts.values())
    gone = sum(count for (kind, _side), count in counts.items() if kind in DELETION_KINDS)
    there = sum(count for (_kind, side), count in counts.items() if side == "clerk")
    here = number - gone - there
    said = (
        (here, "%(num)s row is written to the database.", "%(num)s rows are written to the database."),
        (
            there,
            "%(num)s row is written to Clerk, then read back.",
            "%(num)s rows are written to Clerk, then read back.",
        ),
        (gone, "%(num)s row is marked as deleted here.", "%(num)s rows are marked as deleted here."),
    )
    consequences = [words.ngettext(one, many, count) for count, one, many in said if count]
    consequences.append(_("Each row is looked at again first; what changed meanwhile is skipped, and said."))
    return ConfirmationDialog(
        title=words.ngettext("Mend %(num)s row?", "Mend %(num)s rows?", number),
        confirm_label=words.ngettext("Mend %(num)s row", "Mend %(num)s rows", number),
        action=f"/sync/runs/{run.id}/apply",
        cancel_url=f"/sync/runs/{run.id}",
        impact=tuple(consequences),
        is_destructive=gone > 0,
        confirmation_text=_("delete") if gone >= CONFIRM_WORD_THRESHOLD else "",
        fields=tuple(("row", str(it)) for it in chosen or ()),
    )


def confirm_deletion_limit(allowed: int, words: Localizer) -> ConfirmationDialog:
    """Before a plan for which a person lifts the fuse."""
    _ = words.gettext
    return ConfirmationDialog(
        title=words.ngettext("Allow %(num)s deletion?", "Allow up to %(num)s deletions of each kind?", allowed),
        confirm_label=_("Allow and plan"),
        action="/sync/plan",
        cancel_url="/sync",
        impact=(
            _("Everything is compared again, and a plan is made. Nothing is changed yet."),
            _("The plan lists each row that would be marked as deleted here, after a second look in Clerk."),
            _("The allowance is for this one plan."),
        ),
        confirmation_text=_("allow"),
        fields=(("allow_gone", str(allowed)),),
    )


def parse_number(text: str) -> int | None:
    """A whole number that is not negative; None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 8 else None


def parse_selected_rows(texts: Sequence[str]) -> list[int] | None:
    """The numbers of chosen rows; None where none is named: all are meant."""
    found = [number for text in texts[:MAX_SELECTED_ROWS] if (number := parse_number(text)) is not None]
    return found if texts else None


MAX_VALUE_LENGTH = 300


class FieldChangeView(Struct, frozen=True, kw_only=True):
    """One field, before and after, on the side where it is mended; `owner` is whose word counts, in words; `is_ours`:
    the database's. `is_kept`: neither is written."""

    name: str
    before: str
    after: str
    owner: str = ""
    is_ours: bool = False
    is_kept: bool = False


class FindingView(Struct, frozen=True, kw_only=True):
    """One finding. `way` is how it is mended, and where; `is_mendable`: nobody has to look."""

    number: int
    kind: str
    what: str
    thing: str
    label: str
    clerk_id: str
    lines: tuple[FieldChangeView, ...]
    way: StatusBadge
    is_repairable: bool
    why: str
    wrote: FormattedTime | None
    note: str
    outcome: StatusBadge | None
    outcome_reason: str
    can_apply: bool


class EntityCountView(Struct, frozen=True):
    """How many of a kind were read, of how many that Clerk has."""

    name: str
    fetched: str
    total: str
    is_whole: bool
    note: str


class ProgressView(Struct, frozen=True, kw_only=True):
    """How far a run is."""

    name: str
    done: str
    total: str
    percent: int | None
    rate: str
    left: str


class FieldOwnershipView(Struct, frozen=True):
    """Who owns a field; `is_fixed`: nobody can give it to the other side."""

    name: str
    owner: str
    way: str
    is_fixed: bool


def build_run_view(run: Run, names: Mapping[str, str], words: Localizer, *, now: int) -> RunView:
    """A run in words."""
    took = (run.ended_at or now) - run.started_at
    return RunView(
        id=run.id,
        kind=run.kind,
        what=messages.describe_run_kind(run.kind, words),
        status=messages.make_run_badge(run, words),
        state=run.state,
        who=describe_actors(run, names, words),
        started=words.ago(run.started_at, now),
        took=_describe_run_time(run, took, words),
        result=messages.describe_result(run, words),
        reason=messages.describe_reason(run, words),
        href=f"/sync/runs/{run.id}",
    )


def _describe_run_time(run: Run, took: int, words: Localizer) -> str:
    if run.state == "asked":
        return ""
    return messages.format_duration(took, words) if took >= SECOND else words.gettext("under 1 s")


def describe_actor(id: str, names: Mapping[str, str], words: Localizer) -> str:
    """Who asked for a run."""
    _ = words.gettext
    ours = {"break_glass": _("Break-glass key"), "system": _("The timer"), "cli": _("Command line")}
    return names.get(id) or ours.get(id) or id


def describe_actors(run: Run, names: Mapping[str, str], words: Localizer) -> str:
    """Return who asked for a run; where somebody acted as them, both."""
    whom = describe_actor(run.actor, names, words)
    if run.impersonator is None:
        return whom
    return words.gettext("%(who)s as %(whom)s", who=describe_actor(run.impersonator, names, words), whom=whom)


def build_progress_view(run: Run, words: Localizer, *, now: int) -> ProgressView | None:
    """How far a run is; None before it has said so."""
    it = run.stage
    if not it:
        return None
    done, total = int(it["done"]), it["total"]
    spent = max(1, now - int(it["begun_at"])) / SECOND
    rate = max(0, done - int(it["begun_with"])) / spent
    left = (total - done) / rate if total and rate >= 1 and total > done else 0
    _ = words.gettext
    return ProgressView(
        name=messages.describe_entity_kind_plural(it["kind"], words),
        done=f"{done:,}",
        total=f"{total:,}" if total is not None else "",
        percent=min(100, done * 100 // total) if total else None,
        rate=_("%(n)s a second", n=f"{rate:,.0f}") if rate >= 1 else "",
        left=_("about %(span)s left", span=messages.format_duration(int(left * SECOND), words)) if left else "",
    )


def build_count_views(run: Run, words: Localizer) -> list[EntityCountView]:
    """What a run read, against what Clerk says there is."""
    _ = words.gettext
    found = []
    for kind in ENTITY_KINDS:
        if total := run.totals.get(kind):
            unreadable = total.get("unreadable", 0)
            note = words.ngettext("%(num)s unreadable", "%(num)s unreadable", unreadable) if unreadable else ""
            is_whole = bool(total.get("is_whole", True))
            note = note if is_whole else _("not whole")
            fetched, after = f"{total['fetched']:,}", f"{total['after']:,}"
            found.append(
                EntityCountView(messages.describe_entity_kind_plural(kind, words), fetched, after, is_whole, note)
            )
    return found


def build_finding_view(
    row: FindingRow, names: Mapping[str, str], words: Localizer, *, now: int, is_good: bool
) -> FindingView:
    """A finding in words; `is_good`: its plan may still be applied."""
    it = row.finding
    return FindingView(
        number=row.number,
        kind=it.kind,
        what=messages.describe_finding_kind(it.kind, words),
        thing=messages.describe_entity_kind(it.key.kind, words),
        label=replace_ids_by_names(it.label or it.key.id, names),
        clerk_id=it.key.id,
        lines=tuple(build_field_changes(it, words)),
        way=make_repair_badge(it, words),
        is_repairable=it.mend is not None,
        why=_describe_last_writer(it, words),
        wrote=words.ago(it.wrote_at, now) if it.wrote_at else None,
        note=words.gettext(it.note) if it.note else "",
        outcome=_make_outcome_badge(row, words),
        outcome_reason=words.gettext(row.outcome_reason) if row.outcome_reason else "",
        can_apply=is_good and row.outcome is None and it.mend is not None,
    )


def make_repair_badge(it: Finding, words: Localizer) -> StatusBadge:
    """How a row is mended, and where."""
    _ = words.gettext
    if it.mend is None:
        return StatusBadge(_("For a person"), "eye", "warn")
    if it.mend == "clerk":
        return StatusBadge(_("Written to Clerk"), "upload", "info")
    if it.kind in DELETION_KINDS:
        return StatusBadge(_("Deleted here"), "trash-2", "bad")
    return StatusBadge(_("Written to the database"), "database", "info")


def build_field_changes(it: Finding, words: Localizer) -> list[FieldChangeView]:
    """Before and after, field by field. A row that one side does not have is one line."""
    _ = words.gettext
    if it.differences:
        return [_build_field_change(difference, it, words) for difference in it.differences]
    gone, there, linked = _("Marked as deleted"), _("Not here"), _("No Clerk account")
    whole: dict[str, tuple[str, str, str]] = {
        "missing_here": (_("Row"), there, _summarize_entity(it, words)),
        "membership_only_in_clerk": (_("Row"), there, _summarize_entity(it, words)),
        "missing_in_clerk": (_("Row"), _("Active here"), gone),
        "membership_only_here": (_("Row"), _("Active here"), gone),
        "legacy_invited": (_("Status"), _("Invited"), _("Removed")),
    }
    if it.kind == "not_linked" and it.mend:
        return [FieldChangeView(name=_("Clerk account"), before=linked, after=it.key.id)]
    found = whole.get(it.kind)
    return [FieldChangeView(name=found[0], before=found[1], after=found[2])] if found else []


def count_findings_by_kind(run: Run, words: Localizer) -> list[tuple[str, str, str, int]]:
    """The kinds of what a run found: key, name, meaning and how many; in the order of the page."""
    known = messages.describe_finding_kinds(words)
    return [(key, name, text, run.counts[key]) for key, (name, text) in known.items() if run.counts.get(key)]


def build_ownership_views(policy: FieldOwnership, words: Localizer) -> list[FieldOwnershipView]:
    """Who owns which field."""
    _ = words.gettext
    found = []
    for name, is_free in messages.list_ownership_fields():
        is_ours = policy.owner(name) == "database"
        way = "clerk" if is_ours and name not in ("deactivation", "attributes") else "here"
        owner = _("The database") if is_ours else "Clerk"
        found.append(
            FieldOwnershipView(
                messages.describe_field(name, words), owner, "" if is_ours and way == "here" else way, not is_free
            )
        )
    return found


def collect_ids(rows: Sequence[FindingRow]) -> list[str]:
    """Every id that should be told by a name."""
    found: list[str] = []
    for row in rows:
        found += [row.finding.key.id, row.finding.here or ""]
        found += [part for part in row.finding.label.split(" ") if part.startswith(("user_", "org_"))]
    return list(dict.fromkeys(it for it in found if it))


def replace_ids_by_names(label: str, names: Mapping[str, str]) -> str:
    """A label with names in the place of ids."""
    return " ".join(names.get(part, part) for part in label.split(" "))


def _build_field_change(it: FieldDifference, finding: Finding, words: Localizer) -> FieldChangeView:
    clerk, here = format_value(it.clerk, words), format_value(it.here, words)
    is_ours = it.owner == "database"
    owner = words.gettext("The database") if is_ours else "Clerk"
    name, is_kept = messages.describe_field(it.field, words), finding.mend is None
    before, after = (clerk, here) if is_ours else (here, clerk)
    return FieldChangeView(name=name, before=before, after=after, owner=owner, is_ours=is_ours, is_kept=is_kept)


def format_value(value: Any, words: Localizer) -> str:
    """A value as people read it."""
    _ = words.gettext
    if value is None or value == "":
        return _("(empty)")
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= MAX_VALUE_LENGTH else text[:MAX_VALUE_LENGTH] + "…"


def _summarize_entity(it: Finding, words: Localizer) -> str:
    entity = it.news.entity if it.news else None
    if isinstance(entity, ClerkUser):
        name = " ".join(part for part in (entity.first_name, entity.last_name) if part)
        return ", ".join(part for part in (name, entity.email) if part) or entity.clerk_id
    if isinstance(entity, ClerkOrganization):
        return entity.name
    if isinstance(entity, ClerkMembership):
        return words.gettext("Joined as %(role)s", role=entity.role.removeprefix("org:"))
    return words.gettext("Taken in")


def _describe_last_writer(it: Finding, words: Localizer) -> str:
    _ = words.gettext
    sides = {"clerk": _("Clerk wrote last"), "database": _("The database wrote last")}
    return sides.get(it.wrote_last or "", "")


def _make_outcome_badge(row: FindingRow, words: Localizer) -> StatusBadge | None:
    _ = words.gettext
    if row.outcome == "applied":
        return StatusBadge(_("Mended"), "circle-check", "good")
    if row.outcome == "skipped":
        return StatusBadge(_("Skipped"), "circle-minus", "warn")
    return None
