"""Filters of deliveries: conditions, and the form parsed from a URL's query."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from instep.core.clock import DAY

STATE_FILTERS: dict[str, tuple[str, ...]] = {
    "parked": ("parked",),
    "waiting": ("new", "waiting"),
    "settled": ("settled",),
}
FOREIGN_FILTER = "foreign"


"""In the place of a state: what came from another Clerk instance."""


EVENT_FAMILIES = ("user", "organization", "organizationMembership", "organizationInvitation", "session", "email", "sms")
MAX_FILTER_LENGTH = 200
_EVENT_TYPE_PATTERN = re.compile(r"[A-Za-z]+(\.[A-Za-z_]+)+")


class DeliveryFilter(Struct, frozen=True, kw_only=True):
    """Which deliveries: None or nothing is any. `type` is one (`user.updated`) or the family before its dot (`user`).

    `is_foreign`: only those of another Clerk instance.

    `users` and `organization` are Clerk's ids; `since` and `until` Unix milliseconds, `until` excluded.
    """

    id: str | None = None
    states: Sequence[str] = ()
    type: str | None = None
    users: Sequence[str] | None = None
    organization: str | None = None
    since: int | None = None
    until: int | None = None
    is_foreign: bool = False


class DeliveryFilterForm(Struct, frozen=True, kw_only=True):
    """A filter as it was typed; `since` and `until` are dates (UTC), both included; `before` a place in the list."""

    words: str = ""
    state: str = ""
    family: str = ""
    person: str = ""
    organization: str = ""
    since: str = ""
    until: str = ""
    before: tuple[int, str] | None = None

    @property
    def is_filtered(self) -> bool:
        """Whether anything narrows the list."""
        return bool(self.words or self.state or self.has_secondary_filters)

    @property
    def has_secondary_filters(self) -> bool:
        """Whether one of the lesser filters does."""
        return bool(self.family or self.person or self.organization or self.since or self.until)

    def filter(self, users: Sequence[str] | None, organization: str | None) -> DeliveryFilter:
        """What to ask the store for; `users` and `organization` are Clerk's ids of those who are meant."""
        is_type = _EVENT_TYPE_PATTERN.fullmatch(self.words) is not None
        until = _parse_date(self.until)
        return DeliveryFilter(
            id=None if is_type or not self.words else self.words,
            states=STATE_FILTERS.get(self.state, ()),
            type=self.words if is_type else self.family or None,
            users=users,
            organization=organization,
            since=_parse_date(self.since),
            until=until + DAY if until is not None else None,
            is_foreign=self.state == FOREIGN_FILTER,
        )


def parse_delivery_filter_form(query: Mapping[str, str]) -> DeliveryFilterForm:
    """Reads the address; what makes no sense is left out."""
    names = {"words": "q", "person": "person", "organization": "organization"}
    texts = {field: query.get(name, "").strip()[:MAX_FILTER_LENGTH].replace("\0", "") for field, name in names.items()}
    dates = {name: query.get(name, "") for name in ("since", "until")}
    return DeliveryFilterForm(
        **texts,
        **{name: text if _parse_date(text) is not None else "" for name, text in dates.items()},
        state=query.get("state", "") if query.get("state") in (*STATE_FILTERS, FOREIGN_FILTER) else "",
        family=query.get("type", "") if query.get("type") in EVENT_FAMILIES else "",
        before=parse_cursor(query.get("before", "")),
    )


def parse_cursor(cursor: str) -> tuple[int, str] | None:
    """A place in the list: a time and an id; None for what this list did not make."""
    at, _, id = cursor.partition(".")
    if not (at.isascii() and at.isdigit()) or len(at) > 15 or not id or "\0" in id:
        return None
    return int(at), id


def _parse_date(text: str) -> int | None:
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


ANY_DELIVERY = DeliveryFilter()
