"""Translatable texts, and localized formats of times."""

from dataclasses import dataclass, field
from datetime import datetime
from gettext import NullTranslations
from typing import Any

from babel.dates import format_datetime
from msgspec import Struct

from instep.core.clock import DAY, HOUR, MINUTE, SECOND, is_valid_time, to_datetime, to_iso


class LazyString(str):
    """A sentence in English, with the message and the values that it was made of (see Words.say).

    It is for failures and pages; msgspec writes only plain texts, so that what is kept or sent is `str(...)` of it.
    """

    __slots__ = ("message", "values")

    message: str
    values: dict[str, Any]


def lazy_gettext(message: str, /, **values: Any) -> LazyString:
    """A sentence: `message` with its `%(name)s` filled in. Messages in such calls are found by `make messages`."""
    sentence = LazyString(message % values if values else message)
    sentence.message, sentence.values = message, values
    return sentence


RELATIVE_TIME_LIMIT = 30 * DAY


class FormattedTime(Struct, frozen=True):
    """A moment: as people say it, for machines, and in full."""

    text: str
    iso: str
    title: str


@dataclass(frozen=True)
class Localizer:
    """A catalogue of messages. Without one the messages are English, as they are written in the code."""

    catalog: NullTranslations = field(default_factory=NullTranslations)
    locale: str = "en"

    def gettext(self, message: str, /, **values: object) -> str:
        """The message in the reader's language, with its `%(name)s` filled in."""
        return self.catalog.gettext(message) % values if values else self.catalog.gettext(message)

    def say(self, what: object) -> str:
        """A sentence or a failure in the reader's language: one that was `said` with its values, any other as it is."""
        found = what.args[0] if isinstance(what, Exception) and what.args else what
        if not isinstance(found, LazyString):
            return self.catalog.gettext(str(found)) if str(found) else ""
        message = self.catalog.gettext(found.message)
        if not found.values:
            return message
        values = {
            name: self.say(it) if isinstance(it, LazyString | Exception) else it for name, it in found.values.items()
        }
        return message % values

    def ngettext(self, one: str, many: str, number: int, /, **values: object) -> str:
        """The message in the number's form; the number is `%(num)s`."""
        return self.catalog.ngettext(one, many, number) % {"num": number, **values}

    def moment(self, at: int, text: str) -> FormattedTime:
        """A moment that is called `text`; one that is not known is called so."""
        if not is_valid_time(at):
            return FormattedTime(self.unknown(), "", "")
        return FormattedTime(text, to_iso(at) or "", self.full(at))

    def unknown(self) -> str:
        """What a time is called that is not known, or is no time."""
        return self.gettext("unknown")

    def ago(self, at: int, now: int) -> FormattedTime:
        """A moment of the past: `3 d ago`, and the date once that says more."""
        return self.moment(at, self.day(at, now) if now - at >= RELATIVE_TIME_LIMIT else self.past(max(0, now - at)))

    def until(self, at: int, now: int) -> FormattedTime:
        """A moment to come: `in 4 d`, to the nearest day; in hours for the last two days."""
        _ = self.gettext
        left = max(0, at - now)
        if left >= 2 * DAY:
            text = _("in %(n)s d", n=(left + DAY // 2) // DAY)
        elif left >= HOUR:
            text = _("in %(n)s h", n=left // HOUR)
        else:
            text = _("in %(n)s min", n=max(1, left // MINUTE))
        return self.moment(at, text)

    def past(self, span: int) -> str:
        """How long ago something was that lies `span` milliseconds back."""
        _ = self.gettext
        if span < SECOND:
            return _("just now")
        if span < MINUTE:
            return _("%(n)s s ago", n=span // SECOND)
        if span < HOUR:
            return _("%(n)s min ago", n=span // MINUTE)
        if span < DAY:
            return _("%(n)s h ago", n=span // HOUR)
        return _("%(n)s d ago", n=span // DAY)

    def units(self) -> dict[str, str]:
        """What the page needs to say the same by itself while time goes by; `{}` stands for the number."""
        _ = self.gettext
        return {
            "now": _("just now"),
            "s": _("%(n)s s ago", n="{}"),
            "min": _("%(n)s min ago", n="{}"),
            "h": _("%(n)s h ago", n="{}"),
            "d": _("%(n)s d ago", n="{}"),
        }

    def day(self, at: int, now: int) -> str:
        """A date; the year only where it is another one."""
        if not is_valid_time(at):
            return self.unknown()
        when = to_datetime(at)
        return self._format(when, "d MMM" if when.year == to_datetime(now).year else "d MMM y")

    def full(self, at: int) -> str:
        """A moment in full, in UTC; the page itself rewrites it to the reader's time zone."""
        if not is_valid_time(at):
            return self.unknown()
        return self._format(to_datetime(at), "d MMMM y, HH:mm 'UTC'")

    def _format(self, when: datetime, pattern: str) -> str:
        return format_datetime(when, pattern, locale=self.locale)
