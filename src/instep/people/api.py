"""Members over REST: `/v1/organizations/{id}/people`, its export, and `.../members...`, which change them."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response, StreamingResponse

from instep.access.principal import Access
from instep.kit.clock import now
from instep.kit.incoming import BoundedRouter
from instep.kit.problem import problem
from instep.people.activity import activity_of
from instep.people.answers import (
    BulkAnswer,
    ChangedMember,
    WhatWillHappen,
    bulk_answer,
    changed_member,
    what_will_happen,
)
from instep.people.bulk import MOST, Action
from instep.people.members import Members
from instep.people.merge import STATUSES, Ask, BadCursor, decode_cursor
from instep.people.shapes import PeoplePage, as_bytes

MediaJson = "application/json"
AccessTo = Callable[[Request, str], Awaitable[Access | Response]]
Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)]
Role = Annotated[str, Field(min_length=1, max_length=200, examples=["org:admin"])]
NO_NUL = r"^[^\x00]*$"  # no database holds one in a text


class PeopleQuery(BaseModel):
    """What can be asked of the list; `status` and `role` may be repeated, or hold several parted by commas."""

    limit: Annotated[int, Field(ge=1, le=500)] = 25
    cursor: str | None = None
    query: Annotated[str, Field(max_length=200, pattern=NO_NUL, description="Any words of a name or an address.")] = ""
    status: Annotated[
        list[str], Field(description=f"Of {', '.join(STATUSES)}; pending is another word for invited.")
    ] = []
    role: Annotated[list[Annotated[str, Field(pattern=NO_NUL)]], Field(description="Such as org:admin.")] = []
    source: Annotated[
        Literal["clerk", "local"] | None,
        Field(description="clerk: with a Clerk account, and invitations; local: without one."),
    ] = None
    last_active: Annotated[
        Literal["7d", "30d", "idle", "never"] | None,
        Field(description="In the last 7 or 30 days, not for 30 days, or never; leaves invitations out."),
    ] = None


class NewRole(BaseModel):
    """The role that a member shall have."""

    model_config = ConfigDict(extra="forbid")

    role: Role


class Successor(BaseModel):
    """Who shall be the admin instead of whoever asks: instep's id or Clerk's."""

    model_config = ConfigDict(extra="forbid")

    user_id: Annotated[str, Field(min_length=1, max_length=200)]


class BulkWish(BaseModel):
    """What to do with whom (instep's ids or Clerk's); `role` only where the action is `role`."""

    model_config = ConfigDict(extra="forbid")

    action: Action
    user_ids: Annotated[list[str], Field(min_length=1, max_length=MOST)]
    role: Role | None = None


def make_router(*, access: AccessTo, members: Members) -> APIRouter:
    """The routes. `access` answers 401 or 404 by itself."""
    router = BoundedRouter(prefix="/v1/organizations", tags=["people"])
    _add_list(router, access, members)
    _add_export(router, access, members)
    _add_changes(router, access, members)
    _add_own_changes(router, access, members)
    _add_bulk(router, access, members)
    return router


def _add_list(router: APIRouter, access: AccessTo, members: Members) -> None:
    @router.get(
        "/{id}/people",
        response_model=PeoplePage,
        summary="Members and pending invitations of an organization",
        operation_id="list_people",
        responses=_described(400, 401, 404, 503),
    )
    async def list_(request: Request, id: str, wish: Annotated[PeopleQuery, Query()]) -> Any:
        """Invitations newest first, above members by name. `id` is instep's id, Clerk's id or the slug.

        If Clerk can't be read within 2 s the members still come, with a warning; if the database can't, it is a 503.
        """
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        ask = _ask(wish)
        if isinstance(ask, Response):
            return ask
        return Response(as_bytes(await members.list_people(found, ask)), media_type=MediaJson)


def _add_export(router: APIRouter, access: AccessTo, members: Members) -> None:
    @router.get(
        "/{id}/people/export",
        summary="The whole list, filtered, as CSV or JSON",
        operation_id="export_people",
        response_class=Response,
        responses={200: {"content": {"text/csv": {}, MediaJson: {}}}, **_described(400, 401, 404, 503)},
    )
    async def export(
        request: Request, id: str, wish: Annotated[PeopleQuery, Query()], format: Literal["csv", "json"] = "csv"
    ) -> Any:
        """Every row that fits the filter; `limit` and `cursor` count for nothing. Cells that a spreadsheet would run
        begin with an apostrophe. If invitations can't be read, the header `Instep-Incomplete` says so."""
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        ask = _ask(wish)
        if isinstance(ask, Response):
            return ask
        exported = await members.export(found, ask, format=format)
        headers = {"Content-Disposition": f'attachment; filename="people.{format}"'}
        if exported.warnings:
            headers["Instep-Incomplete"] = " ".join(exported.warnings)
        media_type = "text/csv; charset=utf-8" if format == "csv" else MediaJson
        return StreamingResponse(exported.parts, headers=headers, media_type=media_type)


