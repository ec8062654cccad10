"""Authenticate requests by session cookie, session token, API key or break-glass key; log failures."""

from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.requests import Request

from instep.auth import repository
from instep.auth.api_keys import API_KEY_PREFIX, ApiKeyService
from instep.auth.break_glass import BreakGlassKey
from instep.auth.impersonation import ImpersonationGuard
from instep.auth.principal import (
    BREAK_GLASS_PRINCIPAL,
    AuthenticationResult,
    DeactivationNotice,
    OrganizationAccess,
    Principal,
)
from instep.auth.sessions import SessionService
from instep.auth.sign_in_redirects import SignInProvider
from instep.core.clock import MINUTE, Clock
from instep.core.clock import now as system_now
from instep.core.db import Database
from instep.core.request_context import bind_impersonator
from instep.domain.errors import ChangeRejectedError, InvalidSessionError

SESSION_COOKIE = "instep_session"


@dataclass(frozen=True)
class Authenticator:
    """Finds the principal of a request, once per request, and their access to an organization.

    `sign_in` None: Clerk is not configured, and only the break-glass key lets anyone in. `refused` is called once for
    every request whose credentials were refused, or that had none; see `refusal_of` for the reasons. `cookie` is the
    name of the cookie that carries a console session.
    """

    db: Database
    sessions: SessionService
    break_glass: BreakGlassKey
    sign_in: SignInProvider | None = None
    keys: ApiKeyService | None = None
    refused: Callable[[Request, InvalidSessionError], None] = lambda request, refused: None
    impersonation: ImpersonationGuard | None = None
    cookie: str = SESSION_COOKIE

    async def who(self, request: Request) -> AuthenticationResult:
        """Who sends this request, also when they are barred. Raises DatabaseUnavailableError, ClerkUnavailableError, TooManyAttemptsError.

        1. `Authorization: Bearer`: a session token of Clerk's, an API key, or the break-glass key. A bearer that
           is none of them is refused, whatever cookies come with it.
        2. Else the cookie of a console session.
        """
        if hasattr(request.state, "instep_asker"):
            found: AuthenticationResult = request.state.instep_asker
            return found
        asker: AuthenticationResult = None
        try:
            asker = await self._identify(request)
        except InvalidSessionError as refused:
            request.state.instep_refusal = refused
            self.refused(request, refused)
        if isinstance(asker, Principal) and asker.actor is not None:
            asker = await self.sessions.add_actor_name(asker)
            bind_impersonator(asker.id, asker.actor or "")
            request.state.instep_acting = (asker.actor_name or asker.actor or "", asker.name)
        request.state.instep_asker = asker
        return asker

    async def blocked(self, request: Request, principal: Principal) -> ChangeRejectedError | None:
        """Return why a request may not be made by somebody who acts as this person; None where it may."""
        return await self.impersonation.judge(request, principal) if self.impersonation else None

    def get_failure(self, request: Request) -> InvalidSessionError | None:
        """Return why `who` found nobody; None where it found somebody, or was not asked.

        `code` is one of those in `clerk.session`, or `missing` (no credentials), `session_over` (a console session
        that ended, or none of ours), `unknown_api_key` (none, or revoked), `wrong_key` (not the break-glass key), or
        `not_configured` (a session token, and sign-in through Clerk is not set up).
        """
        found = getattr(request.state, "instep_refusal", None)
        return found if isinstance(found, InvalidSessionError) else None

    async def get_principal(self, request: Request) -> Principal | None:
        """Who sends this request; None (a 401) where nobody is signed in, or one who is barred. Raises as `who`."""
        asker = await self.who(request)
        return asker if isinstance(asker, Principal) else None

    async def find_access(self, asker: Request | Principal, ref: str) -> OrganizationAccess | None:
        """What they may do in the organization `ref` (see store.find_access); None is a 404. Raises as `who`."""
        principal = await self.get_principal(asker) if isinstance(asker, Request) else asker
        return await self.db.read(repository.find_access, principal, ref) if principal else None

    async def find_deactivation_notice(self, who: Principal, ref: str | None = None) -> DeactivationNotice | None:
        """Return what to tell a deactivated person (see store.find_pause); None for anybody else."""
        return await self.db.read(repository.find_deactivation_notice, who.user_id, ref) if who.user_id else None

    async def list_deactivation_notices(self, who: Principal) -> list[DeactivationNotice]:
        """Return what to tell somebody of the organizations in which they are deactivated."""
        return await self.db.read(repository.list_deactivation_notices, who.user_id) if who.user_id else []

    async def list_accesses(
        self, principal: Principal, query: str = "", limit: int = repository.MAX_ORGANIZATIONS
    ) -> list[OrganizationAccess]:
        """The organizations that they may see, by name (see store.list_accesses)."""
        return await self.db.read(repository.list_accesses, principal, query=query, limit=limit)

    async def _identify(self, request: Request) -> AuthenticationResult:
        """Return who the credentials of a request belong to. Raises InvalidSessionError where they are nobody's."""
        bearer = parse_bearer_token(request.headers.get("authorization", ""))
        request.state.instep_is_by_cookie = bearer is None
        if bearer is not None:
            return await self._identify_bearer(bearer, get_client_address(request))
        token = request.cookies.get(self.cookie)
        if not token:
            raise InvalidSessionError("The request has no credentials.", code="missing")
        found = await self.sessions.find(token)
        if found is None:
            raise InvalidSessionError("The console session has ended.", code="session_over")
        return found

    async def _identify_bearer(self, bearer: str, client: str) -> AuthenticationResult:
        if bearer.startswith(API_KEY_PREFIX):
            key = await self.keys.find(bearer) if self.keys else None
            if key is None:
                raise InvalidSessionError("There is no such API key, or it was revoked.", code="unknown_api_key")
            return key
        if bearer.count(".") == 2 and self.sign_in is not None:
            return await self.sessions.resolve_claims(await self.sign_in.verify(bearer))
        if self.break_glass.check(bearer, client):
            return BREAK_GLASS_PRINCIPAL
        if bearer.count(".") == 2:
            raise InvalidSessionError("Sign-in through Clerk is not configured.", code="not_configured")
        raise InvalidSessionError("The key is not the admin key.", code="wrong_key")


