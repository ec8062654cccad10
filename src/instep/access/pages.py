"""The doors of access: the page to sign in, the way through Clerk and back, the key, and signing out."""

import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from instep.access import paths
from instep.access.flows import BREAK_GLASS_FOR, Sessions
from instep.access.gate import COOKIE, Gate, client_of
from instep.access.impersonation import READING
from instep.access.limits import BreakGlass, TooManyTriesError
from instep.access.ports import SignIn
from instep.access.principal import Access, Barred, Paused, Principal
from instep.access.refusals import out_of_scope, say
from instep.identity.refusals import Refused
from instep.identity.session import SessionRefused, SignedOut
from instep.kit.clock import SECOND
from instep.kit.errors import InstepError
from instep.kit.html import Pages, is_partial

LONGEST_FORM = 4_096  # bytes
Page = Callable[[Request, Principal], Awaitable[Response]]


@dataclass(frozen=True)
class AccessPages:
    """Signing in and out. `sign_in` None: Clerk is not configured. `public_url` is our origin, as browsers see it."""

    pages: Pages
    gate: Gate
    sessions: Sessions
    break_glass: BreakGlass
    sign_in: SignIn | None
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

    def signed_in(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        """The handler of a route that only someone who is signed in may see: `page` is given who it is."""

        async def handle(request: Request) -> Response:
            found = await self.require(request)
            return found if isinstance(found, Response) else await page(request, found)

        return handle

    async def require(self, request: Request) -> Principal | Response:
        """Who sends this request, or what to answer instead.

        1. Barred: a page that says so.
        2. Nobody, and a browser asks for a page: off to sign in and back to this very page.
        3. Nobody, and a part of an open page is asked for: have the page loaded anew, which leads to 2.
        4. A program whose key lacks the scope: a page does for it no more than the API does.
        5. Somebody who acts as another person, where that is switched off, or for a change that it blocks.
        """
        asker = await self.gate.who(request)
        if isinstance(asker, Principal):
            if blocked := await self.gate.blocked(request, asker):
                return self._blocked(request, asker, blocked)
            is_right = asker.may_send(request.method)
            return asker if is_right else self.pages.error(request, **out_of_scope(self.pages.words))
        if isinstance(asker, Barred):
            pause = await self.gate.pause_of(asker.principal) if asker.is_paused else None
            return self.pages.page(request, "access/barred.html", status=403, principal=asker.principal, pause=pause)
        if paths.is_navigation(request):
            return await self._begin(request, paths.path_of(request))
        return self._turn_away(request)

    async def require_access(self, request: Request, ref: str) -> Access | Response:
        """What whoever sends this request may do in the organization `ref`, or what to answer instead.

        A 404 is the same whether there is no such organization or it is not theirs to see; who is deactivated there is
        told so, and whom to ask.
        """
        principal = await self.require(request)
        if isinstance(principal, Response):
            return principal
        access = await self.gate.access_of(principal, ref)
        if access is None and (pause := await self.gate.pause_of(principal, ref)):
            return self.paused(request, principal, [pause])
        _ = self.pages.words.gettext
        text = _("There is no such organization, or you are not in it.")
        return access or self.pages.error(request, status=404, title=_("Not found"), text=text)

    async def show(self, request: Request) -> Response:
        """GET /sign-in: the page with the button, and the field for the key where there is one."""
        if "signed_out" in request.query_params:
            is_everywhere = request.query_params["signed_out"] != "here"
            return self.pages.page(request, "access/signed_out.html", is_everywhere=is_everywhere)
        return self._page(request, paths.own_path(request.query_params.get("next")))

    async def start(self, request: Request) -> Response:
        """GET /sign-in/start?next=: begin, also after Clerk's sign-in page."""
        return await self._begin(request, paths.own_path(request.query_params.get("next")))

    async def callback(self, request: Request) -> Response:
        """GET /sign-in/callback: back from the handshake.

        1. It must have been begun in this browser (`state`): a link from elsewhere signs nobody in. A browser that
           came by another name of this host (localhost) has its cookie there: it begins once more, here.
        2. Nobody is signed in at Clerk: on to its sign-in page, and from there to `start`.
        3. Someone is: a session of our own, and on to where they wanted to go, at an address without tokens.
        4. An answer that can't be believed: begin again; the tries are counted.
        """
        onward = paths.own_path(request.query_params.get("next"))
        if self.sign_in is None:
            return self._page(request, onward)
        state = self._jar.read(request).get(paths.STATE)
        if state is None and "again" in request.query_params:
            return self._page(request, onward, status=401, why="cookies")
        if state is None:
            return await self._begin(request, onward, again="1")
        if not hmac.compare_digest(state.encode(), request.query_params.get("state", "").encode()):
            return await self._begin(request, onward)
        try:
            answer = await self.sign_in.answer(request.query_params, _cookies(request))
        except SessionRefused as refused:
            return await self._begin(request, onward, because=refused.code)
        except InstepError:
            return self._page(request, onward, status=503, why="down")
        if isinstance(answer, SignedOut):
            back = self._own_url("/sign-in/start", next=onward)
            response: Response = _go(self.sign_in.sign_in_url(back, dev_browser=answer.dev_browser))
        else:
            response = _go(onward)
            self._jar.set(response, COOKIE, await self.sessions.open(answer.claims))
        if answer.dev_browser:
            self._jar.set(response, paths.DEV_BROWSER, answer.dev_browser)
        return response

    async def use_key(self, request: Request) -> Response:
        """POST /sign-in/key with `key` (and `next`): a session of an hour for the holder of the break-glass key."""
        if not self.pages.is_ours(request):
            return self._page(request, paths.HOME, status=403, why="foreign")
        form = await _form(request)
        onward = paths.own_path(form.get("next"))
        client = client_of(request)
        verdict = self.break_glass.judge(form.get("key", "").strip(), client)
        if verdict != "right":
            status = {"wrong": 401, "limited": 429, "off": 404}[verdict]
            page = self._page(request, onward, status=status, why=verdict)
            if verdict == "limited":
                page.headers["Retry-After"] = str(TooManyTriesError(self.break_glass.tries.wait_of(client)).retry_after)
            return page
        response = _go(onward)
        self._jar.set(response, COOKIE, await self.sessions.open_by_key(), max_age=BREAK_GLASS_FOR // SECOND)
        return response

    async def sign_out(self, request: Request) -> Response:
        """POST /sign-out: end the session here and at Clerk, and say so."""
        if not self.pages.is_ours(request):
            return self._page(request, paths.HOME, status=403, why="foreign")
        token = self._jar.read(request).get(COOKIE)
        is_everywhere = await self.sessions.end(token) if token else True
        response = _go(f"/sign-in?signed_out={'everywhere' if is_everywhere else 'here'}")
        self._jar.delete(response, COOKIE)
        self._jar.forget_tries(request, response)
        return response

    async def _begin(self, request: Request, onward: str, *, because: str = "loop", **marks: str) -> Response:
        """Find out who is signed in in this browser.

        1. Sent round too often just now: stop, and say so. 2. A session token of Clerk's lies in the cookies, and
        Clerk calls its session active: that is enough. 3. Else the handshake; `marks` come back from it.
        """
        tries = paths.tries_of(self._jar.read(request), onward)
        if self.sign_in is None or tries >= paths.MOST_TRIES:
            response: Response = self._page(request, onward, status=401, why=because if self.sign_in else None)
            self._jar.forget_tries(request, response)
            return response
        token = await self._adopt(request, self.sign_in) if not tries else None
        if token:
            response = _go(onward)
            self._jar.set(response, COOKIE, token)
        else:
            response = self._leave(request, self.sign_in, onward, marks)
        self._jar.set(response, paths.tries_name(onward), str(tries + 1), max_age=paths.TRIES_FOR)
        return response

    def _leave(self, request: Request, sign_in: SignIn, onward: str, marks: dict[str, str]) -> Response:
        ours = self._jar.read(request)
        state = paths.state_of(ours)
        browser = sign_in.dev_browser(request.query_params, _cookies(request)) or ours.get(paths.DEV_BROWSER)
        back = self._own_url("/sign-in/callback", state=state, next=onward, **marks)
        response = _go(sign_in.handshake_url(back, dev_browser=browser), status=307)
        self._jar.set(response, paths.STATE, state, max_age=paths.STATE_FOR)
        if browser:
            self._jar.set(response, paths.DEV_BROWSER, browser)
        return response

    async def _adopt(self, request: Request, sign_in: SignIn) -> str | None:
        for token in sign_in.session_tokens(_cookies(request))[:2]:
            try:
                return await self.sessions.adopt(await sign_in.verify(token))
            except SessionRefused:
                continue
            except InstepError:
                break
        return None

    def paused(self, request: Request, who: Principal, pauses: Sequence[Paused]) -> Response:
        """Answer 403 to somebody whose membership is deactivated, with whom to ask."""
        if is_partial(request):
            _ = self.pages.words.gettext
            title = _("Your access to %(name)s is paused", name=pauses[0].organization_name)
            text = _("Ask an admin to reactivate you.")
            return self.pages.error(request, status=403, title=title, text=text)
        return self.pages.page(request, "access/paused.html", status=403, principal=who, pauses=pauses)

    def _blocked(self, request: Request, who: Principal, blocked: Refused) -> Response:
        _ = self.pages.words.gettext
        if request.method not in READING or is_partial(request):
            text = self.pages.words.say(blocked)
            return self.pages.error(request, status=blocked.status, title=_("Nothing was changed"), text=text)
        return self.pages.page(request, "access/impersonated.html", status=blocked.status, principal=who)

    def _turn_away(self, request: Request) -> Response:
        if not request.headers.get("hx-request"):
            is_form = request.headers.get("sec-fetch-dest") == "document"
            return _go("/sign-in") if is_form else Response(status_code=401)
        shown = urlsplit(request.headers.get("hx-current-url", ""))
        onward = paths.own_path(f"{shown.path}?{shown.query}" if shown.query else shown.path)
        return Response(status_code=401, headers={"HX-Redirect": onward, "Cache-Control": "no-store"})

    def _page(self, request: Request, onward: str, *, status: int = 200, why: str | None = None) -> Response:
        why = why or (None if self.sign_in else "not_configured")
        return self.pages.page(
            request,
            "access/sign_in.html",
            status=status,
            sign_in_url=f"/sign-in/start?{urlencode({'next': onward})}",
            has_break_glass=self.break_glass.is_on,
            next=onward,
            error=say(self.pages.words, why) if why else None,
        )

    def _own_url(self, path: str, **query: str) -> str:
        return f"{self.public_url.rstrip('/')}{path}?{urlencode(query)}"

    @property
    def _jar(self) -> paths.CookieJar:
        return paths.CookieJar(is_secure=self.public_url.startswith("https://"))


def _go(url: str, status: int = 303) -> RedirectResponse:
    """A redirect that no browser keeps and that tells the next site nothing of the address it came from."""
    return RedirectResponse(url, status, headers={"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})


def _cookies(request: Request) -> str:
    return "; ".join(request.headers.getlist("cookie"))


async def _form(request: Request) -> dict[str, str]:
    """The fields of a small form; none of one that is too large or malformed."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_FORM:
            return {}
    try:
        fields = parse_qs(body.decode(), max_num_fields=20)
    except ValueError:
        return {}
    return {name: values[0] for name, values in fields.items()}
