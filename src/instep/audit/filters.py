"""Filters of the audit log: conditions, and the form parsed from a URL's query."""

from collections.abc import Mapping
from datetime import UTC, datetime

from msgspec import Struct

from instep.console.labels import PersonMatch
from instep.core.clock import DAY


class AuditFilter(Struct, frozen=True, kw_only=True):
    """Which entries: None is any. `since` and `until` are Unix milliseconds; `words` is a part of action or target.

    `is_unclosed`: only what was asked for and has not ended, well or badly.

    `person` is who did it or to whom; `aliases` are other ids under which the records know them (a membership's).
    """

    organization_id: str | None = None
    person: str | None = None
    aliases: tuple[str, ...] = ()
    action: str | None = None
    cause: str | None = None
    since: int | None = None
    until: int | None = None
    words: str = ""
    is_unclosed: bool = False


MAX_FILTER_LENGTH = 200


class AuditFilterForm(Struct, frozen=True, kw_only=True):
    """A filter as it was typed; `since` and `until` are dates (UTC), both included."""

    words: str = ""
    person: str = ""
    action: str = ""
    organization: str = ""
    since: str = ""
    until: str = ""
    before: str = ""

    @property
    def is_filtered(self) -> bool:
        """Whether anything narrows the list."""
        return bool(self.words or self.person or self.action or self.organization or self.since or self.until)

    def filter(self, scope: str | None, person: PersonMatch | None) -> AuditFilter:
        """What to ask the store for; `person` is who was meant."""
        until = _parse_date(self.until)
        return AuditFilter(
            organization_id=scope,
            person=person.id if person else None,
            aliases=person.aliases if person else (),
            action=self.action or None,
            since=_parse_date(self.since),
            until=until + DAY if until is not None else None,
            words=self.words,
        )


def parse_audit_filter_form(query: Mapping[str, str]) -> AuditFilterForm:
    """Reads the address; what makes no sense is left out."""
    names = {"words": "q", "person": "person", "action": "action", "organization": "organization", "before": "before"}
    texts = {field: query.get(name, "").strip()[:MAX_FILTER_LENGTH].replace("\0", "") for field, name in names.items()}
    dates = {name: query.get(name, "") for name in ("since", "until")}
    return AuditFilterForm(
        **texts, **{name: text if _parse_date(text) is not None else "" for name, text in dates.items()}
    )


def _parse_date(text: str) -> int | None:
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
