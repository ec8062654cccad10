"""ASGI application: routes, authentication of requests, error responses and request limits."""

import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from instep import __version__
from instep.app.container import Services, make_deliveries, make_operations
from instep.app.health import make_health_routes
from instep.app.openapi import add_problem_responses
from instep.app.page_routes import make_page_routes, make_reference_route
from instep.audit import api
from instep.audit.service import AuditService
from instep.auth import admin_scope
from instep.auth.api import make_router as keys_router
from instep.auth.authenticator import is_cookie_authenticated
from instep.auth.principal import DeactivationNotice, DeniedPrincipal, OrganizationAccess, Principal
from instep.core.db import REQUEST_WAIT_BUDGET, limit_database_waits
from instep.core.db_errors import DatabaseRejectedError
from instep.core.errors import InstepError, PermanentError, TemporaryError, describe_error
from instep.core.http import make_problem_response, make_retry_headers
from instep.core.i18n import lazy_gettext
from instep.core.request_context import request_context
from instep.core.request_limits import enforce_input_limits
from instep.core.schema_migrations import check_schema
from instep.core.templates import PageRenderer
from instep.domain.errors import InvalidSessionError, get_http_status
from instep.invitations.api import make_application_invitations_router as applications_router
from instep.invitations.api import make_invitations_router as invitations_router
from instep.members.api import PeopleListFastPath
from instep.members.api import make_router as people_router
from instep.operations import api as operations_api
from instep.operations.workflow import OperationPendingError
from instep.sync.api import make_router as sync_router
from instep.users.api import make_router as users_router
from instep.webhooks.api import make_deliveries_router as deliveries_router
from instep.webhooks.receiver import WEBHOOK_PATHS, WebhookEndpoint

Scope = Any
Receive = Any
Send = Any
ExceptionHandler = Callable[[Request, Exception], Awaitable[Response]]
MAX_BODY = 1024 * 1024  # bytes, on every route: the largest body of any route is a list of invitations
MAX_PARAMETERS = 2_000  # of a query; the longest of ours has the 500 rows of a page
HSTS_MAX_AGE = 365 * 24 * 3_600  # seconds
log = structlog.get_logger(__name__)
CORS_MAX_AGE = 600  # seconds for which browsers cache a preflight response
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})  # methods that change nothing (RFC 9110, 9.2.1)
REFUSED_VALUES_MESSAGE = lazy_gettext("The database can't store or search for these values.")
DESCRIPTION = (
    "Keeps Clerk and your own database in sync. Authenticate with `Authorization: Bearer`: a Clerk session token, an "
    "API key or the admin key of the installation."
)
_REMEDIES = {
    "party": "Add that origin to INSTEP_AUTHORIZED_PARTIES if it is yours.",
    "issuer": "Check CLERK_PUBLISHABLE_KEY and CLERK_FRONTEND_API_URL.",
    "early": "Check the clock of this server.",
    "not_configured": "Set CLERK_PUBLISHABLE_KEY.",
}


class PublicSite:
    """Public address of this installation (INSTEP_PUBLIC_URL), applied to requests and response headers."""

    def __init__(self, public_url: str) -> None:
        parts = urlsplit(public_url)
        self._scheme, self._host = parts.scheme, parts.netloc.rpartition("@")[2].encode("idna")
        hsts = (b"strict-transport-security", f"max-age={HSTS_MAX_AGE}".encode())
        self._everywhere = [(b"x-content-type-options", b"nosniff"), *([hsts] if self._scheme == "https" else [])]
        self._api = [(b"cache-control", b"no-store")]

    def with_public_url(self, scope: Scope) -> Scope:
        """Return the scope as if the request had been sent to the public address.

        Addresses that the application derives from the request (a redirect, a link) then lead there, regardless of the
        sender's `Host` header.
        """
        headers = [header for header in scope["headers"] if header[0] != b"host"]
        return {**scope, "scheme": self._scheme, "headers": [*headers, (b"host", self._host)]}

    def with_headers(self, scope: Scope, send: Send, *, request_id: str) -> Send:
        """Return a `send` that adds the default headers, unless the response sets them.

        API responses contain personal data, so no cache may store them.
        """
        request_headers = [(b"x-request-id", request_id.encode())]
        defaults = [*self._everywhere, *(self._api if scope["path"].startswith("/v1/") else [])]

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                given = message.get("headers", [])
                names = {name.lower() for name, _ in given}
                message["headers"] = [
                    *given,
                    *request_headers,
                    *(header for header in defaults if header[0] not in names),
                ]
            await send(message)

        return sending