def _add_changes(router: APIRouter, access: AccessTo, members: Members) -> None:
    changes = members.changes
    many: dict[str, Any] = {"response_model": ChangedMember, "responses": _CHANGE}

    @router.patch("/{id}/members/{user_id}", summary="Change a member's role", operation_id="set_role", **many)
    async def set_role(request: Request, id: str, user_id: str, body: NewRole, key: Key = None) -> Any:
        """Clerk first, then the mirror. `user_id` is instep's id or Clerk's."""
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        return changed_member(await changes.set_role(found, member=user_id, role=body.role, idempotency_key=key))

    @router.delete("/{id}/members/{user_id}", summary="Remove a member", operation_id="remove_member", **many)
    async def remove(request: Request, id: str, user_id: str, key: Key = None) -> Any:
        """Removed in Clerk, signed out there, and then marked here."""
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        return changed_member(await changes.remove(found, member=user_id, idempotency_key=key))

    for name, flow, summary in (
        ("deactivate", changes.deactivate, "Put a member out, at once"),
        ("reactivate", changes.reactivate, "Let a deactivated member in again, with the remembered role"),
        ("restore", changes.restore, "Make a former member one again, with the remembered role"),
    ):
        _add_change(router, access, name, flow, summary)


def _add_change(router: APIRouter, access: AccessTo, name: str, flow: Callable[..., Any], summary: str) -> None:
    @router.post(
        f"/{{id}}/members/{{user_id}}/{name}",
        response_model=ChangedMember,
        responses=_CHANGE,
        summary=summary,
        operation_id=f"{name}_member",
    )
    async def change(request: Request, id: str, user_id: str, key: Key = None) -> Any:
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        return changed_member(await flow(found, member=user_id, idempotency_key=key))


def _add_own_changes(router: APIRouter, access: AccessTo, members: Members) -> None:
    many: dict[str, Any] = {"response_model": ChangedMember, "responses": _CHANGE}

    @router.post("/{id}/leave", summary="Leave the organization oneself", operation_id="leave", **many)
    async def leave(request: Request, id: str, key: Key = None) -> Any:
        """The last admin has to hand over first."""
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        return changed_member(await members.changes.leave(found, idempotency_key=key))

    @router.post("/{id}/transfer", summary="Hand the organization over", operation_id="transfer", **many)
    async def transfer(request: Request, id: str, body: Successor, key: Key = None) -> Any:
        """The other becomes an admin, then oneself an ordinary member."""
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        return changed_member(await members.changes.transfer(found, member=body.user_id, idempotency_key=key))


def _add_bulk(router: APIRouter, access: AccessTo, members: Members) -> None:
    @router.post(
        "/{id}/members/bulk",
        response_model=BulkAnswer,
        responses=_CHANGE,
        summary="Change many members",
        operation_id="change_members",
    )
    async def bulk(request: Request, id: str, body: BulkWish, key: Key = None) -> Any:
        """Each is a change of its own, with a result of its own; some can be done and others refused."""
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        result = await members.bulk(found, body.action, body.user_ids, role=body.role, idempotency_key=key)
        return bulk_answer(result)

    @router.get(
        "/{id}/members/{user_id}/consequences",
        response_model=WhatWillHappen,
        responses=_described(401, 403, 404, 503),
        summary="What removing or deactivating a member will do",
        operation_id="find_consequences",
    )
    async def consequences(request: Request, id: str, user_id: str) -> Any:
        """To be shown before it is asked for."""
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        return what_will_happen(await members.consequences(found, member=user_id))


_FAILURES = {
    202: "We do not know yet whether Clerk did it; the operation tells the end.",
    400: "The cursor is not one of this list.",
    401: "Nobody is signed in.",
    403: "Only admins can make changes, and nobody above their own role.",
    404: "No such organization or person, or not one you may see.",
    409: "It can't be done as things stand (the last admin, for one). Nothing was changed.",
    422: "The role can't be used. Nothing was changed.",
    503: "The database or Clerk can't be reached, or another change of the same person is under way.",
}


def _described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": _FAILURES[status]} for status in statuses}


_CHANGE = _described(202, 401, 403, 404, 409, 422, 503)


def _ask(wish: PeopleQuery) -> Ask | Response:
    """What is asked of the list, or the problem with it."""
    try:
        return read_ask(wish)
    except BadCursor as error:
        return problem(400, "Bad cursor", code="bad_cursor", detail=str(error))
    except ValueError as error:
        return problem(422, "Unknown status", code="unknown_status", detail=str(error))


def read_ask(wish: PeopleQuery) -> Ask:
    """What is asked of the list. Raises BadCursor, and ValueError for an unknown status."""
    wanted = {("invited" if word == "pending" else word) for text in wish.status for word in text.split(",")} - {""}
    if unknown := wanted.difference(STATUSES):
        raise ValueError(f"{sorted(unknown)[0]} is not a status; there are: {', '.join(STATUSES)}.")
    return Ask(
        limit=wish.limit,
        query=wish.query.strip(),
        statuses=frozenset(wanted),
        roles=frozenset(role for text in wish.role for role in text.split(",") if role),
        source=wish.source or "",
        activity=activity_of(wish.last_active or "", now()),
        cursor=decode_cursor(wish.cursor) if wish.cursor else None,
    )
