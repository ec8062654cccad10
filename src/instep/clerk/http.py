"""HTTP requests to Clerk's Backend API and the mapping of its error responses."""

import re
from copy import copy
from typing import Any

import httpx2
import msgspec

from instep.clerk import lenient_json
from instep.clerk.rate_limiter import RATE_LIMITED_MESSAGE, ClerkRateLimiter, RequestPriority
from instep.domain.errors import ClerkRejectedError, ClerkUnavailableError

API_VERSION = "2026-05-12"
UNTHROTTLED_PATHS = frozenset({"jwks"})
NOT_CLERK_MESSAGE = "The response with status {status} is not from Clerk: check CLERK_API_URL and proxies."
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
    """HTTP client of one instance's Backend API. See ClerkClient for the arguments."""

    def __init__(
        self,
        secret_key: str | None,
        *,
        api_url: str = "https://api.clerk.com",
        timeout: float = 10.0,
        transport: httpx2.AsyncBaseTransport | None = None,
        rate_limiter: ClerkRateLimiter | None = None,
    ) -> None:
        self._is_configured = bool(secret_key)
        self._rate_limiter = rate_limiter
        self._priority = RequestPriority.EDIT
        self._http = httpx2.AsyncClient(
            base_url=f"{api_url.rstrip('/').removesuffix('/v1')}/v1/",
            headers={"Authorization": f"Bearer {secret_key}", "Clerk-API-Version": API_VERSION},
            timeout=timeout,
            transport=transport,
        )

    async def close(self) -> None:
        """Close the connections and the rate limiter."""
        await self._http.aclose()
        if self._rate_limiter is not None:
            await self._rate_limiter.close()

    def with_priority(self, priority: RequestPriority) -> "ClerkHttpClient":
        """Return a client that sends requests with another priority; the default is EDIT. Connections are shared."""
        other = copy(self)
        other._priority = priority
        return other

    async def send(self, method: str, path: str, *, params: QueryParams | None = None, json: Any = None) -> bytes:
        """Send a request once the rate limiter grants a permit; return the body of the successful response.

        Identifiers in `path` are untrusted: a path with characters that no id has is rejected before it is sent.

        Raises:
            ClerkUnavailableError: no response, status 429 or 5xx, or a response that is not from Clerk.
            ClerkRejectedError: Clerk rejected the request, or the request can't be sent.
        """
        if not self._is_configured:
            raise ClerkRejectedError(CLERK_NOT_CONFIGURED_MESSAGE, code="not_configured", status=401)
        if not _PATH_PATTERN.fullmatch(path):
            raise ClerkRejectedError("Not found in Clerk.", code="resource_not_found", status=404)
        if self._rate_limiter is not None and path not in UNTHROTTLED_PATHS:
            await self._rate_limiter.take(self._priority)
        try:
            response = await self._http.request(method, path, params=params, json=json)
        except (UnicodeEncodeError, OverflowError, ValueError) as error:  # not sent: it can't be encoded
            message = "This can't be sent to Clerk: it contains an invalid character or a number out of range."
            raise ClerkRejectedError(message, code="form_param_format_invalid", status=422) from error
        except httpx2.HTTPError as error:
            is_without_effect = isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout))
            raise ClerkUnavailableError(
                f"Clerk did not answer ({type(error).__name__}).", is_without_effect=is_without_effect
            ) from error
        if response.is_success:
            if _is_markup(response.content):
                raise ClerkUnavailableError(
                    NOT_CLERK_MESSAGE.format(status=response.status_code), status=response.status_code
                )
            return lenient_json.replace_invalid_characters(response.content)
        failure = _to_error(response)
        if self._rate_limiter is not None and response.status_code == 429:
            await self._rate_limiter.block_all(
                failure.retry_after or 1.0 if isinstance(failure, ClerkUnavailableError) else 1.0
            )
        raise failure

    async def find(self, path: str, *, params: QueryParams | None = None) -> bytes | None:
        """Return the body of a GET response; None for a 404."""
        try:
            return await self.send("GET", path, params=params)
        except ClerkRejectedError as error:
            if error.status == 404:
                return None
            raise


def decode_response(body: bytes, type_: Any) -> Any:
    """Decode a response leniently. Raises ClerkUnavailableError if it does not fit the type."""
    try:
        return lenient_json.decode_leniently(msgspec.json.Decoder(type_).decode, body)
    except lenient_json.DECODE_ERRORS as error:
        raise ClerkUnavailableError(f"Clerk's response can't be read: {error}") from error


def _is_markup(content: bytes) -> bool:
    """Return whether a body is HTML or XML. Clerk sends JSON or nothing."""
    return content[:64].lstrip().startswith(b"<")


def _to_error(response: httpx2.Response) -> ClerkUnavailableError | ClerkRejectedError:
    """Map an unsuccessful response to an exception.

    A rejection carries Clerk's list of errors, as its specification requires. Any other status from 300 to 499 came
    from an intermediary and says nothing about Clerk's state.
    """
    try:
        body = msgspec.json.decode(lenient_json.replace_invalid_characters(response.content), type=_ErrorBody)
    except lenient_json.DECODE_ERRORS:
        body = _ErrorBody()
    first = body.errors[0] if body.errors else _ErrorItem()
    if response.status_code == 429:
        wait = _parse_retry_after(response)
        message = RATE_LIMITED_MESSAGE.format(wait=wait)
        return ClerkUnavailableError(message, retry_after=wait, is_without_effect=True, status=429)
    if response.status_code >= 500:
        message = f"Clerk failed with status {response.status_code}."
        return ClerkUnavailableError(message, retry_after=_parse_retry_after(response), status=response.status_code)
    if response.status_code < 400 or not body.errors:
        return ClerkUnavailableError(NOT_CLERK_MESSAGE.format(status=response.status_code), status=response.status_code)
    return ClerkRejectedError(
        first.long_message or first.message or f"Clerk rejected the request with status {response.status_code}.",
        code=first.code,
        status=response.status_code,
        trace_id=body.clerk_trace_id or response.headers.get("cf-ray"),
        param=_get_parameter_name(first.meta),
    )


def _get_parameter_name(meta: Any) -> str | None:
    """Return the parameter that an error is about; Clerk names it in one of two ways."""
    if not isinstance(meta, dict):
        return None
    names = meta.get("param_names")
    found = meta.get("param_name") or (names[0] if isinstance(names, list) and names else None)
    return found if isinstance(found, str) else None


def _parse_retry_after(response: httpx2.Response) -> float:
    """Return the seconds of a Retry-After header, between 1 and 3,600; 10 if it is missing or invalid."""
    try:
        return max(1.0, min(float(response.headers.get("retry-after", "")), 3600.0))
    except ValueError:
        return 10.0
