"""Display texts of sync: kinds of runs and findings, fields, results and advice."""

from msgspec import Struct

from instep.console.components import StatusBadge
from instep.core.clock import HOUR, MINUTE, SECOND
from instep.core.i18n import Localizer
from instep.domain.models import EntityKind
from instep.sync.models import Freshness, Run
from instep.sync.plan import DATABASE_FIELDS_BY_DEFAULT, WRITABLE_FIELDS, FindingKind


class RunAdvice(Struct, frozen=True):
    """Why a run did not come to its end, and what to do. `deed` is a button: `plan`, `first`, `fuse` or none."""

    title: str
    text: str
    deed: str = ""
    is_fault: bool = False


def describe_finding_kinds(words: Localizer) -> dict[FindingKind, tuple[str, str]]:
    """The kinds of findings in the order of the page, each with what it means."""
    _ = words.gettext
    return {
        "missing_here": (_("Missing here"), _("Clerk has it, the database does not.")),
        "missing_in_clerk": (_("Missing in Clerk"), _("The database has it, Clerk does not any more.")),
        "field_differs": (_("Field differs"), _("Both have it, with other values.")),
        "role_differs": (_("Role differs"), _("A member has another role on each side.")),
        "status_differs": (_("Status differs"), _("Banned, deprovisioned or deactivated on one side alone.")),
        "membership_only_in_clerk": (
            _("Membership only in Clerk"),
            _("Someone belongs to an organization there alone."),
        ),
        "membership_only_here": (_("Membership only here"), _("Someone belongs to an organization here alone.")),
        "not_linked": (_("Not linked"), _("The same verified address, without a Clerk account here.")),
        "duplicate_email": (_("Address twice"), _("Several living people here have one address.")),
        "legacy_invited": (_('Old "invited" row'), _("Pending invitations live in Clerk alone.")),
        "dead_here": (_("Deleted here"), _("Deleted here, alive in Clerk.")),
        "wrong_instance": (_("Wrong instance"), _("It belongs to another Clerk instance.")),
        "version_ahead": (
            _("Version ahead of Clerk"),
            _("The version here is greater than Clerk's, so that webhooks about it are ignored as older."),
        ),
        "not_whole": (_("Not listed whole"), _("Clerk listed fewer than it counts.")),
        "unreadable": (_("Unreadable"), _("Clerk sent something that can't be read.")),
    }


def describe_finding_kind(kind: str, words: Localizer) -> str:
    """What a kind of finding is called."""
    found = {key: name for key, (name, _) in describe_finding_kinds(words).items()}
    return {str(key): name for key, name in found.items()}.get(kind, kind)


def describe_run_kind(kind: str, words: Localizer) -> str:
    """What a run is called."""
    _ = words.gettext
    known = {
        "check": _("Check"),
        "plan": _("Plan"),
        "apply": _("Mending"),
        "first": _("First sync"),
        "changed": _("Latest changes"),
    }
    return known.get(kind, kind)


def describe_entity_kind_plural(kind: EntityKind, words: Localizer) -> str:
    """Many of a kind."""
    _ = words.gettext
    return {"user": _("Users"), "organization": _("Organizations"), "membership": _("Memberships")}[kind]


def describe_entity_kind(kind: EntityKind, words: Localizer) -> str:
    """One of a kind."""
    _ = words.gettext
    return {"user": _("User"), "organization": _("Organization"), "membership": _("Membership")}[kind]


def describe_field(name: str, words: Localizer) -> str:
    """A field."""
    _ = words.gettext
    known = {
        "email": _("E-mail address"),
        "is_email_verified": _("Address verified"),
        "first_name": _("First name"),
        "last_name": _("Last name"),
        "username": _("Username"),
        "external_id": _("External id"),
        "is_banned": _("Banned"),
        "is_deprovisioned": _("Deprovisioned"),
        "public_metadata": _("Public metadata"),
        "name": _("Name"),
        "slug": _("Slug"),
        "max_members": _("Seats"),
        "role": _("Role"),
        "deactivated": _("Deactivated"),
        "deactivation": _("Deactivation"),
        "attributes": _("Attributes of the application"),
    }
    return known.get(name, name)


