"""What a reader typed into the search box, and back: `role:admin status:invited maya`. Pure.

The text of the box is the whole filter: the chips only add words to it and take them away.
"""

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from msgspec import Struct
from msgspec.structs import replace

from instep.identity.roles import UNREAD, Roles
from instep.people.activity import ACTIVITIES, SOURCES, activity_of
from instep.people.merge import STATUSES, Ask, Cursor

PREFIX = "org:"
_ONE_OF = {"source": SOURCES, "active": ACTIVITIES}
SHOWN_AT_FIRST = frozenset(STATUSES) - {"deactivated"}


class Search(Struct, frozen=True, kw_only=True):
    """A filter. Without `statuses` all are meant, but the deactivated only where they are asked for.

    `source` is one of SOURCES and `active` one of ACTIVITIES, empty for all.
    """

    words: str = ""
    statuses: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    source: str = ""
    active: str = ""
    has_deactivated: bool = False

    @property
    def is_filtered(self) -> bool:
        """Whether anything narrows the list."""
        return bool(self.words or self.statuses or self.roles or self.source or self.active)

    def toggle_status(self, status: str) -> "Search":
        """The same filter with one status more or less."""
        return replace(self, statuses=self.statuses ^ {status})

    def toggle_role(self, role: str) -> "Search":
        """The same filter with one role more or less."""
        return replace(self, roles=self.roles ^ {role})

    def toggle_source(self, source: str) -> "Search":
        """The same filter with this source, or without it."""
        return replace(self, source="" if self.source == source else source)

    def toggle_active(self, active: str) -> "Search":
        """The same filter with this time of the last activity, or without it."""
        return replace(self, active="" if self.active == active else active)

    def without(self, *names: str) -> "Search":
        """The same filter with some of its parts emptied."""
        empty = Search()
        return replace(self, **{name: getattr(empty, name) for name in names})


def parse(text: str, *, has_deactivated: bool = False, roles: Roles = UNREAD) -> Search:
    """The filter that a text means. What is no known token is a word to look for. `roles` are the organization's."""
    words, statuses, found, one_of = [], set(), set(), {"source": "", "active": ""}
    for token in text.split():
        key, _, value = token.partition(":")
        value = value.lower()
        if key.lower() == "status" and value in STATUSES:
            statuses.add(value)
        elif key.lower() == "role" and value:
            found.add(roles.key_of(value))
        elif value in _ONE_OF.get(key.lower(), ()):
            one_of[key.lower()] = value
        else:
            words.append(token)
    return Search(
        words=" ".join(words),
        statuses=frozenset(statuses),
        roles=frozenset(found),
        has_deactivated=has_deactivated,
        **one_of,
    )


def text_of(search: Search) -> str:
    """The text that means this filter: the tokens in a fixed order, then the words."""
    roles = [f"role:{token_of(role)}" for role in sorted(search.roles)]
    statuses = [f"status:{status}" for status in STATUSES if status in search.statuses]
    others = [f"{key}:{value}" for key in _ONE_OF if (value := getattr(search, key))]
    return " ".join([*roles, *statuses, *others, *([search.words] if search.words else [])])


def ask_of(search: Search, *, limit: int, now: int, cursor: Cursor | None = None) -> Ask:
    """What to ask the list for at `now`."""
    everyone: Iterable[str] = () if search.has_deactivated else SHOWN_AT_FIRST
    return Ask(
        limit=limit,
        query=search.words,
        statuses=search.statuses or frozenset(everyone),
        roles=search.roles,
        source=search.source,
        activity=activity_of(search.active, now),
        cursor=cursor,
    )


def address(path: str, search: Search, **more: Any) -> str:
    """The address of the list under this filter."""
    text = text_of(search)
    query = {
        **({"q": text} if text else {}),
        **({"deactivated": "1"} if search.has_deactivated else {}),
        **{name: value for name, value in more.items() if value},
    }
    return f"{path}?{urlencode(query)}" if query else path


def token_of(role: str) -> str:
    """A role as one types it: `org:admin` is `admin`."""
    return role.removeprefix(PREFIX)
