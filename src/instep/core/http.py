"""Security headers, origin checks and problem responses."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any
from urllib.parse import urlsplit

import msgspec
from starlette.responses import Response

_DEFAULT_PORTS = {"http": 80, "https": 443}
COMMON_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
SERVICE_UNAVAILABLE = 503
DEFAULT_RETRY_AFTER = 5  # seconds


@dataclass(frozen=True)
class SecurityHeaders:
    """Other hosts that a page may use; the browser blocks every host that is not listed.

    `form_hosts` are possible final targets of forms (signing out redirects to Clerk); `frame_ancestors` may embed our
    pages.
    """

    form_hosts: tuple[str, ...] = ()
    image_hosts: tuple[str, ...] = ()
    frame_ancestors: tuple[str, ...] = ()

    def content_security(self, nonce: str) -> str:
        """Return the Content-Security-Policy of a page; only scripts with its nonce run."""
        directives = {
            "default-src": ["'none'"],
            "script-src": [f"'nonce-{nonce}'", "'strict-dynamic'"],
            "style-src": ["'self'"],
            "img-src": ["'self'", "data:", *self.image_hosts],
            "font-src": ["'self'"],
            "connect-src": ["'self'"],
            "form-action": ["'self'", *self.form_hosts],
            "frame-ancestors": list(self.frame_ancestors) or ["'none'"],
            "base-uri": ["'none'"],
            "object-src": ["'none'"],
        }
        return "; ".join(" ".join([name, *values]) for name, values in directives.items())

    def headers(self, nonce: str) -> dict[str, str]:
        """Return all headers of a page or fragment. Never cached: it shows personal data."""
        framing = {} if self.frame_ancestors else {"X-Frame-Options": "DENY"}
        return {
            **COMMON_SECURITY_HEADERS,
            **framing,
            "Content-Security-Policy": self.content_security(nonce),
            "Cache-Control": "no-store",
            "Vary": "HX-Request",
        }


def make_retry_headers(status: int, seconds: float | None = None) -> dict[str, str]:
    """Return `Retry-After` (whole seconds, 5 by default) for a 503; nothing for another status."""
    return {"Retry-After": str(max(1, ceil(seconds or DEFAULT_RETRY_AFTER)))} if status == SERVICE_UNAVAILABLE else {}


def is_same_origin_request(headers: Mapping[str, str], public_url: str) -> bool:
    """Return whether a request that changes something comes from one of our own pages.

    `Sec-Fetch-Site` is set by the browser and no page can forge it; browsers send it over HTTPS and on loopback.
    Otherwise `Origin` must be that of `public_url`. A request with neither is refused. `headers` ignore case.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = _split_origin(headers.get("origin") or "")
    return origin is not None and origin == _split_origin(public_url)


def normalize_origin(url: str) -> str:
    """Return the origin of a URL as browsers write it (RFC 6454, 6.2): lower case, no default port, no path.

    Raises ValueError for a URL without scheme and host.
    """
    parts = urlsplit(url.strip())
    scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
    if not scheme or not host or any(character in host for character in "*, ") or parts.username is not None:
        raise ValueError("must be an origin such as https://app.example.com")
    authority = f"[{host}]" if ":" in host else host
    return f"{scheme}://{authority}" if port in (None, _DEFAULT_PORTS.get(scheme)) else f"{scheme}://{authority}:{port}"


def _split_origin(url: str) -> tuple[str, str, int | None] | None:
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    return (parts.scheme, parts.hostname, port) if parts.hostname else None


def make_problem_response(
    status: int,
    title: str,
    *,
    code: str,
    detail: str | None = None,
    headers: dict[str, str] | None = None,
    **extensions: Any,
) -> Response:
    """Return a response of type application/problem+json.

    `code` is a stable identifier for programs; `extensions` are further members.
    """
    body = {"type": "about:blank", "title": title, "status": status, "code": code}
    if detail:
        body["detail"] = detail
    body |= {name: value for name, value in extensions.items() if value is not None}
    return Response(
        msgspec.json.encode(body),
        status,
        media_type="application/problem+json",
        headers=make_retry_headers(status) | (headers or {}),
    )
