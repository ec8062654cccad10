"""The questions before a plan that may delete much, and before a plan is applied. Pure."""

from collections.abc import Mapping, Sequence

from instep.kit.confirm import Confirm
from instep.kit.words import Words
from instep.sync.model import Run
from instep.sync.plan import GONE

MOST = 1_000
WORD_FROM = 2  # so many deletions at once, and the word is asked for


def mending(run: Run, counts: Mapping[tuple[str, str], int], chosen: Sequence[int] | None, words: Words) -> Confirm:
    """Before rows are mended: how many, and where. `counts` are open rows by kind of finding and by side."""
    _, number = words.gettext, sum(counts.values())
    gone = sum(count for (kind, _side), count in counts.items() if kind in GONE)
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
    return Confirm(
        title=words.ngettext("Mend %(num)s row?", "Mend %(num)s rows?", number),
        verb=words.ngettext("Mend %(num)s row", "Mend %(num)s rows", number),
        action=f"/sync/runs/{run.id}/apply",
        cancel=f"/sync/runs/{run.id}",
        consequences=tuple(consequences),
        is_destructive=gone > 0,
        word=_("delete") if gone >= WORD_FROM else "",
        fields=tuple(("row", str(it)) for it in chosen or ()),
    )


def allowing(allowed: int, words: Words) -> Confirm:
    """Before a plan for which a person lifts the fuse."""
    _ = words.gettext
    return Confirm(
        title=words.ngettext("Allow %(num)s deletion?", "Allow up to %(num)s deletions of each kind?", allowed),
        verb=_("Allow and plan"),
        action="/sync/plan",
        cancel="/sync",
        consequences=(
            _("Everything is compared again, and a plan is made. Nothing is changed yet."),
            _("The plan lists each row that would be marked as deleted here, after a second look in Clerk."),
            _("The allowance is for this one plan."),
        ),
        word=_("allow"),
        fields=(("allow_gone", str(allowed)),),
    )


def number_of(text: str) -> int | None:
    """A whole number that is not negative; None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 8 else None


def chosen_of(texts: Sequence[str]) -> list[int] | None:
    """The numbers of chosen rows; None where none is named: all are meant."""
    found = [number for text in texts[:MOST] if (number := number_of(text)) is not None]
    return found if texts else None
