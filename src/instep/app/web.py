"""Every route in one list, and what a failure looks like at the doors."""

import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from instep import __version__
from instep.access.api import make_router as keys_router
from instep.access.gate import is_by_cookie
from instep.access.principal import Access, Barred, Paused, Principal
from instep.app.document import with_problems
from instep.app.edge import (
    MAX_BODY,
    Receive,
    Scope,
    Send,
    Site,
    has_too_many_parameters,
    is_too_large,
    limited,
    without_body,
)
from instep.app.health import health_routes
from instep.app.pages import page_routes, reference_route
from instep.app.wiring import Services, make_deliveries, make_operations
from instep.history import api
from instep.history.flows import Audit
from instep.identity.refusals import status_of
from instep.identity.session import SessionRefused
from instep.inbox.api import PATHS, Webhooks
from instep.inbox.api import make_router as deliveries_router
from instep.invitations.api import make_router as invitations_router
from instep.invitations.application.api import make_router as applications_router
from instep.journal.model import Unsettled
from instep.kit.db import DatabaseRefused
from instep.kit.errors import InstepError, PermanentError, TemporaryError, described
from instep.kit.headers import retry_headers
from instep.kit.html import Pages
from instep.kit.incoming import bounded
from instep.kit.log import request_context
from instep.kit.problem import problem
from instep.kit.schema import check
from instep.kit.waits import REQUEST_WAIT, limit_waits
from instep.people.api import make_router as people_router
from instep.people.door import ListDoor
from instep.profiles.api import make_router as users_router
from instep.sync.api import make_router as sync_router

log = structlog.get_logger(__name__)
CORS_MAX_AGE = 600  # seconds that a browser keeps the answer to a preflight request
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})  # methods that change nothing (RFC 9110, 9.2.1)
REFUSED_VALUES = "The database can't store or look for these values."
DESCRIPTION = "Keeps Clerk and your own database in step. Sign in with `Authorization: Bearer`: a Clerk session token, "


DESCRIPTION += "or the installation's admin key."


