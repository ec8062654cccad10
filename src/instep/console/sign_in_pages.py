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
    """Signing in and out. `sign_in` None: Clerk is not configured. `public_url` is our origin, as browsers see it."""

    pages: PageRenderer
    gate: Authenticator
    sessions: SessionService
    break_glass: BreakGlassKey
    sign_in: SignInProvider | None
    public_url: str

    def routes(self) -> list[Route]:
        """All routes of this slice."""
        return [
            Route("/sign-in", self.show, methods=["GET"]),
            Route("/sign-in/start", self.start, methods=["GET"]),
            Route("/sign-in/callback", self.callback, methods=["GET"]),
            Route("/sign-in/key", self.use_key, methods=["POST"]),
            Route("/sign-out", self.sign_out, methods=["POST"]),
        ]

    def require_sign_in(self, page: PageHandler) -> Callable[[Request], Awaitable[Response]]:
        """The handler of a route that only someone who is signed in may see: `page` is given who it is."""

        async def handle(request: Request) -> Response:
            found = await self.require_principal(request)
            return found if isinstance(found, Response) else await page(request, found)

        return handle

    async def require_principal(self, request: Request) -> Principal | Response:
        """Who sends this request, or what to answer instead.

        1. Barred: a page that says so.
        2. Nobody, and a browser asks for a page: off to sign in and back to this very page.
        3. Nobody, and a part of an open page is asked for: have the page loaded anew, which leads to 2.
        4. A program whose key lacks the scope: a page does for it no more than the API does.
        5. Somebody who acts as another person, where that is switched off, or for a change that it blocks.
        """
        asker = await self.gate.authenticate(request)
        if isinstance(asker, Principal):
            if blocked := await self.gate.check_impersonation(request, asker):
                return self._blocked(request, asker, blocked)
            is_right = asker.allows_method(request.method)
            return asker if is_right else self.pages.error(request, **build_missing_scope_error(self.pages.words))
        if isinstance(asker, DeniedPrincipal):
            pause = await self.gate.find_deactivation_notice(asker.principal) if asker.is_deactivated else None
            return self.pages.page(request, "console/barred.html", status=403, principal=asker.principal, pause=pause)
        if sign_in_redirects.is_page_navigation(request):
            return await self._begin(request, sign_in_redirects.get_return_path(request))
        return self._respond_unauthenticated(request)

    async def require_access(self, request: Request, ref: str) -> OrganizationAccess | Response:
        """What whoever sends this request may do in the organization `ref`, or what to answer instead.

        A 404 is the same whether there is no such organization or it is not theirs to see; who is deactivated there is
        told so, and whom to ask.
        """
        principal = await self.require_principal(request)
        if isinstance(principal, Response):
            return principal
        access = await self.gate.find_access(principal, ref)
        if access is None and (pause := await self.gate.find_deactivation_notice(principal, ref)):
            return self.paused(request, principal, [pause])
        _ = self.pages.words.gettext
        text = _("There is no such organization, or you are not in it.")
        return access or self.pages.error(request, status=404, title=_("Not found"), text=text)

    async def show(self, request: Request) -> Response:
        """GET /sign-in: the page with the button, and the field for the key where there is one."""
        if "signed_out" in request.query_params:
            is_everywhere = request.query_params["signed_out"] != "here"
            return self.pages.page(request, "console/signed_out.html", is_everywhere=is_everywhere)
        return self._page(request, sign_in_redirects.sanitize_return_path(request.query_params.get("next")))

    async def start(self, request: Request) -> Response:
        """GET /sign-in/start?next=: begin, also after Clerk's sign-in page."""
        return await self._begin(request, sign_in_redirects.sanitize_return_path(request.query_params.get("next")))

    async def callback(self, request: Request) -> Response:
        """GET /sign-in/callback: back from the handshake.

        1. It must have been begun in this browser (`state`): a link from elsewhere signs nobody in. A browser that
           came by another name of this host (localhost) has its cookie there: it begins once more, here.
        2. Nobody is signed in at Clerk: on to its sign-in page, and from there to `start`.
        3. Someone is: a session of our own, and on to where they wanted to go, at an address without tokens.
        4. An answer that can't be believed: begin again; the tries are counted.
        """
        onward = sign_in_redirects.sanitize_return_path(request.query_params.get("next"))
        if self.sign_in is None:
            return self._page(request, onward)
        state = self._jar.read(request).get(sign_in_redirects.STATE_COOKIE)
        if state is None and "again" in request.query_params:
            return self._page(request, onward, status=401, why="cookies")
        if state is None:
            return await self._begin(request, onward, again="1")
        if not hmac.compare_digest(state.encode(), request.query_params.get("state", "").encode()):
            return await self._begin(request, onward)
        try:
            answer = await self.sign_in.complete(request.query_params, _get_cookie_header(request))
        except InvalidSessionError as refused:
            return await self._begin(request, onward, because=refused.code)
        except InstepError:
            return self._page(request, onward, status=503, why="down")
        if isinstance(answer, HandshakeSignedOut):
            back = self._build_url("/sign-in/start", next=onward)
            response: Response = _redirect(self.sign_in.build_sign_in_url(back, dev_browser=answer.dev_browser))
        else:
            response = _redirect(onward)
            self._jar.set(response, SESSION_COOKIE, await self.sessions.open(answer.claims))
        if answer.dev_browser:
            self._jar.set(response, sign_in_redirects.DEV_BROWSER_COOKIE, answer.dev_browser)
        return response

    async def use_key(self, request: Request) -> Response:
        """POST /sign-in/key with `key` (and `next`): a session of an hour for the holder of the break-glass key."""
        if not self.pages.is_own_request(request):
            return self._page(request, sign_in_redirects.HOME_PATH, status=403, why="foreign")
        form = await _read_form(request)
        onward = sign_in_redirects.sanitize_return_path(form.get("next"))
        client = get_client_address(request)
        verdict = self.break_glass.evaluate(form.get("key", "").strip(), client)
        if verdict != "right":
            status = {"wrong": 401, "limited": 429, "off": 404}[verdict]
            page = self._page(request, onward, status=status, why=verdict)
            if verdict == "limited":
                page.headers["Retry-After"] = str(
                    TooManyAttemptsError(self.break_glass.attempts.get_wait(client)).retry_after
                )
            return page
        response = _redirect(onward)
        self._jar.set(
            response,
            SESSION_COOKIE,
            await self.sessions.open_break_glass(),
            max_age=BREAK_GLASS_SESSION_LIFETIME // SECOND,
        )
        return response

    async def sign_out(self, request: Request) -> Response:
        """POST /sign-out: end the session here and at Clerk, and say so."""
        if not self.pages.is_own_request(request):
            return self._page(request, sign_in_redirects.HOME_PATH, status=403, why="foreign")
        token = self._jar.read(request).get(SESSION_COOKIE)
        is_everywhere = await self.sessions.end(token) if token else True
        response = _redirect(f"/sign-in?signed_out={'everywhere' if is_everywhere else 'here'}")
        self._jar.delete(response, SESSION_COOKIE)
        self._jar.clear_attempts(request, response)
        return response

    async def _begin(self, request: Request, onward: str, *, because: str = "loop", **marks: str) -> Response:
        """Find out who is signed in in this browser.

        1. Sent round too often just now: stop, and say so. 2. A session token of Clerk's lies in the cookies, and
        Clerk calls its session active: that is enough. 3. Else the handshake; `marks` come back from it.
        """
        tries = sign_in_redirects.get_attempt_count(self._jar.read(request), onward)
        if self.sign_in is None or tries >= sign_in_redirects.MAX_REDIRECT_ATTEMPTS:
            response: Response = self._page(request, onward, status=401, why=because if self.sign_in else None)
            self._jar.clear_attempts(request, response)
            return response
        token = await self._open_session_from_cookie(request, self.sign_in) if not tries else None
        if token:
            response = _redirect(onward)
            self._jar.set(response, SESSION_COOKIE, token)
        else:
            response = self._leave(request, self.sign_in, onward, marks)
        self._jar.set(
            response,
            sign_in_redirects.get_attempts_cookie_name(onward),
            str(tries + 1),
            max_age=sign_in_redirects.ATTEMPTS_LIFETIME_SECONDS,
        )
        return response

    def _leave(self, request: Request, sign_in: SignInProvider, onward: str, marks: dict[str, str]) -> Response:
        ours = self._jar.read(request)
        state = sign_in_redirects.get_sign_in_state(ours)
        browser = sign_in.find_dev_browser(request.query_params, _get_cookie_header(request)) or ours.get(
            sign_in_redirects.DEV_BROWSER_COOKIE
        )
        back = self._build_url("/sign-in/callback", state=state, next=onward, **marks)
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

    def paused(self, request: Request, who: Principal, pauses: Sequence[DeactivationNotice]) -> Response:
        """Answer 403 to somebody whose membership is deactivated, with whom to ask."""
        if is_fragment_request(request):
            _ = self.pages.words.gettext
            title = _("Your access to %(name)s is paused", name=pauses[0].organization_name)
            text = _("Ask an admin to reactivate you.")
            return self.pages.error(request, status=403, title=title, text=text)
        return self.pages.page(request, "console/paused.html", status=403, principal=who, pauses=pauses)

    def _blocked(self, request: Request, who: Principal, blocked: ChangeRejectedError) -> Response:
        _ = self.pages.words.gettext
        if request.method not in READ_METHODS or is_fragment_request(request):
            text = self.pages.words.translate(blocked)
            return self.pages.error(request, status=blocked.status, title=_("Nothing was changed"), text=text)
        return self.pages.page(request, "console/impersonated.html", status=blocked.status, principal=who)

    def _respond_unauthenticated(self, request: Request) -> Response:
        if not request.headers.get("hx-request"):
            is_form = request.headers.get("sec-fetch-dest") == "document"
            return _redirect("/sign-in") if is_form else Response(status_code=401)
        shown = urlsplit(request.headers.get("hx-current-url", ""))
        onward = sign_in_redirects.sanitize_return_path(f"{shown.path}?{shown.query}" if shown.query else shown.path)
        return Response(status_code=401, headers={"HX-Redirect": onward, "Cache-Control": "no-store"})

    def _page(self, request: Request, onward: str, *, status: int = 200, why: str | None = None) -> Response:
        why = why or (None if self.sign_in else "not_configured")
        return self.pages.page(
            request,
            "console/sign_in.html",
            status=status,
            sign_in_url=f"/sign-in/start?{urlencode({'next': onward})}",
            has_break_glass=self.break_glass.is_configured,
            next=onward,
            error=describe_sign_in_error(self.pages.words, why) if why else None,
        )

    def _build_url(self, path: str, **query: str) -> str:
        return f"{self.public_url.rstrip('/')}{path}?{urlencode(query)}"

    @property
    def _jar(self) -> sign_in_redirects.CookieJar:
        return sign_in_redirects.CookieJar(is_secure=self.public_url.startswith("https://"))