def is_cookie_authenticated(request: Request) -> bool:
    """Return whether the cookie decides who sends this request, as a browser does for any site. Ask after `Gate.who`.

    Another Authorization header (`Basic`, say) beside the cookie changes nothing.
    """
    return getattr(request.state, "instep_is_by_cookie", True)


def parse_bearer_token(header: str) -> str | None:
    """The token of an Authorization header (RFC 6750, 2.1); None where it carries none."""
    scheme, _, token = header.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def get_client_address(request: Request) -> str:
    """The address that a request comes from, as far as the server was told."""
    return request.client.host if request.client else "unknown"


MAX_LOG_LINES_PER_MINUTE = 20  # of one reason: enough to find a wrong setting, too few to fill a disk
MISSING_CREDENTIALS = "missing"
API_PATH_PREFIX = "/v1/"


@dataclass
class _LogWindow:
    begun_at: int
    lines: int = 0
    suppressed: int = 0


@dataclass
class AuthenticationFailureLog:
    """Writes at most `LINES_PER_MINUTE` lines a minute for each reason; the next line counts what was left out.

    `write` takes an event and its fields. A page without credentials is the way to sign in, and no refusal.
    """

    write: Callable[..., None]
    clock: Clock = system_now
    windows: dict[str, _LogWindow] = field(default_factory=dict)

    def note(self, request: Request, refused: InvalidSessionError) -> None:
        """Log that a request was refused, and by which rule; nothing of the credentials themselves."""
        path = request.scope["path"]
        if refused.code == MISSING_CREDENTIALS and not path.startswith(API_PATH_PREFIX):
            return
        window = self._window(refused.code)
        if window.lines >= MAX_LOG_LINES_PER_MINUTE:
            window.suppressed += 1
            return
        window.lines += 1
        more = {"suppressed": window.suppressed} if window.suppressed else {}
        window.suppressed = 0
        client = request.client.host if request.client else "unknown"
        self.write("authentication_refused", reason=refused.code, detail=str(refused), path=path, client=client, **more)

    def _window(self, reason: str) -> _LogWindow:
        """Return the present minute of a reason. A clock that went back begins a new one."""
        at, window = self.clock(), self.windows.get(reason)
        if window is None or not 0 <= at - window.begun_at < MINUTE:
            window = _LogWindow(at, suppressed=window.suppressed if window else 0)
            self.windows[reason] = window
        return window
