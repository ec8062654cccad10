"""What became of many things that were done at once: a line for each. Pure."""

from collections.abc import Sequence

from msgspec import Struct

from instep.kit.signs import Status
from instep.kit.words import Words


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of one of them."""

    name: str
    status: Status
    note: str = ""


class Outcomes(Struct, frozen=True, kw_only=True):
    """What became of all. `title` counts: `7 done, 2 skipped`; `download` is the address of the same as a file."""

    title: str
    rows: Sequence[Outcome]
    back: str
    download: str = ""


DONE, OPEN, SKIPPED, SAME = "done", "open", "skipped", "same"


def status_of(key: str, words: Words) -> Status:
    """How one of them ended."""
    _ = words.gettext
    known = {
        DONE: Status(_("Done"), "circle-check", "good"),
        OPEN: Status(_("Syncing"), "refresh-cw", "info"),
        SAME: Status(_("Was so already"), "check", "quiet"),
        SKIPPED: Status(_("Skipped"), "circle-minus", "warn"),
    }
    return known[key]


def count(keys: list[str], words: Words) -> str:
    """`7 done, 2 skipped`: what is none is not said."""
    parts = (
        (DONE, "%(num)s done", "%(num)s done"),
        (OPEN, "%(num)s under way", "%(num)s under way"),
        (SAME, "%(num)s unchanged", "%(num)s unchanged"),
        (SKIPPED, "%(num)s skipped", "%(num)s skipped"),
    )
    said = [words.ngettext(one, many, number) for key, one, many in parts if (number := keys.count(key))]
    return ", ".join(said)
