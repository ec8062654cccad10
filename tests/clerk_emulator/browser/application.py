"""An application as its browser meets it: one page with Clerk's own scripts, which talk to an emulator."""

import json
import threading
from collections.abc import Callable
from typing import Any

import httpx2
import jwt
import uvicorn
from playwright.sync_api import Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from clerk_emulator.pytest_plugin import Clerk
from clerk_emulator.serve.server import bind, server_url

HOST = "127.0.0.1"
PATIENCE = 10
# Clerk's script keeps to itself what it would tell Clerk where it sees that a program drives the browser.
UNDRIVEN = "Object.defineProperty(Navigator.prototype, 'webdriver', {get: () => false})"
PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>An application</title><link rel="icon" href="data:,"></head>
<body>
<main id="here"></main>
<script src="{fapi}/npm/@clerk/clerk-js@6/dist/clerk.browser.js" crossorigin="anonymous"
  data-clerk-publishable-key="{key}" data-clerk-proxy-url="{fapi}"></script>
<script src="{fapi}/npm/@clerk/ui@1/dist/ui.browser.js" crossorigin="anonymous"></script>
<script>
  window.ready = Clerk.load({telemetry: false, ui: {ClerkUI: window.__internal_ClerkUICtor}, ...{options}});
  window.show = async (component, props) => {
    await window.ready;
    Clerk["mount" + component](document.getElementById("here"), props);
  };
</script>
</body>
</html>"""


class Application:
    """An application on a port of its own, with the same page at every path; `clerk` is the emulator behind it.

    `options` are given to `Clerk.load()`; `proxy` is what the page takes for `proxyUrl`: the emulator itself, from
    another port, unless a test says otherwise. `html` is the page.
    """

    def __init__(self, clerk: Clerk) -> None:
        self.clerk = clerk
        self.proxy = f"{clerk.url}/__clerk"
        self.options: dict[str, Any] = {}
        self.html = PAGE
        self._listener = bind(HOST, 0)
        self.origin = server_url(HOST, self._listener)
        config = uvicorn.Config(
            Starlette(
                routes=[
                    Route("/__clerk/{rest:path}", self._pass_on, methods=["GET", "POST"]),
                    Route("/{rest:path}", self._page),
                ]
            ),
            log_level="warning",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=lambda: self._server.run(sockets=[self._listener]), daemon=True)
        self._thread.start()

    def _page(self, request: Request) -> Response:
        key, options = self.clerk.publishable_key, json.dumps(self.options)
        html = self.html.replace("{fapi}", self.proxy).replace("{key}", key).replace("{options}", options)
        return HTMLResponse(html)

    async def _pass_on(self, request: Request) -> Response:
        """Answer what the emulator answers: for a test with `/__clerk` as its proxy, on the page's own origin."""
        address = f"{self.clerk.url}/{request.path_params['rest']}"
        headers = [pair for pair in request.headers.items() if pair[0] not in ("host", "content-length")]
        async with httpx2.AsyncClient() as http:
            got = await http.request(
                request.method,
                address,
                params=dict(request.query_params),
                headers=headers,
                content=await request.body(),
            )
        answer = Response(got.content, got.status_code)
        for name, value in got.headers.multi_items():
            if name not in ("content-length", "content-encoding", "date", "server"):
                answer.headers.append(name, value)
        return answer

    def close(self) -> None:
        """Stop serving."""
        self._server.should_exit = True
        self._thread.join(PATIENCE)
        self._listener.close()

    def visit(self, page: Page, path: str = "/") -> None:
        """Open the page and wait until Clerk is loaded."""
        page.add_init_script(UNDRIVEN)
        page.goto(self.origin + path)
        page.evaluate("window.ready")

    def show(self, page: Page, component: str, path: str = "/", **props: Any) -> None:
        """Open the page with one of Clerk's components: `SignIn`, `UserButton`, `OrganizationSwitcher` and so on."""
        self.visit(page, path)
        self.mount(page, component, **props)

    def mount(self, page: Page, component: str, **props: Any) -> None:
        """Show one of Clerk's components on the page that is open."""
        page.evaluate("([component, props]) => window.show(component, props)", [component, props])

    def sign_in(self, page: Page, user_id: str) -> None:
        """Sign a user in on the emulator's hosted page, without Clerk's scripts."""
        answer = page.request.post(f"{self.clerk.url}/sign-in", form={"user_id": user_id}, max_redirects=0)
        assert answer.status == 303, answer.text()

    def sign_out(self, page: Page, options: str = "{}") -> None:
        """Sign out through Clerk's script, and wait for the page to which it redirects."""
        with page.expect_navigation():
            page.evaluate(f"void Clerk.signOut({options})")
        page.evaluate("window.ready")

    def claims(self, page: Page) -> dict[str, Any] | None:
        """Return the claims of the page's session token, its signature verified; None if signed out."""
        token = page.evaluate("async () => { await window.ready; return await Clerk.session?.getToken() ?? null }")
        return jwt.decode(token, self.clerk.jwt_key, ["RS256"]) if token else None

    def api(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """Call the Backend API."""
        url, headers = f"{self.clerk.url}/v1{path}", self.clerk.headers
        return httpx2.request(method, url, headers=headers, json=body, params=query).raise_for_status().json()

    def events(self) -> list[tuple[str, Any]]:
        """Return type and data of all events, oldest first."""
        return [(event["type"], event["data"]) for event in self.clerk.events]

    def last(self, type_: str) -> Any:
        """Return the data of the newest event of a type."""
        return [data for found, data in self.events() if found == type_][-1]


def wait_until(page: Page, fact: str) -> None:
    """Wait until a condition is true; during a navigation the page has no `Clerk` yet."""
    page.wait_for_function(f"window.Clerk?.loaded && {fact}")


MakeApplication = Callable[..., Application]
