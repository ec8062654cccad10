"""What the pages of deliveries say: how each stands, what it did, and what became of it since. Pure."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from instep.inbox.store import Row
from instep.kit.signs import Status
from instep.kit.words import When, Words


def status(state: str, words: Words) -> Status:
    """How a delivery stands."""
    _ = words.gettext
    known: dict[str, Status] = {
        "new": Status(_("New"), "clock", "info"),
        "waiting": Status(_("Tried again later"), "clock", "info"),
        "settled": Status(_("Done"), "circle-check", "good"),
        "parked": Status(_("Parked"), "triangle-alert", "warn"),
        "foreign": Status(_("Not applied"), "circle-minus", "quiet"),
    }
    return known[state]


def did(outcome: str | None, words: Words) -> str:
    """What a delivery did, or why it waits."""
    _ = words.gettext
    known = {
        "changed": _("Changed the database"),
        "older": _("Nothing: newer news was here"),
        "same": _("Nothing: it was so already"),
        "gone": _("Nothing: it was deleted before"),
        "not kept": _("Nothing: an event that is not kept"),
        "nothing to keep": _("Nothing to keep"),
        "pages refreshed": _("Open pages were refreshed"),
        "session ended": _("Ended a session"),
        "settled by reading Clerk": _("Settled by reading Clerk"),
        "foreign": _("Nothing: it came from another Clerk instance, such as a test from the dashboard"),
        "replayed": _("To be worked once more"),
    }
    return known.get(outcome or "") or outcome or ""


class DeliveryRow(Struct, frozen=True, kw_only=True):
    """One delivery. `about` names whom and what it is about, `did` what it did, or why it waits."""

    id: str
    type: str
    about: tuple[str, ...]
    state: str
    status: Status
    did: str
    tries: int
    received: When
    ended: When | None
    next_try: When | None
    may_replay: bool
    href: str


class Event(Struct, frozen=True, kw_only=True):
    """Something that the audit knows of a delivery."""

    what: str
    whom: str
    who: str
    at: When


def delivery_row(it: Row, names: Mapping[str, str], words: Words, *, now: int) -> DeliveryRow:
    """A delivery in words."""
    is_foreign = it.outcome == "foreign"  # about nobody here
    about = [] if is_foreign else [names.get(id, id) for id in (it.user_id, it.organization_id) if id]
    is_ended = it.state in ("settled", "parked")
    return DeliveryRow(
        id=it.id,
        type=it.type,
        about=tuple(about),
        state=it.state,
        status=status("foreign" if is_foreign else it.state, words),
        did=did(it.outcome, words),
        tries=it.attempts + is_ended,
        received=words.ago(it.received_at, now),
        ended=words.ago(it.settled_at, now) if it.settled_at else None,
        next_try=words.until(it.due_at, now) if it.due_at and it.due_at > now else None,
        may_replay=is_ended,
        href=f"/deliveries/{it.id}",
    )


def ids_of(rows: Sequence[Row]) -> list[str]:
    """Every id that should be told by a name."""
    return list(dict.fromkeys(id for row in rows for id in (row.user_id, row.organization_id) if id))
