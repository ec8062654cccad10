"""Handle a Frontend API request: CORS, route, client, fault injection and response envelope."""

import asyncio
import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from clerk_emulator.frontend_api import operations, route_table
from clerk_emulator.frontend_api.browser import (
    TOKEN_PARAMETER,
    Browser,
    clear_cookies,
    read_client_token,
    refresh_cookies,
)
from clerk_emulator.frontend_api.call import FormFile, FrontendCall, FrontendRoute, UnwrappedResponse
from clerk_emulator.state import sessions
from clerk_emulator.state.errors import ApiError, ErrorDetail, NotEmulatedError, not_emulated_error
from clerk_emulator.state.instance import Instance
from clerk_emulator.wire.fault_injection import Fault, FaultRegistry, apply_fault
from clerk_emulator.wire.request_log import RequestLog
from clerk_emulator.wire.request_parameters import RequestParameters
from clerk_emulator.wire.responses import JsonResponse, error_response, fault_response, hang_response
from clerk_emulator.wire.site_config import PROXY_PATH, SiteConfig, is_loopback

MAX_BODY_BYTES = 16 * 1024 * 1024
OPERATION_PREFIX = "frontend/"  # prefix of an operation's name, which may also exist in the Backend API
OPERATIONS = frozenset(f"{OPERATION_PREFIX}{route.operation}" for route in route_table.ROUTES)
TOKEN_PATTERN = re.compile(rf"&?{TOKEN_PARAMETER}=[^&]*")
DEV_BROWSER_PATH = "/dev_browser"
OVERRIDE_METHODS = ("POST", "PUT", "PATCH", "DELETE")


