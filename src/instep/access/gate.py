"""The gate: what every route asks before it does anything. Who is this, and what may they do here?"""

from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request

from instep.access import store
from instep.access.flows import Sessions
from instep.access.impersonation import Impersonation
from instep.access.keys import PREFIX, ApiKeys
from instep.access.limits import BreakGlass
from instep.access.ports import SignIn
from instep.access.principal import BREAK_GLASS, Access, Asker, Paused, Principal
from instep.identity.refusals import Refused
from instep.identity.session import SessionRefused
from instep.kit.db import Db
from instep.kit.log import act_as

COOKIE = "instep_session"


@dataclass(frozen=True)
class Gate:
    """Finds the principal of a request, once per request, and their access to an organization.

    `sign_in` None: Clerk is not configured, and only the break-glass key lets anyone in. `refused` is called once for
    every request whose credentials were refused, or that had none; see `refusal_of` for the reasons. `cookie` is the
    name of the cookie that carries a console session.
    """

    db: Db
    sessions: Sessions
    break_glass: BreakGlass
    sign_in: SignIn | None = None
    keys: ApiKeys | None = None
    refused: Callable[[Request, SessionRefused], None] = lambda request, refused: None
    impersonation: Impersonation | None = None
    cookie: str = COOKIE

    async def who(self, request: Request) -> Asker:
        """Who sends this request, also when they are barred. Raises DatabaseDown, ProviderDown, TooManyTriesError.

        1. `Authorization: Bearer`: a session token of Clerk's, an API key, or the break-glass key. A bearer that
           is none of them is refused, whatever cookies come with it.
        2. Else the cookie of a console session.
        """
        if hasattr(request.state, "instep_asker"):
            found: Asker = request.state.instep_asker
            return found
        asker: Asker = None
        try:
            asker = await self._identify(request)
        except SessionRefused as refused:
            request.state.instep_refusal = refused
            self.refused(request, refused)
        if isinstance(asker, Principal) and asker.actor is not None:
            asker = await self.sessions.name_actor(asker)
            act_as(asker.id, asker.actor or "")
            request.state.instep_acting = (asker.actor_name or asker.actor or "", asker.name)
        request.state.instep_asker = asker
        return asker

    async def blocked(self, request: Request, principal: Principal) -> Refused | None:
        """Return why a request may not be made by somebody who acts as this person; None where it may."""
        return await self.impersonation.judge(request, principal) if self.impersonation else None

    def refusal_of(self, request: Request) -> SessionRefused | None:
        """Return why `who` found nobody; None where it found somebody, or was not asked.

        `code` is one of those in `clerk.session`, or `missing` (no credentials), `session_over` (a console session
        that ended, or none of ours), `unknown_api_key` (none, or revoked), `wrong_key` (not the break-glass key), or
        `not_configured` (a session token, and sign-in through Clerk is not set up).
        """
        found = getattr(request.state, "instep_refusal", None)
        return found if isinstance(found, SessionRefused) else None

    async def principal_of(self, request: Request) -> Principal | None:
        """Who sends this request; None (a 401) where nobody is signed in, or one who is barred. Raises as `who`."""
        asker = await self.who(request)
        return asker if isinstance(asker, Principal) else None

    async def access_of(self, asker: Request | Principal, ref: str) -> Access | None:
        """What they may do in the organization `ref` (see store.find_access); None is a 404. Raises as `who`."""
        principal = await self.principal_of(asker) if isinstance(asker, Request) else asker
        return await self.db.read(store.find_access, principal, ref) if principal else None

    async def pause_of(self, who: Principal, ref: str | None = None) -> Paused | None:
        """Return what to tell a deactivated person (see store.find_pause); None for anybody else."""
        return await self.db.read(store.find_pause, who.user_id, ref) if who.user_id else None

    async def pauses_of(self, who: Principal) -> list[Paused]:
        """Return what to tell somebody of the organizations in which they are deactivated."""
        return await self.db.read(store.list_pauses, who.user_id) if who.user_id else []

    async def accesses_of(
        self, principal: Principal, query: str = "", limit: int = store.MOST_ORGANIZATIONS
    ) -> list[Access]:
        """The organizations that they may see, by name (see store.list_accesses)."""
        return await self.db.read(store.list_accesses, principal, query=query, limit=limit)

    async def _identify(self, request: Request) -> Asker:
        """Return who the credentials of a request belong to. Raises SessionRefused where they are nobody's."""
        bearer = bearer_of(request.headers.get("authorization", ""))
        request.state.instep_is_by_cookie = bearer is None
        if bearer is not None:
            return await self._of_bearer(bearer, client_of(request))
        token = request.cookies.get(self.cookie)
        if not token:
            raise SessionRefused("The request has no credentials.", code="missing")
        found = await self.sessions.find(token)
        if found is None:
            raise SessionRefused("The console session has ended.", code="session_over")
        return found

    async def _of_bearer(self, bearer: str, client: str) -> Asker:
        if bearer.startswith(PREFIX):
            key = await self.keys.find(bearer) if self.keys else None
            if key is None:
                raise SessionRefused("There is no such API key, or it was revoked.", code="unknown_api_key")
            return key
        if bearer.count(".") == 2 and self.sign_in is not None:
            return await self.sessions.find_bearer(await self.sign_in.verify(bearer))
        if self.break_glass.check(bearer, client):
            return BREAK_GLASS
        if bearer.count(".") == 2:
            raise SessionRefused("Sign-in through Clerk is not configured.", code="not_configured")
        raise SessionRefused("The key is not the admin key.", code="wrong_key")


def is_by_cookie(request: Request) -> bool:
    """Return whether the cookie decides who sends this request, as a browser does for any site. Ask after `Gate.who`.

    Another Authorization header (`Basic`, say) beside the cookie changes nothing.
    """
    return getattr(request.state, "instep_is_by_cookie", True)


def bearer_of(header: str) -> str | None:
    """The token of an Authorization header (RFC 6750, 2.1); None where it carries none."""
    scheme, _, token = header.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def client_of(request: Request) -> str:
    """The address that a request comes from, as far as the server was told."""
    return request.client.host if request.client else "unknown"