def list_ownership_fields() -> tuple[tuple[str, bool], ...]:
    """The fields that the policy speaks of; whether each may be given to the database."""
    ours = tuple(sorted(DATABASE_FIELDS_BY_DEFAULT))
    names = (
        "email",
        "is_banned",
        "is_deprovisioned",
        "role",
        "first_name",
        "last_name",
        "username",
        "external_id",
        "public_metadata",
    )
    return tuple((name, name in WRITABLE_FIELDS or name in DATABASE_FIELDS_BY_DEFAULT) for name in (*names, *ours))


def make_run_badge(run: Run, words: Localizer) -> StatusBadge:
    """How a run stands."""
    _ = words.gettext
    if run.state == "done" and run.kind in ("check", "plan"):
        number = run.differences
        if not number:
            return StatusBadge(_("Equal"), "circle-check", "good")
        return StatusBadge(
            words.ngettext("%(num)s difference", "%(num)s differences", number), "triangle-alert", "warn"
        )
    known: dict[str, StatusBadge] = {
        "asked": StatusBadge(_("Waiting"), "clock", "info"),
        "running": StatusBadge(_("Running"), "refresh-cw", "info"),
        "done": StatusBadge(_("Done"), "circle-check", "good"),
        "refused": StatusBadge(_("Refused"), "triangle-alert", "warn"),
        "failed": StatusBadge(_("Failed"), "circle-alert", "bad"),
        "stopped": StatusBadge(_("Stopped"), "circle-minus", "quiet"),
    }
    return known[run.state]


def describe_result(run: Run, words: Localizer) -> str:
    """What a run found or did."""
    _ = words.gettext
    if run.kind in ("check", "plan"):
        named = [(describe_finding_kind(key, words), number) for key, number in run.counts.items() if number]
        return ", ".join(f"{name}: {number:,}" for name, number in named)
    done = {
        "new": _("new"),
        "changed": _("changed"),
        "left": _("unchanged"),
        "unreadable": _("unreadable"),
        "looked_at": _("looked at"),
        "applied": _("mended"),
        "skipped": _("skipped"),
    }
    return ", ".join(f"{number:,} {done.get(key, key)}" for key, number in run.counts.items() if number)


def advise_on_run(run: Run, words: Localizer) -> RunAdvice | None:
    """What to do about a run that did not come to its end, or a plan that can't be applied as it is; else None."""
    if run.state == "done" and run.code == "fuse":
        return _advise_on_deletion_limit(words)
    if run.state not in ("refused", "failed", "stopped"):
        return None
    _ = words.gettext
    is_safe = run.kind in ("check", "plan") or run.state == "refused"
    safe = _("Nothing was changed.") if is_safe else _("What was done is kept.")
    if run.code == "withdrawn":
        return None
    found = _list_known_advice(words).get(run.code or "") or _advise_on_state(run, words)
    return RunAdvice(found.title, f"{found.text} {safe}".strip(), found.deed, run.state == "failed")


