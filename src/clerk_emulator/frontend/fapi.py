"""The door of the Frontend API: which route it is, which browser asks, and the answer in its envelope."""

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

from clerk_emulator.frontend import operations, table
from clerk_emulator.frontend.browser import TOKEN_PARAMETER, Browser, forget, keep_known, token_of
from clerk_emulator.frontend.visit import Bare, File, Route, Visit
from clerk_emulator.lab.faults import Fault, Faults, act
from clerk_emulator.lab.journal import Journal
from clerk_emulator.state import sessions
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.refusals import NotEmulated, Problem, Refused, not_emulated
from clerk_emulator.wire.answers import Json, hang, instead, refusal
from clerk_emulator.wire.queries import Query
from clerk_emulator.wire.site import PROXY, Site, is_loopback

LARGEST_BODY = 16 * 1024 * 1024
NAME = "frontend/"  # before the name of an operation, which the Backend API may have as well
OPERATIONS = frozenset(f"{NAME}{route.operation}" for route in table.ROUTES)
TOKEN = re.compile(rf"&?{TOKEN_PARAMETER}=[^&]*")
DEV_BROWSER = "/dev_browser"
WRITES = ("POST", "PUT", "PATCH", "DELETE")


def is_meant(request: Request) -> bool:
    """Say whether a request below /v1 is for the Frontend API: by its path, or because a browser's script sends it."""
    first = request.url.path.removeprefix("/v1").strip("/").partition("/")[0]
    if first in table.ONLY_HERE:
        return True
    names = request.query_params
    return "authorization" not in request.headers and ("_clerk_js_version" in names or "_clerk_session_id" in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendApi:
    """Answers what Clerk's scripts in browsers ask."""

    instance: Instance
    site: Site
    faults: Faults
    journal: Journal
    note_caller: Callable[[str, str], None]
    wait: Callable[[float], Any] = field(default=asyncio.sleep)

    async def answer(self, request: Request) -> Response:
        """Answer a request, with the headers that let a page of another address read it."""
        origin = request.headers.get("origin")
        if origin is not None and not self._is_welcome(origin, request):
            words = f"Pages of {origin} may not use this emulator."
            return refusal(400, Problem("origin_invalid", "wrong origin", words))
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

    def _is_welcome(self, origin: str, request: Request) -> bool:
        return self.site.may_redirect_to(origin) or origin == str(request.base_url).rstrip("/")

    async def _answer(self, request: Request) -> Response:
        path = request.url.path.removeprefix(PROXY)
        override = request.query_params.get("_method", "").upper()
        method = override if request.method == "POST" and override in WRITES else request.method
        found = table.match(method, path.removeprefix("/v1")) if path.startswith("/v1/") else None
        missing = operations.find(method, path) if found is None else None
        name = found[0].operation if found else missing.id if missing else None
        operation = f"{NAME}{name}" if name else None
        query = TOKEN.sub("", request.url.query)
        entry = self.journal.open(self.instance.now, method, request.url.path, query, operation)
        if found is None:
            refused = _missing(method, path, missing)
            response: Response = refusal(refused.status, *refused.problems)
        else:
            fault = self.faults.take_for_operation(str(operation))
            entry.fault = fault.id if fault else None
            response = await self._act(request, *found, fault)
        entry.status = response.status_code
        return response

    async def _act(self, request: Request, route: Route, params: dict[str, str], fault: Fault | None) -> Response:
        try:
            fields, files = await _content(request)
        except Refused as refused:
            return refusal(refused.status, *refused.problems)
        known = sessions.find_client(self.instance, token_of(request, self.instance))
        if known is None and request.query_params.get(TOKEN_PARAMETER) and route.path != DEV_BROWSER:
            words = "The token of this browser is not known here; a new one has to be asked for."
            return refusal(401, Problem("dev_browser_unauthenticated", "unknown browser", words))
        origin = request.headers.get("origin") or None
        visit = Visit(
            instance=self.instance,
            site=self.site,
            params=params,
            query=Query(request.query_params.multi_items()),
            fields=fields,
            files=files,
            origin=origin,
            application=origin or _origin_of(request.headers.get("referer")),
            known=known,
        )
        return await act(
            fault,
            lambda: self._do(request, route, visit),
            instead=lambda found: instead(found.status, found.body, found.retry_after),
            hang=lambda milliseconds: hang(request, milliseconds),
            wait=self.wait,
        )

    def _do(self, request: Request, route: Route, visit: Visit) -> Response:
        self.note_caller(request.client.host if request.client else "", request.headers.get("user-agent", ""))
        try:
            return self._enveloped(visit, route.handler(visit), request)
        except NotEmulated as missing:
            refused = not_emulated(f"The emulator does not have {missing}.", route.operation)
            return refusal(refused.status, *refused.problems)
        except Refused as refused:
            return refusal(refused.status, *refused.problems)

    def _enveloped(self, visit: Visit, body: Any, request: Request) -> Response:
        client = visit.find_client()
        if isinstance(body, Bare):
            response: Response = Json(body.body, status_code=body.status)
        else:
            response = Json({"response": body, "client": visit.shape()})
        if visit.is_over:
            forget(self.site, response)
        elif client is not None:
            keep_known(Browser(instance=self.instance, site=self.site, client=client), request, response)
            if visit.query.text("_is_native"):
                response.headers["authorization"] = client.token
        return response


def _missing(method: str, path: str, operation: operations.Operation | None) -> Refused:
    """Return the refusal of a request that has no route here."""
    if operation is None and not path.startswith("/v1/"):
        return Refused(404, Problem("resource_not_found", "no such path", f"There is no {method} {path}."))
    words = f"The emulator does not have {method} {path} of the Frontend API."
    return not_emulated(words, operation.id if operation else None)


def _origin_of(address: str | None) -> str | None:
    parts = urlsplit(address or "")
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc and is_loopback(parts.hostname or "") else None


async def _content(request: Request) -> tuple[Query, dict[str, File]]:
    """Return fields and files of a form; a picture may also be the whole body, in base64 or as it is."""
    if int(request.headers.get("content-length") or 0) > LARGEST_BODY:
        raise Refused(413, Problem("request_body_too_large", "too large", "The body is too large."))
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("application/x-www-form-urlencoded", "multipart/form-data"):
        try:
            async with request.form(max_files=4) as form:
                pairs = form.multi_items()
                fields = Query((name, value) for name, value in pairs if isinstance(value, str))
                files = {
                    name: File(value.content_type or "", await value.read())
                    for name, value in pairs
                    if isinstance(value, UploadFile)
                }
                return fields, files
        except HTTPException:
            raise Refused(400, Problem("request_body_invalid", "invalid form", "The body is no form.")) from None
    body = await request.body()
    return Query(()), {"file": File(kind, _plain(body))} if body else {}


def _plain(body: bytes) -> bytes:
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error:
        return body
