"""Render pages and fragments from Jinja templates."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from instep.core.clock import Clock, now
from instep.core.http import SecurityHeaders, is_same_origin_request, make_retry_headers
from instep.core.i18n import Localizer
from instep.core.static_files import StaticAssets

PACKAGE_DIRECTORY = Path(__file__).parents[1]


class Toast(Struct, frozen=True, kw_only=True):
    """A short notification on the page: success disappears after 5 s, an error stays, a wait ends with its task."""

    title: str
    text: str = ""
    tone: Literal["success", "error", "wait"] = "success"
    request_id: str | None = None


@dataclass(frozen=True)
class PageRenderer:
    """Renders responses from templates, each with its security headers."""

    environment: Environment
    static: StaticAssets
    words: Localizer
    public_url: str
    policy: SecurityHeaders
    clock: Clock

    def page(self, request: Request, template: str, /, *, status: int = 200, **context: Any) -> HTMLResponse:
        """Render a whole page. Without a `frame` in the context it has no navigation (sign-in, errors).

        `acting` is the impersonation of this request, if there is one; every page shows it.
        """
        nonce = secrets.token_urlsafe(16)
        impersonation = getattr(request.state, "instep_acting", None)
        context = {"frame": None, "status": status, "acting": impersonation, **context, "nonce": nonce}
        body = self.environment.get_template(template).render(context)
        return HTMLResponse(body, status, headers=self.policy.headers(nonce) | make_retry_headers(status))

    def fragment(
        self,
        request: Request,
        template: str,
        /,
        *,
        status: int = 200,
        events: Mapping[str, Any] | None = None,
        **context: Any,
    ) -> HTMLResponse:
        """Render a fragment of a page for htmx to swap in; `events` are triggered in the page."""
        body = self.environment.get_template(template).render({**context, "nonce": ""})
        return HTMLResponse(
            body, status, headers=self.policy.headers("") | make_trigger_header(events) | make_retry_headers(status)
        )

    def no_content(self, *, status: int = 200, events: Mapping[str, Any] | None = None) -> Response:
        """Return a response to htmx that swaps nothing and only triggers `events` in the page."""
        headers = (
            self.policy.headers("") | make_trigger_header(events) | {"HX-Reswap": "none"} | make_retry_headers(status)
        )
        return Response("", status, headers=headers, media_type="text/html")

    def error(self, request: Request, *, status: int, title: str, text: str, retry_url: str | None = None) -> Response:
        """Render an error as a whole page, or as a persistent toast for a request of an open page."""
        request_id = get_request_id(request)
        if is_fragment_request(request):
            toast = Toast(title=title, text=text, tone="error", request_id=request_id)
            return self.no_content(status=status, events={"toast": toast})
        context = {"title": title, "text": text, "retry_url": retry_url, "request_id": request_id}
        return self.page(request, "error.html", status=status, **context)

    def is_own_request(self, request: Request) -> bool:
        """Return whether a request that changes something comes from one of our own pages.

        Every handler of such requests checks it first.
        """
        return is_same_origin_request(request.headers, self.public_url)

    def reject_cross_origin(self, request: Request) -> Response:
        """Return the response to a change that was requested from another site."""
        _ = self.words.gettext
        text = _("The request came from another site. Nothing was changed.")
        return self.error(request, status=403, title=_("Request blocked"), text=text)

    def routes(self) -> list[Route]:
        """Return the route of the style sheet and the scripts."""
        return self.static.routes()


def create_page_renderer(
    *, public_url: str, policy: SecurityHeaders | None = None, words: Localizer | None = None, clock: Clock = now
) -> PageRenderer:
    """Return the renderer of all pages, with the templates of every package's `templates` folder."""
    words, static = words or Localizer(), StaticAssets.load(PACKAGE_DIRECTORY / "static")
    environment = Environment(
        loader=FileSystemLoader(sorted(PACKAGE_DIRECTORY.glob("*/templates"))),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        extensions=["jinja2.ext.i18n"],
    )
    environment.install_gettext_translations(words.catalog, newstyle=True)  # type: ignore[attr-defined]  # added by the extension
    environment.globals |= {"static": static.url, "words": words, "initials": make_initials, "hue": pick_avatar_color}
    return PageRenderer(environment, static, words, public_url, policy or SecurityHeaders(), clock)


def is_fragment_request(request: Request) -> bool:
    """Return whether htmx requests a fragment (and not a whole page, when going back in history)."""
    return request.headers.get("hx-request") == "true" and request.headers.get("hx-request-type") != "full"


def get_request_id(request: Request) -> str | None:
    """Return the identifier of this request in the log, if the application set one."""
    request_id = getattr(request.state, "request_id", None)
    return request_id if isinstance(request_id, str) else None


def make_trigger_header(events: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the header that triggers events in the page: `{"toast": Toast(...)}`."""
    if not events:
        return {}
    return {"HX-Trigger": json.dumps(dict(events), default=_encode_struct)}


def _encode_struct(value: object) -> dict[str, Any]:
    if isinstance(value, Struct):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    raise TypeError(f"{type(value).__name__} can't be sent to the page")


def make_initials(name: str) -> str:
    """Return one or two letters for an avatar: `Maya Cohen` is MC, `maya@x.com` is M."""
    words = [word for word in name.partition("@")[0].replace(".", " ").split() if word[0].isalnum()]
    if not words:
        return "?"
    return (words[0][0] + (words[-1][0] if len(words) > 1 and "@" not in name else "")).upper()


def pick_avatar_color(key: str) -> int:
    """Return one of eight color numbers, the same for the same key."""
    return crc32(key.encode()) % 8
