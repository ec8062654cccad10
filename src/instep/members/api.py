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
from instep.members.service import MemberService

JSON_MEDIA_TYPE = "application/json"
AccessResolver = Callable[[Request, str], Awaitable[OrganizationAccess | Response]]
IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)]
_RESPONSE_DESCRIPTIONS = {
    202: "It is not known yet whether Clerk made the change; read the operation for its outcome.",
    400: "The cursor is not valid for this list.",
    401: "Not signed in.",
    403: "Only admins can make changes, and only to members whose role is not above their own.",
    404: "The organization or member does not exist, or you may not see it.",
    409: "The change is not possible in the present state, for example for the last admin. Nothing was changed.",
    422: "The role can't be assigned. Nothing was changed.",
    503: "The database or Clerk can't be reached, or another change of the same member is in progress.",
}


def _describe_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": _RESPONSE_DESCRIPTIONS[status]} for status in statuses}


_CHANGE_OPTIONS: dict[str, Any] = {
    "response_model": ChangedMember,
    "responses": _describe_responses(202, 401, 403, 404, 409, 422, 503),
}


def make_router(*, access: AccessResolver, members: MemberService) -> APIRouter:
    """Build the router. `access` resolves the organization of a request, or answers 401 or 404."""
    router = InputLimitRouter(prefix="/v1/organizations", tags=["people"])
    _add_list(router, access, members)
    _add_export(router, access, members)
    _add_role_and_removal(router, access, members)
    _add_status_changes(router, access, members)
    _add_own_changes(router, access, members)
    _add_bulk_change(router, access, members)
    _add_impact(router, access, members)
    return router


def _add_list(router: APIRouter, access: AccessResolver, members: MemberService) -> None:
    @router.get(
        "/{organization_id}/people",
        response_model=PeopleList,
        summary="List members and invitations",
        operation_id="listPeople",
        responses=_describe_responses(400, 401, 404, 503),
    )
    async def list_people(request: Request, organization_id: str, query: Annotated[PeopleQuery, Query()]) -> Any:
        """Pending invitations, newest first, and then members by name.

        `organization_id` is instep's id, Clerk's id or the slug. If Clerk can't be read within 2 s, members are listed
        with a warning; if the database can't be read, the answer is 503.
        """
        found = await access(request, organization_id)
        if isinstance(found, Response):
            return found
        filters = _parse_filter_or_problem(query)
        if isinstance(filters, Response):
            return filters
        return Response(encode_page(await members.list_people(found, filters)), media_type=JSON_MEDIA_TYPE)


def _add_export(router: APIRouter, access: AccessResolver, members: MemberService) -> None:
    @router.get(
        "/{organization_id}/people/export",
        summary="Export members and invitations",
        operation_id="exportPeople",
        response_class=Response,
        responses={200: {"content": {"text/csv": {}, JSON_MEDIA_TYPE: {}}}, **_describe_responses(400, 401, 404, 503)},
    )
    async def export_people(
        request: Request,
        organization_id: str,
        query: Annotated[PeopleQuery, Query()],
        format: Literal["csv", "json"] = "csv",
    ) -> Any:
        """All rows that match the filter, as CSV or JSON; `limit` and `cursor` have no effect.

        Cells that a spreadsheet would evaluate start with an apostrophe. If invitations can't be read, the header
        `Instep-Incomplete` says so.
        """
        found = await access(request, organization_id)
        if isinstance(found, Response):
            return found
        filters = _parse_filter_or_problem(query)
        if isinstance(filters, Response):
            return filters
        export = await members.export(found, filters, export_format=format)
        headers = {"Content-Disposition": f'attachment; filename="people.{format}"'}
        if export.warnings:
            headers["Instep-Incomplete"] = " ".join(export.warnings)
        media_type = "text/csv; charset=utf-8" if format == "csv" else JSON_MEDIA_TYPE
        return StreamingResponse(export.chunks, headers=headers, media_type=media_type)


