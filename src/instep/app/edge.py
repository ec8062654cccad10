"""What surrounds the application as plain ASGI: headers of every answer, the public address, the limit of a body."""

from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException

Scope = Any
Receive = Any
Send = Any
MAX_BODY = 1024 * 1024  # bytes, on every route: the largest body that any route has a use for is a list to invite
MAX_PARAMETERS = 2_000  # in an address; the longest of our own has the 500 rows of a page
HSTS_FOR = 365 * 24 * 3_600  # seconds


class Site:
    """The address that browsers reach this installation at (INSTEP_PUBLIC_URL), and what it means for each answer."""

    def __init__(self, public_url: str) -> None:
        parts = urlsplit(public_url)
        self._scheme, self._host = parts.scheme, parts.netloc.rpartition("@")[2].encode("idna")
        hsts = (b"strict-transport-security", f"max-age={HSTS_FOR}".encode())
        self._everywhere = [(b"x-content-type-options", b"nosniff"), *([hsts] if self._scheme == "https" else [])]
        self._api = [(b"cache-control", b"no-store")]

    def at_public_url(self, scope: Scope) -> Scope:
        """Return the scope as if it had been sent to the public address.

        Whatever the application makes of a request's address (a redirect, a link) then leads there, whatever `Host`
        the sender has put in.
        """
        headers = [header for header in scope["headers"] if header[0] != b"host"]
        return {**scope, "scheme": self._scheme, "headers": [*headers, (b"host", self._host)]}

    def with_headers(self, scope: Scope, send: Send, *, request_id: str) -> Send:
        """Return a `send` that adds the headers every answer has, where the answer does not say otherwise.

        Answers of the API show people: no cache may keep them.
        """
        own = [(b"x-request-id", request_id.encode())]
        usual = [*self._everywhere, *(self._api if scope["path"].startswith("/v1/") else [])]

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                given = message.get("headers", [])
                names = {name.lower() for name, _ in given}
                message["headers"] = [*given, *own, *(header for header in usual if header[0] not in names)]
            await send(message)

        return sending


def is_too_large(scope: Scope) -> bool:
    """Return whether the request announces a body over the limit."""
    length = _header(scope, b"content-length")
    return length.isdigit() and int(length) > MAX_BODY


def has_too_many_parameters(scope: Scope) -> bool:
    """Return whether the query has more parameters than any page or program of ours sends: reading them takes long."""
    return bool(scope["query_string"].count(b"&") >= MAX_PARAMETERS)


def limited(receive: Receive) -> Receive:
    """Return a `receive` that raises HTTPException (413) once the body is over the limit, announced or not."""
    size = 0

    async def receiving() -> Any:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MAX_BODY:
            raise HTTPException(413)
        return message

    return receiving


def without_body(scope: Scope, send: Send) -> Send:
    """Return a `send` for an answer whose request has a body that nobody reads: the connection is of no more use."""
    has_body = _header(scope, b"content-length") not in (b"", b"0") or _header(scope, b"transfer-encoding")
    if not has_body or not scope.get("http_version", "1.1").startswith("1."):
        return send

    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
        await send(message)

    return sending


def _header(scope: Scope, name: bytes) -> bytes:
    return next((value for given, value in scope["headers"] if given == name), b"")
