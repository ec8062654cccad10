"""What the page of members says: from people and access to words, icons and addresses. Pure."""

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from instep.identity.addresses import other_form
from instep.kit.sought import is_found
from instep.kit.words import Words
from instep.people.chips import Chip, chips_of
from instep.people.merge import People, Totals
from instep.people.rows import Reading, Row, lost_row, row_of
from instep.people.search import Search, address, text_of


def headline(totals: Totals, words: Words) -> str:
    """`24 members · 3 invited · 27 of 30 seats`; what is not known is left out."""
    parts = [words.ngettext("%(num)s member", "%(num)s members", totals.members)]
    if totals.invitations is not None:
        parts.append(words.ngettext("%(num)s invited", "%(num)s invited", totals.invitations))
    if totals.seats is not None and totals.seats_used is not None:
        parts.append(words.gettext("%(used)s of %(seats)s seats", used=totals.seats_used, seats=totals.seats))
    return " · ".join(parts)


def found(people: People, search: Search, words: Words) -> str:
    """How many rows answer the filter; nothing where nothing narrows the list."""
    if not search.is_filtered or not people.rows:
        return ""
    count = len(people.rows)
    if people.next_cursor:
        return words.gettext("more than %(count)s results", count=count)
    return words.ngettext("%(num)s result", "%(num)s results", count)


class PeopleView(Struct, frozen=True, kw_only=True):
    """Everything the list says. `empty` is why there are no rows: nobody else is here, or nobody matches."""

    headline: str
    search: str
    chips: tuple[Chip, ...]
    rows: tuple[Row, ...]
    found: str
    warnings: tuple[str, ...]
    attention: str
    empty: Literal["", "alone", "no_match"]
    here: str
    clear: str
    admins: str
    more: str | None
    deactivated: int
    has_deactivated: bool
    toggle_deactivated: str
    may_act: bool
    export: str


def view(people: People, reading: Reading, words: Words) -> PeopleView:
    """One page of the list, in words."""
    search, path = reading.search, reading.path
    reading = replace(reading, admins=people.totals.admins)
    export = address(f"{path}/export", search)
    lost = [it for it in reading.around.lost if not search.statuses and _is_meant(it.email, search)]
    return PeopleView(
        headline=headline(people.totals, words),
        search=text_of(search),
        chips=chips_of(people.totals, reading, words),
        rows=(
            *(lost_row(it, reading, words) for it in lost),
            *(row_of(row, reading, words) for row in people.rows),
        ),
        found=found(people, search, words),
        warnings=tuple(words.say(warning) for warning in people.warnings),
        attention=why_attention(people.totals, words),
        empty=why_empty(people, reading),
        here=address(path, search),
        clear=address(path, search.without("words", "statuses", "roles", "source", "active")),
        admins=address(path, Search(roles=frozenset(reading.access.roles.admins & reading.roles.keys()))),
        more=address(path, search, cursor=people.next_cursor) if people.next_cursor else None,
        deactivated=0 if search.statuses else people.totals.deactivated,
        has_deactivated=search.has_deactivated,
        toggle_deactivated=address(path, _turned(search)),
        may_act=reading.access.may_act,
        export=export + ("&" if "?" in export else "?"),
    )


def why_attention(totals: Totals, words: Words) -> str:
    """Why the organization as a whole needs a person; empty where it does not."""
    if not totals.members or totals.admins:
        return ""
    return words.gettext("This organization has no active admin. Make someone admin.")


def _is_meant(email: str, search: Search) -> bool:
    is_of_all = not search.roles and search.source != "local" and not search.active
    return is_of_all and is_found(search.words, (email, other_form(email)))


def _turned(search: Search) -> Search:
    return search.without("has_deactivated") if search.has_deactivated else replace(search, has_deactivated=True)


def why_empty(people: People, reading: Reading) -> Literal["", "alone", "no_match"]:
    """Whether the list needs a word about having no rows, or only the reader's own."""
    if reading.search.is_filtered:
        return "" if people.rows else "no_match"
    lonely = len(people.rows) <= 1 and not people.warnings and not people.totals.invitations
    return "alone" if lonely and people.totals.active <= 1 else ""