def is_too_large(scope: Scope) -> bool:
    """Return whether the Content-Length exceeds the limit."""
    length = _find_header(scope, b"content-length")
    return length.isdigit() and int(length) > MAX_BODY


def has_too_many_parameters(scope: Scope) -> bool:
    """Return whether the query has more parameters than any page or client of ours sends: parsing them is slow."""
    return bool(scope["query_string"].count(b"&") >= MAX_PARAMETERS)


def limit_body(receive: Receive) -> Receive:
    """Return a `receive` that raises HTTPException (413) once the body exceeds the limit, announced or not."""
    size = 0

    async def receiving() -> Any:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MAX_BODY:
            raise HTTPException(413)
        return message

    return receiving


def close_unless_read(scope: Scope, receive: Receive, send: Send) -> tuple[Receive, Send]:
    """Announce the end of the connection in a response that is sent before the request's body was read.

    The server closes such a connection, since the next bytes on it are the rest of the body. Without the header a
    client would send its next request on the closed connection. Requests without a body are passed on unchanged.
    """
    has_body = _find_header(scope, b"content-length") not in (b"", b"0") or _find_header(scope, b"transfer-encoding")
    if not has_body or not scope.get("http_version", "1.1").startswith("1."):
        return receive, send
    is_read = False

    async def receive_and_note() -> Any:
        nonlocal is_read
        message = await receive()
        is_read = is_read or (message["type"] == "http.request" and not message.get("more_body", False))
        return message

    async def send_with_close(message: Any) -> None:
        if message["type"] == "http.response.start" and not is_read:
            message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
        await send(message)

    return receive_and_note, send_with_close


def _find_header(scope: Scope, name: bytes) -> bytes:
    return next((value for given, value in scope["headers"] if given == name), b"")


