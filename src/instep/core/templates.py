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
    """A short message over the page: one of success goes by itself after 5 s, an error stays, a wait until its end."""

    title: str
    text: str = ""
    tone: Literal["success", "error", "wait"] = "success"
    request_id: str | None = None


@dataclass(frozen=True)
class PageRenderer:
    """Makes answers from templates, each with its security headers."""

    environment: Environment
    static: StaticAssets
    words: Localizer
    public_url: str
    policy: SecurityHeaders
    clock: Clock

    def page(self, request: Request, template: str, /, *, status: int = 200, **context: Any) -> HTMLResponse:
        """A whole page. A context without a `frame` is a page without navigation (signing in, errors).

        `acting` is who acts as whom in this request, where somebody does: every page says so.
        """
        nonce = secrets.token_urlsafe(16)
        acting = getattr(request.state, "instep_acting", None)
        context = {"frame": None, "status": status, "acting": acting, **context, "nonce": nonce}
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
        """A piece of a page, to be swapped in by htmx; `events` are raised in the page."""
        body = self.environment.get_template(template).render({**context, "nonce": ""})
        return HTMLResponse(
            body, status, headers=self.policy.headers("") | make_trigger_header(events) | make_retry_headers(status)
        )

    def nothing(self, *, status: int = 200, events: Mapping[str, Any] | None = None) -> Response:
        """An answer to htmx that swaps nothing and only raises `events` in the page."""
        headers = (
            self.policy.headers("") | make_trigger_header(events) | {"HX-Reswap": "none"} | make_retry_headers(status)
        )
        return Response("", status, headers=headers, media_type="text/html")

    def error(self, request: Request, *, status: int, title: str, text: str, retry_url: str | None = None) -> Response:
        """A failure as a whole page; inside an open page it is a toast that stays."""
        request_id = get_request_id(request)
        if is_fragment_request(request):
            toast = Toast(title=title, text=text, tone="error", request_id=request_id)
            return self.nothing(status=status, events={"toast": toast})
        context = {"title": title, "text": text, "retry_url": retry_url, "request_id": request_id}
        return self.page(request, "error.html", status=status, **context)

    def is_ours(self, request: Request) -> bool:
        """Whether a request that changes something comes from one of our own pages. Ask first in every such handler."""
        return is_same_origin_request(request.headers, self.public_url)

    def foreign(self, request: Request) -> Response:
        """Answer a change that no page of ours asked for."""
        _ = self.words.gettext
        text = _("The request came from another site. Nothing was changed.")
        return self.error(request, status=403, title=_("Not from here"), text=text)

    def routes(self) -> list[Route]:
        """The route of the style sheet and the scripts."""
        return self.static.routes()


def create_page_renderer(
    *, public_url: str, policy: SecurityHeaders | None = None, words: Localizer | None = None, clock: Clock = now
) -> PageRenderer:
    """The pages of every slice: each slice's `templates` folder is found by itself."""
    words, static = words or Localizer(), StaticAssets.load(PACKAGE_DIRECTORY / "static")
    folders = [PACKAGE_DIRECTORY / "kit" / "templates", *sorted(PACKAGE_DIRECTORY.glob("*/templates"))]
    environment = Environment(
        loader=FileSystemLoader(folders),
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
    """Whether htmx asks for a piece of a page (and not, going back in history, for a whole one)."""
    return request.headers.get("hx-request") == "true" and request.headers.get("hx-request-type") != "full"


def get_request_id(request: Request) -> str | None:
    """The id under which the log knows this request, where the app gave it one."""
    found = getattr(request.state, "request_id", None)
    return found if isinstance(found, str) else None


def make_trigger_header(events: Mapping[str, Any] | None) -> dict[str, str]:
    """The header that raises events in the page: `{"toast": Toast(...)}`."""
    if not events:
        return {}
    return {"HX-Trigger": json.dumps(dict(events), default=_encode_struct)}


def _encode_struct(value: object) -> dict[str, Any]:
    if isinstance(value, Struct):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    raise TypeError(f"{type(value).__name__} can't be told to the page")


def make_initials(name: str) -> str:
    """One or two letters for an avatar: `Maya Cohen` is MC, `maya@x.com` is M."""
    words = [word for word in name.partition("@")[0].replace(".", " ").split() if word[0].isalnum()]
    if not words:
        return "?"
    return (words[0][0] + (words[-1][0] if len(words) > 1 and "@" not in name else "")).upper()


def pick_avatar_color(key: str) -> int:
    """One of eight colours, always the same for the same key."""
    return crc32(key.encode()) % 8