def _redirect(url: str, status: int = 303) -> RedirectResponse:
    """A redirect that no browser keeps and that tells the next site nothing of the address it came from."""
    return RedirectResponse(url, status, headers={"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})


def _get_cookie_header(request: Request) -> str:
    return "; ".join(request.headers.getlist("cookie"))


async def _read_form(request: Request) -> dict[str, str]:
    """The fields of a small form; none of one that is too large or malformed."""
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


def describe_sign_in_error(words: Localizer, why: str) -> str:
    """The sentence for a reason: one of access's own, or the `code` of a InvalidSessionError."""
    _ = words.gettext
    said = {
        "not_configured": _("Clerk authentication not configured. Set CLERK_PUBLISHABLE_KEY and CLERK_SECRET_KEY."),
        "cookies": _("Your browser did not keep our cookie. Allow cookies for this site, then sign in again."),
        "down": _("Clerk does not answer at the moment. Nothing was changed. Try again in a minute."),
        "foreign": _("That request did not come from this site. Nothing was changed."),
        "wrong": _("That is not the key."),
        "limited": _("Too many tries. Wait a minute, then try again."),
        "off": _("Signing in with a key is switched off here."),
        "loop": _("Signing in led round in a circle. Allow cookies for this site, then try again."),
        "expired": _("Clerk's answer was too old. Check that this server's clock is right, then try again."),
        "early": _("Clerk's answer was not valid yet. Check that this server's clock is right, then try again."),
        "party": _("Clerk's answer was made for another address. Check INSTEP_PUBLIC_URL, then try again."),
        "pending": _("Your sign-in is not finished at Clerk. Finish it there, then try again."),
    }
    unknown = _("Clerk's answer could not be verified (%(code)s). Check that Clerk's keys belong together.", code=why)
    return said.get(why, unknown)


def build_missing_scope_error(words: Localizer) -> dict[str, Any]:
    """The page for a program whose key is not good for what it asks."""
    _ = words.gettext
    text = _("This key lacks the scope for it. Nothing was changed.")
    return {"status": 403, "title": _("Key not good for this"), "text": text}