class InstepAsgiApp:
    """Outermost layer: handles webhooks and the plain people list itself, passes everything else to FastAPI.

    It refuses before any of the body is read (a web framework reads bodies before it authenticates): on `/v1`
    unauthenticated and rate-limited callers, on pages cross-site changes, everywhere bodies over `MAX_BODY`.
    `handle_failure` handles exceptions of the list, as the application does for its routes. Front ends on the origins
    in INSTEP_CORS_ORIGINS may call the API with bearer tokens.
    """

    def __init__(
        self,
        app: FastAPI,
        webhooks: WebhookEndpoint,
        people_list: PeopleListFastPath,
        handle_failure: ExceptionHandler,
        services: Services,
    ) -> None:
        self.app, self._webhooks, self._people_list, self._handle_failure = app, webhooks, people_list, handle_failure
        self._resolve_principal = make_principal_resolver(services)
        self._pages, self._rate_limiter = services.pages, services.rate_limiter
        self._handle_unexpected = _make_unexpected_error_handler(services)
        self._site = PublicSite(services.settings.instep_public_url)
        cors_origins = services.settings.instep_cors_origins
        self._with_cors = add_cors(self._serve, cors_origins) if cors_origins else None
        self.database_wait = REQUEST_WAIT_BUDGET

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or the lifespan. CORS comes first, and applies to the API only."""
        has_cors = self._with_cors is not None and scope["type"] == "http" and scope["path"].startswith("/v1/")
        serve = self._with_cors if has_cors and self._with_cors is not None else self._serve
        await serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        receive, send = close_unless_read(scope, receive, send)
        if scope["path"] in WEBHOOK_PATHS:
            await self._webhooks(scope, receive, send)
        else:
            request_id = f"req_{secrets.token_hex(8)}"
            scope.setdefault("state", {})["request_id"] = request_id
            client = scope["client"][0] if scope.get("client") else None
            send = self._site.with_headers(scope, send, request_id=request_id)
            with request_context(request_id, client), limit_database_waits(self.database_wait):
                await self._answer(self._site.with_public_url(scope), receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = await self._refuse(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        answer = await self._page(scope) if self._people_list.is_for(scope) else None
        await (answer or self.app)(scope, limit_body(receive), send)

    async def _refuse(self, scope: Scope) -> Response | None:
        """Return the response that needs no body; None: the request is passed on."""
        request = Request(scope)
        if has_too_many_parameters(scope):
            return make_problem_response(
                414, "Too many parameters", code="too_many_parameters", request_id=_get_request_id(request)
            )
        try:
            if request.url.path.startswith("/v1/"):
                refusal = await self._refuse_principal(request)
            else:
                refusal = self._refuse_cross_site(request)
        except InstepError as error:
            return await self._handle_failure(request, error)
        except Exception as error:
            return await self._handle_unexpected(request, error)
        return refusal or (_build_too_large_response(self._pages, request) if is_too_large(scope) else None)

    async def _refuse_principal(self, request: Request) -> Response | None:
        principal = await self._resolve_principal(request)
        if isinstance(principal, Response):
            return principal
        wait = self._rate_limiter.take(f"{principal.kind} {principal.id}") if self._rate_limiter else 0.0
        return _build_rate_limited_response(wait) if wait else None

    def _refuse_cross_site(self, request: Request) -> Response | None:
        """Refuse cross-site changes on pages. Every page checks this as well: a route that forgets it does no harm."""
        is_exempt = request.method in SAFE_METHODS or not _is_page(request) or request.url.path.startswith("/sign-")
        if is_exempt or self._pages.is_own_request(request):
            return None
        return self._pages.reject_cross_origin(request)

    async def _page(self, scope: Scope) -> Response | None:
        try:
            return await self._people_list.answer(scope)
        except InstepError as error:
            return await self._handle_failure(Request(scope), error)
        except Exception:  # a read only: the ordinary route fails again, and handles it
            return None


def add_cors(app: Any, origins: Sequence[str]) -> CORSMiddleware:
    """Let pages of these origins call `app` with bearer tokens; cookies are never sent (no credentials)."""
    return CORSMiddleware(
        app,
        allow_origins=list(origins),
        allow_methods=["GET", "POST", "PATCH", "PUT", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key"],
        expose_headers=["X-Request-Id", "Retry-After", "WWW-Authenticate"],
        max_age=CORS_MAX_AGE,
    )


def make_app(services: Services) -> InstepAsgiApp:
    """Build the ASGI application. The worker runs inside it; start-up fails where the database schema differs."""
    app = FastAPI(
        title="instep",
        version=__version__,
        description=DESCRIPTION,
        lifespan=_make_lifespan(services),
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    access = make_access_resolver(services)
    app.include_router(people_router(access=access, members=services.members))
    app.include_router(
        invitations_router(access=access, invitations=services.invitations, bulk=services.bulk_invitations)
    )
    app.include_router(
        applications_router(admin=make_admin_resolver(services), applications=services.application_invitations)
    )
    _add_audit_and_operations(app, services, access)
    app.include_router(users_router(principal=make_principal_resolver(services), users=services.users))
    app.include_router(keys_router(principal=make_principal_resolver(services), access=access, keys=services.api_keys))
    _add_sync(app, services)
    app.router.routes.extend(enforce_input_limits(make_page_routes(services)))
    app.router.routes.extend(make_health_routes(services))
    documented = app.openapi
    app.openapi = cache(lambda: add_problem_responses(documented()))  # type: ignore[method-assign]  # documented by FastAPI
    app.router.routes.append(make_reference_route(services, app.openapi))
    app.add_exception_handler(InstepError, _make_failure_handler(services))
    app.add_exception_handler(RequestValidationError, _make_validation_error_handler(services))
    app.add_exception_handler(HTTPException, _make_http_error_handler(services))
    app.add_exception_handler(ClientDisconnect, _handle_disconnect)
    app.add_exception_handler(Exception, _make_unexpected_error_handler(services))
    people_list = PeopleListFastPath(principal=make_principal_resolver(services), members=services.members)
    return InstepAsgiApp(
        app, WebhookEndpoint(services.receiver), people_list, _make_failure_handler(services), services
    )


def _add_audit_and_operations(app: FastAPI, services: Services, access: admin_scope.AccessResolver) -> None:
    principal, operations = make_principal_resolver(services), make_operations(services)
    app.include_router(
        operations_api.make_operations_router(
            principal=principal, access=access, accesses=services.authenticator.list_accesses, operations=operations
        )
    )
    app.include_router(api.make_audit_router(principal=principal, access=access, audit=AuditService(services.db)))


def _add_sync(app: FastAPI, services: Services) -> None:
    admin, sync_services = make_admin_resolver(services), services.sync_services
    app.include_router(sync_router(admin=admin, sync=sync_services.sync, freshness=sync_services.freshness))
    app.include_router(deliveries_router(admin=admin, deliveries=make_deliveries(services)))


def _make_lifespan(services: Services) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        check_schema(services.db.engine)
        services.start(has_worker=services.settings.instep_worker)
        yield
        await services.stop()

    return lifespan


def make_access_resolver(services: Services) -> Callable[[Request, str], Awaitable[OrganizationAccess | Response]]:
    """Create the resolver of organization access: 401 unauthenticated, 404 unknown or inaccessible organization.

    403 (`access_paused`) only for a member who is deactivated in the organization.
    """

    resolve_principal = make_principal_resolver(services)

    async def access(request: Request, ref: str) -> OrganizationAccess | Response:
        principal = await resolve_principal(request)
        if isinstance(principal, Response):
            return principal
        found = await services.authenticator.find_access(principal, ref)
        if found is None and (pause := await services.authenticator.find_deactivation_notice(principal, ref)):
            return _build_paused_response(pause)
        return found or make_problem_response(
            404,
            "Not found",
            code="not_found",
            detail="The organization does not exist, or you do not have access to it.",
        )

    return access


def make_principal_resolver(services: Services) -> Callable[[Request], Awaitable[Principal | Response]]:
    """Create the resolver of the principal: 401 unauthenticated, 403 for a cross-site change."""

    async def resolve_principal(request: Request) -> Principal | Response:
        asker = await services.authenticator.authenticate(request)
        if isinstance(asker, DeniedPrincipal) and asker.is_deactivated:
            return _build_paused_response(
                await services.authenticator.find_deactivation_notice(asker.principal)
                or DeactivationNotice(organization_name="")
            )
        principal = asker if isinstance(asker, Principal) else None
        if principal is None:
            return _build_unauthenticated_response(services.authenticator.get_failure(request))
        if (
            request.method not in SAFE_METHODS
            and is_cookie_authenticated(request)
            and not services.pages.is_own_request(request)
        ):
            return make_problem_response(
                403, "Cross-site request", code="foreign_origin", detail="This request came from another site."
            )
        if blocked := await services.authenticator.check_impersonation(request, principal):
            return make_problem_response(
                blocked.status, "Not allowed while impersonating", code=blocked.code, detail=str(blocked)
            )
        scope = "read" if request.method in SAFE_METHODS else "write"
        if not principal.has_scope(scope):
            return make_problem_response(
                403, "Missing scope", code="scope", detail=f"This API key lacks the scope {scope}."
            )
        return principal

    return resolve_principal


def _build_paused_response(pause: DeactivationNotice) -> Response:
    """Build the 403 for a deactivated member, with the admins to contact."""
    admin = pause.contact_list or "an admin"
    detail = f"Your access is paused. Ask {admin} to reactivate you."
    if pause.organization_name:
        detail = f"Your access to {pause.organization_name} is paused. Ask {admin} to reactivate you."
    contacts = [{"name": it.name, "email": it.email} for it in pause.contacts]
    return make_problem_response(403, "Access paused", code="access_paused", detail=detail, contacts=contacts)


def _build_unauthenticated_response(refused: InvalidSessionError | None) -> Response:
    """Build the 401 with the rule that refused the credentials (see Authenticator.get_failure)."""
    reason = refused.code if refused else "barred"  # known to Clerk, but without access here
    detail = "Send a Clerk session token, an API key or the admin key as Authorization: Bearer."
    challenge = "Bearer"
    if refused is not None and reason != "missing":
        challenge = 'Bearer error="invalid_token"'
        detail = f"{refused} {_REMEDIES.get(refused.code, '')}".strip()
    headers = {"WWW-Authenticate": challenge}
    return make_problem_response(
        401, "Not signed in", code="unauthenticated", reason=reason, detail=detail, headers=headers
    )


def make_admin_resolver(services: Services) -> Callable[[Request], Awaitable[Principal | Response]]:
    """Create the resolver of instance admins; everyone else gets 404."""
    resolve_principal = make_principal_resolver(services)

    async def resolve_admin(request: Request) -> Principal | Response:
        principal = await resolve_principal(request)
        if isinstance(principal, Response) or principal.is_instance_admin:
            return principal
        return make_problem_response(404, "Not found", code="not_found", detail="There is nothing at this address.")

    return resolve_admin


def _make_failure_handler(services: Services) -> ExceptionHandler:
    async def handle(request: Request, error: Exception) -> Response:
        if isinstance(error, OperationPendingError) and not _is_page(request):
            return _build_pending_response(error)
        is_temporary = isinstance(error, TemporaryError)
        assert isinstance(error, InstepError)  # noqa: S101 (registered for this type only)
        status = get_http_status(error)
        code = error.code if isinstance(error, PermanentError) else "temporarily_unavailable"
        wait = getattr(error, "retry_after", None)
        log.warning("request_failed", path=request.url.path, code=code, error=describe_error(error))
        headers = make_retry_headers(status, wait) or ({"Retry-After": str(math.ceil(wait))} if wait else {})
        if not _is_page(request):
            title = "Temporarily unavailable" if is_temporary else "Refused"
            more = {name: getattr(error, name, None) for name in ("field", "clerk_code", "trace_id")}
            detail = str(REFUSED_VALUES_MESSAGE) if isinstance(error, DatabaseRejectedError) else str(error)
            return make_problem_response(
                status, title, code=code, detail=detail, headers=headers, request_id=_get_request_id(request), **more
            )
        _ = services.pages.words.gettext
        title = _("Temporarily unavailable") if is_temporary else _("The request failed")
        text = services.pages.words.translate(
            REFUSED_VALUES_MESSAGE if isinstance(error, DatabaseRejectedError) else error
        )
        page = services.pages.error(request, status=status, title=title, text=text, retry_url=str(request.url))
        page.headers.update(headers)
        return page

    return handle


def _build_pending_response(error: OperationPendingError) -> Response:
    """Build the 202 of an operation that is stored and still running, with its id and state."""
    operation = error.operation
    body = {"operation": {"id": operation.id, "state": operation.state}, "detail": str(error)}
    headers = {"Retry-After": str(int(error.retry_after or 2))}
    return JSONResponse(body, 202, headers=headers)


def _make_http_error_handler(services: Services) -> ExceptionHandler:
    async def handle(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
        if status == 413:
            return _build_too_large_response(services.pages, request)
        if not _is_page(request):
            return make_problem_response(
                status, "Not found" if status == 404 else "Refused", code=f"http_{status}", headers=headers
            )
        _ = services.pages.words.gettext
        text = _("This page does not exist.") if status == 404 else _("This page does not support that method.")
        return services.pages.error(request, status=status, title=_("Not found"), text=text)

    return handle


async def _handle_disconnect(request: Request, error: Exception) -> Response:
    """Ignore a client that disconnected while sending the body; nothing failed."""
    log.debug("client_disconnected", path=request.url.path)
    return Response(status_code=400)


def _build_too_large_response(pages: PageRenderer, request: Request) -> Response:
    if not _is_page(request):
        detail = f"A body can have at most {MAX_BODY} bytes."
        return make_problem_response(
            413, "Body too large", code="too_large", detail=detail, request_id=_get_request_id(request)
        )
    _ = pages.words.gettext
    return pages.error(request, status=413, title=_("Too large"), text=_("A request can have at most 1 MiB."))


def _build_rate_limited_response(wait: float) -> Response:
    headers = {"Retry-After": str(math.ceil(wait))}
    detail = "This user or key sends more requests than INSTEP_RATE_LIMIT allows."
    return make_problem_response(429, "Too many requests", code="rate_limited", detail=detail, headers=headers)


def _make_unexpected_error_handler(services: Services) -> ExceptionHandler:
    async def handle(request: Request, error: Exception) -> Response:
        log.error("request_crashed", path=request.url.path, request_id=_get_request_id(request), exc_info=error)
        if not _is_page(request):
            return make_problem_response(
                500, "Internal server error", code="unexpected", request_id=_get_request_id(request)
            )
        _ = services.pages.words.gettext
        text = _("The error was logged. Give the request ID below to your administrator.")
        return services.pages.error(request, status=500, title=_("Something went wrong"), text=text)

    return handle


def _make_validation_error_handler(services: Services) -> ExceptionHandler:
    """Create the handler of invalid requests.

    Details are returned only to callers with access, since FastAPI reads bodies before it calls handlers.
    """
    resolve_principal, resolve_access = make_principal_resolver(services), make_access_resolver(services)

    async def handle(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 (registered for this type only)
        asker: Principal | OrganizationAccess | Response
        try:
            if request.url.path.startswith("/v1/organizations/"):
                asker = await resolve_access(request, request.path_params["organization_id"])
            else:
                asker = await resolve_principal(request)
        except InstepError as failure:
            return await _make_failure_handler(services)(request, failure)
        if isinstance(asker, Response):
            return asker
        errors = [{"at": ".".join(map(str, it["loc"])), "message": it["msg"]} for it in error.errors()]
        return make_problem_response(
            422, "Invalid request", code="invalid_request", errors=errors, request_id=_get_request_id(request)
        )

    return handle


def _is_page(request: Request) -> bool:
    return not request.url.path.startswith(("/v1/", "/health", "/metrics", "/openapi.json"))


def _get_request_id(request: Request) -> str | None:
    found = request.scope.get("state", {}).get("request_id")
    return found if isinstance(found, str) else None
