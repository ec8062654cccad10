"""HTTP requests to Clerk's Backend API and the mapping of its error responses."""

import re
from copy import copy
from typing import Any

import httpx2
import msgspec

from instep.clerk import lenient_json
from instep.clerk.rate_limiter import ClerkRateLimiter
from instep.clerk.sliding_window import RequestPriority
from instep.domain.errors import ClerkRejectedError, ClerkUnavailableError

API_VERSION = "2026-05-12"
UNTHROTTLED_PATHS = frozenset({"jwks"})
NOT_CLERK_MESSAGE = "What answered with status {status} is not Clerk: look at CLERK_API_URL and at proxies on the way."
CLERK_NOT_CONFIGURED_MESSAGE = "Clerk authentication not configured. Nothing was changed."
_PATH_PATTERN = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
QueryParams = list[tuple[str, str | int | float | bool | None]]


class _ErrorItem(msgspec.Struct):
    code: str = "unknown"
    message: str = ""
    long_message: str | None = None
    meta: Any = None


class _ErrorBody(msgspec.Struct):
    errors: list[_ErrorItem] = []
    clerk_trace_id: str | None = None


class ClerkHttpClient:
    """The Backend API of one instance. See ClerkClient for the arguments."""

    def __init__(
        self,
        secret_key: str | None,
        *,
        api_url: str = "https://api.clerk.com",
        timeout: float = 10.0,
        transport: httpx2.AsyncBaseTransport | None = None,
        pacer: ClerkRateLimiter | None = None,
    ) -> None:
        self._is_configured = bool(secret_key)
        self._pacer = pacer
        self._urgency = RequestPriority.EDIT
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

    def at(self, urgency: RequestPriority) -> "ClerkHttpClient":
        """The same, for calls of another urgency; by itself it is for what somebody waits for."""
        other = copy(self)
        other._urgency = urgency
        return other

    async def send(self, method: str, path: str, *, params: QueryParams | None = None, json: Any = None) -> bytes:
        """The body of a good answer, once the pace allows the call. Raises ClerkUnavailableError and ClerkRejectedError.

        Ids in `path` may come from anywhere: one that can be no id is refused here, and leads to no other address.
        """
        if not self._is_configured:
            raise ClerkRejectedError(CLERK_NOT_CONFIGURED_MESSAGE, code="not_configured", status=401)
        if not _PATH_PATTERN.fullmatch(path):
            raise ClerkRejectedError("Clerk has no such thing.", code="resource_not_found", status=404)
        if self._pacer is not None and path not in UNTHROTTLED_PATHS:
            await self._pacer.take(self._urgency)
        try:
            response = await self._http.request(method, path, params=params, json=json)
        except (UnicodeEncodeError, OverflowError, ValueError) as error:  # never sent: it can be written in no JSON
            words = "Clerk can't be sent this: it holds half of a character, or a number out of range."
            raise ClerkRejectedError(words, code="form_param_format_invalid", status=422) from error
        except httpx2.HTTPError as error:
            is_harmless = isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout))
            raise ClerkUnavailableError(
                f"Clerk did not answer ({type(error).__name__}).", is_without_effect=is_harmless
            ) from error
        if response.is_success:
            if _is_markup(response.content):
                raise ClerkUnavailableError(
                    NOT_CLERK_MESSAGE.format(status=response.status_code), status=response.status_code
                )
            return lenient_json.replace_invalid_characters(response.content)
        failure = _to_error(response)
        if self._pacer is not None and response.status_code == 429:
            await self._pacer.block_all(
                failure.retry_after or 1.0 if isinstance(failure, ClerkUnavailableError) else 1.0
            )
        raise failure

    async def find(self, path: str, *, params: QueryParams | None = None) -> bytes | None:
        """The body of what is read, None where Clerk has no such thing."""
        try:
            return await self.send("GET", path, params=params)
        except ClerkRejectedError as error:
            if error.status == 404:
                return None
            raise


def decode_response(body: bytes, type: Any) -> Any:
    """One answer as `type`, without what of it is bad and can be done without. Raises ClerkUnavailableError for no such one."""
    try:
        return lenient_json.decode_leniently(msgspec.json.Decoder(type).decode, body)
    except lenient_json.DECODE_ERRORS as error:
        raise ClerkUnavailableError(f"Clerk's answer can't be read: {error}") from error


def _is_markup(content: bytes) -> bool:
    """Return whether a body is HTML or XML. Clerk answers with JSON alone, or with nothing."""
    return content[:64].lstrip().startswith(b"<")


def _to_error(response: httpx2.Response) -> ClerkUnavailableError | ClerkRejectedError:
    """Return what an answer that is no success means.

    A refusal is what carries Clerk's own list of errors (each of its refusals does, by its specification). Anything
    else from 300 to 499 came from something between us and Clerk, and says nothing about what Clerk has.
    """
    try:
        body = msgspec.json.decode(lenient_json.replace_invalid_characters(response.content), type=_ErrorBody)
    except lenient_json.DECODE_ERRORS:
        body = _ErrorBody()
    first = body.errors[0] if body.errors else _ErrorItem()
    if response.status_code == 429:
        wait = _parse_retry_after(response)
        words = f"Clerk is limiting us. We will try again in {wait:.0f} s; nothing is lost."
        return ClerkUnavailableError(words, retry_after=wait, is_without_effect=True, status=429)
    if response.status_code >= 500:
        words = f"Clerk failed with status {response.status_code}."
        return ClerkUnavailableError(words, retry_after=_parse_retry_after(response), status=response.status_code)
    if response.status_code < 400 or not body.errors:
        return ClerkUnavailableError(NOT_CLERK_MESSAGE.format(status=response.status_code), status=response.status_code)
    return ClerkRejectedError(
        first.long_message or first.message or f"Clerk refused with status {response.status_code}.",
        code=first.code,
        status=response.status_code,
        trace_id=body.clerk_trace_id or response.headers.get("cf-ray"),
        param=_get_parameter_name(first.meta),
    )


def _get_parameter_name(meta: Any) -> str | None:
    """The parameter that an error is about; Clerk names it in one of two ways."""
    if not isinstance(meta, dict):
        return None
    names = meta.get("param_names")
    found = meta.get("param_name") or (names[0] if isinstance(names, list) and names else None)
    return found if isinstance(found, str) else None


def _parse_retry_after(response: httpx2.Response) -> float:
    try:
        return max(1.0, min(float(response.headers.get("retry-after", "")), 3600.0))
    except ValueError:
        return 10.0
