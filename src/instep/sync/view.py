"""What the pages of sync say: runs, findings as before and after, the plan, and how far a run is. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from instep.identity.model import Membership, Organization, User
from instep.identity.whole import KINDS
from instep.kit.clock import SECOND
from instep.kit.signs import Status
from instep.kit.words import When, Words
from instep.sync import words as sync_words
from instep.sync.model import Run
from instep.sync.plan import GONE, Difference, Finding, Policy
from instep.sync.store import Row

LONGEST = 300


class Line(Struct, frozen=True, kw_only=True):
    """One field, before and after, on the side where it is mended; `owner` is whose word counts, in words; `is_ours`:
    the database's. `is_kept`: neither is written."""

    name: str
    before: str
    after: str
    owner: str = ""
    is_ours: bool = False
    is_kept: bool = False


class FindingRow(Struct, frozen=True, kw_only=True):
    """One finding. `way` is how it is mended, and where; `is_mendable`: nobody has to look."""

    number: int
    kind: str
    what: str
    thing: str
    label: str
    clerk_id: str
    lines: tuple[Line, ...]
    way: Status
    is_mendable: bool
    why: str
    wrote: When | None
    note: str
    outcome: Status | None
    outcome_reason: str
    may_apply: bool


class Read(Struct, frozen=True):
    """How many of a kind were read, of how many that Clerk has."""

    name: str
    fetched: str
    total: str
    is_whole: bool
    note: str


class Stage(Struct, frozen=True, kw_only=True):
    """How far a run is."""

    name: str
    done: str
    total: str
    percent: int | None
    rate: str
    left: str


class RunRow(Struct, frozen=True, kw_only=True):
    """One run. `took` is how long it ran, or has been running."""

    id: str
    kind: str
    what: str
    status: Status
    state: str
    who: str
    started: When
    took: str
    result: str
    reason: str
    href: str


class Rule(Struct, frozen=True):
    """Who owns a field; `is_fixed`: nobody can give it to the other side."""

    name: str
    owner: str
    way: str
    is_fixed: bool


def run_row(run: Run, names: Mapping[str, str], words: Words, *, now: int) -> RunRow:
    """A run in words."""
    took = (run.ended_at or now) - run.started_at
    return RunRow(
        id=run.id,
        kind=run.kind,
        what=sync_words.run_kind(run.kind, words),
        status=sync_words.run_state(run, words),
        state=run.state,
        who=actors(run, names, words),
        started=words.ago(run.started_at, now),
        took=_took(run, took, words),
        result=sync_words.result(run, words),
        reason=sync_words.reason(run, words),
        href=f"/sync/runs/{run.id}",
    )


def _took(run: Run, took: int, words: Words) -> str:
    if run.state == "asked":
        return ""
    return sync_words.span(took, words) if took >= SECOND else words.gettext("under 1 s")


def actor(id: str, names: Mapping[str, str], words: Words) -> str:
    """Who asked for a run."""
    _ = words.gettext
    ours = {"break_glass": _("Break-glass key"), "system": _("The timer"), "cli": _("Command line")}
    return names.get(id) or ours.get(id) or id


def actors(run: Run, names: Mapping[str, str], words: Words) -> str:
    """Return who asked for a run; where somebody acted as them, both."""
    whom = actor(run.actor, names, words)
    if run.impersonator is None:
        return whom
    return words.gettext("%(who)s as %(whom)s", who=actor(run.impersonator, names, words), whom=whom)


