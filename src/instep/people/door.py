"""The list past the web framework, as deliveries go: what is asked the most, in one visit to the database.

The route in `people.api` is the contract, and what the document describes. This door answers where all is plain; what
is not (a parameter that is not as it should be, nobody signed in, no such organization) it leaves to that route: there
is one place for refusals.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from instep.access.principal import Principal
from instep.kit.bounds import is_keepable
from instep.people.api import MediaJson, PeopleQuery, read_ask
from instep.people.flows import ListPeople
from instep.people.shapes import as_bytes

PrincipalOf = Callable[[Request], Awaitable[Principal | Response]]
_PATH = re.compile(r"/v1/organizations/([^/]+)/people")
_LIMIT = re.compile(r"[1-9][0-9]{0,2}", re.ASCII)
_ONES = ("limit", "cursor", "query")
_LISTS = ("status", "role")
_MOST, _LONGEST = 500, 200


class ListDoor:
    """Answers `GET /v1/organizations/{id}/people` where nothing is amiss."""

    def __init__(self, *, principal: PrincipalOf, list_people: ListPeople) -> None:
        self._principal, self._list = principal, list_people

    def is_for(self, scope: Any) -> bool:
        """Whether somebody asks for the list."""
        return scope["method"] == "GET" and _PATH.fullmatch(scope["path"]) is not None

    async def answer(self, scope: Any) -> Response | None:
        """The page; None: the ordinary route has to answer. Raises as ListPeople."""
        found, wish = _PATH.fullmatch(scope["path"]), plain(scope["query_string"])
        if found is None or wish is None or not is_keepable(found[1]):
            return None
        try:
            ask = read_ask(wish)
        except ValueError:  # a bad cursor is one, too
            return None
        principal = await self._principal(Request(scope))
        if isinstance(principal, Response):
            return None
        people = await self._list.of(principal, found[1], ask)
        return Response(as_bytes(people), media_type=MediaJson) if people else None


def plain(query: bytes) -> PeopleQuery | None:
    """The query, if it needs no looking at: nothing unknown, nothing twice that is one, all of it within bounds."""
    values: dict[str, Any] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if not is_keepable(value):
            return None
        if name in _LISTS:
            values.setdefault(name, []).append(value)
        elif name in _ONES and name not in values:
            values[name] = value
        else:
            return None
    if len(values.get("query", "")) > _LONGEST:
        return None
    if "limit" in values:
        if not _LIMIT.fullmatch(values["limit"]) or int(values["limit"]) > _MOST:
            return None
        values["limit"] = int(values["limit"])
    return PeopleQuery.model_construct(**values)
