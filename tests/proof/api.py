"""Clerk's Backend API over the model of Clerk, as far as reading everything goes: what a sync reads page by page.

It answers from the present or the past, hides everything or fails, as the model says; and between two pages something
may happen in Clerk.
"""

import json
from collections.abc import Callable
from typing import Any

from instep.clerk.http import QueryParams
from instep.domain.errors import ClerkRejectedError, ClerkUnavailableError
from instep.domain.models import ClerkId, EntityKey, EntityKind
from tests.proof.world import ModelClerk, State, Thing

LISTS: dict[str, EntityKind] = {
    "users": "user",
    "organizations": "organization",
    "organization_memberships": "membership",
}


class ModelBackend:
    """Stands in for `instep.clerk.http.ClerkHttpClient`. `meanwhile`: each happens once, before a page is answered."""

    def __init__(self, clerk: ModelClerk) -> None:
        self.clerk = clerk
        self.meanwhile: list[Callable[[], None]] = []

    async def send(self, method: str, path: str, *, params: QueryParams | None = None, json: Any = None) -> bytes:
        """Answer a GET. Raises ClerkUnavailableError, and ClerkRejectedError for what is not there."""
        assert (method, json) == ("GET", None)
        if self.meanwhile:
            self.meanwhile.pop()()
        if self.clerk.is_down:
            raise ClerkUnavailableError("Clerk did not answer.")
        return _encoded(self._answer(path.split("/"), params or []))

    def _answer(self, path: list[str], params: QueryParams) -> Any:
        if path[0] not in LISTS or path == ["instance"]:
            raise _not_there()
        kind = LISTS[path[0]]
        if path[1:] == ["count"]:
            return {"object": "total_count", "total_count": len(_chosen(self.clerk.alive(kind), params))}
        if len(path) == 1:
            return self._list(kind, self.clerk.alive(kind), params)
        owner = self._get(EntityKey(kind, ClerkId(path[1])))
        if len(path) == 2:
            return self._shape(owner)
        theirs = [it for it in self.clerk.alive("membership") if self.clerk.parent(it, kind) is owner]
        users = [value for name, value in params if name == "user_id"]
        theirs = [it for it in theirs if not users or f"user_{it.user}" in users]
        return self._list("membership", theirs, [it for it in params if it[0] != "user_id"])

    def _get(self, key: EntityKey) -> Thing:
        thing = self.clerk.things.get(key)
        if thing is None or not self._shown([thing]):
            raise _not_there()
        return thing

    def _list(self, kind: EntityKind, things: list[Thing], params: QueryParams) -> Any:
        rows = _ordered(_chosen(self._shown(things), params), dict(params))
        page = [self._shape(it) for it in _cut(rows, dict(params))]
        return page if kind == "user" else {"data": page, "total_count": len(rows)}

    def _shown(self, things: list[Thing]) -> list[Thing]:
        if not self.clerk.is_hiding:
            return [it for it in things if it.is_alive]
        self.clerk.missed.update(it.key for it in things)
        return []

    def _shape(self, thing: Thing) -> Any:
        older = [it for it in thing.past if it.version < thing.now.version]
        state: State = older[0] if self.clerk.is_stale and older else thing.now
        return json.loads(self.clerk.tell_of(thing, state, "said"))["data"]


def _chosen(things: list[Thing], params: QueryParams) -> list[Thing]:
    ids = [value for name, value in params if name == "user_id"]
    given = dict(params)
    after, before = int(given.get("created_at_after") or -1), int(given.get("created_at_before") or 2**60)
    found = [it for it in things if after <= it.made_at < before]
    return [it for it in found if not ids or it.key.id in ids]


def _ordered(things: list[Thing], given: dict[str, Any]) -> list[Thing]:
    order = str(given.get("order_by", "-created_at"))
    is_by_change = order.endswith("updated_at")
    return sorted(
        things,
        key=lambda it: (it.now.version if is_by_change else it.made_at, it.key.id),
        reverse=order.startswith("-"),
    )


def _cut(rows: list[Thing], given: dict[str, Any]) -> list[Thing]:
    start = int(given.get("offset") or 0)
    if after := given.get("starting_after"):
        places = [place for place, it in enumerate(rows) if it.key.id == after]
        if not places:
            raise _not_there()
        start = places[0] + 1
    return rows[start : start + int(given.get("limit") or 10)]


def _encoded(answer: Any) -> bytes:
    return json.dumps(answer).encode()


def _not_there() -> ClerkRejectedError:
    return ClerkRejectedError("Clerk has no such thing.", code="resource_not_found", status=404)
