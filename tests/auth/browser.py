"""A browser with cookies per host that follows redirects between apps, and an app with the sign-in pages."""

from collections.abc import Awaitable, Callable, Mapping
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from instep.auth.authenticator import SESSION_COOKIE, Authenticator
from instep.auth.principal import Principal
from instep.auth.sessions import SessionService
from instep.auth.sign_in_redirects import CookieJar, SignInProvider
from instep.console.sign_in_pages import SignInPages
from instep.core.templates import create_page_renderer

OURS = "http://127.0.0.1:8000"
PAGE = {"sec-fetch-dest": "document", "sec-fetch-site": "same-origin"}


class Browser:
    """A browser. Cookies belong to a host regardless of the port, as in every browser."""

    def __init__(self, apps: Mapping[str, Any]) -> None:
        self.apps = dict(apps)
        self.jars: dict[str, dict[str, str]] = {}
        self.trail: list[str] = []

    async def get(self, url: str, *, follow: bool = True, **headers: str) -> httpx2.Response:
        """Open a page."""
        return await self._visit("GET", url, None, headers, follow)

    async def post(self, url: str, form: dict[str, str], *, follow: bool = True, **headers: str) -> httpx2.Response:
        """Send a form."""
        return await self._visit("POST", url, form, headers, follow)

    async def _visit(
        self, method: str, url: str, form: dict[str, str] | None, headers: dict[str, str], follow: bool
    ) -> httpx2.Response:
        url = urljoin(OURS, url)
        for _ in range(30):
            self.trail.append(f"{method} {url}")
            response = await self._send(method, url, form, headers)
            if not (follow and response.is_redirect):
                return response
            url = urljoin(url, response.headers["location"])
            method, form = (method, form) if response.status_code == 307 else ("GET", None)
        raise AssertionError("an endless way")

    async def _send(
        self, method: str, url: str, form: dict[str, str] | None, headers: dict[str, str]
    ) -> httpx2.Response:
        parts = urlsplit(url)
        jar = self.jars.setdefault(parts.hostname or "", {})
        sent = PAGE | {name.replace("_", "-"): value for name, value in headers.items()}
        if jar:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in jar.items())
        transport = httpx2.ASGITransport(app=self.apps[parts.netloc])
        async with httpx2.AsyncClient(transport=transport) as client:
            response = await client.request(method, url, data=form, headers=sent)
        for line in response.headers.get_list("set-cookie"):
            self._keep(jar, line)
        return response

    @staticmethod
    def _keep(jar: dict[str, str], line: str) -> None:
        for name, morsel in SimpleCookie(line).items():
            if morsel["max-age"] == "0" or "1970" in morsel["expires"]:
                jar.pop(name, None)
            else:
                jar[name] = morsel.value

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies of instep's host."""
        return self.jars.setdefault(urlsplit(OURS).hostname or "", {})


def make_sign_in_pages(
    sessions: SessionService, sign_in: SignInProvider | None, *, public_url: str = OURS
) -> SignInPages:
    """Create the sign-in pages under test."""
    jar = CookieJar(is_secure=public_url.startswith("https://"))
    gate = Authenticator(sessions.db, sessions, sessions.break_glass, sign_in, cookie=jar.get_name(SESSION_COOKIE))
    pages = create_page_renderer(public_url=public_url)
    return SignInPages(pages, gate, sessions, sessions.break_glass, sign_in, public_url)


def make_app(sign_in_pages: SignInPages) -> Starlette:
    """Create an app with the sign-in pages, a home page, an organization's page and an API."""

    async def home(request: Request, principal: Principal) -> Response:
        return JSONResponse({"name": principal.name, "kind": principal.kind})

    async def organization(request: Request) -> Response:
        access = await sign_in_pages.require_access(request, request.path_params["ref"])
        return access if isinstance(access, Response) else JSONResponse({"id": access.organization_id})

    async def api(request: Request) -> Response:
        principal = await sign_in_pages.gate.get_principal(request)
        again = await sign_in_pages.gate.get_principal(request)
        return JSONResponse({"name": principal.name} if principal else None, 200 if principal is again else 500)

    home_: Callable[[Request], Awaitable[Response]] = sign_in_pages.require_sign_in(home)
    return Starlette(
        routes=[
            *sign_in_pages.routes(),
            Route("/", home_),
            Route("/team", home_, methods=["GET", "POST"]),
            Route("/organizations/{ref}", organization),
            Route("/v1/me", api),
        ]
    )
