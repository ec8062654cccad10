"""Filters of the audit log: conditions, and the form parsed from a URL's query."""

from collections.abc import Mapping
from datetime import UTC, datetime

from msgspec import Struct

from instep.console.labels import PersonMatch
from instep.core.clock import DAY

MAX_FILTER_LENGTH = 200


class AuditFilter(Struct, frozen=True, kw_only=True):
    """Conditions on audit entries; None matches any.

    `person` is an actor, a target or an impersonator; `aliases` are other ids of the same person (of a membership,
    say). `since` and `until` are Unix ms, `until` excluded. `query` is matched against action and target.
    `is_unclosed` selects requested operations that no later entry has closed.
    """

    organization_id: str | None = None
    person: str | None = None
    aliases: tuple[str, ...] = ()
    action: str | None = None
    cause: str | None = None
    since: int | None = None
    until: int | None = None
    query: str = ""
    is_unclosed: bool = False


class AuditFilterForm(Struct, frozen=True, kw_only=True):
    """Fields of the filter form, as typed; `since` and `until` are dates in UTC, both included."""

    query: str = ""
    person: str = ""
    action: str = ""
    organization: str = ""
    since: str = ""
    until: str = ""
    before: str = ""

    @property
    def is_filtered(self) -> bool:
        """True if any field narrows the list."""
        return bool(self.query or self.person or self.action or self.organization or self.since or self.until)

    def to_filter(self, organization_id: str | None, person: PersonMatch | None) -> AuditFilter:
        """Return the conditions; `person` is the match of the person field."""
        until = _parse_date(self.until)
        return AuditFilter(
            organization_id=organization_id,
            person=person.id if person else None,
            aliases=person.aliases if person else (),
            action=self.action or None,
            since=_parse_date(self.since),
            until=until + DAY if until is not None else None,
            query=self.query,
        )


def parse_audit_filter_form(params: Mapping[str, str]) -> AuditFilterForm:
    """Return the form from a URL's query parameters; invalid values are ignored."""
    names = {"query": "q", "person": "person", "action": "action", "organization": "organization", "before": "before"}
    texts = {field: params.get(name, "").strip()[:MAX_FILTER_LENGTH].replace("\0", "") for field, name in names.items()}
    dates = {name: params.get(name, "") for name in ("since", "until")}
    return AuditFilterForm(
        **texts, **{name: text if _parse_date(text) is not None else "" for name, text in dates.items()}
    )


def _parse_date(text: str) -> int | None:
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
