"""REST routes of members: list, export, and changes."""

import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

from fastapi import APIRouter, Header, Query, Request
from starlette.requests import Request as starlette_Request
from starlette.responses import Response, StreamingResponse

from instep.auth.principal import OrganizationAccess, Principal
from instep.core.clock import now
from instep.core.http import make_problem_response
from instep.core.input_limits import is_storable_text
from instep.core.request_limits import InputLimitRouter
from instep.members.listing import decode_cursor, parse_activity
from instep.members.models import STATUSES, InvalidMemberCursorError, MemberFilter
from instep.members.schemas import (
    BulkMemberUpdate,
    BulkMemberUpdateResult,
    ChangedMember,
    MemberImpact,
    OwnershipTransfer,
    PeopleList,
    PeopleQuery,
    RoleUpdate,
    build_bulk_result,
    build_changed_member,
    build_impact,
    encode_page,
)
from instep.members.service import MemberService, PeopleListService

JSON_MEDIA_TYPE = "application/json"
AccessResolver = Callable[[Request, str], Awaitable[OrganizationAccess | Response]]
IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)]


def make_router(*, access: AccessResolver, members: MemberService) -> APIRouter:
    """The routes. `access` answers 401 or 404 by itself."""
    router = InputLimitRouter(prefix="/v1/organizations", tags=["people"])
    _add_list(router, access, members)
    _add_export(router, access, members)
    _add_changes(router, access, members)
    _add_own_changes(router, access, members)
    _add_bulk(router, access, members)
    return router


def _add_list(router: APIRouter, access: AccessResolver, members: MemberService) -> None:
    @router.get(
        "/{id}/people",
        response_model=PeopleList,
        summary="Members and pending invitations of an organization",
        operation_id="list_people",
        responses=_describe_responses(400, 401, 404, 503),
    )
    async def list_(request: Request, id: str, wish: Annotated[PeopleQuery, Query()]) -> Any:
        """Invitations newest first, above members by name. `id` is instep's id, Clerk's id or the slug.

        If Clerk can't be read within 2 s the members still come, with a warning; if the database can't, it is a 503.
        """
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        ask = _parse_filter_or_problem(wish)
        if isinstance(ask, Response):
            return ask
        return Response(encode_page(await members.list_people(found, ask)), media_type=JSON_MEDIA_TYPE)


def _add_export(router: APIRouter, access: AccessResolver, members: MemberService) -> None:
    @router.get(
        "/{id}/people/export",
        summary="The whole list, filtered, as CSV or JSON",
        operation_id="export_people",
        response_class=Response,
        responses={200: {"content": {"text/csv": {}, JSON_MEDIA_TYPE: {}}}, **_describe_responses(400, 401, 404, 503)},
    )
    async def export(
        request: Request, id: str, wish: Annotated[PeopleQuery, Query()], format: Literal["csv", "json"] = "csv"
    ) -> Any:
        """Every row that fits the filter; `limit` and `cursor` count for nothing. Cells that a spreadsheet would run
        begin with an apostrophe. If invitations can't be read, the header `Instep-Incomplete` says so."""
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        ask = _parse_filter_or_problem(wish)
        if isinstance(ask, Response):
            return ask
        exported = await members.export(found, ask, format=format)
        headers = {"Content-Disposition": f'attachment; filename="people.{format}"'}
        if exported.warnings:
            headers["Instep-Incomplete"] = " ".join(exported.warnings)
        media_type = "text/csv; charset=utf-8" if format == "csv" else JSON_MEDIA_TYPE
        return StreamingResponse(exported.parts, headers=headers, media_type=media_type)


