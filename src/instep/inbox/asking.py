"""What an address asks of the deliveries, and back: which, of what kind, about whom, when. Pure."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from instep.inbox.store import Filter
from instep.kit.clock import DAY

STATES: dict[str, tuple[str, ...]] = {"parked": ("parked",), "waiting": ("new", "waiting"), "settled": ("settled",)}
FOREIGN = "foreign"


"""In the place of a state: what came from another Clerk instance."""


FAMILIES = ("user", "organization", "organizationMembership", "organizationInvitation", "session", "email", "sms")
LONGEST = 200
_TYPE = re.compile(r"[A-Za-z]+(\.[A-Za-z_]+)+")


class DeliveryAsk(Struct, frozen=True, kw_only=True):
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
        return bool(self.words or self.state or self.is_narrow)

    @property
    def is_narrow(self) -> bool:
        """Whether one of the lesser filters does."""
        return bool(self.family or self.person or self.organization or self.since or self.until)

    def filter(self, users: Sequence[str] | None, organization: str | None) -> Filter:
        """What to ask the store for; `users` and `organization` are Clerk's ids of those who are meant."""
        is_type = _TYPE.fullmatch(self.words) is not None
        until = _day(self.until)
        return Filter(
            id=None if is_type or not self.words else self.words,
            states=STATES.get(self.state, ()),
            type=self.words if is_type else self.family or None,
            users=users,
            organization=organization,
            since=_day(self.since),
            until=until + DAY if until is not None else None,
            is_foreign=self.state == FOREIGN,
        )


def ask_of(query: Mapping[str, str]) -> DeliveryAsk:
    """Reads the address; what makes no sense is left out."""
    names = {"words": "q", "person": "person", "organization": "organization"}
    texts = {field: query.get(name, "").strip()[:LONGEST].replace("\0", "") for field, name in names.items()}
    dates = {name: query.get(name, "") for name in ("since", "until")}
    return DeliveryAsk(
        **texts,
        **{name: text if _day(text) is not None else "" for name, text in dates.items()},
        state=query.get("state", "") if query.get("state") in (*STATES, FOREIGN) else "",
        family=query.get("type", "") if query.get("type") in FAMILIES else "",
        before=place_of(query.get("before", "")),
    )


def place_of(cursor: str) -> tuple[int, str] | None:
    """A place in the list: a time and an id; None for what this list did not make."""
    at, _, id = cursor.partition(".")
    if not (at.isascii() and at.isdigit()) or len(at) > 15 or not id or "\0" in id:
        return None
    return int(at), id


def _day(text: str) -> int | None:
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
