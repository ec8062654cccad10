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
    """A key in words."""

    id: str
    name: str
    scopes: str
    place: str
    by: str
    created: FormattedTime
    used: FormattedTime | None
    status: StatusBadge
    is_live: bool


@dataclass(frozen=True)
class ApiKeyPages:
    """The handlers and what they need. `names` gives what to call those who made the keys."""

    console: PageResponder
    keys: ApiKeyService
    names: Callable[[Sequence[str]], Awaitable[dict[str, str]]]

    def routes(self) -> list[Route]:
        """All of them, to be put into the app's list."""
        return [
            Route("/keys", self.list, methods=["GET"]),
            Route("/keys", self.create, methods=["POST"]),
            Route("/keys/new", self.new, methods=["GET"]),
            Route("/keys/{key}/revoke", self.ask, methods=["GET"]),
            Route("/keys/{key}/revoke", self.revoke, methods=["POST"]),
        ]

    async def list(self, request: Request) -> Response:
        """Every key, newest first; for htmx the region alone."""
        asker = await self.console.require_instance_admin(request)
        if isinstance(asker, Response):
            return asker
        try:
            rows = await self.keys.list(asker)
        except InstepError as error:
            return self.console.refused(request, error)
        context: dict[str, Any] = {"rows": await self._rows(asker, rows)}
        if is_fragment_request(request):
            return self.console.pages.fragment(request, "console/keys_region.html", **context)
        return await self.console.page(request, "console/keys.html", asker, here=KEYS_PATH, **context)

    async def new(self, request: Request) -> Response:
        """The empty form."""
        asker = await self.console.require_instance_admin(request)
        if isinstance(asker, Response):
            return asker
        return await self._form(request, asker, {"name": "", "scopes": ["read"], "organization": ""}, "")

    async def create(self, request: Request) -> Response:
        """A new key; its secret is in this answer and nowhere else."""
        if foreign := self.console.foreign(request):
            return foreign
        asker = await self.console.require_instance_admin(request)
        if isinstance(asker, Response):
            return asker
        form = await request.form()
        name, organization = str(form.get("name", "")).strip(), str(form.get("organization", ""))
        scopes = [str(it) for it in form.getlist("scopes")]
        typed = {"name": name, "scopes": scopes, "organization": organization}
        _ = self.console.words.gettext
        if not 0 < len(name) <= MAX_KEY_NAME_LENGTH or not name.isprintable():
            return await self._form(request, asker, typed, _("Give it a name, so that it is known later."))
        bound = await self.console.access(request, organization) if organization else None
        if isinstance(bound, Response):
            return await self._form(request, asker, typed, _("There is no such organization."))
        try:
            key, secret = await self.keys.create(
                asker, name=name, scopes=frozenset(scopes), organization_id=bound.organization_id if bound else None
            )
        except InstepError as error:
            return await self._form(request, asker, typed, self.console.words.translate(error))
        context: dict[str, Any] = {"name": key.name, "secret": secret}
        if is_fragment_request(request):
            answer = self.console.pages.fragment(request, "console/key_made.html", events=CHANGE_EVENTS, **context)
            answer.headers.update({"HX-Retarget": "#dialog", "HX-Reswap": "innerHTML"})
            return answer
        return await self.console.page(request, "console/key_made_page.html", asker, here=KEYS_PATH, **context)

    async def ask(self, request: Request) -> Response:
        """The question before a key ends."""
        asker = await self.console.require_instance_admin(request)
        if isinstance(asker, Response):
            return asker
        try:
            found = [it for it in await self.keys.list(asker) if it.id == request.path_params["key"]]
        except InstepError as error:
            return self.console.refused(request, error)
        _ = self.console.words.gettext
        if not found:
            return self.console.pages.error(request, status=404, title=_("Not found"), text=_("There is no such key."))
        question = ConfirmationDialog(
            title=_("Revoke the key %(name)s?", name=found[0].name),
            verb=_("Revoke"),
            action=f"/keys/{found[0].id}/revoke",
            cancel="/keys",
            consequences=(_("Whatever uses it is refused from now on."), _("It can't be brought back.")),
            row=f"row-{found[0].id}",
        )
        return await self.console.ask(request, question, asker, here=KEYS_PATH)

    async def revoke(self, request: Request) -> Response:
        """The end of a key, at once."""
        if foreign := self.console.foreign(request):
            return foreign
        asker = await self.console.require_instance_admin(request)
        if isinstance(asker, Response):
            return asker
        try:
            ended = await self.keys.revoke(asker, request.path_params["key"])
        except InstepError as error:
            return self.console.refused(request, error)
        return self.console.done(request, self.console.words.gettext("%(name)s is revoked", name=ended.name), "/keys")

    async def _form(self, request: Request, asker: Principal, typed: dict[str, Any], error: str) -> Response:
        context: dict[str, Any] = {
            "typed": typed,
            "error": error,
            "scopes": API_KEY_SCOPES,
            "places": await self.console.organizations(asker),
            "most": MAX_ORGANIZATIONS,
        }
        if is_fragment_request(request):
            piece = "key_form" if error else "key_dialog"
            status = 422 if error else 200
            return self.console.pages.fragment(request, f"console/{piece}.html", **context, status=status)
        page = self.console.page
        return await page(
            request, "console/key_page.html", asker, here=KEYS_PATH, **context, status=422 if error else 200
        )

    async def _rows(self, asker: Principal, rows: Sequence[ApiKeyRow]) -> Sequence[ApiKeyView]:
        names = await self.names([it.created_by for it in rows])
        places = {it.organization_id: it.organization_name for it in await self.console.organizations(asker)}
        return [self._row(it, names, places) for it in rows]

    def _row(self, it: ApiKeyRow, names: dict[str, str], places: dict[str, str]) -> ApiKeyView:
        words, now = self.console.words, self.console.pages.clock()
        _ = words.gettext
        ours = {"break_glass": _("Break-glass key")}
        is_live = it.revoked_at is None
        return ApiKeyView(
            id=it.id,
            name=it.name,
            scopes=", ".join(it.scopes.split()),
            place=places.get(it.organization_id, it.organization_id) if it.organization_id else _("All organizations"),
            by=names.get(it.created_by) or ours.get(it.created_by) or it.created_by,
            created=words.ago(it.created_at, now),
            used=words.ago(it.last_used_at, now) if it.last_used_at else None,
            status=StatusBadge(_("Active"), "circle-check", "good")
            if is_live
            else StatusBadge(_("Revoked"), "circle-minus", "quiet"),
            is_live=is_live,
        )
