"""View models of the console: confirmation dialogs, badges and bulk results."""

import secrets
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from instep.core.i18n import Localizer

BadgeTone = Literal["good", "info", "warn", "bad", "brand", "quiet"]
DONE, PENDING, SKIPPED, UNCHANGED = "done", "open", "skipped", "same"


class ConfirmationDialog(Struct, frozen=True, kw_only=True):
    """A confirmation before a change.

    `confirm_label` is the text of the button, `action` the URL that the form is sent to, `row_id` the table row that
    shows the progress. `impact` lists what the change will cause, `people` the affected people. `choices` are (value,
    label) pairs of a select named `field`. `confirmation_text` must be typed to enable the button. `blocked_reason`
    replaces the button. `fields` are hidden inputs. `is_inline`: the response replaces the dialog. Requests with the
    same `key` are executed once.
    """

    title: str
    confirm_label: str
    action: str
    cancel_url: str
    impact: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    row_id: str = ""
    is_destructive: bool = True
    confirmation_text: str = ""
    blocked_reason: str = ""
    field: str = ""
    label: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    selected: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    is_inline: bool = False
    key: str = ""


class Badge(Struct, frozen=True):
    """A short text beside a name."""

    text: str
    tone: BadgeTone


class StatusBadge(Struct, frozen=True):
    """A status as text and icon."""

    text: str
    icon: str
    tone: BadgeTone


class BulkItemView(Struct, frozen=True, kw_only=True):
    """The result of one item of a bulk change."""

    name: str
    status: StatusBadge
    note: str = ""


class BulkResultView(Struct, frozen=True, kw_only=True):
    """The results of a bulk change. `title` counts them: `7 done, 2 skipped`; `download` is the URL of a file."""

    title: str
    rows: Sequence[BulkItemView]
    back: str
    download: str = ""


def new_idempotency_key() -> str:
    """Return a random key for one form."""
    return secrets.token_hex(16)


def make_bulk_status_badge(key: str, localizer: Localizer) -> StatusBadge:
    """Return the badge of one item's result."""
    _ = localizer.gettext
    badges = {
        DONE: StatusBadge(_("Done"), "circle-check", "good"),
        PENDING: StatusBadge(_("Syncing"), "refresh-cw", "info"),
        UNCHANGED: StatusBadge(_("Unchanged"), "check", "quiet"),
        SKIPPED: StatusBadge(_("Skipped"), "circle-minus", "warn"),
    }
    return badges[key]


def summarize_bulk_result(keys: list[str], localizer: Localizer) -> str:
    """Return the counts of the results, such as `7 done, 2 skipped`; zeros are omitted."""
    messages = (
        (DONE, "%(num)s done", "%(num)s done"),
        (PENDING, "%(num)s in progress", "%(num)s in progress"),
        (UNCHANGED, "%(num)s unchanged", "%(num)s unchanged"),
        (SKIPPED, "%(num)s skipped", "%(num)s skipped"),
    )
    counts = [localizer.ngettext(one, many, count) for key, one, many in messages if (count := keys.count(key))]
    return ", ".join(counts)
