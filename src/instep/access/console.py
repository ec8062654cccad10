"""What every page of the console asks and says in the same way: who is there, the frame around it, a refusal."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from instep.access.frame import NOTHING, SHOWN, Waiting, frame_of, frame_within
from instep.access.principal import Access, Principal
from instep.identity.refusals import CONFLICT, status_of
from instep.kit.confirm import Confirm, new_key
from instep.kit.errors import InstepError, TemporaryError, described
from instep.kit.html import Frame, Pages, Toast, is_partial
from instep.kit.outcomes import Outcomes
from instep.kit.words import Words

log = structlog.get_logger(__name__)
CHANGED: dict[str, Any] = {"people-changed": {}, "region-changed": {}}


async def _no_notices() -> Waiting:
    return NOTHING


class OrganizationsOf(Protocol):
    """Gives the organizations that somebody may see, by name; those that `query` means."""

    def __call__(self, principal: Principal, /, query: str = "", limit: int = 500) -> Awaitable[Sequence[Access]]: ...


@dataclass(frozen=True)
class Console:
    """The doors to the pages, and what surrounds them.

    `principal` and `access` answer with a Response where there is nobody, or nothing to see: it is sent as it is.
    `attention` counts the operations that need a person: of one organization (by its id), None for all of them.
    `notices` tells what else waits for those who may see everything: parked deliveries, and what to say of the webhook.
    """

    pages: Pages
    principal: Callable[[Request], Awaitable[Principal | Response]]
    access: Callable[[Request, str], Awaitable[Access | Response]]
    organizations: OrganizationsOf
    attention: Callable[[str | None], Awaitable[int]]
    notices: Callable[[], Awaitable[Waiting]] = _no_notices

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
        return None if self.pages.is_ours(request) else self.pages.foreign(request)

    def refused(self, request: Request, error: InstepError, *, title: str = "", base: str = "") -> Response:
        """A change that was not made, or whose end is not known: why, and under which id the log knows it.

        `base` is above the operations: where the end of one that goes on can be asked for.
        """
        _ = self.words.gettext
        operation = getattr(error, "operation", None)
        if isinstance(error, TemporaryError) and operation is not None and is_partial(request):
            watch = {"url": f"{base}/operations/{operation.id}/outcome", "toast": {"title": self.words.say(error)}}
            return self.pages.nothing(status=202, events={"dialog-close": {}, "operation-watch": watch, **CHANGED})
        if isinstance(error, TemporaryError):
            log.warning("request_failed", path=request.url.path, error=described(error))
        status = status_of(error, otherwise=CONFLICT)
        title = title or _("Nothing was changed")
        return self.pages.error(request, status=status, title=title, text=self.words.say(error))

    def done(
        self, request: Request, title: str, back: str, *, text: str = "", events: dict[str, Any] | None = None
    ) -> Response:
        """A change that was made, told to an open page, which then reads itself again; else back to `back`."""
        if not is_partial(request):
            return RedirectResponse(back, 303)
        told = {"dialog-close": {}, "toast": Toast(title=title, text=text), **CHANGED, **(events or {})}
        return self.pages.nothing(events=told)

    async def ask(self, request: Request, question: Confirm, asker: Access | Principal, *, here: str) -> Response:
        """The question before a change: a dialog in an open page, else a page."""
        question = question if question.key else replace(question, key=new_key())
        if is_partial(request):
            return self.pages.fragment(request, "confirm.html", ask=question)
        return await self.page(request, "confirm_page.html", asker, here=here, ask=question)

    async def tell(self, request: Request, told: Outcomes, asker: Access | Principal, *, here: str) -> Response:
        """What became of many: a dialog over an open page, which reads itself again; else a page."""
        if is_partial(request):
            return self.pages.fragment(request, "outcomes.html", events=CHANGED, outcomes=told)
        return await self.page(request, "outcomes_page.html", asker, here=here, outcomes=told)

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
        waiting = await self.waiting(asker)
        if isinstance(asker, Access):
            organizations = await self.organizations(asker.principal, limit=SHOWN + 1)
            return frame_within(asker, organizations, words=self.words, here=here, waiting=waiting)
        organizations = await self.organizations(asker, limit=SHOWN + 1)
        return frame_of(asker, organizations, words=self.words, here=here, waiting=waiting)

    async def waiting(self, asker: Access | Principal) -> Waiting:
        """What waits for this person: nothing for those who are no admins."""
        access = asker if isinstance(asker, Access) else None
        principal = access.principal if access else asker
        has_all = isinstance(principal, Principal) and principal.is_instance_admin
        is_admin = access.may_act if access else has_all
        if not (is_admin or has_all):
            return NOTHING
        found = await self.notices()
        return replace(
            found,
            operations=await self.attention(access.organization_id) if access and is_admin else 0,
            everywhere=await self.attention(None) if has_all else 0,
            parked=found.parked if has_all else 0,
        )

    def _barred(self, request: Request, title: str) -> Response:
        return self.pages.error(request, status=403, title=title, text=self.words.gettext("Ask an admin to do it."))
