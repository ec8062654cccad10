"""Sign-in and sign-out pages."""

import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from instep.auth import sign_in_redirects
from instep.auth.authenticator import SESSION_COOKIE, Authenticator, get_client_address
from instep.auth.break_glass import BreakGlassKey
from instep.auth.impersonation import READ_METHODS
from instep.auth.principal import DeactivationNotice, DeniedPrincipal, OrganizationAccess, Principal
from instep.auth.rate_limits import TooManyAttemptsError
from instep.auth.sessions import BREAK_GLASS_SESSION_LIFETIME, SessionService
from instep.auth.sign_in_redirects import SignInProvider
from instep.core.clock import SECOND
from instep.core.errors import InstepError
from instep.core.i18n import Localizer
from instep.core.templates import PageRenderer, is_fragment_request
from instep.domain.errors import ChangeRejectedError, InvalidSessionError
from instep.domain.models import HandshakeSignedOut

MAX_FORM_BYTES = 4_096  # bytes
PageHandler = Callable[[Request, Principal], Awaitable[Response]]


@dataclass(frozen=True)
class SignInPages:
    """Handlers of sign-in and sign-out.

    `sign_in` None: Clerk is not configured. `public_url` is the origin of the console, as browsers see it.
    """

    renderer: PageRenderer
    gate: Authenticator
    sessions: SessionService
    break_glass: BreakGlassKey
    sign_in: SignInProvider | None
    public_url: str

    @property
    def localizer(self) -> Localizer:
        """The localizer of the pages."""
        return self.renderer.words

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/sign-in", self.show, methods=["GET"]),
            Route("/sign-in/start", self.start, methods=["GET"]),
            Route("/sign-in/callback", self.callback, methods=["GET"]),
            Route("/sign-in/key", self.use_key, methods=["POST"]),
            Route("/sign-out", self.sign_out, methods=["POST"]),
        ]

    def require_sign_in(self, page: PageHandler) -> Callable[[Request], Awaitable[Response]]:
        """Return a handler that calls `page` with the signed-in principal."""

        async def handle(request: Request) -> Response:
            found = await self.require_principal(request)
            return found if isinstance(found, Response) else await page(request, found)

        return handle

    async def require_principal(self, request: Request) -> Principal | Response:
        """Return the principal of the request, or the response to send instead.

        1. Deactivated: a page that explains it.
        2. Not signed in, a browser loads a page: redirect to sign-in, and back to this page afterwards.
        3. Not signed in, htmx loads a part of a page: reload the page, which leads to 2.
        4. An API key without the scope: 403, as in the API.
        5. An impersonator, if impersonation is turned off or the change is blocked for them: 403.
        """
        caller = await self.gate.authenticate(request)
        if isinstance(caller, Principal):
            if blocked := await self.gate.check_impersonation(request, caller):
                return self._respond_blocked(request, caller, blocked)
            is_allowed = caller.allows_method(request.method)
            return caller if is_allowed else self.renderer.error(request, **build_missing_scope_error(self.localizer))
        if isinstance(caller, DeniedPrincipal):
            notice = await self.gate.find_deactivation_notice(caller.principal) if caller.is_deactivated else None
            return self.renderer.page(
                request, "console/deactivated.html", status=403, principal=caller.principal, notice=notice
            )
        if sign_in_redirects.is_page_navigation(request):
            return await self._start(request, sign_in_redirects.get_return_path(request))
        return self._respond_unauthenticated(request)

    async def require_access(self, request: Request, ref: str) -> OrganizationAccess | Response:
        """Return the caller's access to the organization `ref` (id or slug), or the response to send instead.

        An unknown organization and one without access get the same 404. A deactivated member gets a 403 that names the
        admin to contact.
        """
        principal = await self.require_principal(request)
        if isinstance(principal, Response):
            return principal
        access = await self.gate.find_access(principal, ref)
        if access is None and (notice := await self.gate.find_deactivation_notice(principal, ref)):
            return self.respond_deactivated(request, principal, [notice])
        _ = self.localizer.gettext
        text = _("There is no such organization, or you are not a member of it.")
        return access or self.renderer.error(request, status=404, title=_("Not found"), text=text)

    async def show(self, request: Request) -> Response:
        """Show the sign-in page, with the field for the break-glass key if one is configured."""
        if "signed_out" in request.query_params:
            is_everywhere = request.query_params["signed_out"] != "here"
            return self.renderer.page(request, "console/signed_out.html", is_everywhere=is_everywhere)
        return self._page(request, sign_in_redirects.sanitize_return_path(request.query_params.get("next")))

    async def start(self, request: Request) -> Response:
        """Start the sign-in; also called after Clerk's sign-in page."""
        return await self._start(request, sign_in_redirects.sanitize_return_path(request.query_params.get("next")))

    async def callback(self, request: Request) -> Response:
        """Finish the handshake.

        1. `state` must match the cookie of this browser, so that a link from elsewhere cannot sign anyone in. A browser
           that started at another name of this host (localhost) has its cookie there: it starts again here.
        2. Not signed in at Clerk: redirect to Clerk's sign-in page, and from there to `start`.
        3. Signed in: open a session, and redirect to the requested page, at a URL without tokens.
        4. A result that fails verification: start again; the attempts are counted.
        """
        return_path = sign_in_redirects.sanitize_return_path(request.query_params.get("next"))
        if self.sign_in is None:
            return self._page(request, return_path)
        state = self._jar.read(request).get(sign_in_redirects.STATE_COOKIE)
        if state is None and "again" in request.query_params:
            return self._page(request, return_path, status=401, error="cookies")
        if state is None:
            return await self._start(request, return_path, again="1")
        if not hmac.compare_digest(state.encode(), request.query_params.get("state", "").encode()):
            return await self._start(request, return_path)
        try:
            result = await self.sign_in.complete(request.query_params, _get_cookie_header(request))
        except InvalidSessionError as error:
            return await self._start(request, return_path, error=error.code)
        except InstepError:
            return self._page(request, return_path, status=503, error="down")
        if isinstance(result, HandshakeSignedOut):
            back = self._build_url("/sign-in/start", next=return_path)
            response: Response = _redirect(self.sign_in.build_sign_in_url(back, dev_browser=result.dev_browser))
        else:
            response = _redirect(return_path)
            self._jar.set(response, SESSION_COOKIE, await self.sessions.open(result.claims))
        if result.dev_browser:
            self._jar.set(response, sign_in_redirects.DEV_BROWSER_COOKIE, result.dev_browser)
        return response

    async def use_key(self, request: Request) -> Response:
        """Open a session of one hour for the holder of the break-glass key. Form: `key`, `next`."""
        if not self.renderer.is_own_request(request):
            return self._page(request, sign_in_redirects.HOME_PATH, status=403, error="foreign")
        form = await _read_form(request)
        return_path = sign_in_redirects.sanitize_return_path(form.get("next"))
        client = get_client_address(request)
        verdict = self.break_glass.evaluate(form.get("key", "").strip(), client)
        if verdict != "right":
            status = {"wrong": 401, "limited": 429, "off": 404}[verdict]
            page = self._page(request, return_path, status=status, error=verdict)
            if verdict == "limited":
                page.headers["Retry-After"] = str(
                    TooManyAttemptsError(self.break_glass.attempts.get_wait(client)).retry_after
                )
            return page
        response = _redirect(return_path)
        self._jar.set(
            response,
            SESSION_COOKIE,
            await self.sessions.open_break_glass(),
            max_age=BREAK_GLASS_SESSION_LIFETIME // SECOND,
        )
        return response

    async def sign_out(self, request: Request) -> Response:
        """End the session, here and at Clerk, and show the result."""
        if not self.renderer.is_own_request(request):
            return self._page(request, sign_in_redirects.HOME_PATH, status=403, error="foreign")
        token = self._jar.read(request).get(SESSION_COOKIE)
        is_everywhere = await self.sessions.end(token) if token else True
        response = _redirect(f"/sign-in?signed_out={'everywhere' if is_everywhere else 'here'}")
        self._jar.delete(response, SESSION_COOKIE)
        self._jar.clear_attempts(request, response)
        return response

    async def _start(self, request: Request, return_path: str, *, error: str = "loop", **params: str) -> Response:
        """Find the user that is signed in at Clerk in this browser.

        1. Too many redirects within a short time: stop with an error. 2. A cookie has a session token of Clerk's, and
        Clerk reports its session as active: open a session. 3. Else redirect to the handshake, with `params` in its
        return URL.
        """
        attempts = sign_in_redirects.get_attempt_count(self._jar.read(request), return_path)
        if self.sign_in is None or attempts >= sign_in_redirects.MAX_REDIRECT_ATTEMPTS:
            response: Response = self._page(request, return_path, status=401, error=error if self.sign_in else None)
            self._jar.clear_attempts(request, response)
            return response
        token = await self._open_session_from_cookie(request, self.sign_in) if not attempts else None
        if token:
            response = _redirect(return_path)
            self._jar.set(response, SESSION_COOKIE, token)
        else:
            response = self._redirect_to_handshake(request, self.sign_in, return_path, params)
        self._jar.set(
            response,
            sign_in_redirects.get_attempts_cookie_name(return_path),
            str(attempts + 1),
            max_age=sign_in_redirects.ATTEMPTS_LIFETIME_SECONDS,
        )
        return response

    def _redirect_to_handshake(
        self, request: Request, sign_in: SignInProvider, return_path: str, params: dict[str, str]
    ) -> Response:
        cookies = self._jar.read(request)
        state = sign_in_redirects.get_sign_in_state(cookies)
        browser = sign_in.find_dev_browser(request.query_params, _get_cookie_header(request)) or cookies.get(
            sign_in_redirects.DEV_BROWSER_COOKIE
        )
        back = self._build_url("/sign-in/callback", state=state, next=return_path, **params)
        response = _redirect(sign_in.build_handshake_url(back, dev_browser=browser), status=307)
        self._jar.set(response, sign_in_redirects.STATE_COOKIE, state, max_age=sign_in_redirects.STATE_LIFETIME_SECONDS)
        if browser:
            self._jar.set(response, sign_in_redirects.DEV_BROWSER_COOKIE, browser)
        return response

    async def _open_session_from_cookie(self, request: Request, sign_in: SignInProvider) -> str | None:
        for token in sign_in.list_session_tokens(_get_cookie_header(request))[:2]:
            try:
                return await self.sessions.adopt(await sign_in.verify(token))
            except InvalidSessionError:
                continue
            except InstepError:
                break
        return None

    def respond_deactivated(
        self, request: Request, principal: Principal, notices: Sequence[DeactivationNotice]
    ) -> Response:
        """Respond with 403 to a deactivated member, and name the admin to contact."""
        if is_fragment_request(request):
            _ = self.localizer.gettext
            title = _("Your access to %(name)s is paused", name=notices[0].organization_name)
            text = _("Ask an admin to reactivate you.")
            return self.renderer.error(request, status=403, title=title, text=text)
        return self.renderer.page(request, "console/paused.html", status=403, principal=principal, pauses=notices)

    def _respond_blocked(self, request: Request, principal: Principal, error: ChangeRejectedError) -> Response:
        _ = self.localizer.gettext
        if request.method not in READ_METHODS or is_fragment_request(request):
            text = self.localizer.translate(error)
            return self.renderer.error(request, status=error.status, title=_("Nothing was changed"), text=text)
        return self.renderer.page(request, "console/impersonated.html", status=error.status, principal=principal)

    def _respond_unauthenticated(self, request: Request) -> Response:
        if not request.headers.get("hx-request"):
            is_document = request.headers.get("sec-fetch-dest") == "document"
            return _redirect("/sign-in") if is_document else Response(status_code=401)
        page_url = urlsplit(request.headers.get("hx-current-url", ""))
        return_path = sign_in_redirects.sanitize_return_path(
            f"{page_url.path}?{page_url.query}" if page_url.query else page_url.path
        )
        return Response(status_code=401, headers={"HX-Redirect": return_path, "Cache-Control": "no-store"})

    def _page(self, request: Request, return_path: str, *, status: int = 200, error: str | None = None) -> Response:
        error = error or (None if self.sign_in else "not_configured")
        return self.renderer.page(
            request,
            "console/sign_in.html",
            status=status,
            sign_in_url=f"/sign-in/start?{urlencode({'next': return_path})}",
            has_break_glass=self.break_glass.is_configured,
            next=return_path,
            error=describe_sign_in_error(self.localizer, error) if error else None,
        )

    def _build_url(self, path: str, **query: str) -> str:
        return f"{self.public_url.rstrip('/')}{path}?{urlencode(query)}"

    @property
    def _jar(self) -> sign_in_redirects.CookieJar:
        return sign_in_redirects.CookieJar(is_secure=self.public_url.startswith("https://"))


