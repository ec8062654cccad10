"""Responses shared by all pages: access checks, errors, confirmations, toasts and event streams."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from msgspec.structs import replace
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from instep.auth.principal import OrganizationAccess, Principal
from instep.console.components import BulkResultView, ConfirmationDialog, new_idempotency_key
from instep.console.layout import (
    EMPTY_ATTENTION_SUMMARY,
    MAX_SWITCHER_ORGANIZATIONS,
    AttentionSummary,
    PageLayout,
    build_instance_layout,
    build_organization_layout,
)
from instep.core.errors import InstepError, TemporaryError, describe_error
from instep.core.i18n import Localizer
from instep.core.templates import PageRenderer, Toast, is_fragment_request
from instep.domain.errors import CONFLICT, get_http_status

log = structlog.get_logger(__name__)
CHANGE_EVENTS: dict[str, Any] = {"people-changed": {}, "region-changed": {}}


async def _get_empty_attention() -> AttentionSummary:
    return EMPTY_ATTENTION_SUMMARY


class OrganizationLister(Protocol):
    """Gives the organizations that somebody may see, by name; those that `query` means."""

    def __call__(
        self, principal: Principal, /, query: str = "", limit: int = 500
    ) -> Awaitable[Sequence[OrganizationAccess]]: ...


@dataclass(frozen=True)
class PageResponder:
    """The doors to the pages, and what surrounds them.

    `principal` and `access` answer with a Response where there is nobody, or nothing to see: it is sent as it is.
    `attention` counts the operations that need a person: of one organization (by its id), None for all of them.
    `notices` tells what else waits for those who may see everything: parked deliveries, and what to say of the webhook.
    """

    pages: PageRenderer
    principal: Callable[[Request], Awaitable[Principal | Response]]
    access: Callable[[Request, str], Awaitable[OrganizationAccess | Response]]
    organizations: OrganizationLister
    attention: Callable[[str | None], Awaitable[int]]
    notices: Callable[[], Awaitable[AttentionSummary]] = _get_empty_attention

    @property
    def words(self) -> Localizer:
        """The words of the pages."""
        return self.pages.words

    async def member(self, request: Request) -> OrganizationAccess | Response:
        """Whoever may see the organization in the address."""
        return await self.access(request, request.path_params["organization_id"])

    async def admin(self, request: Request, *, title: str = "") -> OrganizationAccess | Response:
        """Whoever may change people in the organization in the address; `title` is what the others are told."""
        access = await self.member(request)
        if isinstance(access, Response) or access.can_manage:
            return access
        return self._barred(request, title or self.words.gettext("Only admins can do this"))

    async def require_instance_admin(self, request: Request) -> Principal | Response:
        """Whoever may see the whole installation."""
        principal = await self.principal(request)
        if isinstance(principal, Response) or principal.is_instance_admin:
            return principal
        return self._barred(request, self.words.gettext("Only admins of the installation can see this"))

    def foreign(self, request: Request) -> Response | None:
        """What to answer to a change that no page of ours asked for. Ask first in every handler that changes."""
        return None if self.pages.is_own_request(request) else self.pages.reject_cross_origin(request)

    def refused(self, request: Request, error: InstepError, *, title: str = "", base: str = "") -> Response:
        """A change that was not made, or whose end is not known: why, and under which id the log knows it.

        `base` is above the operations: where the end of one that goes on can be asked for.
        """
        _ = self.words.gettext
        operation = getattr(error, "operation", None)
        if isinstance(error, TemporaryError) and operation is not None and is_fragment_request(request):
            watch = {
                "url": f"{base}/operations/{operation.id}/outcome",
                "toast": {"title": self.words.translate(error)},
            }
            return self.pages.no_content(
                status=202, events={"dialog-close": {}, "operation-watch": watch, **CHANGE_EVENTS}
            )
        if isinstance(error, TemporaryError):
            log.warning("request_failed", path=request.url.path, error=describe_error(error))
        status = get_http_status(error, otherwise=CONFLICT)
        title = title or _("Nothing was changed")
        return self.pages.error(request, status=status, title=title, text=self.words.translate(error))

    def done(
        self, request: Request, title: str, back: str, *, text: str = "", events: dict[str, Any] | None = None
    ) -> Response:
        """A change that was made, told to an open page, which then reads itself again; else back to `back`."""
        if not is_fragment_request(request):
            return RedirectResponse(back, 303)
        told = {"dialog-close": {}, "toast": Toast(title=title, text=text), **CHANGE_EVENTS, **(events or {})}
        return self.pages.no_content(events=told)

    async def ask(
        self, request: Request, question: ConfirmationDialog, asker: OrganizationAccess | Principal, *, here: str
    ) -> Response:
        """The question before a change: a dialog in an open page, else a page."""
        question = question if question.key else replace(question, key=new_idempotency_key())
        if is_fragment_request(request):
            return self.pages.fragment(request, "confirm.html", ask=question)
        return await self.page(request, "confirm_page.html", asker, here=here, ask=question)

    async def tell(
        self, request: Request, told: BulkResultView, asker: OrganizationAccess | Principal, *, here: str
    ) -> Response:
        """What became of many: a dialog over an open page, which reads itself again; else a page."""
        if is_fragment_request(request):
            return self.pages.fragment(request, "outcomes.html", events=CHANGE_EVENTS, outcomes=told)
        return await self.page(request, "outcomes_page.html", asker, here=here, outcomes=told)

    async def page(
        self,
        request: Request,
        template: str,
        asker: OrganizationAccess | Principal,
        /,
        *,
        here: str,
        status: int = 200,
        **context: Any,
    ) -> Response:
        """A whole page inside its frame; `here` is the section that is shown."""
        frame = await self.frame(asker, here)
        return self.pages.page(request, template, status=status, frame=frame, **context)

    async def frame(self, asker: OrganizationAccess | Principal, here: str) -> PageLayout:
        """The frame: inside an organization for an access, above all of them for a principal."""
        waiting = await self.waiting(asker)
        if isinstance(asker, OrganizationAccess):
            organizations = await self.organizations(asker.principal, limit=MAX_SWITCHER_ORGANIZATIONS + 1)
            return build_organization_layout(asker, organizations, words=self.words, here=here, waiting=waiting)
        organizations = await self.organizations(asker, limit=MAX_SWITCHER_ORGANIZATIONS + 1)
        return build_instance_layout(asker, organizations, words=self.words, here=here, waiting=waiting)

    async def waiting(self, asker: OrganizationAccess | Principal) -> AttentionSummary:
        """What waits for this person: nothing for those who are no admins."""
        access = asker if isinstance(asker, OrganizationAccess) else None
        principal = access.principal if access else asker
        has_all = isinstance(principal, Principal) and principal.is_instance_admin
        is_admin = access.can_manage if access else has_all
        if not (is_admin or has_all):
            return EMPTY_ATTENTION_SUMMARY
        found = await self.notices()
        return replace(
            found,
            operations=await self.attention(access.organization_id) if access and is_admin else 0,
            everywhere=await self.attention(None) if has_all else 0,
            parked=found.parked if has_all else 0,
        )

    def _barred(self, request: Request, title: str) -> Response:
        return self.pages.error(request, status=403, title=title, text=self.words.gettext("Ask an admin to do it."))


PING_SECONDS = 20
STREAM_RETRY_MILLISECONDS = 2_000  # milliseconds until a browser that lost the stream asks again
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
ReadCheck = Callable[[Request], Awaitable[bool]]


def stream_changes(request: Request, changes: AsyncIterator[str], can_read: ReadCheck) -> Response:
    """Answer with `ready`, then `change` for each of `changes`, until the reader goes away.

    At each ping `may_read` is asked again, with a copy of the request that remembers nobody: the stream ends once the
    session is over, or what it shows is not the reader's to see. While that can't be told (the database is down), it
    goes on: it carries no data, only that something changed.
    """
    return EventSourceResponse(_generate_events(request, changes, can_read), headers=STREAM_HEADERS, ping=PING_SECONDS)


async def _generate_events(
    request: Request, changes: AsyncIterator[str], can_read: ReadCheck
) -> AsyncIterator[ServerSentEvent]:
    loop = asyncio.get_running_loop()
    yield ServerSentEvent(event="ready", data="", retry=STREAM_RETRY_MILLISECONDS)
    due, waiting = loop.time() + PING_SECONDS, _schedule_next(changes)
    try:
        while True:
            await asyncio.wait([waiting], timeout=max(0.0, due - loop.time()))
            if loop.time() >= due:
                if not await _can_still_read(request, can_read):
                    return
                due = loop.time() + PING_SECONDS
            if waiting.done():
                waiting.result()
                waiting = _schedule_next(changes)
                yield ServerSentEvent(event="change", data="")
    finally:
        waiting.cancel()


def _schedule_next(changes: AsyncIterator[str]) -> asyncio.Future[Any]:
    return asyncio.ensure_future(anext(changes))


async def _can_still_read(request: Request, can_read: ReadCheck) -> bool:
    try:
        return await can_read(Request({**request.scope, "state": {}}))
    except InstepError as error:
        log.warning("stream_unchecked", path=request.url.path, error=str(error))
        return True
