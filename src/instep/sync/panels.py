"""What the templates of sync are given. Pure."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from instep.kit.clock import HOUR, is_ahead
from instep.kit.words import Words
from instep.sync import view
from instep.sync import words as sync_words
from instep.sync.look import Look, Shown
from instep.sync.model import PLAN_LASTS, Run
from instep.sync.plan import Policy

PAGE = 50
Context = dict[str, Any]


class Reading(Struct, frozen=True, kw_only=True):
    """How it is read: `names` of ids, the words, `now`."""

    names: Mapping[str, str]
    words: Words
    now: int


def overview(look: Look, reading: Reading, *, policy: Policy, every: int) -> Context:
    """How sync stands. `every`: how often a check runs by itself, in milliseconds; 0 never."""
    words, now = reading.words, reading.now
    ended = [it for it in look.runs if it.state not in ("asked", "running")]
    advice = sync_words.advice(ended[0], words) if ended else None
    fresh = look.freshness
    return {
        "current": [current(it, reading) for it in look.unfinished],
        "runs": [_row(it, reading) for it in look.runs],
        "check": _row(look.check, reading) if look.check else None,
        "mend": _row(look.mend, reading) if look.mend else None,
        "kinds": view.plan_kinds(look.check, words) if look.check else [],
        "reads": view.reads(look.check, words) if look.check else [],
        "is_plan_good": bool(look.check and is_good(look.check, now)),
        "advice": advice,
        "problem": _row(ended[0], reading) if advice else None,
        "fuse": max(look.suspects.values(), default=0),
        "warning": sync_words.warning(fresh, words),
        "looked": words.ago(fresh.looked_at, now) if fresh else None,
        "newest": words.ago(look.newest_at, now) if look.newest_at else None,
        "rules": view.rules(policy, words),
        "every": _every(every, words),
    }


def run_page(run: Run, shown: Shown, reading: Reading) -> Context:
    """One run, with a page of its rows."""
    words, now = reading.words, reading.now
    is_open = is_good(run, now) and not shown.is_busy
    names = {it.finding.key.id: it.finding.label for it in shown.rows if it.finding.label} | dict(reading.names)
    rows = [
        view.finding_row(it, names, words, now=now, is_good=is_open and run.kind == "plan") for it in shown.rows[:PAGE]
    ]
    mending = shown.mending
    is_busy = mending is not None and mending.state in ("asked", "running") and shown.is_busy
    advice = sync_words.advice(run, words)
    return {
        "run": _row(run, reading),
        "current": [current(run, reading)] if run.state in ("asked", "running") else [],
        "rows": rows,
        "kinds": view.plan_kinds(run, words),
        "reads": view.reads(run, words),
        "total": run.differences if run.kind in ("check", "plan") else len(rows),
        "hash": run.hash or "",
        "good_for": sync_words.span(run.expires_at - now, words) if is_good(run, now) and run.expires_at else "",
        "is_expired": run.expires_at is not None and not is_ahead(run.expires_at, now, PLAN_LASTS),
        "open_rows": shown.open_rows if is_open else 0,
        "mending": current(mending, reading) if mending and is_busy else None,
        "mended": _row(mending, reading) if mending and not is_busy else None,
        "mended_advice": sync_words.advice(mending, words) if mending and not is_busy else None,
        "advice": advice,
        "fuse": max(shown.suspects.values(), default=0),
        "plan_href": f"/sync/runs/{run.plan_id}" if run.plan_id else "",
        "is_over": run.state == "done" and run.code == "fuse",
        "is_under_way": run.state in ("asked", "running") or is_busy,
        "after": shown.rows[PAGE - 1].number if len(shown.rows) > PAGE else 0,
    }


def current(run: Run, reading: Reading) -> Context:
    """A run that waits or is under way."""
    stage = view.stage_of(run, reading.words, now=reading.now) if run.state == "running" else None
    return {"run": _row(run, reading), "stage": stage, "done": sync_words.result(run, reading.words)}


def is_good(run: Run, now: int) -> bool:
    """Whether a plan may still be applied."""
    return run.kind == "plan" and run.state == "done" and is_ahead(run.expires_at or 0, now, PLAN_LASTS)


def _every(every: int, words: Words) -> str:
    _ = words.gettext
    if every == HOUR:
        return _("A check runs by itself every hour.")
    return _("A check runs by itself every %(span)s.", span=sync_words.span(every, words)) if every else ""


def _row(run: Run, reading: Reading) -> view.RunRow:
    return view.run_row(run, reading.names, reading.words, now=reading.now)
