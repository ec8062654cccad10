"""Display texts of sync: kinds of runs and findings, fields, results and advice."""

from msgspec import Struct

from instep.console.components import StatusBadge
from instep.core.clock import HOUR, MINUTE, SECOND
from instep.core.i18n import Localizer
from instep.domain.models import EntityKind
from instep.sync.models import Freshness, Run
from instep.sync.plan import DATABASE_FIELDS_BY_DEFAULT, WRITABLE_FIELDS, FindingKind


class RunAdvice(Struct, frozen=True):
    """Reason a run did not complete, and the next step. `action` is a button: `plan`, `first`, `fuse` or none."""

    title: str
    text: str
    action: str = ""
    is_fault: bool = False


def describe_finding_kinds(localizer: Localizer) -> dict[FindingKind, tuple[str, str]]:
    """Return the kinds of findings in display order, each with its name and meaning."""
    _ = localizer.gettext
    return {
        "missing_here": (_("Missing here"), _("Clerk has it, the database does not.")),
        "missing_in_clerk": (_("Missing in Clerk"), _("The database has it, but Clerk no longer does.")),
        "field_differs": (_("Field differs"), _("Both have it, with different values.")),
        "role_differs": (_("Role differs"), _("The member's role is not the same on both sides.")),
        "status_differs": (_("Status differs"), _("Banned, deprovisioned or deactivated on one side only.")),
        "membership_only_in_clerk": (
            _("Membership only in Clerk"),
            _("The membership exists in Clerk, but not in the database."),
        ),
        "membership_only_here": (
            _("Membership only here"),
            _("The membership exists in the database, but not in Clerk."),
        ),
        "not_linked": (_("Not linked"), _("Same verified email, but no Clerk account here.")),
        "duplicate_email": (_("Duplicate email"), _("Several active users here have the same email.")),
        "legacy_invited": (_('Old "invited" row'), _("Pending invitations are kept only in Clerk.")),
        "dead_here": (_("Deleted here"), _("Deleted here, but active in Clerk.")),
        "wrong_instance": (_("Wrong instance"), _("It belongs to another Clerk instance.")),
        "version_ahead": (
            _("Version ahead of Clerk"),
            _("The version here is newer than Clerk's, so webhooks about it are ignored as older."),
        ),
        "not_whole": (_("Incomplete list"), _("Clerk listed fewer than it counted.")),
        "unreadable": (_("Unreadable"), _("Clerk sent data that can't be read.")),
    }


def describe_finding_kind(kind: str, localizer: Localizer) -> str:
    """Return the name of a kind of finding."""
    found = {key: name for key, (name, _) in describe_finding_kinds(localizer).items()}
    return {str(key): name for key, name in found.items()}.get(kind, kind)


def describe_run_kind(kind: str, localizer: Localizer) -> str:
    """Return the name of a kind of run."""
    _ = localizer.gettext
    known = {
        "check": _("Check"),
        "plan": _("Plan"),
        "apply": _("Fix"),
        "first": _("First sync"),
        "changed": _("Latest changes"),
    }
    return known.get(kind, kind)


def describe_entity_kind_plural(kind: EntityKind, localizer: Localizer) -> str:
    """Return the plural name of a kind of entity."""
    _ = localizer.gettext
    return {"user": _("Users"), "organization": _("Organizations"), "membership": _("Memberships")}[kind]


def describe_entity_kind(kind: EntityKind, localizer: Localizer) -> str:
    """Return the name of a kind of entity."""
    _ = localizer.gettext
    return {"user": _("User"), "organization": _("Organization"), "membership": _("Membership")}[kind]


def describe_field(name: str, localizer: Localizer) -> str:
    """Return the name of a field."""
    _ = localizer.gettext
    known = {
        "email": _("Email"),
        "is_email_verified": _("Email verified"),
        "first_name": _("First name"),
        "last_name": _("Last name"),
        "username": _("Username"),
        "external_id": _("External ID"),
        "is_banned": _("Banned"),
        "is_deprovisioned": _("Deprovisioned"),
        "public_metadata": _("Public metadata"),
        "name": _("Name"),
        "slug": _("Slug"),
        "max_members": _("Seats"),
        "role": _("Role"),
        "deactivated": _("Deactivated"),
        "deactivation": _("Deactivation"),
        "attributes": _("Application attributes"),
    }
    return known.get(name, name)


def list_ownership_fields() -> tuple[tuple[str, bool], ...]:
    """Return the fields shown under "Source of truth", each with whether the database may own it."""
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