def _add_role_and_removal(router: APIRouter, access: AccessResolver, members: MemberService) -> None:
    @router.patch(
        "/{organization_id}/members/{user_id}",
        summary="Change a member's role",
        operation_id="changeMemberRole",
        **_CHANGE_OPTIONS,
    )
    async def change_role(
        request: Request, organization_id: str, user_id: str, body: RoleUpdate, key: IdempotencyKey = None
    ) -> Any:
        """Changed in Clerk first, then here. `user_id` is instep's id or Clerk's."""
        found = await access(request, organization_id)
        if isinstance(found, Response):
            return found
        return build_changed_member(
            await members.change_role(found, member_id=user_id, role=body.role, idempotency_key=key)
        )

    @router.delete(
        "/{organization_id}/members/{user_id}",
        summary="Remove a member",
        operation_id="removeMember",
        **_CHANGE_OPTIONS,
    )
    async def remove_member(request: Request, organization_id: str, user_id: str, key: IdempotencyKey = None) -> Any:
        """Removed in Clerk first, then here; the user's sessions in Clerk end."""
        found = await access(request, organization_id)
        if isinstance(found, Response):
            return found
        return build_changed_member(await members.remove(found, member_id=user_id, idempotency_key=key))


def _add_status_changes(router: APIRouter, access: AccessResolver, members: MemberService) -> None:
    @router.post(
        "/{organization_id}/members/{user_id}/deactivate",
        summary="Deactivate a member",
        operation_id="deactivateMember",
        **_CHANGE_OPTIONS,
    )
    async def deactivate_member(
        request: Request, organization_id: str, user_id: str, key: IdempotencyKey = None
    ) -> Any:
        """Access ends immediately; the role is remembered for a reactivation."""
        found = await access(request, organization_id)
        if isinstance(found, Response):
            return found
        return build_changed_member(await members.deactivate(found, member_id=user_id, idempotency_key=key))

    @router.post(
        "/{organization_id}/members/{user_id}/reactivate",
        summary="Reactivate a member",
        operation_id="reactivateMember",
        **_CHANGE_OPTIONS,
    )
    async def reactivate_member(
        request: Request, organization_id: str, user_id: str, key: IdempotencyKey = None
    ) -> Any:
        """A deactivated member regains access with the previous role."""
        found = await access(request, organization_id)
        if isinstance(found, Response):
            return found
        return build_changed_member(await members.reactivate(found, member_id=user_id, idempotency_key=key))

    @router.post(
        "/{organization_id}/members/{user_id}/restore",
        summary="Restore a removed member",
        operation_id="restoreMember",
        **_CHANGE_OPTIONS,
    )
    async def restore_member(request: Request, organization_id: str, user_id: str, key: IdempotencyKey = None) -> Any:
        """A former member becomes a member again with the previous role."""
        found = await access(request, organization_id)
        if isinstance(found, Response):
            return found
        return build_changed_member(await members.restore(found, member_id=user_id, idempotency_key=key))


def _add_own_changes(router: APIRouter, access: AccessResolver, members: MemberService) -> None:
    @router.post(
        "/{organization_id}/leave",
        summary="Leave an organization",
        operation_id="leaveOrganization",
        **_CHANGE_OPTIONS,
    )
    async def leave_organization(request: Request, organization_id: str, key: IdempotencyKey = None) -> Any:
        """The last admin has to transfer the organization first."""
        found = await access(request, organization_id)
        if isinstance(found, Response):
            return found
        return build_changed_member(await members.leave(found, idempotency_key=key))

    @router.post(
        "/{organization_id}/transfer",
        summary="Transfer an organization",
        operation_id="transferOrganization",
        **_CHANGE_OPTIONS,
    )
    async def transfer_organization(
        request: Request, organization_id: str, body: OwnershipTransfer, key: IdempotencyKey = None
    ) -> Any:
        """The other member becomes an admin, and then the caller an ordinary member."""
        found = await access(request, organization_id)
        if isinstance(found, Response):
            return found
        return build_changed_member(
            await members.transfer_ownership(found, member_id=body.user_id, idempotency_key=key)
        )


def _add_bulk_change(router: APIRouter, access: AccessResolver, members: MemberService) -> None:
    @router.post(
        "/{organization_id}/members/bulk",
        summary="Change several members",
        operation_id="changeMembers",
        **_CHANGE_OPTIONS | {"response_model": BulkMemberUpdateResult},
    )
    async def change_members(
        request: Request, organization_id: str, body: BulkMemberUpdate, key: IdempotencyKey = None
    ) -> Any:
        """Each member is changed separately and has a result of its own; some can succeed and others be refused."""
        found = await access(request, organization_id)
        if isinstance(found, Response):
            return found
        outcomes = await members.change_many(found, body.action, body.user_ids, role=body.role, idempotency_key=key)
        return build_bulk_result(outcomes)


