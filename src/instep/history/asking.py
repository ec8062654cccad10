"""What an address asks of the audit, and back: who, what, where, when. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime

from msgspec import Struct

from instep.audit.store import Filter
from instep.history.store import Found
from instep.kit.clock import DAY

LONGEST = 200


class AuditAsk(Struct, frozen=True, kw_only=True):
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

    def filter(self, scope: str | None, person: Found | None) -> Filter:
        """What to ask the store for; `person` is who was meant."""
        until = _day(self.until)
        return Filter(
            organization_id=scope,
            person=person.id if person else None,
            aliases=person.aliases if person else (),
            action=self.action or None,
            since=_day(self.since),
            until=until + DAY if until is not None else None,
            words=self.words,
        )


def ask_of(query: Mapping[str, str]) -> AuditAsk:
    """Reads the address; what makes no sense is left out."""
    names = {"words": "q", "person": "person", "action": "action", "organization": "organization", "before": "before"}
    texts = {field: query.get(name, "").strip()[:LONGEST].replace("\0", "") for field, name in names.items()}
    dates = {name: query.get(name, "") for name in ("since", "until")}
    return AuditAsk(**texts, **{name: text if _day(text) is not None else "" for name, text in dates.items()})


def _day(text: str) -> int | None:
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