def _add_changes(router: APIRouter, access: AccessResolver, members: MemberService) -> None:
    changes = members.changes
    many: dict[str, Any] = {"response_model": ChangedMember, "responses": _CHANGE_RESPONSES}

    @router.patch("/{id}/members/{user_id}", summary="Change a member's role", operation_id="set_role", **many)
    async def set_role(request: Request, id: str, user_id: str, body: RoleUpdate, key: IdempotencyKey = None) -> Any:
        """Clerk first, then the mirror. `user_id` is instep's id or Clerk's."""
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        return build_changed_member(await changes.set_role(found, member=user_id, role=body.role, idempotency_key=key))

    @router.delete("/{id}/members/{user_id}", summary="Remove a member", operation_id="remove_member", **many)
    async def remove(request: Request, id: str, user_id: str, key: IdempotencyKey = None) -> Any:
        """Removed in Clerk, signed out there, and then marked here."""
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        return build_changed_member(await changes.remove(found, member=user_id, idempotency_key=key))

    for name, flow, summary in (
        ("deactivate", changes.deactivate, "Put a member out, at once"),
        ("reactivate", changes.reactivate, "Let a deactivated member in again, with the remembered role"),
        ("restore", changes.restore, "Make a former member one again, with the remembered role"),
    ):
        _add_change(router, access, name, flow, summary)


def _add_change(router: APIRouter, access: AccessResolver, name: str, flow: Callable[..., Any], summary: str) -> None:
    @router.post(
        f"/{{id}}/members/{{user_id}}/{name}",
        response_model=ChangedMember,
        responses=_CHANGE_RESPONSES,
        summary=summary,
        operation_id=f"{name}_member",
    )
    async def change(request: Request, id: str, user_id: str, key: IdempotencyKey = None) -> Any:
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        return build_changed_member(await flow(found, member=user_id, idempotency_key=key))


def _add_own_changes(router: APIRouter, access: AccessResolver, members: MemberService) -> None:
    many: dict[str, Any] = {"response_model": ChangedMember, "responses": _CHANGE_RESPONSES}

    @router.post("/{id}/leave", summary="Leave the organization oneself", operation_id="leave", **many)
    async def leave(request: Request, id: str, key: IdempotencyKey = None) -> Any:
        """The last admin has to hand over first."""
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        return build_changed_member(await members.changes.leave(found, idempotency_key=key))

    @router.post("/{id}/transfer", summary="Hand the organization over", operation_id="transfer", **many)
    async def transfer(request: Request, id: str, body: OwnershipTransfer, key: IdempotencyKey = None) -> Any:
        """The other becomes an admin, then oneself an ordinary member."""
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        return build_changed_member(await members.changes.transfer(found, member=body.user_id, idempotency_key=key))


def _add_bulk(router: APIRouter, access: AccessResolver, members: MemberService) -> None:
    @router.post(
        "/{id}/members/bulk",
        response_model=BulkMemberUpdateResult,
        responses=_CHANGE_RESPONSES,
        summary="Change many members",
        operation_id="change_members",
    )
    async def bulk(request: Request, id: str, body: BulkMemberUpdate, key: IdempotencyKey = None) -> Any:
        """Each is a change of its own, with a result of its own; some can be done and others refused."""
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        result = await members.bulk(found, body.action, body.user_ids, role=body.role, idempotency_key=key)
        return build_bulk_result(result)

    @router.get(
        "/{id}/members/{user_id}/consequences",
        response_model=MemberImpact,
        responses=_describe_responses(401, 403, 404, 503),
        summary="What removing or deactivating a member will do",
        operation_id="find_consequences",
    )
    async def consequences(request: Request, id: str, user_id: str) -> Any:
        """To be shown before it is asked for."""
        found = await access(request, id)
        if isinstance(found, Response):
            return found
        return build_impact(await members.consequences(found, member=user_id))


_RESPONSE_DESCRIPTIONS = {
    202: "We do not know yet whether Clerk did it; the operation tells the end.",
    400: "The cursor is not one of this list.",
    401: "Nobody is signed in.",
    403: "Only admins can make changes, and nobody above their own role.",
    404: "No such organization or person, or not one you may see.",
    409: "It can't be done as things stand (the last admin, for one). Nothing was changed.",
    422: "The role can't be used. Nothing was changed.",
    503: "The database or Clerk can't be reached, or another change of the same person is under way.",
}


