"""The door of the Backend API: which operation it is, who asks, what goes wrong by wish, and the answer."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from clerk_emulator.lab.faults import Faults, act
from clerk_emulator.lab.journal import Entry, Journal
from clerk_emulator.lab.limits import Limits, TooMany
from clerk_emulator.routes import api_keys, guard, machines, operations
from clerk_emulator.routes.call import Call, Reply, Upload
from clerk_emulator.routes.handlers import HANDLERS
from clerk_emulator.routes.images import UPLOADS
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.pictures import LARGEST
from clerk_emulator.state.refusals import NotEmulated, Problem, Refused, not_emulated
from clerk_emulator.wire.answers import Json, hang, instead, read_json, refusal
from clerk_emulator.wire.omission import without_omitted
from clerk_emulator.wire.queries import Query
from clerk_emulator.wire.site import Site

LARGEST_BODY = 4 * 1024 * 1024
BARE = {*api_keys.HANDLERS, *(name for name in machines.HANDLERS if "M2M" in name)}
JSON_TYPES = ("", "application/json")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendApi:
    """Answers everything below /v1 that is not for browsers."""

    instance: Instance
    site: Site
    faults: Faults
    journal: Journal
    limits: Limits
    note_caller: Callable[[str, str], None]
    wait: Callable[[float], Any] = field(default=asyncio.sleep)

    async def answer(self, request: Request) -> Response:
        """Answer a request and write it into the journal."""
        path = request.url.path.removeprefix("/v1")
        found = operations.match(request.method, path)
        operation = found[0].id if found else None
        entry = self.journal.open(self.instance.now, request.method, request.url.path, request.url.query, operation)
        try:
            response = await self._checked(request, entry, found)
        except TooMany as refused:
            headers = {"retry-after": str(refused.seconds)}
            response = self._refusal(refused, headers=headers)
        except Refused as refused:
            response = self._refusal(refused)
        warning = guard.warning_of(request.headers, request.query_params)
        if warning is not None:
            response.headers["warning"] = warning
        entry.status = response.status_code
        return response

    async def _checked(
        self, request: Request, entry: Entry, found: tuple[operations.Operation, dict[str, str]] | None
    ) -> Response:
        machine = guard.require_key(
            request.headers.get("authorization"),
            self.site.secret_key,
            self.instance,
            found[0].id if found else "",
        )
        version = guard.version_of(request.headers, request.query_params)
        body = await (_form if found and found[0].id in UPLOADS else _body)(request)
        if found is None:
            words = f"There is no {request.method} {request.url.path}."
            raise Refused(404, Problem("resource_not_found", "no such path", words))
        operation, params = found
        self.limits.require_room(self.instance.settings.rate_limits, self.instance.now, operation.id, params)
        fault = self.faults.take_for_operation(operation.id)
        entry.fault = fault.id if fault else None
        call = Call(
            instance=self.instance,
            site=self.site,
            params=params,
            query=Query(request.query_params.multi_items()),
            body=body,
            version=version,
            machine=machine,
        )
        return await act(
            fault,
            lambda: self._act(request, operation.id, call),
            instead=lambda found: instead(found.status, found.body, found.retry_after),
            hang=lambda milliseconds: hang(request, milliseconds),
            wait=self.wait,
        )

    def _act(self, request: Request, operation: str, call: Call) -> Response:
        handler = HANDLERS.get(operation)
        if handler is None:
            raise not_emulated("The emulator does not have this operation.", operation)
        client = request.client.host if request.client else ""
        self.note_caller(client, request.headers.get("user-agent", ""))
        try:
            answer = handler(call)
            reply = answer if isinstance(answer, Reply) else Reply(200, answer)
            if reply.body is None and reply is answer:
                return Response(status_code=reply.status)
            return Json(without_omitted(self.instance.settings, reply.body), reply.status)
        except NotEmulated as missing:
            raise not_emulated(f"The emulator does not have {missing}.", operation) from missing
        except Refused as refused:
            return self._refusal(refused, is_bare=operation in BARE)

    def _refusal(self, refused: Refused, *, headers: Mapping[str, str] | None = None, is_bare: bool = False) -> Json:
        settings = self.instance.settings
        return refusal(refused.status, *refused.problems, headers=headers, is_bare=is_bare, settings=settings)


async def _body(request: Request) -> Any:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > LARGEST_BODY:
            raise Refused(413, Problem("request_body_too_large", "too large", "The body is too large."))
    if not data.strip():
        return None
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in JSON_TYPES:
        words = f"The content type {content_type} is not taken, application/json is."
        raise Refused(415, Problem("unsupported_content_type", "unsupported content type", words))
    try:
        return read_json(bytes(data))
    except (ValueError, RecursionError):
        words = "The body is not JSON."
        raise Refused(400, Problem("request_body_invalid", "invalid request body", words)) from None


async def _form(request: Request) -> Any:
    if int(request.headers.get("content-length") or 0) > LARGEST + LARGEST_BODY:
        raise Refused(413, Problem("image_too_large", "too large", "A picture has ten megabytes at most."))
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        words = "The content type has to be multipart/form-data."
        raise Refused(415, Problem("unsupported_content_type", "unsupported content type", words))
    try:
        async with request.form(max_files=4) as form:
            return {
                name: Upload(value.content_type or "", await value.read()) if isinstance(value, UploadFile) else value
                for name, value in form.items()
            }
    except HTTPException:
        raise Refused(400, Problem("request_body_invalid", "invalid form", "The body is no form.")) from None