def is_frontend_request(request: Request) -> bool:
    """Return whether a request below /v1 is for the Frontend API: by its path, or because a script sent it."""
    first = request.url.path.removeprefix("/v1").strip("/").partition("/")[0]
    if first in route_table.FRONTEND_ONLY_PREFIXES:
        return True
    names = request.query_params
    return "authorization" not in request.headers and ("_clerk_js_version" in names or "_clerk_session_id" in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendApi:
    """Handle the requests of Clerk's browser scripts."""

    instance: Instance
    site: SiteConfig
    faults: FaultRegistry
    request_log: RequestLog
    record_caller: Callable[[str, str], None]
    wait: Callable[[float], Any] = field(default=asyncio.sleep)

    async def answer(self, request: Request) -> Response:
        """Handle a request, with CORS headers for pages of another origin."""
        origin = request.headers.get("origin")
        if origin is not None and not self._is_origin_allowed(origin, request):
            message = f"Pages of {origin} may not use this emulator."
            return error_response(400, ErrorDetail("origin_invalid", "wrong origin", message))
        if request.method == "OPTIONS":
            response = Response(status_code=204)
            response.headers["access-control-allow-methods"] = "GET, POST, PUT, PATCH, DELETE"
            response.headers["access-control-allow-headers"] = "authorization, content-type"
        else:
            response = await self._answer(request)
        if origin is not None:
            response.headers["access-control-allow-origin"] = origin
            response.headers["access-control-allow-credentials"] = "true"
            response.headers["access-control-expose-headers"] = "authorization"
            response.headers["vary"] = "Origin"
        response.headers["cache-control"] = "no-store"
        return response

    def _is_origin_allowed(self, origin: str, request: Request) -> bool:
        return self.site.is_redirect_allowed(origin) or origin == str(request.base_url).rstrip("/")

    async def _answer(self, request: Request) -> Response:
        path = request.url.path.removeprefix(PROXY_PATH)
        override = request.query_params.get("_method", "").upper()
        method = override if request.method == "POST" and override in OVERRIDE_METHODS else request.method
        found = route_table.match_route(method, path.removeprefix("/v1")) if path.startswith("/v1/") else None
        missing = operations.find(method, path) if found is None else None
        name = found[0].operation if found else missing.id if missing else None
        operation = f"{OPERATION_PREFIX}{name}" if name else None
        query = TOKEN_PATTERN.sub("", request.url.query)
        entry = self.request_log.open(self.instance.now, method, request.url.path, query, operation)
        if found is None:
            error = _unknown_route_error(method, path, missing)
            response: Response = error_response(error.status, *error.problems)
        else:
            fault = self.faults.match_operation_fault(str(operation))
            entry.fault = fault.id if fault else None
            response = await self._act(request, *found, fault)
        entry.status = response.status_code
        return response

    async def _act(
        self, request: Request, route: FrontendRoute, params: dict[str, str], fault: Fault | None
    ) -> Response:
        try:
            fields, files = await _read_form(request)
        except ApiError as error:
            return error_response(error.status, *error.problems)
        known = sessions.find_client(self.instance, read_client_token(request, self.instance))
        if known is None and request.query_params.get(TOKEN_PARAMETER) and route.path != DEV_BROWSER_PATH:
            message = "The token of this browser is unknown; request a new one."
            return error_response(401, ErrorDetail("dev_browser_unauthenticated", "unknown browser", message))
        origin = request.headers.get("origin") or None
        call = FrontendCall(
            instance=self.instance,
            site=self.site,
            params=params,
            query=RequestParameters(request.query_params.multi_items()),
            fields=fields,
            files=files,
            origin=origin,
            application=origin or _origin_of(request.headers.get("referer")),
            known=known,
        )
        return await apply_fault(
            fault,
            lambda: self._do(request, route, call),
            replacement=lambda found: fault_response(found.status, found.body, found.retry_after),
            hang=lambda milliseconds: hang_response(request, milliseconds),
            wait=self.wait,
        )

    def _do(self, request: Request, route: FrontendRoute, call: FrontendCall) -> Response:
        self.record_caller(request.client.host if request.client else "", request.headers.get("user-agent", ""))
        try:
            return self._to_response(call, route.handler(call), request)
        except NotEmulatedError as missing:
            error = not_emulated_error(f"The emulator does not support {missing}.", route.operation)
            return error_response(error.status, *error.problems)
        except ApiError as error:
            return error_response(error.status, *error.problems)

    def _to_response(self, call: FrontendCall, body: Any, request: Request) -> Response:
        client = call.find_client()
        if isinstance(body, UnwrappedResponse):
            response: Response = JsonResponse(body.body, status_code=body.status)
        else:
            response = JsonResponse({"response": body, "client": call.to_client_json()})
        if call.clears_cookies:
            clear_cookies(self.site, response)
        elif client is not None:
            refresh_cookies(Browser(instance=self.instance, site=self.site, client=client), request, response)
            if call.query.text("_is_native"):
                response.headers["authorization"] = client.token
        return response


def _unknown_route_error(method: str, path: str, operation: operations.FrontendOperation | None) -> ApiError:
    """Return the error for a request without a route."""
    if operation is None and not path.startswith("/v1/"):
        return ApiError(404, ErrorDetail("resource_not_found", "no such path", f"There is no {method} {path}."))
    message = f"The emulator does not support {method} {path} of the Frontend API."
    return not_emulated_error(message, operation.id if operation else None)


def _origin_of(address: str | None) -> str | None:
    parts = urlsplit(address or "")
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc and is_loopback(parts.hostname or "") else None


async def _read_form(request: Request) -> tuple[RequestParameters, dict[str, FormFile]]:
    """Return fields and files of a form; an image may also be the whole body, in base64 or binary."""
    if int(request.headers.get("content-length") or 0) > MAX_BODY_BYTES:
        raise ApiError(413, ErrorDetail("request_body_too_large", "too large", "The body is too large."))
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("application/x-www-form-urlencoded", "multipart/form-data"):
        try:
            async with request.form(max_files=4) as form:
                pairs = form.multi_items()
                fields = RequestParameters((name, value) for name, value in pairs if isinstance(value, str))
                files = {
                    name: FormFile(value.content_type or "", await value.read())
                    for name, value in pairs
                    if isinstance(value, UploadFile)
                }
                return fields, files
        except HTTPException:
            raise ApiError(
                400, ErrorDetail("request_body_invalid", "invalid form", "The body is not a form.")
            ) from None
    body = await request.body()
    return RequestParameters(()), {"file": FormFile(kind, _decode_base64(body))} if body else {}


def _decode_base64(body: bytes) -> bytes:
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error:
        return body