def _add_impact(router: APIRouter, access: AccessResolver, members: MemberService) -> None:
    @router.get(
        "/{organization_id}/members/{user_id}/consequences",
        response_model=MemberImpact,
        responses=_describe_responses(401, 403, 404, 503),
        summary="Preview the removal or deactivation of a member",
        operation_id="previewMemberImpact",
    )
    async def preview_impact(request: Request, organization_id: str, user_id: str) -> Any:
        """Expected effects, to be shown in a confirmation. Nothing is changed."""
        found = await access(request, organization_id)
        if isinstance(found, Response):
            return found
        return build_impact(await members.find_impact(found, member_id=user_id))


def _parse_filter_or_problem(query: PeopleQuery) -> MemberFilter | Response:
    """Parse the query of the list; answer 400 or 422 where it is invalid."""
    try:
        return parse_filter(query)
    except InvalidMemberCursorError as error:
        return make_problem_response(400, "Bad cursor", code="bad_cursor", detail=str(error))
    except ValueError as error:
        return make_problem_response(422, "Unknown status", code="unknown_status", detail=str(error))


def parse_filter(query: PeopleQuery) -> MemberFilter:
    """Parse the query of the list. Raises InvalidMemberCursorError, and ValueError for an unknown status."""
    names = {name for text in query.status for name in text.split(",") if name}
    statuses = frozenset("invited" if name == "pending" else name for name in names)
    if unknown := statuses.difference(STATUSES):
        raise ValueError(f"{min(unknown)} is not a status. Valid statuses: {', '.join(STATUSES)}.")
    return MemberFilter(
        limit=query.limit,
        query=query.query.strip(),
        statuses=statuses,
        roles=frozenset(role for text in query.role for role in text.split(",") if role),
        source=query.source or "",
        activity=parse_activity(query.last_active or "", now()),
        cursor=decode_cursor(query.cursor) if query.cursor else None,
    )


PrincipalResolver = Callable[[starlette_Request], Awaitable[Principal | Response]]
_PEOPLE_PATH = re.compile(r"/v1/organizations/([^/]+)/people")
_LIMIT_PATTERN = re.compile(r"[1-9][0-9]{0,2}", re.ASCII)
_SINGLE_PARAMETERS = ("limit", "cursor", "query")
_REPEATABLE_PARAMETERS = ("status", "role")
_MAX_LIMIT, _MAX_QUERY_LENGTH = 500, 200


class PeopleListFastPath:
    """Answers plain requests of `GET /v1/organizations/{organization_id}/people` without the web framework.

    It answers as the ordinary route, and leaves everything unusual to that. A route of the framework took about a
    tenth more processor time per request (median; a short list on SQLite, on a busy machine).
    """

    def __init__(self, *, principal: PrincipalResolver, members: MemberService) -> None:
        self._resolve_principal, self._members = principal, members

    def is_for(self, scope: Any) -> bool:
        """Return whether the request is for the list."""
        return scope["method"] == "GET" and _PEOPLE_PATH.fullmatch(scope["path"]) is not None

    async def answer(self, scope: Any) -> Response | None:
        """Return the page; None leaves the request to the ordinary route. Raises as `MemberService.list_people`."""
        path, query = _PEOPLE_PATH.fullmatch(scope["path"]), parse_plain_query(scope["query_string"])
        if path is None or query is None or not is_storable_text(path[1]):
            return None
        try:
            filters = parse_filter(query)
        except ValueError:  # a bad cursor, too
            return None
        principal = await self._resolve_principal(starlette_Request(scope))
        if isinstance(principal, Response):
            return None
        page = await self._members.list_visible_people(principal, path[1], filters)
        return Response(encode_page(page), media_type=JSON_MEDIA_TYPE) if page else None


def parse_plain_query(query_string: bytes) -> PeopleQuery | None:
    """Parse a query that needs no validation: known parameters, none repeated that is single, all within bounds.

    None for any other query.
    """
    values: dict[str, Any] = {}
    for name, value in parse_qsl(query_string.decode("latin-1"), keep_blank_values=True):
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
