"""The gate: what every route asks before it does anything. Who is this, and what may they do here?"""

from dataclasses import dataclass

from starlette.requests import Request

from instep.access import store
from instep.access.flows import Sessions
from instep.access.keys import PREFIX, ApiKeys
from instep.access.limits import BreakGlass
from instep.access.ports import SignIn
from instep.access.principal import BREAK_GLASS, Access, Asker, Principal
from instep.identity.session import SessionRefused
from instep.kit.db import Db

COOKIE = "instep_session"


@dataclass(frozen=True)
class Gate:
    """Finds the principal of a request, once per request, and their access to an organization.

    `sign_in` None: Clerk is not configured, and only the break-glass key lets anyone in. `cookie` is the name of the
    cookie that carries a console session.
    """

    db: Db
    sessions: Sessions
    break_glass: BreakGlass
    sign_in: SignIn | None = None
    keys: ApiKeys | None = None
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
        bearer = bearer_of(request.headers.get("authorization", ""))
        request.state.instep_is_by_cookie = bearer is None
        if bearer is not None:
            asker = await self._of_bearer(bearer, client_of(request))
        else:
            token = request.cookies.get(self.cookie)
            asker = await self.sessions.find(token) if token else None
        request.state.instep_asker = asker
        return asker

    async def principal_of(self, request: Request) -> Principal | None:
        """Who sends this request; None (a 401) where nobody is signed in, or one who is barred. Raises as `who`."""
        asker = await self.who(request)
        return asker if isinstance(asker, Principal) else None

    async def access_of(self, asker: Request | Principal, ref: str) -> Access | None:
        """What they may do in the organization `ref` (see store.find_access); None is a 404. Raises as `who`."""
        principal = await self.principal_of(asker) if isinstance(asker, Request) else asker
        return await self.db.read(store.find_access, principal, ref) if principal else None

    async def accesses_of(
        self, principal: Principal, query: str = "", limit: int = store.MOST_ORGANIZATIONS
    ) -> list[Access]:
        """The organizations that they may see, by name (see store.list_accesses)."""
        return await self.db.read(store.list_accesses, principal, query=query, limit=limit)

    async def _of_bearer(self, bearer: str, client: str) -> Asker:
        if bearer.count(".") == 2 and self.sign_in is not None:
            try:
                return await self.sessions.find_bearer(await self.sign_in.verify(bearer))
            except SessionRefused:
                return None
        if bearer.startswith(PREFIX):
            return await self.keys.find(bearer) if self.keys else None
        return BREAK_GLASS if self.break_glass.check(bearer, client) else None


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
