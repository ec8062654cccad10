"""Pages and pieces of pages: the one user of Jinja."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from instep.kit.clock import Clock, now
from instep.kit.headers import Policy, is_same_origin, retry_headers
from instep.kit.static import Static
from instep.kit.words import Words, hue, initials

PACKAGE = Path(__file__).parents[1]


class Place(Struct, frozen=True, kw_only=True):
    """Somewhere a person can switch to."""

    name: str
    href: str
    is_current: bool = False


class Section(Struct, frozen=True, kw_only=True):
    """A page of the present place, for the navigation. `badge` counts what waits for a person there.

    A `key` names the badge, so that an open page can be told of another count.
    """

    name: str
    href: str
    icon: str
    is_current: bool = False
    badge: int = 0
    key: str = ""


class Frame(Struct, frozen=True, kw_only=True):
    """What surrounds a page: who is signed in, where they are, and where else they can go.

    `sections` are the pages of the present place, `installation` those above all places. `at` names the present
    place to the search; with `has_more_places` not all of them are in `places`. `attention` is where the badges and the
    notice are read again (for admins alone), `notice` what admins are told on every page, `may_mend` who may act on it.
    """

    person: str
    email: str | None = None
    image_url: str | None = None
    at: str = ""
    places: tuple[Place, ...] = ()
    has_more_places: bool = False
    sections: tuple[Section, ...] = ()
    installation: tuple[Section, ...] = ()
    attention: str = ""
    notice: str = ""
    may_mend: bool = False

    @property
    def place(self) -> Place | None:
        """The place that is shown now."""
        return next((place for place in self.places if place.is_current), None)


class Toast(Struct, frozen=True, kw_only=True):
    """A short message over the page: one of success goes by itself after 5 s, an error stays, a wait until its end."""

    title: str
    text: str = ""
    tone: Literal["success", "error", "wait"] = "success"
    request_id: str | None = None


@dataclass(frozen=True)
class Pages:
    """Makes answers from templates, each with its security headers."""

    environment: Environment
    static: Static
    words: Words
    public_url: str
    policy: Policy
    clock: Clock

    def page(self, request: Request, template: str, /, *, status: int = 200, **context: Any) -> HTMLResponse:
        """A whole page. A context without a `frame` is a page without navigation (signing in, errors).

        `acting` is who acts as whom in this request, where somebody does: every page says so.
        """
        nonce = secrets.token_urlsafe(16)
        acting = getattr(request.state, "instep_acting", None)
        context = {"frame": None, "status": status, "acting": acting, **context, "nonce": nonce}
        body = self.environment.get_template(template).render(context)
        return HTMLResponse(body, status, headers=self.policy.headers(nonce) | retry_headers(status))

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
        return HTMLResponse(body, status, headers=self.policy.headers("") | trigger(events) | retry_headers(status))

    def nothing(self, *, status: int = 200, events: Mapping[str, Any] | None = None) -> Response:
        """An answer to htmx that swaps nothing and only raises `events` in the page."""
        headers = self.policy.headers("") | trigger(events) | {"HX-Reswap": "none"} | retry_headers(status)
        return Response("", status, headers=headers, media_type="text/html")

    def error(self, request: Request, *, status: int, title: str, text: str, retry_url: str | None = None) -> Response:
        """A failure as a whole page; inside an open page it is a toast that stays."""
        request_id = request_id_of(request)
        if is_partial(request):
            toast = Toast(title=title, text=text, tone="error", request_id=request_id)
            return self.nothing(status=status, events={"toast": toast})
        context = {"title": title, "text": text, "retry_url": retry_url, "request_id": request_id}
        return self.page(request, "error.html", status=status, **context)

    def is_ours(self, request: Request) -> bool:
        """Whether a request that changes something comes from one of our own pages. Ask first in every such handler."""
        return is_same_origin(request.headers, self.public_url)

    def foreign(self, request: Request) -> Response:
        """Answer a change that no page of ours asked for."""
        _ = self.words.gettext
        text = _("The request came from another site. Nothing was changed.")
        return self.error(request, status=403, title=_("Not from here"), text=text)

    def routes(self) -> list[Route]:
        """The route of the style sheet and the scripts."""
        return self.static.routes()


def make_pages(
    *, public_url: str, policy: Policy | None = None, words: Words | None = None, clock: Clock = now
) -> Pages:
    """The pages of every slice: each slice's `templates` folder is found by itself."""
    words, static = words or Words(), Static.load(PACKAGE / "static")
    folders = [PACKAGE / "kit" / "templates", *sorted(PACKAGE.glob("*/templates"))]
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
    environment.globals |= {"static": static.url, "words": words, "initials": initials, "hue": hue}
    return Pages(environment, static, words, public_url, policy or Policy(), clock)


def is_partial(request: Request) -> bool:
    """Whether htmx asks for a piece of a page (and not, going back in history, for a whole one)."""
    return request.headers.get("hx-request") == "true" and request.headers.get("hx-request-type") != "full"


def request_id_of(request: Request) -> str | None:
    """The id under which the log knows this request, where the app gave it one."""
    found = getattr(request.state, "request_id", None)
    return found if isinstance(found, str) else None


def trigger(events: Mapping[str, Any] | None) -> dict[str, str]:
    """The header that raises events in the page: `{"toast": Toast(...)}`."""
    if not events:
        return {}
    return {"HX-Trigger": json.dumps(dict(events), default=_plain)}


def _plain(value: object) -> dict[str, Any]:
    if isinstance(value, Struct):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    raise TypeError(f"{type(value).__name__} can't be told to the page")
