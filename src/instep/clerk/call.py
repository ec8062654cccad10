"""One call to Clerk's Backend API over httpx2, and what its answer means.

Every answer becomes one of three: our words, ProviderRefused (Clerk said no and did nothing), or ProviderDown
(no answer, a 5xx, a 429, or an answer that is not Clerk's: a redirect, a page of a proxy). Nothing is tried again here:
whoever calls knows whether that is safe.
"""

import re
from copy import copy
from typing import Any

import httpx2
import msgspec

from instep.clerk import bounds
from instep.clerk.pacer import Pacer
from instep.identity.ports import ProviderDown, ProviderRefused
from instep.kit.pace import Urgency

API_VERSION = "2026-05-12"
UNLIMITED = frozenset({"jwks"})
NOT_CLERK = "What answered with status {status} is not Clerk: look at CLERK_API_URL and at proxies on the way."
NOT_CONFIGURED = "Clerk authentication not configured. Nothing was changed."
_PATH = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
Params = list[tuple[str, str | int | float | bool | None]]


class _ErrorItem(msgspec.Struct):
    code: str = "unknown"
    message: str = ""
    long_message: str | None = None
    meta: Any = None


class _ErrorBody(msgspec.Struct):
    errors: list[_ErrorItem] = []
    clerk_trace_id: str | None = None


class Backend:
    """The Backend API of one instance. See ClerkClient for the arguments."""

    def __init__(
        self,
        secret_key: str | None,
        *,
        api_url: str = "https://api.clerk.com",
        timeout: float = 10.0,
        transport: httpx2.AsyncBaseTransport | None = None,
        pacer: Pacer | None = None,
    ) -> None:
        self._is_configured = bool(secret_key)
        self._pacer = pacer
        self._urgency = Urgency.EDIT
        self._http = httpx2.AsyncClient(
            base_url=f"{api_url.rstrip('/').removesuffix('/v1')}/v1/",
            headers={"Authorization": f"Bearer {secret_key}", "Clerk-API-Version": API_VERSION},
            timeout=timeout,
            transport=transport,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()
        if self._pacer is not None:
            await self._pacer.close()

    def at(self, urgency: Urgency) -> "Backend":
        """The same, for calls of another urgency; by itself it is for what somebody waits for."""
        other = copy(self)
        other._urgency = urgency
        return other

    async def send(self, method: str, path: str, *, params: Params | None = None, json: Any = None) -> bytes:
        """The body of a good answer, once the pace allows the call. Raises ProviderDown and ProviderRefused.

        Ids in `path` may come from anywhere: one that can be no id is refused here, and leads to no other address.
        """
        if not self._is_configured:
            raise ProviderRefused(NOT_CONFIGURED, code="not_configured", status=401)
        if not _PATH.fullmatch(path):
            raise ProviderRefused("Clerk has no such thing.", code="resource_not_found", status=404)
        if self._pacer is not None and path not in UNLIMITED:
            await self._pacer.take(self._urgency)
        try:
            response = await self._http.request(method, path, params=params, json=json)
        except (UnicodeEncodeError, OverflowError, ValueError) as error:  # never sent: it can be written in no JSON
            words = "Clerk can't be sent this: it holds half of a character, or a number out of range."
            raise ProviderRefused(words, code="form_param_format_invalid", status=422) from error
        except httpx2.HTTPError as error:
            is_harmless = isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout))
            raise ProviderDown(f"Clerk did not answer ({type(error).__name__}).", is_harmless=is_harmless) from error
        if response.is_success:
            if _is_page(response.content):
                raise ProviderDown(NOT_CLERK.format(status=response.status_code), status=response.status_code)
            return bounds.mended(response.content)
        failure = _failure(response)
        if self._pacer is not None and response.status_code == 429:
            await self._pacer.stop_all(failure.retry_after or 1.0 if isinstance(failure, ProviderDown) else 1.0)
        raise failure

    async def find(self, path: str, *, params: Params | None = None) -> bytes | None:
        """The body of what is read, None where Clerk has no such thing."""
        try:
            return await self.send("GET", path, params=params)
        except ProviderRefused as error:
            if error.status == 404:
                return None
            raise


def decode(body: bytes, type: Any) -> Any:
    """One answer as `type`, without what of it is bad and can be done without. Raises ProviderDown for no such one."""
    try:
        return bounds.decode(msgspec.json.Decoder(type).decode, body)
    except bounds.UNREADABLE as error:
        raise ProviderDown(f"Clerk's answer can't be read: {error}") from error


def _is_page(content: bytes) -> bool:
    """Return whether a body is HTML or XML. Clerk answers with JSON alone, or with nothing."""
    return content[:64].lstrip().startswith(b"<")


def _failure(response: httpx2.Response) -> ProviderDown | ProviderRefused:
    """Return what an answer that is no success means.

    A refusal is what carries Clerk's own list of errors (each of its refusals does, by its specification). Anything
    else from 300 to 499 came from something between us and Clerk, and says nothing about what Clerk has.
    """
    try:
        body = msgspec.json.decode(bounds.mended(response.content), type=_ErrorBody)
    except bounds.UNREADABLE:
        body = _ErrorBody()
    first = body.errors[0] if body.errors else _ErrorItem()
    if response.status_code == 429:
        wait = _retry_after(response)
        words = f"Clerk is limiting us. We will try again in {wait:.0f} s; nothing is lost."
        return ProviderDown(words, retry_after=wait, is_harmless=True, status=429)
    if response.status_code >= 500:
        words = f"Clerk failed with status {response.status_code}."
        return ProviderDown(words, retry_after=_retry_after(response), status=response.status_code)
    if response.status_code < 400 or not body.errors:
        return ProviderDown(NOT_CLERK.format(status=response.status_code), status=response.status_code)
    return ProviderRefused(
        first.long_message or first.message or f"Clerk refused with status {response.status_code}.",
        code=first.code,
        status=response.status_code,
        trace_id=body.clerk_trace_id or response.headers.get("cf-ray"),
        param=_param(first.meta),
    )


def _param(meta: Any) -> str | None:
    """The parameter that an error is about; Clerk names it in one of two ways."""
    if not isinstance(meta, dict):
        return None
    names = meta.get("param_names")
    found = meta.get("param_name") or (names[0] if isinstance(names, list) and names else None)
    return found if isinstance(found, str) else None


def _retry_after(response: httpx2.Response) -> float:
    try:
        return max(1.0, min(float(response.headers.get("retry-after", "")), 3600.0))
    except ValueError:
        return 10.0
