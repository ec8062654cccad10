"""Translatable texts, and localized formats of times."""

from dataclasses import dataclass, field
from datetime import datetime
from gettext import NullTranslations
from typing import Any

from babel.dates import format_datetime
from msgspec import Struct

from instep.core.clock import DAY, HOUR, MINUTE, SECOND, is_valid_time, to_datetime, to_iso


class LazyString(str):
    """An English sentence with its message and values, so that it can be translated later (see `Localizer.translate`).

    For errors and pages. msgspec writes only plain strings: stored or sent values are `str(...)` of it.
    """

    __slots__ = ("message", "values")

    message: str
    values: dict[str, Any]


def lazy_gettext(message: str, /, **values: Any) -> LazyString:
    """Return a sentence: `message` with its `%(name)s` placeholders filled in. `make messages` extracts these calls."""
    sentence = LazyString(message % values if values else message)
    sentence.message, sentence.values = message, values
    return sentence


RELATIVE_TIME_LIMIT = 30 * DAY


class FormattedTime(Struct, frozen=True):
    """A time: as relative text, machine-readable, and in full."""

    text: str
    iso: str
    title: str


@dataclass(frozen=True)
class Localizer:
    """A message catalog. Without one, messages are the English ones of the code."""

    catalog: NullTranslations = field(default_factory=NullTranslations)
    locale: str = "en"

    def gettext(self, message: str, /, **values: object) -> str:
        """Return the message in the reader's language, with its `%(name)s` placeholders filled in."""
        return self.catalog.gettext(message) % values if values else self.catalog.gettext(message)

    def translate(self, source: object) -> str:
        """Translate a LazyString with its values, an error, or a plain text, into the reader's language."""
        text = source.args[0] if isinstance(source, Exception) and source.args else source
        if not isinstance(text, LazyString):
            return self.catalog.gettext(str(text)) if str(text) else ""
        message = self.catalog.gettext(text.message)
        if not text.values:
            return message
        values = {
            name: self.translate(value) if isinstance(value, LazyString | Exception) else value
            for name, value in text.values.items()
        }
        return message % values

    def ngettext(self, singular: str, plural: str, number: int, /, **values: object) -> str:
        """Return the message in the plural form of the number, which is `%(num)s`."""
        return self.catalog.ngettext(singular, plural, number) % {"num": number, **values}

    def format_time(self, at: int, text: str) -> FormattedTime:
        """Return a time displayed as `text`; an unknown time is displayed as such."""
        if not is_valid_time(at):
            return FormattedTime(self.format_unknown_time(), "", "")
        return FormattedTime(text, to_iso(at) or "", self.format_full_time(at))

    def format_unknown_time(self) -> str:
        """Return the text for an unknown or invalid time."""
        return self.gettext("unknown")

    def ago(self, at: int, now: int) -> FormattedTime:
        """Format a time in the past: `3 d ago`, or the date after 30 days."""
        return self.format_time(
            at, self.format_date(at, now) if now - at >= RELATIVE_TIME_LIMIT else self.format_elapsed(max(0, now - at))
        )

    def until(self, at: int, now: int) -> FormattedTime:
        """Format a time in the future: `in 4 d`, to the nearest day; in hours for the last two days."""
        _ = self.gettext
        left = max(0, at - now)
        if left >= 2 * DAY:
            text = _("in %(n)s d", n=(left + DAY // 2) // DAY)
        elif left >= HOUR:
            text = _("in %(n)s h", n=left // HOUR)
        else:
            text = _("in %(n)s min", n=max(1, left // MINUTE))
        return self.format_time(at, text)

    def format_elapsed(self, duration: int) -> str:
        """Format a duration of `duration` milliseconds that ends now."""
        _ = self.gettext
        if duration < SECOND:
            return _("just now")
        if duration < MINUTE:
            return _("%(n)s s ago", n=duration // SECOND)
        if duration < HOUR:
            return _("%(n)s min ago", n=duration // MINUTE)
        if duration < DAY:
            return _("%(n)s h ago", n=duration // HOUR)
        return _("%(n)s d ago", n=duration // DAY)

    def list_elapsed_patterns(self) -> dict[str, str]:
        """Return the texts with which the page updates relative times; `{}` is the number."""
        _ = self.gettext
        return {
            "now": _("just now"),
            "s": _("%(n)s s ago", n="{}"),
            "min": _("%(n)s min ago", n="{}"),
            "h": _("%(n)s h ago", n="{}"),
            "d": _("%(n)s d ago", n="{}"),
        }

    def format_date(self, at: int, now: int) -> str:
        """Format a date; with the year only if it is not the current one."""
        if not is_valid_time(at):
            return self.format_unknown_time()
        date = to_datetime(at)
        return self._format(date, "d MMM" if date.year == to_datetime(now).year else "d MMM y")

    def format_full_time(self, at: int) -> str:
        """Format a time in full, in UTC; the page converts it to the reader's time zone."""
        if not is_valid_time(at):
            return self.format_unknown_time()
        return self._format(to_datetime(at), "d MMMM y, HH:mm 'UTC'")

    def _format(self, time: datetime, pattern: str) -> str:
        return format_datetime(time, pattern, locale=self.locale)