def make_run_badge(run: Run, localizer: Localizer) -> StatusBadge:
    """Return the badge with a run's state."""
    _ = localizer.gettext
    if run.state == "done" and run.kind in ("check", "plan"):
        number = run.differences
        if not number:
            return StatusBadge(_("In sync"), "circle-check", "good")
        return StatusBadge(
            localizer.ngettext("%(num)s difference", "%(num)s differences", number), "triangle-alert", "warn"
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


def describe_result(run: Run, localizer: Localizer) -> str:
    """Return the counts of a run as text."""
    _ = localizer.gettext
    if run.kind in ("check", "plan"):
        named = [(describe_finding_kind(key, localizer), number) for key, number in run.counts.items() if number]
        return ", ".join(f"{name}: {number:,}" for name, number in named)
    done = {
        "new": _("new"),
        "changed": _("changed"),
        "left": _("unchanged"),
        "unreadable": _("unreadable"),
        "looked_at": _("checked"),
        "applied": _("fixed"),
        "skipped": _("skipped"),
    }
    return ", ".join(f"{number:,} {done.get(key, key)}" for key, number in run.counts.items() if number)


def advise_on_run(run: Run, localizer: Localizer) -> RunAdvice | None:
    """Return the advice on a run that did not complete, or on a plan over the deletion limit; else None."""
    if run.state == "done" and run.code == "fuse":
        return _advise_on_deletion_limit(localizer)
    if run.state not in ("refused", "failed", "stopped"):
        return None
    _ = localizer.gettext
    is_safe = run.kind in ("check", "plan") or run.state == "refused"
    safe = _("Nothing was changed.") if is_safe else _("What was done is kept.")
    if run.code == "withdrawn":
        return None
    found = _list_known_advice(localizer).get(run.code or "") or _advise_on_state(run, localizer)
    return RunAdvice(found.title, f"{found.text} {safe}".strip(), found.action, run.state == "failed")


def _list_known_advice(localizer: Localizer) -> dict[str, RunAdvice]:
    """Return the advice by the code with which a run ended."""
    _ = localizer.gettext
    return {
        "fuse": RunAdvice(
            _("Refused: too many deletions"),
            _("This is either a large cleanup in Clerk or an error. Check in Clerk first, then allow it for one plan."),
            "fuse",
        ),
        "not_whole": RunAdvice(
            _("Refused: Clerk's lists were incomplete"),
            _("Clerk listed fewer than it counted, so missing rows can't be detected. Check again in a few minutes."),
        ),
        "too_many": RunAdvice(
            _("Refused: almost everything differs"),
            _("Import everyone instead. This deletes nothing, and resumes where it was interrupted."),
            "first",
        ),
        "wrong_instance": RunAdvice(
            _("Refused: the secret key belongs to another Clerk instance"),
            _("Set the CLERK_SECRET_KEY of this database's instance, or see `instep instance`."),
        ),
        "plan_expired": RunAdvice(
            _("Refused: the plan was older than 15 minutes"),
            _("Data may have changed since. Create a new plan."),
            "plan",
        ),
        "plan_changed": RunAdvice(
            _("Refused: the plan was changed after it was created"), _("Create a new plan."), "plan"
        ),
        "no_event": RunAdvice(
            _("Refused: no webhook has been applied yet"),
            _("There is no time to start from. Create a plan of everything."),
            "plan",
        ),
        "not_configured": RunAdvice(
            _("Clerk is not configured"), _("Set CLERK_SECRET_KEY, then restart instep. `instep doctor` tests it.")
        ),
        "not_begun": RunAdvice(
            _("No worker started it"),
            _("Check that `instep work` is running, or `instep serve` with INSTEP_WORKER on."),
        ),
        "in_vain": RunAdvice(
            _("The first sync repeatedly ends its worker"),
            _("Give the worker more memory, then import everyone again: it resumes where it was."),
            "first",
        ),
        "temporary": RunAdvice(_("Clerk or the database did not respond"), _("Try again in a minute.")),
        "overtaken": RunAdvice(_("Another process took over the sync"), _("Its run is in the list.")),
    }


def _advise_on_state(run: Run, localizer: Localizer) -> RunAdvice:
    """Return the advice on a run that ended with an unknown code."""
    _ = localizer.gettext
    titles = {"refused": _("Refused"), "failed": _("Failed"), "stopped": _("Interrupted")}
    next_step = _("The next one resumes where it was.") if run.kind == "first" else _("Start it again.")
    return RunAdvice(titles[run.state], next_step if run.state == "stopped" else _("The reason is below."))


def _advise_on_deletion_limit(localizer: Localizer) -> RunAdvice:
    """Return the advice on a plan with more deletions than may be applied."""
    _ = localizer.gettext
    return RunAdvice(
        _("Can't be applied as it is: too many deletions"),
        _("Check in Clerk first: this is either a large cleanup there or an error. Then allow it for one plan."),
        "fuse",
    )


def describe_reason(run: Run, localizer: Localizer) -> str:
    """Return the stored reason for which a run was refused or failed, without hints for the CLI."""
    text = run.reason or ""
    for hint in (" To allow it: --allow-gone", " Import everything instead:"):
        text = text.partition(hint)[0]
    return localizer.gettext(text.removesuffix(" Nothing was changed.")) if text else ""


def format_duration(milliseconds: int, localizer: Localizer) -> str:
    """Format a duration approximately."""
    _ = localizer.gettext
    if milliseconds < 2 * MINUTE:
        return _("%(n)s s", n=max(1, milliseconds // SECOND))
    if milliseconds < HOUR:
        return _("%(n)s min", n=milliseconds // MINUTE)
    hours = milliseconds // HOUR
    return _("%(n)s h", n=hours) if hours < 72 else _("%(n)s days", n=hours // 24)


def describe_freshness(freshness: Freshness | None, localizer: Localizer) -> str:
    """Return the webhook warning for admins; empty while there is nothing to report."""
    if freshness is None or not freshness.is_stale:
        return ""
    count = freshness.behind
    if not freshness.is_synced:
        return localizer.ngettext(
            "Nothing was synced yet. Missing here, or different: %(num)s person.",
            "Nothing was synced yet. Missing here, or different: %(num)s people.",
            count,
        )
    if freshness.is_arriving:
        return localizer.ngettext(
            "Webhooks arrive, but not all of them. Missing here, or different: %(num)s person.",
            "Webhooks arrive, but not all of them. Missing here, or different: %(num)s people.",
            count,
        )
    if freshness.newest_event_at is None:
        return localizer.ngettext(
            "No webhook has ever arrived. Missing here, or different: %(num)s person.",
            "No webhook has ever arrived. Missing here, or different: %(num)s people.",
            count,
        )
    return localizer.ngettext(
        "No webhook for %(duration)s while Clerk changed %(num)s person.",
        "No webhook for %(duration)s while Clerk changed %(num)s people.",
        count,
        duration=format_duration(freshness.looked_at - freshness.newest_event_at, localizer),
    )