class Front:
    """The outermost layer: webhooks and the plain list go straight to their doors; everything else gets a request id.

    It refuses before a byte of the body is read (a web framework reads bodies before it asks who sends them): on `/v1`
    whoever may not come in or asks too often, on pages a change that another site asked for, everywhere a body over
    `MAX_BODY`. `failed` answers for what the list raises, as the application does for what its routes raise. The
    application's own front ends, on the origins of INSTEP_CORS_ORIGINS, may call the API with bearer tokens.
    """

    def __init__(
        self, app: FastAPI, webhooks: Webhooks, list_door: ListDoor, failed: "Handler", services: Services
    ) -> None:
        self.app, self._webhooks, self._list, self._failed = app, webhooks, list_door, failed
        self._principal_of = api_principal(services)
        self._pages, self._limiter = services.pages, services.limiter
        self._unexpected = _unexpected(services)
        self._site = Site(services.settings.instep_public_url)
        cors_origins = services.settings.instep_cors_origins
        self._with_cors = make_cors(self._serve, cors_origins) if cors_origins else None
        self.database_wait = REQUEST_WAIT

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the life of the server. CORS comes before everything else, and counts for the API alone."""
        has_cors = self._with_cors is not None and scope["type"] == "http" and scope["path"].startswith("/v1/")
        serve = self._with_cors if has_cors and self._with_cors is not None else self._serve
        await serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif scope["path"] in PATHS:
            await self._webhooks(scope, receive, send)
        else:
            id = f"req_{secrets.token_hex(8)}"
            scope.setdefault("state", {})["request_id"] = id
            client = scope["client"][0] if scope.get("client") else None
            send = self._site.with_headers(scope, send, request_id=id)
            with request_context(id, client), limit_waits(self.database_wait):
                await self._answer(self._site.at_public_url(scope), receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = await self._refuse(scope)
        if refusal is not None:
            await refusal(scope, receive, without_body(scope, send))
            return
        answer = await self._page(scope) if self._list.is_for(scope) else None
        await (answer or self.app)(scope, limited(receive), send)

    async def _refuse(self, scope: Scope) -> Response | None:
        """What to answer without reading the body; None: the request may go on."""
        request = Request(scope)
        if has_too_many_parameters(scope):
            return problem(414, "Too many parameters", code="too_many_parameters", request_id=_id(request))
        try:
            if request.url.path.startswith("/v1/"):
                refusal = await self._refuse_principal(request)
            else:
                refusal = self._refuse_foreign(request)
        except InstepError as error:
            return await self._failed(request, error)
        except Exception as error:
            return await self._unexpected(request, error)
        return refusal or (_too_large(self._pages, request) if is_too_large(scope) else None)

    async def _refuse_principal(self, request: Request) -> Response | None:
        principal = await self._principal_of(request)
        if isinstance(principal, Response):
            return principal
        wait = self._limiter.take(f"{principal.kind} {principal.id}") if self._limiter else 0.0
        return _too_many(wait) if wait else None

    def _refuse_foreign(self, request: Request) -> Response | None:
        """Every page asks this by itself, too: a route that forgets it does no harm."""
        is_asked_elsewhere = request.method in SAFE or not _is_page(request) or request.url.path.startswith("/sign-")
        if is_asked_elsewhere or self._pages.is_ours(request):
            return None
        return self._pages.foreign(request)

    async def _page(self, scope: Scope) -> Response | None:
        try:
            return await self._list.answer(scope)
        except InstepError as error:
            return await self._failed(Request(scope), error)
        except Exception:  # nothing was changed: the ordinary route fails again, and answers for it
            return None


def make_cors(app: Any, origins: Sequence[str]) -> CORSMiddleware:
    """Let pages of these origins call `app` with bearer tokens; cookies are never sent across (no credentials)."""
    return CORSMiddleware(
        app,
        allow_origins=list(origins),
        allow_methods=["GET", "POST", "PATCH", "PUT", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key"],
        expose_headers=["X-Request-Id", "Retry-After", "WWW-Authenticate"],
        max_age=CORS_MAX_AGE,
    )


def make_app(services: Services) -> Front:
    """The ASGI application. The worker runs inside it; a database with another schema is refused at start."""
    app = FastAPI(
        title="instep",
        version=__version__,
        description=DESCRIPTION,
        lifespan=_lifespan(services),
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    access = api_access(services)
    app.include_router(people_router(access=access, members=services.members))
    app.include_router(invitations_router(access=access, desk=services.invitations))
    app.include_router(applications_router(admin=api_admin(services), applications=services.invitations.applications))
    _add_history(app, services, access)
    app.include_router(users_router(principal=api_principal(services), profiles=services.profiles))
    app.include_router(keys_router(principal=api_principal(services), access=access, keys=services.keys))
    _add_sync(app, services)
    app.router.routes.extend(bounded(page_routes(services)))
    app.router.routes.extend(health_routes(services))
    documented = app.openapi
    app.openapi = cache(lambda: with_problems(documented()))  # type: ignore[method-assign]  # FastAPI's own way
    app.router.routes.append(reference_route(services, app.openapi))
    app.add_exception_handler(InstepError, _failed(services))
    app.add_exception_handler(RequestValidationError, _invalid(services))
    app.add_exception_handler(HTTPException, _http(services))
    app.add_exception_handler(ClientDisconnect, _hung_up)
    app.add_exception_handler(Exception, _unexpected(services))
    list_door = ListDoor(principal=api_principal(services), list_people=services.members.list_people)
    return Front(app, Webhooks(services.receiver), list_door, _failed(services), services)


def _add_history(app: FastAPI, services: Services, access: api.AccessTo) -> None:
    principal, operations = api_principal(services), make_operations(services)
    app.include_router(
        api.make_operations_router(
            principal=principal, access=access, accesses=services.gate.accesses_of, operations=operations
        )
    )
    app.include_router(api.make_audit_router(principal=principal, access=access, audit=Audit(services.db)))


def _add_sync(app: FastAPI, services: Services) -> None:
    admin, syncing = api_admin(services), services.syncing
    app.include_router(sync_router(admin=admin, sync=syncing.sync, fresh=syncing.fresh))
    app.include_router(deliveries_router(admin=admin, deliveries=make_deliveries(services)))


def _lifespan(services: Services) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        check(services.db.engine)
        services.start(has_worker=services.settings.instep_worker)
        yield
        await services.stop()

    return lifespan


def api_access(services: Services) -> Callable[[Request, str], Awaitable[Access | Response]]:
    """What the API asks first: 401 for nobody, 404 for an organization they may not see.

    403 (`access_paused`) for one in which they are deactivated: to them alone.
    """

    principal_of = api_principal(services)

    async def access(request: Request, ref: str) -> Access | Response:
        principal = await principal_of(request)
        if isinstance(principal, Response):
            return principal
        found = await services.gate.access_of(principal, ref)
        if found is None and (pause := await services.gate.pause_of(principal, ref)):
            return _paused(pause)
        return found or problem(404, "Not found", code="not_found", detail="No such organization, or not yours to see.")

    return access


def api_principal(services: Services) -> Callable[[Request], Awaitable[Principal | Response]]:
    """Who sends this: 401 for nobody, 403 for a change that a page of another site asked for."""

    async def principal_of(request: Request) -> Principal | Response:
        asker = await services.gate.who(request)
        if isinstance(asker, Barred) and asker.is_paused:
            return _paused(await services.gate.pause_of(asker.principal) or Paused(organization_name=""))
        principal = asker if isinstance(asker, Principal) else None
        if principal is None:
            return _unauthenticated(services.gate.refusal_of(request))
        if request.method not in SAFE and is_by_cookie(request) and not services.pages.is_ours(request):
            return problem(403, "Foreign origin", code="foreign_origin", detail="This request came from another site.")
        if blocked := await services.gate.blocked(request, principal):
            return problem(
                blocked.status, "Blocked while acting as somebody else", code=blocked.code, detail=str(blocked)
            )
        scope = "read" if request.method in SAFE else "write"
        if not principal.may(scope):
            return problem(403, "Key not good for this", code="scope", detail=f"This key lacks the scope {scope}.")
        return principal

    return principal_of


def _paused(pause: Paused) -> Response:
    """Answer 403 to a deactivated person, with whom to ask."""
    where = f" to {pause.organization_name}" if pause.organization_name else ""
    detail = f"Your access{where} is paused. Ask {pause.whom or 'an admin'} to reactivate you."
    contacts = [{"name": it.name, "email": it.email} for it in pause.contacts]
    return problem(403, "Access paused", code="access_paused", detail=detail, contacts=contacts)


def _unauthenticated(refused: SessionRefused | None) -> Response:
    """Answer 401 with the rule that refused the credentials (see Gate.refusal_of)."""
    reason = refused.code if refused else "barred"  # Clerk knows them, and they may not come in here
    detail = "Send a Clerk session token or the admin key as Authorization: Bearer."
    challenge = "Bearer"
    if refused is not None and reason != "missing":
        challenge = 'Bearer error="invalid_token"'
        detail = f"{refused} {_REMEDIES.get(refused.code, '')}".strip()
    headers = {"WWW-Authenticate": challenge}
    return problem(401, "Not signed in", code="unauthenticated", reason=reason, detail=detail, headers=headers)


_REMEDIES = {
    "party": "Add that origin to INSTEP_AUTHORIZED_PARTIES if it is yours.",
    "issuer": "Check CLERK_PUBLISHABLE_KEY and CLERK_FRONTEND_API_URL.",
    "early": "Check the clock of this server.",
    "not_configured": "Set CLERK_PUBLISHABLE_KEY.",
}


def api_admin(services: Services) -> Callable[[Request], Awaitable[Principal | Response]]:
    """The instance admin who sends this; to everyone else what is theirs alone is not there."""
    principal_of = api_principal(services)

    async def admin_of(request: Request) -> Principal | Response:
        principal = await principal_of(request)
        if isinstance(principal, Response) or principal.is_instance_admin:
            return principal
        return problem(404, "Not found", code="not_found", detail="There is nothing at this address.")

    return admin_of


Handler = Callable[[Request, Exception], Awaitable[Response]]


def _failed(services: Services) -> Handler:
    async def handle(request: Request, error: Exception) -> Response:
        if isinstance(error, Unsettled) and not _is_page(request):
            return _unsettled(error)
        is_temporary = isinstance(error, TemporaryError)
        assert isinstance(error, InstepError)  # noqa: S101 (registered for it alone)
        status = status_of(error)
        code = error.code if isinstance(error, PermanentError) else "temporarily_unavailable"
        wait = getattr(error, "retry_after", None)
        log.warning("request_failed", path=request.url.path, code=code, error=described(error))
        headers = retry_headers(status, wait) or ({"Retry-After": str(math.ceil(wait))} if wait else {})
        if not _is_page(request):
            title = "Temporarily unavailable" if is_temporary else "Refused"
            more = {name: getattr(error, name, None) for name in ("field", "clerk_code", "trace_id")}
            detail = REFUSED_VALUES if isinstance(error, DatabaseRefused) else str(error)
            return problem(status, title, code=code, detail=detail, headers=headers, request_id=_id(request), **more)
        _ = services.pages.words.gettext
        title = _("This can't be shown right now") if is_temporary else _("That did not work")
        text = _(REFUSED_VALUES) if isinstance(error, DatabaseRefused) else services.pages.words.say(error)
        page = services.pages.error(request, status=status, title=title, text=text, retry_url=str(request.url))
        page.headers.update(headers)
        return page

    return handle


def _unsettled(error: Unsettled) -> Response:
    """Kept and under way: 202, with where to ask for the end."""
    operation = error.operation
    body = {"operation": {"id": operation.id, "state": operation.state}, "detail": str(error)}
    headers = {"Retry-After": str(int(error.retry_after or 2))}
    return JSONResponse(body, 202, headers=headers)


def _http(services: Services) -> Handler:
    async def handle(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
        if status == 413:
            return _too_large(services.pages, request)
        if not _is_page(request):
            return problem(status, "Not found" if status == 404 else "Refused", code=f"http_{status}", headers=headers)
        _ = services.pages.words.gettext
        text = _("There is nothing at this address.") if status == 404 else _("This address does not take that.")
        return services.pages.error(request, status=status, title=_("Not found"), text=text)

    return handle


async def _hung_up(request: Request, error: Exception) -> Response:
    """The sender went away in the middle of the body: nobody reads this answer, and nothing broke."""
    log.debug("client_disconnected", path=request.url.path)
    return Response(status_code=400)


def _too_large(pages: Pages, request: Request) -> Response:
    if not _is_page(request):
        detail = f"A body can have at most {MAX_BODY} bytes."
        return problem(413, "Body too large", code="too_large", detail=detail, request_id=_id(request))
    _ = pages.words.gettext
    return pages.error(request, status=413, title=_("Too large"), text=_("A request can have at most 1 MiB."))


def _too_many(wait: float) -> Response:
    headers = {"Retry-After": str(math.ceil(wait))}
    detail = "This user or key sends more requests than INSTEP_RATE_LIMIT allows."
    return problem(429, "Too many requests", code="rate_limited", detail=detail, headers=headers)


def _unexpected(services: Services) -> Handler:
    async def handle(request: Request, error: Exception) -> Response:
        log.error("request_broke", path=request.url.path, request_id=_id(request), exc_info=error)
        if not _is_page(request):
            return problem(500, "Unexpected failure", code="unexpected", request_id=_id(request))
        _ = services.pages.words.gettext
        text = _("It was written down; the id below finds it in the log.")
        return services.pages.error(request, status=500, title=_("Something broke"), text=text)

    return handle


def _invalid(services: Services) -> Handler:
    """What is wrong with a request is told only to those who may make it: FastAPI reads bodies before handlers run."""
    principal_of, access_of = api_principal(services), api_access(services)

    async def handle(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 (registered for it alone)
        is_within = request.url.path.startswith("/v1/organizations/")
        try:
            asker = await (access_of(request, request.path_params["id"]) if is_within else principal_of(request))
        except InstepError as failure:
            return await _failed(services)(request, failure)
        if isinstance(asker, Response):
            return asker
        faults = [{"at": ".".join(map(str, it["loc"])), "message": it["msg"]} for it in error.errors()]
        return problem(422, "Invalid request", code="invalid_request", errors=faults, request_id=_id(request))

    return handle


def _is_page(request: Request) -> bool:
    return not request.url.path.startswith(("/v1/", "/health", "/metrics", "/openapi.json"))


def _id(request: Request) -> str | None:
    found = request.scope.get("state", {}).get("request_id")
    return found if isinstance(found, str) else None