def stage_of(run: Run, words: Words, *, now: int) -> Stage | None:
    """How far a run is; None before it has said so."""
    it = run.stage
    if not it:
        return None
    done, total = int(it["done"]), it["total"]
    spent = max(1, now - int(it["begun_at"])) / SECOND
    rate = max(0, done - int(it["begun_with"])) / spent
    left = (total - done) / rate if total and rate >= 1 and total > done else 0
    _ = words.gettext
    return Stage(
        name=sync_words.things(it["kind"], words),
        done=f"{done:,}",
        total=f"{total:,}" if total is not None else "",
        percent=min(100, done * 100 // total) if total else None,
        rate=_("%(n)s a second", n=f"{rate:,.0f}") if rate >= 1 else "",
        left=_("about %(span)s left", span=sync_words.span(int(left * SECOND), words)) if left else "",
    )


def reads(run: Run, words: Words) -> list[Read]:
    """What a run read, against what Clerk says there is."""
    _ = words.gettext
    found = []
    for kind in KINDS:
        if total := run.totals.get(kind):
            unreadable = total.get("unreadable", 0)
            note = words.ngettext("%(num)s unreadable", "%(num)s unreadable", unreadable) if unreadable else ""
            is_whole = bool(total.get("is_whole", True))
            note = note if is_whole else _("not whole")
            fetched, after = f"{total['fetched']:,}", f"{total['after']:,}"
            found.append(Read(sync_words.things(kind, words), fetched, after, is_whole, note))
    return found


def finding_row(row: Row, names: Mapping[str, str], words: Words, *, now: int, is_good: bool) -> FindingRow:
    """A finding in words; `is_good`: its plan may still be applied."""
    it = row.finding
    return FindingRow(
        number=row.number,
        kind=it.kind,
        what=sync_words.finding_kind(it.kind, words),
        thing=sync_words.thing(it.key.kind, words),
        label=named(it.label or it.key.id, names),
        clerk_id=it.key.id,
        lines=tuple(lines_of(it, words)),
        way=way_of(it, words),
        is_mendable=it.mend is not None,
        why=_why(it, words),
        wrote=words.ago(it.wrote_at, now) if it.wrote_at else None,
        note=words.gettext(it.note) if it.note else "",
        outcome=_outcome(row, words),
        outcome_reason=words.gettext(row.outcome_reason) if row.outcome_reason else "",
        may_apply=is_good and row.outcome is None and it.mend is not None,
    )


def way_of(it: Finding, words: Words) -> Status:
    """How a row is mended, and where."""
    _ = words.gettext
    if it.mend is None:
        return Status(_("For a person"), "eye", "warn")
    if it.mend == "clerk":
        return Status(_("Written to Clerk"), "upload", "info")
    if it.kind in GONE:
        return Status(_("Deleted here"), "trash-2", "bad")
    return Status(_("Written to the database"), "database", "info")


def lines_of(it: Finding, words: Words) -> list[Line]:
    """Before and after, field by field. A row that one side does not have is one line."""
    _ = words.gettext
    if it.differences:
        return [_line(difference, it, words) for difference in it.differences]
    gone, there, linked = _("Marked as deleted"), _("Not here"), _("No Clerk account")
    whole: dict[str, tuple[str, str, str]] = {
        "missing_here": (_("Row"), there, _summary(it, words)),
        "membership_only_in_clerk": (_("Row"), there, _summary(it, words)),
        "missing_in_clerk": (_("Row"), _("Active here"), gone),
        "membership_only_here": (_("Row"), _("Active here"), gone),
        "legacy_invited": (_("Status"), _("Invited"), _("Removed")),
    }
    if it.kind == "not_linked" and it.mend:
        return [Line(name=_("Clerk account"), before=linked, after=it.key.id)]
    found = whole.get(it.kind)
    return [Line(name=found[0], before=found[1], after=found[2])] if found else []


def plan_kinds(run: Run, words: Words) -> list[tuple[str, str, str, int]]:
    """The kinds of what a run found: key, name, meaning and how many; in the order of the page."""
    known = sync_words.finding_kinds(words)
    return [(key, name, text, run.counts[key]) for key, (name, text) in known.items() if run.counts.get(key)]


def rules(policy: Policy, words: Words) -> list[Rule]:
    """Who owns which field."""
    _ = words.gettext
    found = []
    for name, is_free in sync_words.policy_fields():
        is_ours = policy.owner(name) == "database"
        way = "clerk" if is_ours and name not in ("deactivation", "attributes") else "here"
        owner = _("The database") if is_ours else "Clerk"
        found.append(
            Rule(sync_words.field_name(name, words), owner, "" if is_ours and way == "here" else way, not is_free)
        )
    return found


def ids_of(rows: Sequence[Row]) -> list[str]:
    """Every id that should be told by a name."""
    found: list[str] = []
    for row in rows:
        found += [row.finding.key.id, row.finding.here or ""]
        found += [part for part in row.finding.label.split(" ") if part.startswith(("user_", "org_"))]
    return list(dict.fromkeys(it for it in found if it))


def named(label: str, names: Mapping[str, str]) -> str:
    """A label with names in the place of ids."""
    return " ".join(names.get(part, part) for part in label.split(" "))


def _line(it: Difference, finding: Finding, words: Words) -> Line:
    clerk, here = text_of(it.clerk, words), text_of(it.here, words)
    is_ours = it.owner == "database"
    owner = words.gettext("The database") if is_ours else "Clerk"
    name, is_kept = sync_words.field_name(it.field, words), finding.mend is None
    before, after = (clerk, here) if is_ours else (here, clerk)
    return Line(name=name, before=before, after=after, owner=owner, is_ours=is_ours, is_kept=is_kept)


def text_of(value: Any, words: Words) -> str:
    """A value as people read it."""
    _ = words.gettext
    if value is None or value == "":
        return _("(empty)")
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def _summary(it: Finding, words: Words) -> str:
    entity = it.news.entity if it.news else None
    if isinstance(entity, User):
        name = " ".join(part for part in (entity.first_name, entity.last_name) if part)
        return ", ".join(part for part in (name, entity.email) if part) or entity.clerk_id
    if isinstance(entity, Organization):
        return entity.name
    if isinstance(entity, Membership):
        return words.gettext("Joined as %(role)s", role=entity.role.removeprefix("org:"))
    return words.gettext("Taken in")


def _why(it: Finding, words: Words) -> str:
    _ = words.gettext
    sides = {"clerk": _("Clerk wrote last"), "database": _("The database wrote last")}
    return sides.get(it.wrote_last or "", "")


def _outcome(row: Row, words: Words) -> Status | None:
    _ = words.gettext
    if row.outcome == "applied":
        return Status(_("Mended"), "circle-check", "good")
    if row.outcome == "skipped":
        return Status(_("Skipped"), "circle-minus", "warn")
    return None
