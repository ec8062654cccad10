"""View models of the console: confirmation dialogs, badges and bulk results."""

import secrets
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from instep.core.i18n import Localizer


class ConfirmationDialog(Struct, frozen=True, kw_only=True):
    """A question. `verb` is the button's word, `action` where it is sent, `row` the row that waits for the answer.

    `choices` are (value, name) of a select named `field`. With `word` the button asks to have it typed; `why_not`
    says why it can't be done. `fields` go along unseen; `people` are listed. With the same `key` it is done once.
    """

    title: str
    verb: str
    action: str
    cancel: str
    consequences: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    row: str = ""
    is_destructive: bool = True
    word: str = ""
    why_not: str = ""
    field: str = ""
    label: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    chosen: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    is_in_place: bool = False
    key: str = ""


def new_idempotency_key() -> str:
    """A key for one form."""
    return secrets.token_hex(16)


BadgeTone = Literal["good", "info", "warn", "bad", "brand", "quiet"]


class StatusBadge(Struct, frozen=True):
    """A status in words and by an icon."""

    text: str
    icon: str
    tone: BadgeTone


class BulkItemView(Struct, frozen=True, kw_only=True):
    """What became of one of them."""

    name: str
    status: StatusBadge
    note: str = ""


class BulkResultView(Struct, frozen=True, kw_only=True):
    """What became of all. `title` counts: `7 done, 2 skipped`; `download` is the address of the same as a file."""

    title: str
    rows: Sequence[BulkItemView]
    back: str
    download: str = ""


DONE, PENDING, SKIPPED, UNCHANGED = "done", "open", "skipped", "same"


def make_bulk_status_badge(key: str, words: Localizer) -> StatusBadge:
    """How one of them ended."""
    _ = words.gettext
    known = {
        DONE: StatusBadge(_("Done"), "circle-check", "good"),
        PENDING: StatusBadge(_("Syncing"), "refresh-cw", "info"),
        UNCHANGED: StatusBadge(_("Was so already"), "check", "quiet"),
        SKIPPED: StatusBadge(_("Skipped"), "circle-minus", "warn"),
    }
    return known[key]


def summarize_bulk_result(keys: list[str], words: Localizer) -> str:
    """`7 done, 2 skipped`: what is none is not said."""
    parts = (
        (DONE, "%(num)s done", "%(num)s done"),
        (PENDING, "%(num)s under way", "%(num)s under way"),
        (UNCHANGED, "%(num)s unchanged", "%(num)s unchanged"),
        (SKIPPED, "%(num)s skipped", "%(num)s skipped"),
    )
    said = [words.ngettext(one, many, number) for key, one, many in parts if (number := keys.count(key))]
    return ", ".join(said)


class Badge(Struct, frozen=True):
    """A word beside a name."""

    text: str
    tone: BadgeTone
