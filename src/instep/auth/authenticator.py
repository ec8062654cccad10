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
    """Identifies the principal of a request, once per request, and their access to organizations.

    `sign_in` None: Clerk is not configured, and only the break-glass key can sign in. `on_failure` is called once for
    each request with refused or missing credentials; see `get_failure` for the reasons. `cookie` is the name of the
    cookie of a console session.
    """

    db: Database
    sessions: SessionService
    break_glass: BreakGlassKey
    sign_in: SignInProvider | None = None
    keys: ApiKeyService | None = None
    on_failure: Callable[[Request, InvalidSessionError], None] = lambda request, failure: None
    impersonation: ImpersonationGuard | None = None
    cookie: str = SESSION_COOKIE

    async def authenticate(self, request: Request) -> AuthenticationResult:
        """Return the principal of a request, also a denied one; None without valid credentials.

        1. `Authorization: Bearer`: a session token, an API key, or the break-glass key. Any other bearer is refused,
           whatever cookies the request has.
        2. Otherwise the cookie of a console session.

        Raises DatabaseUnavailableError, ClerkUnavailableError, TooManyAttemptsError.
        """
        if hasattr(request.state, "instep_authentication"):
            found: AuthenticationResult = request.state.instep_authentication
            return found
        result: AuthenticationResult = None
        try:
            result = await self._identify(request)
        except InvalidSessionError as failure:
            request.state.instep_authentication_error = failure
            self.on_failure(request, failure)
        if isinstance(result, Principal) and result.actor is not None:
            result = await self.sessions.add_actor_name(result)
            bind_impersonator(result.id, result.actor or "")
            request.state.instep_acting = (result.actor_name or result.actor or "", result.name)
        request.state.instep_authentication = result
        return result

    async def check_impersonation(self, request: Request, principal: Principal) -> ChangeRejectedError | None:
        """Return the error if impersonation blocks this request; None if it is allowed."""
        return await self.impersonation.check_request(request, principal) if self.impersonation else None

    def get_failure(self, request: Request) -> InvalidSessionError | None:
        """Return the reason why `authenticate` found nobody; None if it found somebody or was not called.

        `code` is one of those in `clerk.session_tokens`, or `missing` (no credentials), `session_over` (no active
        console session), `unknown_api_key` (none, or revoked), `wrong_key` (not the break-glass key), or
        `not_configured` (a session token without sign-in through Clerk).
        """
        found = getattr(request.state, "instep_authentication_error", None)
        return found if isinstance(found, InvalidSessionError) else None

    async def get_principal(self, request: Request) -> Principal | None:
        """Return the principal of a request; None (401) if nobody is signed in or access is denied.

        Raises as `authenticate`.
        """
        result = await self.authenticate(request)
        return result if isinstance(result, Principal) else None

    async def find_access(self, caller: Request | Principal, ref: str) -> OrganizationAccess | None:
        """Return a principal's access to the organization `ref` (see repository.find_access); None is a 404.

        Raises as `authenticate`.
        """
        principal = await self.get_principal(caller) if isinstance(caller, Request) else caller
        return await self.db.read(repository.find_access, principal, ref) if principal else None

    async def find_deactivation_notice(self, principal: Principal, ref: str | None = None) -> DeactivationNotice | None:
        """Return the notice for a deactivated person (see repository); None for anybody else."""
        return (
            await self.db.read(repository.find_deactivation_notice, principal.user_id, ref)
            if principal.user_id
            else None
        )

    async def list_deactivation_notices(self, principal: Principal) -> list[DeactivationNotice]:
        """Return a notice for each organization in which a person is deactivated."""
        return await self.db.read(repository.list_deactivation_notices, principal.user_id) if principal.user_id else []

    async def list_accesses(
        self, principal: Principal, query: str = "", limit: int = repository.MAX_ORGANIZATIONS
    ) -> list[OrganizationAccess]:
        """Return the organizations that a principal may see, by name (see repository.list_accesses)."""
        return await self.db.read(repository.list_accesses, principal, query=query, limit=limit)

    async def _identify(self, request: Request) -> AuthenticationResult:
        """Return the owner of a request's credentials. Raises InvalidSessionError."""
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
                raise InvalidSessionError("The API key does not exist or was revoked.", code="unknown_api_key")
            return key
        if bearer.count(".") == 2 and self.sign_in is not None:
            return await self.sessions.resolve_claims(await self.sign_in.verify(bearer))
        if self.break_glass.check(bearer, client):
            return BREAK_GLASS_PRINCIPAL
        if bearer.count(".") == 2:
            raise InvalidSessionError("Sign-in through Clerk is not configured.", code="not_configured")
        raise InvalidSessionError("The key is not the break-glass key.", code="wrong_key")


def is_cookie_authenticated(request: Request) -> bool:
    """Return whether a cookie authenticated this request. Call it after `Authenticator.authenticate`.

    An Authorization header of another scheme, such as Basic, makes no difference.
    """
    return getattr(request.state, "instep_is_by_cookie", True)


def parse_bearer_token(header: str) -> str | None:
    """Return the token of an Authorization header (RFC 6750, 2.1); None if it has none."""
    scheme, _, token = header.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def get_client_address(request: Request) -> str:
    """Return the address of a request's client as the server knows it."""
    return request.client.host if request.client else "unknown"


MAX_LOG_LINES_PER_MINUTE = 20  # per reason: enough to find a wrong setting, too few to fill a disk
MISSING_CREDENTIALS = "missing"
API_PATH_PREFIX = "/v1/"


@dataclass
class _LogWindow:
    started_at: int
    lines: int = 0
    suppressed: int = 0


@dataclass
class AuthenticationFailureLog:
    """Writes at most MAX_LOG_LINES_PER_MINUTE lines per reason; the next line counts the suppressed ones.

    `write` takes an event and its fields. A page request without credentials starts a sign-in and is not logged.
    """

    write: Callable[..., None]
    clock: Clock = system_now
    windows: dict[str, _LogWindow] = field(default_factory=dict)

    def note(self, request: Request, failure: InvalidSessionError) -> None:
        """Log a refused request and the reason, without its credentials."""
        path = request.scope["path"]
        if failure.code == MISSING_CREDENTIALS and not path.startswith(API_PATH_PREFIX):
            return
        window = self._window(failure.code)
        if window.lines >= MAX_LOG_LINES_PER_MINUTE:
            window.suppressed += 1
            return
        window.lines += 1
        more = {"suppressed": window.suppressed} if window.suppressed else {}
        window.suppressed = 0
        client = get_client_address(request)
        self.write("authentication_failed", reason=failure.code, detail=str(failure), path=path, client=client, **more)

    def _window(self, reason: str) -> _LogWindow:
        """Return the current minute of a reason. If the clock was set back, a new one starts."""
        now, window = self.clock(), self.windows.get(reason)
        if window is None or not 0 <= now - window.started_at < MINUTE:
            window = _LogWindow(now, suppressed=window.suppressed if window else 0)
            self.windows[reason] = window
        return window