def _describe_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": _RESPONSE_DESCRIPTIONS[status]} for status in statuses}


_CHANGE_RESPONSES = _describe_responses(202, 401, 403, 404, 409, 422, 503)


def _parse_filter_or_problem(wish: PeopleQuery) -> MemberFilter | Response:
    """What is asked of the list, or the problem with it."""
    try:
        return parse_filter(wish)
    except InvalidMemberCursorError as error:
        return make_problem_response(400, "Bad cursor", code="bad_cursor", detail=str(error))
    except ValueError as error:
        return make_problem_response(422, "Unknown status", code="unknown_status", detail=str(error))


def parse_filter(wish: PeopleQuery) -> MemberFilter:
    """What is asked of the list. Raises InvalidMemberCursorError, and ValueError for an unknown status."""
    wanted = {("invited" if word == "pending" else word) for text in wish.status for word in text.split(",")} - {""}
    if unknown := wanted.difference(STATUSES):
        raise ValueError(f"{sorted(unknown)[0]} is not a status; there are: {', '.join(STATUSES)}.")
    return MemberFilter(
        limit=wish.limit,
        query=wish.query.strip(),
        statuses=frozenset(wanted),
        roles=frozenset(role for text in wish.role for role in text.split(",") if role),
        source=wish.source or "",
        activity=parse_activity(wish.last_active or "", now()),
        cursor=decode_cursor(wish.cursor) if wish.cursor else None,
    )


PrincipalResolver = Callable[[starlette_Request], Awaitable[Principal | Response]]
_PEOPLE_PATH = re.compile(r"/v1/organizations/([^/]+)/people")
_LIMIT_PATTERN = re.compile(r"[1-9][0-9]{0,2}", re.ASCII)
_SINGLE_PARAMETERS = ("limit", "cursor", "query")
_REPEATABLE_PARAMETERS = ("status", "role")
_MAX_LIMIT, _MAX_QUERY_LENGTH = 500, 200


class PeopleListFastPath:
    """Answers `GET /v1/organizations/{id}/people` where nothing is amiss."""

    def __init__(self, *, principal: PrincipalResolver, list_people: PeopleListService) -> None:
        self._principal, self._list = principal, list_people

    def is_for(self, scope: Any) -> bool:
        """Whether somebody asks for the list."""
        return scope["method"] == "GET" and _PEOPLE_PATH.fullmatch(scope["path"]) is not None

    async def answer(self, scope: Any) -> Response | None:
        """The page; None: the ordinary route has to answer. Raises as PeopleListService."""
        found, wish = _PEOPLE_PATH.fullmatch(scope["path"]), parse_plain_query(scope["query_string"])
        if found is None or wish is None or not is_storable_text(found[1]):
            return None
        try:
            ask = parse_filter(wish)
        except ValueError:  # a bad cursor is one, too
            return None
        principal = await self._principal(starlette_Request(scope))
        if isinstance(principal, Response):
            return None
        people = await self._list.of(principal, found[1], ask)
        return Response(encode_page(people), media_type=JSON_MEDIA_TYPE) if people else None


def parse_plain_query(query: bytes) -> PeopleQuery | None:
    """The query, if it needs no looking at: nothing unknown, nothing twice that is one, all of it within bounds."""
    values: dict[str, Any] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if not is_storable_text(value):
            return None
        if name in _REPEATABLE_PARAMETERS:
            values.setdefault(name, []).append(value)
        elif name in _SINGLE_PARAMETERS and name not in values:
            values[name] = value
        else:
            return None
    if len(values.get("query", "")) > _MAX_QUERY_LENGTH:
        return None
    if "limit" in values:
        if not _LIMIT_PATTERN.fullmatch(values["limit"]) or int(values["limit"]) > _MAX_LIMIT:
            return None
        values["limit"] = int(values["limit"])
    return PeopleQuery.model_construct(**values)
