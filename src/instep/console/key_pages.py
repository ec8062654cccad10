"""Pages to list, create and revoke API keys."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from instep.auth.api_keys import API_KEY_SCOPES, ApiKeyService
from instep.auth.principal import Principal
from instep.auth.repository import MAX_ORGANIZATIONS, ApiKeyRow
from instep.console.components import ConfirmationDialog, StatusBadge
from instep.console.responses import CHANGE_EVENTS, PageResponder
from instep.core.errors import InstepError
from instep.core.i18n import FormattedTime
from instep.core.templates import is_fragment_request

KEYS_PATH = "/keys"
MAX_KEY_NAME_LENGTH = 100


class ApiKeyView(Struct, frozen=True, kw_only=True):
    """An API key as text."""

    id: str
    name: str
    scopes: str
    organization_name: str
    creator_name: str
    created_at: FormattedTime
    last_used_at: FormattedTime | None
    status: StatusBadge
    is_active: bool


@dataclass(frozen=True)
class ApiKeyPages:
    """Handlers of the pages of API keys. `load_names` returns the names of the keys' creators by id."""

    console: PageResponder
    keys: ApiKeyService
    load_names: Callable[[Sequence[str]], Awaitable[dict[str, str]]]

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/keys", self.list_keys, methods=["GET"]),
            Route("/keys", self.create_key, methods=["POST"]),
            Route("/keys/new", self.show_form, methods=["GET"]),
            Route("/keys/{key_id}/revoke", self.confirm_revoke, methods=["GET"]),
            Route("/keys/{key_id}/revoke", self.revoke_key, methods=["POST"]),
        ]

    async def list_keys(self, request: Request) -> Response:
        """List all keys, newest first; for htmx the region alone."""
        viewer = await self.console.require_instance_admin(request)
        if isinstance(viewer, Response):
            return viewer
        try:
            rows = await self.keys.list(viewer)
        except InstepError as error:
            return self.console.respond_error(request, error)
        context: dict[str, Any] = {"rows": await self._make_views(viewer, rows)}
        if is_fragment_request(request):
            return self.console.renderer.fragment(request, "console/keys_region.html", **context)
        return await self.console.respond_page(request, "console/keys.html", viewer, section=KEYS_PATH, **context)

    async def show_form(self, request: Request) -> Response:
        """Show the empty form."""
        viewer = await self.console.require_instance_admin(request)
        if isinstance(viewer, Response):
            return viewer
        return await self._form(request, viewer, {"name": "", "scopes": ["read"], "organization": ""}, "")

    async def create_key(self, request: Request) -> Response:
        """Create a key. The secret is shown in this response only."""
        if rejection := self.console.reject_cross_origin(request):
            return rejection
        viewer = await self.console.require_instance_admin(request)
        if isinstance(viewer, Response):
            return viewer
        form = await request.form()
        name, organization = str(form.get("name", "")).strip(), str(form.get("organization", ""))
        scopes = [str(scope) for scope in form.getlist("scopes")]
        typed = {"name": name, "scopes": scopes, "organization": organization}
        _ = self.console.localizer.gettext
        if not 0 < len(name) <= MAX_KEY_NAME_LENGTH or not name.isprintable():
            return await self._form(request, viewer, typed, _("Enter a name of at most 100 printable characters."))
        access = await self.console.require_access(request, organization) if organization else None
        if isinstance(access, Response):
            return await self._form(request, viewer, typed, _("There is no such organization."))
        try:
            key, secret = await self.keys.create(
                viewer, name=name, scopes=frozenset(scopes), organization_id=access.organization_id if access else None
            )
        except InstepError as error:
            return await self._form(request, viewer, typed, self.console.localizer.translate(error))
        context: dict[str, Any] = {"name": key.name, "secret": secret}
        if is_fragment_request(request):
            response = self.console.renderer.fragment(
                request, "console/key_created.html", events=CHANGE_EVENTS, **context
            )
            response.headers.update({"HX-Retarget": "#dialog", "HX-Reswap": "innerHTML"})
            return response
        return await self.console.respond_page(
            request, "console/key_created_page.html", viewer, section=KEYS_PATH, **context
        )

    async def confirm_revoke(self, request: Request) -> Response:
        """Show the confirmation of revoking a key."""
        viewer = await self.console.require_instance_admin(request)
        if isinstance(viewer, Response):
            return viewer
        try:
            found = [key for key in await self.keys.list(viewer) if key.id == request.path_params["key_id"]]
        except InstepError as error:
            return self.console.respond_error(request, error)
        _ = self.console.localizer.gettext
        if not found:
            return self.console.renderer.error(
                request, status=404, title=_("Not found"), text=_("There is no such key.")
            )
        dialog = ConfirmationDialog(
            title=_("Revoke the API key %(name)s?", name=found[0].name),
            confirm_label=_("Revoke"),
            action=f"/keys/{found[0].id}/revoke",
            cancel_url="/keys",
            impact=(_("Programs that use it lose access immediately."), _("This cannot be undone.")),
            row_id=f"row-{found[0].id}",
        )
        return await self.console.respond_confirmation(request, dialog, viewer, section=KEYS_PATH)

    async def revoke_key(self, request: Request) -> Response:
        """Revoke a key, with immediate effect."""
        if rejection := self.console.reject_cross_origin(request):
            return rejection
        viewer = await self.console.require_instance_admin(request)
        if isinstance(viewer, Response):
            return viewer
        try:
            revoked = await self.keys.revoke(viewer, request.path_params["key_id"])
        except InstepError as error:
            return self.console.respond_error(request, error)
        return self.console.respond_success(
            request, self.console.localizer.gettext("%(name)s was revoked", name=revoked.name), "/keys"
        )

    async def _form(self, request: Request, viewer: Principal, typed: dict[str, Any], error: str) -> Response:
        context: dict[str, Any] = {
            "typed": typed,
            "error": error,
            "scopes": API_KEY_SCOPES,
            "organizations": await self.console.list_organizations(viewer),
            "max_options": MAX_ORGANIZATIONS,
        }
        if is_fragment_request(request):
            part = "key_form" if error else "key_dialog"
            status = 422 if error else 200
            return self.console.renderer.fragment(request, f"console/{part}.html", **context, status=status)
        return await self.console.respond_page(
            request, "console/key_page.html", viewer, section=KEYS_PATH, **context, status=422 if error else 200
        )

    async def _make_views(self, viewer: Principal, rows: Sequence[ApiKeyRow]) -> Sequence[ApiKeyView]:
        creators = await self.load_names([row.created_by for row in rows])
        organizations = {
            each.organization_id: each.organization_name for each in await self.console.list_organizations(viewer)
        }
        return [self._make_view(row, creators, organizations) for row in rows]

    def _make_view(self, row: ApiKeyRow, creators: dict[str, str], organizations: dict[str, str]) -> ApiKeyView:
        localizer, now = self.console.localizer, self.console.renderer.clock()
        _ = localizer.gettext
        builtin = {"break_glass": _("Break-glass key")}
        is_active = row.revoked_at is None
        organization_id = row.organization_id
        return ApiKeyView(
            id=row.id,
            name=row.name,
            scopes=", ".join(row.scopes.split()),
            organization_name=organizations.get(organization_id, organization_id)
            if organization_id
            else _("All organizations"),
            creator_name=creators.get(row.created_by) or builtin.get(row.created_by) or row.created_by,
            created_at=localizer.ago(row.created_at, now),
            last_used_at=localizer.ago(row.last_used_at, now) if row.last_used_at else None,
            status=StatusBadge(_("Active"), "circle-check", "good")
            if is_active
            else StatusBadge(_("Revoked"), "circle-minus", "quiet"),
            is_active=is_active,
        )
