"""Console pages of the audit log: list, recent entries of a person, and CSV export."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from instep.audit.filters import AuditFilter, AuditFilterForm, parse_audit_filter_form
from instep.audit.repository import AuditEntryRow
from instep.audit.service import AuditService, make_csv_response
from instep.audit.views import AuditEntryView, make_audit_entry_view
from instep.auth.principal import OrganizationAccess
from instep.console.admin_pages import (
    PAGE_SIZE,
    AdminPageScope,
    build_next_page_url,
    load_label_context,
    resolve_admin_page_scope,
    respond_list,
)
from instep.console.labels import ACTION_GROUPS, PersonMatch, collect_ids, find_people, format_action_group
from instep.console.responses import PageResponder
from instep.core.db import Database

RECENT_ENTRIES_LIMIT = 12


class ResolvedAuditFilter(Struct, frozen=True, kw_only=True):
    """The people that match a filter form, and the filter; None unless exactly one person matches."""

    people: list[PersonMatch] = []
    filter: AuditFilter | None = None


@dataclass(frozen=True)
class AuditPages:
    """Handlers of the pages of the audit log, of one organization and of the whole installation."""

    console: PageResponder
    db: Database
    audit: AuditService

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route(base + path, handler, methods=["GET"])
            for base in ("", "/organizations/{organization_id}")
            for path, handler in (
                ("/audit", self.list_entries),
                ("/audit/export", self.export),
                ("/people/{user_id}/story", self.show_recent_entries),
            )
        ]

    async def list_entries(self, request: Request) -> Response:
        """List entries; for htmx the region alone, or the next rows."""
        scope = await resolve_admin_page_scope(self.console, request)
        if isinstance(scope, Response):
            return scope
        form = parse_audit_filter_form(request.query_params)
        resolved = await self._resolve_filter(scope, form)
        found = (
            await self.audit.list(resolved.filter, before=form.before, limit=PAGE_SIZE + 1) if resolved.filter else []
        )
        viewer = scope.viewer
        context = {
            "rows": await self._make_views(scope, found[:PAGE_SIZE]),
            "more": build_next_page_url(request, found[PAGE_SIZE - 1].id) if len(found) > PAGE_SIZE else None,
            "has_cursor": bool(form.before),
            "form": form,
            "people": resolved.people,
            "groups": [(key, format_action_group(key, self.console.localizer)) for key in ACTION_GROUPS],
            "organizations": ()
            if isinstance(viewer, OrganizationAccess)
            else await self.console.list_organizations(viewer),
            "path": f"{scope.base_path}/audit",
            "export": f"{scope.base_path}/audit/export?{request.url.query}".rstrip("?"),
        }
        return await respond_list(self.console, request, scope, "audit", context)

    async def show_recent_entries(self, request: Request) -> Response:
        """Show the newest entries about one person, as a part of their details."""
        scope = await resolve_admin_page_scope(self.console, request)
        if isinstance(scope, Response):
            return scope
        user_id = request.path_params["user_id"]
        resolved = await self._resolve_filter(scope, parse_audit_filter_form({"person": user_id}))
        found = await self.audit.list(resolved.filter, limit=RECENT_ENTRIES_LIMIT) if resolved.filter else []
        context: dict[str, Any] = {
            "rows": await self._make_views(scope, found),
            "more": f"{scope.base_path}/audit?person={user_id}",
        }
        return self.console.renderer.fragment(request, "audit/recent_entries.html", **context)

    async def export(self, request: Request) -> Response:
        """Export all entries that match the filter as CSV, newest first."""
        scope = await resolve_admin_page_scope(self.console, request)
        if isinstance(scope, Response):
            return scope
        resolved = await self._resolve_filter(scope, parse_audit_filter_form(request.query_params))
        if resolved.filter is None:
            _ = self.console.localizer.gettext
            text = _("The filter must match exactly one person. Choose one, then export again.")
            return self.console.renderer.error(request, status=422, title=_("Nothing to export"), text=text)
        return make_csv_response(self.audit.export(resolved.filter))

    async def _resolve_filter(self, scope: AdminPageScope, form: AuditFilterForm) -> ResolvedAuditFilter:
        organization_id = scope.organization_id
        if form.organization and not isinstance(scope.viewer, OrganizationAccess):
            organization_id = form.organization
        if not form.person:
            return ResolvedAuditFilter(filter=form.to_filter(organization_id, None))
        people = await self.db.read(find_people, form.person, organization_id)
        person_filter = form.to_filter(organization_id, people[0]) if len(people) == 1 else None
        return ResolvedAuditFilter(people=people, filter=person_filter)

    async def _make_views(self, scope: AdminPageScope, entries: Sequence[AuditEntryRow]) -> list[AuditEntryView]:
        context = await load_label_context(self.console, self.db, scope, collect_ids(entries))
        return [
            make_audit_entry_view(each, context, self.console.localizer, has_organization=scope.has_all_organizations)
            for each in entries
        ]
