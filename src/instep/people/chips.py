"""The chips above the list: each a filter with its choices, and where each choice leads. Pure."""

from msgspec import Struct

from instep.kit.words import Words
from instep.people.merge import Totals
from instep.people.rows import Reading
from instep.people.search import address


class Option(Struct, frozen=True, kw_only=True):
    """One choice of a chip; `href` is the list with this choice turned over."""

    label: str
    count: int | None
    is_on: bool
    href: str


class Chip(Struct, frozen=True, kw_only=True):
    """A filter with its choices; `clear` is the list without it."""

    key: str
    label: str
    options: tuple[Option, ...]
    clear: str

    @property
    def chosen(self) -> tuple[str, ...]:
        """The labels of what is chosen."""
        return tuple(option.label for option in self.options if option.is_on)


def chips_of(totals: Totals, reading: Reading, words: Words) -> tuple[Chip, ...]:
    """All of them, in the order of the page."""
    return (
        status_chip(totals, reading, words),
        role_chip(totals, reading, words),
        source_chip(reading, words),
        active_chip(reading, words),
    )


def status_chip(totals: Totals, reading: Reading, words: Words) -> Chip:
    """The filter by status, with what the header knows as counts."""
    _ = words.gettext
    names = {
        "active": (_("Active"), totals.active),
        "invited": (_("Invited"), totals.invitations),
        "expired": (_("Invite expired"), totals.expired_invitations),
        "deactivated": (_("Deactivated"), totals.deactivated),
    }
    barred = {
        "banned": (_("Banned"), totals.banned),
        "deprovisioned": (_("Deprovisioned"), totals.deprovisioned),
    }
    names |= {key: it for key, it in barred.items() if it[1] or key in reading.search.statuses}
    options = tuple(
        Option(
            label=names[status][0],
            count=names[status][1],
            is_on=status in reading.search.statuses,
            href=address(reading.path, reading.search.toggle_status(status)),
        )
        for status in names
    )
    clear = address(reading.path, reading.search.without("statuses"))
    return Chip(key="status", label=_("Status"), options=options, clear=clear)


def role_chip(totals: Totals, reading: Reading, words: Words) -> Chip:
    """The filter by role. Only admins are counted beforehand; the others where there is but one other role."""
    roles = reading.access.roles
    admins, others = ([it for it in reading.roles if roles.is_admin(it) is kind] for kind in (True, False))
    counts: dict[str, int] = {admins[0]: totals.admins} if len(admins) == 1 else {}
    if len(others) == 1:
        counts[others[0]] = totals.active - totals.admins
    options = tuple(
        Option(
            label=name,
            count=counts.get(role),
            is_on=role in reading.search.roles,
            href=address(reading.path, reading.search.toggle_role(role)),
        )
        for role, name in reading.roles.items()
    )
    clear = address(reading.path, reading.search.without("roles"))
    return Chip(key="role", label=words.gettext("Role"), options=options, clear=clear)


def source_chip(reading: Reading, words: Words) -> Chip:
    """The filter by where somebody comes from: one, or the other."""
    _ = words.gettext
    return _one_of(
        "source",
        _("Source"),
        {"clerk": _("With a Clerk account"), "local": _("Only here")},
        reading,
    )


def active_chip(reading: Reading, words: Words) -> Chip:
    """The filter by when somebody was last active."""
    _ = words.gettext
    names = {
        "7d": _("In the last 7 days"),
        "30d": _("In the last 30 days"),
        "idle": _("Not for 30 days"),
        "never": _("Never"),
    }
    return _one_of("active", _("Last active"), names, reading)


def _one_of(key: str, label: str, names: dict[str, str], reading: Reading) -> Chip:
    """A filter of which one choice is on at a time."""
    search = reading.search
    turn = search.toggle_source if key == "source" else search.toggle_active
    options = tuple(
        Option(label=name, count=None, is_on=getattr(search, key) == value, href=address(reading.path, turn(value)))
        for value, name in names.items()
    )
    return Chip(key=key, label=label, options=options, clear=address(reading.path, search.without(key)))