def _redirect(url: str, status: int = 303) -> RedirectResponse:
    """Return a redirect that browsers do not cache, and that sends no referrer to the next site."""
    return RedirectResponse(url, status, headers={"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})


def _get_cookie_header(request: Request) -> str:
    return "; ".join(request.headers.getlist("cookie"))


async def _read_form(request: Request) -> dict[str, str]:
    """Return the fields of a small form, none if it is too large or malformed."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            return {}
    try:
        fields = parse_qs(body.decode(), max_num_fields=20)
    except ValueError:
        return {}
    return {name: values[0] for name, values in fields.items()}


def describe_sign_in_error(localizer: Localizer, code: str) -> str:
    """Return the sentence for an error: a key of this module, or the code of an InvalidSessionError."""
    _ = localizer.gettext
    messages = {
        "not_configured": _("Clerk authentication not configured. Set CLERK_PUBLISHABLE_KEY and CLERK_SECRET_KEY."),
        "cookies": _("Your browser did not save our cookie. Allow cookies for this site, then sign in again."),
        "down": _("Clerk is not responding. Nothing was changed. Try again in a minute."),
        "foreign": _("That request did not come from this site. Nothing was changed."),
        "wrong": _("Incorrect key."),
        "limited": _("Too many attempts. Wait a minute, then try again."),
        "off": _("Sign-in with a key is turned off."),
        "loop": _("Sign-in was redirected too many times. Allow cookies for this site, then try again."),
        "expired": _("Clerk's response has expired. Check the clock of this server, then try again."),
        "early": _("Clerk's response is not valid yet. Check the clock of this server, then try again."),
        "party": _("Clerk's response was issued for another URL. Check INSTEP_PUBLIC_URL, then try again."),
        "pending": _("Your sign-in at Clerk is not complete. Complete it there, then try again."),
    }
    unknown = _(
        "Clerk's response could not be verified (%(code)s). Check that Clerk's keys belong together.", code=code
    )
    return messages.get(code, unknown)


def build_missing_scope_error(localizer: Localizer) -> dict[str, Any]:
    """Return the arguments of the error page for an API key without the required scope."""
    _ = localizer.gettext
    text = _("This API key does not have the required scope. Nothing was changed.")
    return {"status": 403, "title": _("Missing scope"), "text": text}
