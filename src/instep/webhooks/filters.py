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
FOREIGN_FILTER = "foreign"  # in place of a state: deliveries of another Clerk instance
EVENT_FAMILIES = ("user", "organization", "organizationMembership", "organizationInvitation", "session", "email", "sms")
MAX_FILTER_LENGTH = 200
_EVENT_TYPE_PATTERN = re.compile(r"[A-Za-z]+(\.[A-Za-z_]+)+")


class DeliveryFilter(Struct, frozen=True, kw_only=True):
    """Conditions on deliveries; None or empty matches any.

    `type` is an event type (`user.updated`) or its family (`user`). `users` and `organization` are Clerk's ids.
    `since` and `until` are Unix ms, `until` excluded. `is_foreign`: only deliveries of another Clerk instance.
    """

    id: str | None = None
    states: Sequence[str] = ()
    type: str | None = None
    users: Sequence[str] | None = None
    organization: str | None = None
    since: int | None = None
    until: int | None = None
    is_foreign: bool = False


ANY_DELIVERY = DeliveryFilter()


class DeliveryFilterForm(Struct, frozen=True, kw_only=True):
    """Fields of the filter form, as typed; `since` and `until` are dates in UTC, both included; `before`: cursor."""

    query: str = ""
    state: str = ""
    family: str = ""
    person: str = ""
    organization: str = ""
    since: str = ""
    until: str = ""
    before: tuple[int, str] | None = None

    @property
    def is_filtered(self) -> bool:
        """True if any field narrows the list."""
        return bool(self.query or self.state or self.has_secondary_filters)

    @property
    def has_secondary_filters(self) -> bool:
        """True if a filter other than state and search narrows the list."""
        return bool(self.family or self.person or self.organization or self.since or self.until)

    def to_filter(self, users: Sequence[str] | None, organization: str | None) -> DeliveryFilter:
        """Return the conditions; `users` and `organization` are Clerk's ids of the matches."""
        is_type = _EVENT_TYPE_PATTERN.fullmatch(self.query) is not None
        until = _parse_date(self.until)
        return DeliveryFilter(
            id=None if is_type or not self.query else self.query,
            states=STATE_FILTERS.get(self.state, ()),
            type=self.query if is_type else self.family or None,
            users=users,
            organization=organization,
            since=_parse_date(self.since),
            until=until + DAY if until is not None else None,
            is_foreign=self.state == FOREIGN_FILTER,
        )


def parse_delivery_filter_form(params: Mapping[str, str]) -> DeliveryFilterForm:
    """Return the form from a URL's query parameters; invalid values are ignored."""
    names = {"query": "q", "person": "person", "organization": "organization"}
    texts = {field: params.get(name, "").strip()[:MAX_FILTER_LENGTH].replace("\0", "") for field, name in names.items()}
    dates = {name: params.get(name, "") for name in ("since", "until")}
    return DeliveryFilterForm(
        **texts,
        **{name: text if _parse_date(text) is not None else "" for name, text in dates.items()},
        state=params.get("state", "") if params.get("state") in (*STATE_FILTERS, FOREIGN_FILTER) else "",
        family=params.get("type", "") if params.get("type") in EVENT_FAMILIES else "",
        before=parse_cursor(params.get("before", "")),
    )


def parse_cursor(cursor: str) -> tuple[int, str] | None:
    """Return the time and the id in a cursor, None if it is invalid."""
    received_at, _, delivery_id = cursor.partition(".")
    is_time = received_at.isascii() and received_at.isdigit() and len(received_at) <= 15
    if not is_time or not delivery_id or "\0" in delivery_id:
        return None
    return int(received_at), delivery_id


def _parse_date(text: str) -> int | None:
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
