"""Scope, labels and responses shared by the admin lists of operations and of the audit log."""

from collections.abc import Iterable
from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from instep.auth.principal import OrganizationAccess, Principal
from instep.console.labels import LabelContext, list_names
from instep.console.layout import get_organization_path
from instep.console.responses import PageResponder
from instep.core.db import Database
from instep.core.templates import get_request_id, is_fragment_request

PAGE_SIZE = 25


class AdminPageScope(Struct, frozen=True):
    """The organization whose records a page shows (an access), or the whole installation (an instance admin)."""

    viewer: OrganizationAccess | Principal

    @property
    def base_path(self) -> str:
        """The path above the list pages."""
        return get_organization_path(self.viewer) if isinstance(self.viewer, OrganizationAccess) else ""

    @property
    def organization_id(self) -> str | None:
        """The id of the organization, None for the whole installation."""
        return self.viewer.organization_id if isinstance(self.viewer, OrganizationAccess) else None

    @property
    def has_all_organizations(self) -> bool:
        """True for the whole installation: rows then name their organization."""
        return self.organization_id is None

    def get_section(self, page: str) -> str:
        """Return the key of the page in the navigation."""
        return page if isinstance(self.viewer, OrganizationAccess) else f"/{page}"

    def includes(self, organization_id: str | None) -> bool:
        """Return True if records of this organization belong to the scope."""
        return self.organization_id in (None, organization_id)


async def resolve_admin_page_scope(console: PageResponder, request: Request) -> AdminPageScope | Response:
    """Return the scope of the request's path, or the response for a caller without access."""
    if "organization_id" in request.path_params:
        title = console.localizer.gettext("Only admins can see this")
        viewer: OrganizationAccess | Principal | Response = await console.require_admin(request, title=title)
    else:
        viewer = await console.require_instance_admin(request)
    return viewer if isinstance(viewer, Response) else AdminPageScope(viewer)


async def load_label_context(
    console: PageResponder, db: Database, scope: AdminPageScope, ids: Iterable[str]
) -> LabelContext:
    """Return the names of these ids, and what else the rows of a list are labeled with."""
    wanted = list(ids)
    names = await db.read(list_names, wanted) if wanted else {}
    return LabelContext(names=names, base_path=scope.base_path, now=console.renderer.clock())


def build_next_page_url(request: Request, last_id: str) -> str:
    """Return the URL of the page after the row with this id, with the filters of the request."""
    url = request.url.include_query_params(before=last_id)
    return f"{url.path}?{url.query}"


async def respond_list(
    console: PageResponder, request: Request, scope: AdminPageScope, page: str, context: dict[str, Any]
) -> Response:
    """Return the whole page; for htmx its region, or the rows after a cursor. Templates: `{page}/{page}*.html`."""
    context |= {"has_organization": scope.has_all_organizations, "request_id": get_request_id(request)}
    if not is_fragment_request(request):
        section = scope.get_section(page)
        return await console.respond_page(request, f"{page}/{page}.html", scope.viewer, section=section, **context)
    part = "more" if context["has_cursor"] else "region"
    return console.renderer.fragment(request, f"{page}/{page}_{part}.html", **context)
