"""Resolve which organization's operations and audit entries a caller may read."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response

from instep.auth.principal import OrganizationAccess, Principal
from instep.core.i18n import lazy_gettext
from instep.domain.errors import FORBIDDEN, ChangeRejectedError

PrincipalResolver = Callable[[Request], Awaitable[Principal | Response]]
AccessResolver = Callable[[Request, str], Awaitable[OrganizationAccess | Response]]
ADMIN_ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    401: {"description": "Nobody is signed in."},
    403: {"description": "Only admins can see this."},
    404: {"description": "No such thing, or not one you may see."},
    503: {"description": "The database can't be read."},
}


class AdminScope(BaseModel):
    id: str | None


async def resolve_request_scope(
    request: Request, organization: str | None, principal: PrincipalResolver, access: AccessResolver
) -> AdminScope | Response:
    who = await principal(request)
    if isinstance(who, Response):
        return who
    found = await access(request, organization) if organization else None
    return found if isinstance(found, Response) else AdminScope(id=resolve_admin_scope(who, found))


def next_cursor(found: Sequence[Any], limit: int) -> str | None:
    return found[-1].id if len(found) == limit else None


def resolve_admin_scope(principal: Principal, access: OrganizationAccess | None) -> str | None:
    """Which organization's history they may read: the one they ask for, as its admin; without one, all of them.

    Raises Refused (403).
    """
    if access is not None and access.can_manage:
        return access.organization_id
    if access is None and principal.is_instance_admin:
        return None
    if access is not None:
        message = lazy_gettext("Only admins of this organization can see this.")
    else:
        message = lazy_gettext("Only admins of the installation can see this.")
    raise ChangeRejectedError(message, code="forbidden", status=FORBIDDEN)
