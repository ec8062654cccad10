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
    401: {"description": "Not signed in."},
    403: {"description": "Only admins can see this."},
    404: {"description": "Not found, or not visible to you."},
    503: {"description": "The database is unavailable."},
}


class AdminScope(BaseModel):
    """Scope of a caller who may read operations and audit entries. `id` None: all organizations."""

    id: str | None


async def resolve_request_scope(
    request: Request, organization: str | None, principal: PrincipalResolver, access: AccessResolver
) -> AdminScope | Response:
    """Return the caller's scope, or the error response of the resolvers."""
    caller = await principal(request)
    if isinstance(caller, Response):
        return caller
    found = await access(request, organization) if organization else None
    if isinstance(found, Response):
        return found
    return AdminScope(id=resolve_admin_scope(caller, found))


def next_cursor(rows: Sequence[Any], limit: int) -> str | None:
    """Return the id of the last row if the page is full; None at the end of a list."""
    return rows[-1].id if len(rows) == limit else None


def resolve_admin_scope(principal: Principal, access: OrganizationAccess | None) -> str | None:
    """Return the organization whose operations and audit entries a caller may read; None: all of them.

    With `access` it is that organization, for its admins; without, all organizations, for instance admins.
    Raises ChangeRejectedError (403).
    """
    if access is not None and access.can_manage:
        return access.organization_id
    if access is None and principal.is_instance_admin:
        return None
    message = (
        lazy_gettext("Only admins of this organization can see this.")
        if access is not None
        else lazy_gettext("Only admins of the installation can see this.")
    )
    raise ChangeRejectedError(message, code="forbidden", status=FORBIDDEN)
