"""Every route in one list, and what a failure looks like at the doors."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import SecretStr
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from instep import __version__
from instep.access.api import make_router as keys_router
from instep.access.gate import bearer_of
from instep.access.principal import Access, Principal
from instep.app.document import with_problems
from instep.app.pages import page_routes, reference_route
from instep.app.wiring import Services, make_deliveries, make_operations
from instep.history import api as history
from instep.history.flows import Audit
from instep.identity.refusals import status_of
from instep.inbox import store as inbox
from instep.inbox.api import PATHS, Webhooks
from instep.inbox.api import make_router as deliveries_router
from instep.invitations.api import make_router as invitations_router
from instep.invitations.application.api import make_router as applications_router
from instep.journal.model import Unsettled
from instep.kit.errors import InstepError, PermanentError, TemporaryError
from instep.kit.log import open_request
from instep.kit.problem import problem
from instep.kit.schema import check
from instep.people.api import make_router as people_router
from instep.people.door import ListDoor
from instep.profiles.api import make_router as users_router
from instep.sync.api import make_router as sync_router

log = structlog.get_logger(__name__)

Scope = Any
Receive = Any
Send = Any

DESCRIPTION = "Keeps Clerk and your own database in step. Sign in with `Authorization: Bearer`: a Clerk session token, "
DESCRIPTION += "or the installation's admin key."


class Front:
    """The outermost layer: webhooks and the plain list go straight to their doors; everything else gets a request id.

    `failed` answers for what the list raises, as the application does for what its routes raise.
    """

    def __init__(self, app: FastAPI, webhooks: Webhooks, list_door: ListDoor, failed: "Handler") -> None:
        self.app, self._webhooks, self._list, self._failed = app, webhooks, list_door, failed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the life of the server."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif scope["path"] in PATHS:
            await self._webhooks(scope, receive, send)
        else:
            id = f"req_{secrets.token_hex(8)}"
            scope.setdefault("state", {})["request_id"] = id
            open_request(id, scope["client"][0] if scope.get("client") else None)
            answer = await self._page(scope) if self._list.is_for(scope) else None
            await (answer or self.app)(scope, receive, _with_id(send, id.encode()))

    async def _page(self, scope: Scope) -> Response | None:
        try:
            return await self._list.answer(scope)
        except InstepError as error:
            return await self._failed(Request(scope), error)
        except Exception:  # nothing was changed: the ordinary route fails again, and answers for it
            return None


def _with_id(send: Send, id: bytes) -> Send:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), (b"x-request-id", id)]
        await send(message)

    return sending


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
    app.router.routes.extend(page_routes(services))
    _add_health(app, services)
    documented = app.openapi
    app.openapi = cache(lambda: with_problems(documented()))  # type: ignore[method-assign]  # FastAPI's own way
    app.router.routes.append(reference_route(services, app.openapi))
    app.add_exception_handler(InstepError, _failed(services))
    app.add_exception_handler(RequestValidationError, _invalid(services))
    app.add_exception_handler(HTTPException, _http(services))
    app.add_exception_handler(Exception, _unexpected(services))
    list_door = ListDoor(principal=api_principal(services), list_people=services.members.list_people)
    return Front(app, Webhooks(services.receiver), list_door, _failed(services))


def _add_history(app: FastAPI, services: Services, access: history.AccessTo) -> None:
    principal, operations = api_principal(services), make_operations(services)
    app.include_router(
        history.make_operations_router(
            principal=principal, access=access, accesses=services.gate.accesses_of, operations=operations
        )
    )
    app.include_router(history.make_audit_router(principal=principal, access=access, audit=Audit(services.db)))


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
    """What the API asks first: 401 for nobody, 404 for an organization they may not see."""

    principal_of = api_principal(services)

    async def access(request: Request, ref: str) -> Access | Response:
        principal = await principal_of(request)
        if isinstance(principal, Response):
            return principal
        found = await services.gate.access_of(principal, ref)
        return found or problem(404, "Not found", code="not_found", detail="No such organization, or not yours to see.")

    return access


def api_principal(services: Services) -> Callable[[Request], Awaitable[Principal | Response]]:
    """Who sends this: 401 for nobody, 403 for a change that a page of another site asked for."""

    async def principal_of(request: Request) -> Principal | Response:
        principal = await services.gate.principal_of(request)
        if principal is None:
            return problem(
                401,
                "Not signed in",
                code="unauthenticated",
                detail="Send a Clerk session token or the admin key as Authorization: Bearer.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if request.method != "GET" and "authorization" not in request.headers and not services.pages.is_ours(request):
            return problem(403, "Foreign origin", code="foreign_origin", detail="This request came from another site.")
        scope = "read" if request.method == "GET" else "write"
        if not principal.may(scope):
            return problem(403, "Key not good for this", code="scope", detail=f"This key lacks the scope {scope}.")
        return principal

    return principal_of


def api_admin(services: Services) -> Callable[[Request], Awaitable[Principal | Response]]:
    """The instance admin who sends this; to everyone else what is theirs alone is not there."""
    principal_of = api_principal(services)

    async def admin_of(request: Request) -> Principal | Response:
        principal = await principal_of(request)
        if isinstance(principal, Response) or principal.is_instance_admin:
            return principal
        return problem(404, "Not found", code="not_found", detail="There is nothing at this address.")

    return admin_of


def _add_health(app: FastAPI, services: Services) -> None:
    @app.get("/health/live", include_in_schema=False)
    async def live() -> Response:
        return JSONResponse({"status": "ok"})

    @app.get("/health/ready", include_in_schema=False)
    async def ready() -> Response:
        await services.db.read(inbox.next_due_at)
        return JSONResponse({"status": "ok"})

    @app.get("/metrics", include_in_schema=False)
    async def metrics(request: Request) -> Response:
        key = services.settings.instep_metrics_key
        if key is not None and not _is_right(bearer_of(request.headers.get("authorization", "")), key):
            return problem(
                401,
                "Metrics key missing",
                code="unauthenticated",
                detail="Send INSTEP_METRICS_KEY as Authorization: Bearer.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        unsettled = await services.db.read(inbox.count_by_state)
        fresh = services.syncing.fresh.last
        text = services.metrics.text(unsettled=unsettled, listeners=services.live.listeners(), fresh=fresh)
        return Response(text, media_type="text/plain; version=0.0.4")


def _is_right(given: str | None, key: SecretStr) -> bool:
    return secrets.compare_digest((given or "").encode(), key.get_secret_value().encode())


Handler = Callable[[Request, Exception], Awaitable[Response]]


def _failed(services: Services) -> Handler:
    async def handle(request: Request, error: Exception) -> Response:
        if isinstance(error, Unsettled) and not _is_page(request):
            return _unsettled(error)
        is_temporary = isinstance(error, TemporaryError)
        assert isinstance(error, InstepError)  # noqa: S101 (registered for it alone)
        status = status_of(error)
        code = error.code if isinstance(error, PermanentError) else "temporarily_unavailable"
        log.warning("request_failed", path=request.url.path, code=code, error=str(error))
        if not _is_page(request):
            wait = error.retry_after if isinstance(error, TemporaryError) else None
            headers = {"Retry-After": str(int(wait or 5))} if is_temporary else None
            title = "Temporarily unavailable" if is_temporary else "Refused"
            more = {name: getattr(error, name, None) for name in ("field", "clerk_code", "trace_id")}
            detail = str(error)
            return problem(status, title, code=code, detail=detail, headers=headers, request_id=_id(request), **more)
        _ = services.pages.words.gettext
        title = _("This can't be shown right now") if is_temporary else _("That did not work")
        text = services.pages.words.say(error)
        return services.pages.error(request, status=status, title=title, text=text, retry_url=str(request.url))

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
        if not _is_page(request):
            return problem(status, "Not found" if status == 404 else "Refused", code=f"http_{status}", headers=headers)
        _ = services.pages.words.gettext
        text = _("There is nothing at this address.") if status == 404 else _("This address does not take that.")
        return services.pages.error(request, status=status, title=_("Not found"), text=text)

    return handle


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
        asker = await (access_of(request, request.path_params["id"]) if is_within else principal_of(request))
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
