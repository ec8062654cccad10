"""What every page of the console asks and says in the same way: who is there, the frame around it, a refusal."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from instep.access.frame import frame_of, frame_within
from instep.access.principal import Access, Principal
from instep.kit.errors import InstepError, TemporaryError
from instep.kit.html import Frame, Pages, Toast
from instep.kit.words import Words


@dataclass(frozen=True)
class Console:
    """The doors to the pages, and what surrounds them.

    `principal` and `access` answer with a Response where there is nobody, or nothing to see: it is sent as it is.
    `attention` counts the operations that need a person: of one organization (by its id), None for all of them.
    """

    pages: Pages
    principal: Callable[[Request], Awaitable[Principal | Response]]
    access: Callable[[Request, str], Awaitable[Access | Response]]
    organizations: Callable[[Principal], Awaitable[Sequence[Access]]]
    attention: Callable[[str | None], Awaitable[int]]

    @property
    def words(self) -> Words:
        """The words of the pages."""
        return self.pages.words

    async def member(self, request: Request) -> Access | Response:
        """Whoever may see the organization in the address."""
        return await self.access(request, request.path_params["id"])

    async def admin(self, request: Request, *, title: str = "") -> Access | Response:
        """Whoever may change people in the organization in the address; `title` is what the others are told."""
        access = await self.member(request)
        if isinstance(access, Response) or access.may_act:
            return access
        return self._barred(request, title or self.words.gettext("Only admins can do this"))

    async def instance_admin(self, request: Request) -> Principal | Response:
        """Whoever may see the whole installation."""
        principal = await self.principal(request)
        if isinstance(principal, Response) or principal.is_instance_admin:
            return principal
        return self._barred(request, self.words.gettext("Only admins of the installation can see this"))

    def foreign(self, request: Request) -> Response | None:
        """What to answer to a change that no page of ours asked for. Ask first in every handler that changes."""
        if self.pages.is_ours(request):
            return None
        _ = self.words.gettext
        text = _("The request came from another site. Nothing was changed.")
        return self.pages.error(request, status=403, title=_("Not from here"), text=text)

    def refused(self, request: Request, error: InstepError, *, title: str = "") -> Response:
        """A change that was not made: why, and under which id the log knows it."""
        _ = self.words.gettext
        status = 503 if isinstance(error, TemporaryError) else getattr(error, "status", 422)
        return self.pages.error(request, status=status, title=title or _("Nothing was changed"), text=_(str(error)))

    def done(self, request: Request, title: str, *, text: str = "", events: dict[str, Any] | None = None) -> Response:
        """A change that was made, told to an open page, which then reads itself again."""
        told = {"toast": Toast(title=title, text=text), "region-changed": {}, **(events or {})}
        return self.pages.nothing(events=told)

    async def page(
        self,
        request: Request,
        template: str,
        asker: Access | Principal,
        /,
        *,
        here: str,
        status: int = 200,
        **context: Any,
    ) -> Response:
        """A whole page inside its frame; `here` is the section that is shown."""
        frame = await self.frame(asker, here)
        return self.pages.page(request, template, status=status, frame=frame, **context)

    async def frame(self, asker: Access | Principal, here: str) -> Frame:
        """The frame: inside an organization for an access, above all of them for a principal."""
        if isinstance(asker, Access):
            organizations = await self.organizations(asker.principal)
            waiting = await self.attention(asker.organization_id) if asker.may_act else 0
            return frame_within(asker, organizations, words=self.words, here=here, attention=waiting)
        organizations = await self.organizations(asker)
        waiting = await self.attention(None) if asker.is_instance_admin else 0
        return frame_of(asker, organizations, words=self.words, here=here, attention=waiting)

    def _barred(self, request: Request, title: str) -> Response:
        return self.pages.error(request, status=403, title=title, text=self.words.gettext("Ask an admin to do it."))
