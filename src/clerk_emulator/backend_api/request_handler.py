"""Handle a Backend API request: operation, authentication, rate limit, fault injection and response."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from clerk_emulator.backend_api import api_keys, authentication, machines, operations
from clerk_emulator.backend_api.call import BackendCall, StatusResponse, UploadedFile
from clerk_emulator.backend_api.handlers import HANDLERS
from clerk_emulator.backend_api.images import UPLOAD_OPERATIONS
from clerk_emulator.state.errors import ApiError, ErrorDetail, NotEmulatedError, not_emulated_error
from clerk_emulator.state.images import MAX_BYTES
from clerk_emulator.state.instance import Instance
from clerk_emulator.wire.fault_injection import FaultRegistry, apply_fault
from clerk_emulator.wire.omitted_fields import remove_omitted
from clerk_emulator.wire.rate_limits import RateLimiter, RateLimitError
from clerk_emulator.wire.request_log import RequestLog, RequestLogEntry
from clerk_emulator.wire.request_parameters import RequestParameters
from clerk_emulator.wire.responses import JsonResponse, error_response, fault_response, hang_response, read_json
from clerk_emulator.wire.site_config import SiteConfig

MAX_BODY_BYTES = 4 * 1024 * 1024
BARE_ERROR_OPERATIONS = {*api_keys.HANDLERS, *(name for name in machines.HANDLERS if "M2M" in name)}
JSON_TYPES = ("", "application/json")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendApi:
    """Handle all requests below /v1 that are not for the Frontend API."""

    instance: Instance
    site: SiteConfig
    faults: FaultRegistry
    request_log: RequestLog
    rate_limiter: RateLimiter
    record_caller: Callable[[str, str], None]
    wait: Callable[[float], Any] = field(default=asyncio.sleep)

    async def answer(self, request: Request) -> Response:
        """Handle a request and log it."""
        path = request.url.path.removeprefix("/v1")
        found = operations.match_operation(request.method, path)
        operation = found[0].id if found else None
        entry = self.request_log.open(self.instance.now, request.method, request.url.path, request.url.query, operation)
        try:
            response = await self._checked(request, entry, found)
        except RateLimitError as error:
            headers = {"retry-after": str(error.seconds)}
            response = self._refusal(error, headers=headers)
        except ApiError as error:
            response = self._refusal(error)
        warning = authentication.version_warning(request.headers, request.query_params)
        if warning is not None:
            response.headers["warning"] = warning
        entry.status = response.status_code
        return response

    async def _checked(
        self, request: Request, entry: RequestLogEntry, found: tuple[operations.BackendOperation, dict[str, str]] | None
    ) -> Response:
        machine = authentication.authenticate(
            request.headers.get("authorization"),
            self.site.secret_key,
            self.instance,
            found[0].id if found else "",
        )
        version = authentication.select_version(request.headers, request.query_params)
        body = await (_read_upload if found and found[0].id in UPLOAD_OPERATIONS else _read_body)(request)
        if found is None:
            message = f"There is no {request.method} {request.url.path}."
            raise ApiError(404, ErrorDetail("resource_not_found", "no such path", message))
        operation, params = found
        self.rate_limiter.require_room(self.instance.settings.rate_limits, self.instance.now, operation.id, params)
        fault = self.faults.match_operation_fault(operation.id)
        entry.fault = fault.id if fault else None
        call = BackendCall(
            instance=self.instance,
            site=self.site,
            params=params,
            query=RequestParameters(request.query_params.multi_items()),
            body=body,
            version=version,
            machine=machine,
        )
        return await apply_fault(
            fault,
            lambda: self._act(request, operation.id, call),
            replacement=lambda found: fault_response(found.status, found.body, found.retry_after),
            hang=lambda milliseconds: hang_response(request, milliseconds),
            wait=self.wait,
        )

    def _act(self, request: Request, operation: str, call: BackendCall) -> Response:
        handler = HANDLERS.get(operation)
        if handler is None:
            raise not_emulated_error("The emulator does not support this operation.", operation)
        client = request.client.host if request.client else ""
        self.record_caller(client, request.headers.get("user-agent", ""))
        try:
            answer = handler(call)
            reply = answer if isinstance(answer, StatusResponse) else StatusResponse(200, answer)
            if reply.body is None and reply is answer:
                return Response(status_code=reply.status)
            return JsonResponse(remove_omitted(self.instance.settings, reply.body), reply.status)
        except NotEmulatedError as missing:
            raise not_emulated_error(f"The emulator does not support {missing}.", operation) from missing
        except ApiError as error:
            return self._refusal(error, is_bare=operation in BARE_ERROR_OPERATIONS)

    def _refusal(
        self, error: ApiError, *, headers: Mapping[str, str] | None = None, is_bare: bool = False
    ) -> JsonResponse:
        settings = self.instance.settings
        return error_response(error.status, *error.problems, headers=headers, is_bare=is_bare, settings=settings)


async def _read_body(request: Request) -> Any:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY_BYTES:
            raise ApiError(413, ErrorDetail("request_body_too_large", "too large", "The body is too large."))
    if not data.strip():
        return None
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in JSON_TYPES:
        message = f"The content type must be application/json, not {content_type}."
        raise ApiError(415, ErrorDetail("unsupported_content_type", "unsupported content type", message))
    try:
        return read_json(bytes(data))
    except (ValueError, RecursionError):
        message = "The body is not JSON."
        raise ApiError(400, ErrorDetail("request_body_invalid", "invalid request body", message)) from None


async def _read_upload(request: Request) -> Any:
    if int(request.headers.get("content-length") or 0) > MAX_BYTES + MAX_BODY_BYTES:
        raise ApiError(413, ErrorDetail("image_too_large", "too large", "An image may have at most 10 MB."))
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        message = "The content type must be multipart/form-data."
        raise ApiError(415, ErrorDetail("unsupported_content_type", "unsupported content type", message))
    try:
        async with request.form(max_files=4) as form:
            return {
                name: UploadedFile(value.content_type or "", await value.read())
                if isinstance(value, UploadFile)
                else value
                for name, value in form.items()
            }
    except HTTPException:
        raise ApiError(400, ErrorDetail("request_body_invalid", "invalid form", "The body is not a form.")) from None