def _list_known_advice(words: Localizer) -> dict[str, RunAdvice]:
    """Return what to do, by the code with which a run ended."""
    _ = words.gettext
    return {
        "fuse": RunAdvice(
            _("Refused: too many would be deleted here"),
            _("That is either a large clean-up in Clerk, or a fault. Look in Clerk first; then allow it for one plan."),
            "fuse",
        ),
        "not_whole": RunAdvice(
            _("Refused: Clerk's lists were not whole"),
            _("Clerk counted more than it listed, so nothing can be said to be missing. Check again in some minutes."),
        ),
        "too_many": RunAdvice(
            _("Refused: almost everything differs"),
            _("Take everyone in at once instead. It deletes nothing, and goes on where it was stopped."),
            "first",
        ),
        "wrong_instance": RunAdvice(
            _("Refused: the secret key belongs to another Clerk instance"),
            _("Set the CLERK_SECRET_KEY of this database's instance, or see `instep instance`."),
        ),
        "plan_expired": RunAdvice(
            _("Refused: the plan was older than 15 minutes"), _("Much may have changed since. Make a new one."), "plan"
        ),
        "plan_changed": RunAdvice(
            _("Refused: the plan is not what it was when it was made"), _("Make a new one."), "plan"
        ),
        "no_event": RunAdvice(
            _("Refused: no webhook was ever applied here"),
            _("So there is no time to start from. Plan everything."),
            "plan",
        ),
        "not_configured": RunAdvice(
            _("Clerk is not configured"), _("Set CLERK_SECRET_KEY, then start instep again. `instep doctor` tries it.")
        ),
        "not_begun": RunAdvice(
            _("No worker took it on"),
            _("Is `instep work` running? `instep serve` works too, unless INSTEP_WORKER is off."),
        ),
        "in_vain": RunAdvice(
            _("The first sync ends its worker again and again"),
            _("Give the worker more memory, then take everyone in again: it goes on where it was."),
            "first",
        ),
        "temporary": RunAdvice(_("Clerk or the database did not answer"), _("Try again in a minute.")),
        "overtaken": RunAdvice(_("Another process took the sync over"), _("Its run is in the list.")),
    }


def _advise_on_state(run: Run, words: Localizer) -> RunAdvice:
    """Return what to do about a run whose code nobody foresaw."""
    _ = words.gettext
    titles = {"refused": _("Refused"), "failed": _("Failed"), "stopped": _("It was interrupted")}
    goes_on = _("The next one goes on where it was.") if run.kind == "first" else _("Start it again.")
    return RunAdvice(titles[run.state], goes_on if run.state == "stopped" else _("The reason is below."))


def _advise_on_deletion_limit(words: Localizer) -> RunAdvice:
    """Return what to do about a plan that was made, and that deletes more than may be applied."""
    _ = words.gettext
    return RunAdvice(
        _("Not applied as it is: too many would be deleted here"),
        _("Look in Clerk first: it is either a large clean-up there, or a fault. Then allow it for one plan."),
        "fuse",
    )


def describe_reason(run: Run, words: Localizer) -> str:
    """Why a run was refused or failed, as it was written down; without hints for the command line."""
    text = run.reason or ""
    for hint in (" If that is right: --allow-gone", " Take everything in at once instead:"):
        text = text.partition(hint)[0]
    return words.gettext(text.removesuffix(" Nothing was changed.")) if text else ""


def format_duration(milliseconds: int, words: Localizer) -> str:
    """A stretch of time, roughly."""
    _ = words.gettext
    if milliseconds < 2 * MINUTE:
        return _("%(n)s s", n=max(1, milliseconds // SECOND))
    if milliseconds < HOUR:
        return _("%(n)s min", n=milliseconds // MINUTE)
    hours = milliseconds // HOUR
    return _("%(n)s h", n=hours) if hours < 72 else _("%(n)s days", n=hours // 24)


def describe_freshness(fresh: Freshness | None, words: Localizer) -> str:
    """What to tell admins of the webhook; nothing while all is well."""
    if fresh is None or not fresh.is_stale:
        return ""
    _ = words.gettext
    people = words.ngettext("%(num)s person", "%(num)s people", fresh.behind)
    if not fresh.is_synced:
        return _("Nothing was synced yet. Missing here, or different: %(people)s.", people=people)
    if fresh.is_arriving:
        return _("Webhooks arrive, but not all of them. Missing here, or different: %(people)s.", people=people)
    if fresh.newest_event_at is None:
        return _("No webhook ever came, and Clerk has %(people)s who are not so here.", people=people)
    quiet = format_duration(fresh.looked_at - fresh.newest_event_at, words)
    return _("No webhook for %(quiet)s while Clerk changed %(people)s.", quiet=quiet, people=people)
