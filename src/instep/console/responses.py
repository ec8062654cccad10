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
PING_SECONDS = 20
STREAM_RETRY_MILLISECONDS = 2_000  # delay before a browser reconnects a lost stream
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
ReadCheck = Callable[[Request], Awaitable[bool]]


async def _get_empty_attention() -> AttentionSummary:
    return EMPTY_ATTENTION_SUMMARY


class OrganizationLister(Protocol):
    """Lists the organizations that a principal may see, by name; `query` is a search text."""

    def __call__(
        self, principal: Principal, /, query: str = "", limit: int = 500
    ) -> Awaitable[Sequence[OrganizationAccess]]: ...


@dataclass(frozen=True)
class PageResponder:
    """Access checks and responses of the console's pages.

    `require_principal` and `require_access` return a Response instead, to be sent as it is, to a caller who is not
    signed in or has no access. `count_attention` counts the operations that need attention, of one organization (by
    its id) or of all for None. `load_attention` returns the failed deliveries and the notice for instance admins.
    """

    renderer: PageRenderer
    require_principal: Callable[[Request], Awaitable[Principal | Response]]
    require_access: Callable[[Request, str], Awaitable[OrganizationAccess | Response]]
    list_organizations: OrganizationLister
    count_attention: Callable[[str | None], Awaitable[int]]
    load_attention: Callable[[], Awaitable[AttentionSummary]] = _get_empty_attention

    @property
    def localizer(self) -> Localizer:
        """The localizer of the pages."""
        return self.renderer.words

    async def require_member(self, request: Request) -> OrganizationAccess | Response:
        """Return the viewer's access to the organization in the path, or the error response."""
        return await self.require_access(request, request.path_params["organization_id"])

    async def require_admin(self, request: Request, *, title: str = "") -> OrganizationAccess | Response:
        """Return the access of an admin of the organization in the path; others get a 403 page with this title."""
        access = await self.require_member(request)
        if isinstance(access, Response) or access.can_manage:
            return access
        return self._respond_forbidden(request, title or self.localizer.gettext("Only admins can do this"))

    async def require_instance_admin(self, request: Request) -> Principal | Response:
        """Return the viewer if they are an admin of the installation, else a 403 page."""
        principal = await self.require_principal(request)
        if isinstance(principal, Response) or principal.is_instance_admin:
            return principal
        return self._respond_forbidden(request, self.localizer.gettext("Only admins of the installation can see this"))

    def reject_cross_origin(self, request: Request) -> Response | None:
        """Return the error response to a change that was sent from another site. Every changing handler calls it."""
        return None if self.renderer.is_own_request(request) else self.renderer.reject_cross_origin(request)

    def respond_error(self, request: Request, error: InstepError, *, title: str = "", base: str = "") -> Response:
        """Respond to a change that failed or is pending: the reason, and the id of the request in the log.

        `base` is the path above the operations: there the page polls the outcome of a pending operation.
        """
        operation = getattr(error, "operation", None)
        if isinstance(error, TemporaryError) and operation is not None and is_fragment_request(request):
            toast = {"title": self.localizer.translate(error)}
            watch = {"url": f"{base}/operations/{operation.id}/outcome", "toast": toast}
            events = {"dialog-close": {}, "operation-watch": watch, **CHANGE_EVENTS}
            return self.renderer.no_content(status=202, events=events)
        if isinstance(error, TemporaryError):
            log.warning("request_failed", path=request.url.path, error=describe_error(error))
        status = get_http_status(error, otherwise=CONFLICT)
        title = title or self.localizer.gettext("Nothing was changed")
        return self.renderer.error(request, status=status, title=title, text=self.localizer.translate(error))

    def respond_success(
        self, request: Request, title: str, back: str, *, text: str = "", events: dict[str, Any] | None = None
    ) -> Response:
        """Respond to a change that was made: a toast on an open page, which reloads its region, else a redirect."""
        if not is_fragment_request(request):
            return RedirectResponse(back, 303)
        toast = Toast(title=title, text=text)
        return self.renderer.no_content(events={"dialog-close": {}, "toast": toast, **CHANGE_EVENTS, **(events or {})})

    async def respond_confirmation(
        self, request: Request, dialog: ConfirmationDialog, viewer: OrganizationAccess | Principal, *, section: str
    ) -> Response:
        """Respond with the confirmation of a change: a dialog on an open page, else a page."""
        dialog = dialog if dialog.key else replace(dialog, key=new_idempotency_key())
        if is_fragment_request(request):
            return self.renderer.fragment(request, "confirm.html", dialog=dialog)
        return await self.respond_page(request, "confirm_page.html", viewer, section=section, dialog=dialog)

    async def respond_bulk_result(
        self, request: Request, result: BulkResultView, viewer: OrganizationAccess | Principal, *, section: str
    ) -> Response:
        """Respond with the results of a bulk change: a dialog on an open page, else a page."""
        if is_fragment_request(request):
            return self.renderer.fragment(request, "outcomes.html", events=CHANGE_EVENTS, outcomes=result)
        return await self.respond_page(request, "outcomes_page.html", viewer, section=section, outcomes=result)

    async def respond_page(
        self,
        request: Request,
        template: str,
        viewer: OrganizationAccess | Principal,
        /,
        *,
        section: str,
        status: int = 200,
        **context: Any,
    ) -> Response:
        """Respond with a whole page in its layout; `section` is its key in the navigation."""
        layout = await self.load_layout(viewer, section)
        return self.renderer.page(request, template, status=status, frame=layout, **context)

    async def load_layout(self, viewer: OrganizationAccess | Principal, section: str) -> PageLayout:
        """Return the layout: of an organization for an access, of the whole installation for a principal."""
        attention = await self._load_attention_of(viewer)
        if isinstance(viewer, OrganizationAccess):
            organizations = await self.list_organizations(viewer.principal, limit=MAX_SWITCHER_ORGANIZATIONS + 1)
            return build_organization_layout(
                viewer, organizations, localizer=self.localizer, section=section, attention=attention
            )
        organizations = await self.list_organizations(viewer, limit=MAX_SWITCHER_ORGANIZATIONS + 1)
        return build_instance_layout(
            viewer, organizations, localizer=self.localizer, section=section, attention=attention
        )

    async def _load_attention_of(self, viewer: OrganizationAccess | Principal) -> AttentionSummary:
        """Return the counts and the notice that the viewer may see; nothing unless they are an admin."""
        access = viewer if isinstance(viewer, OrganizationAccess) else None
        principal = access.principal if access else viewer
        is_instance_admin = isinstance(principal, Principal) and principal.is_instance_admin
        is_admin = access.can_manage if access else is_instance_admin
        if not (is_admin or is_instance_admin):
            return EMPTY_ATTENTION_SUMMARY
        summary = await self.load_attention()
        return replace(
            summary,
            operations=await self.count_attention(access.organization_id) if access and is_admin else 0,
            all_operations=await self.count_attention(None) if is_instance_admin else 0,
            failed_deliveries=summary.failed_deliveries if is_instance_admin else 0,
        )

    def _respond_forbidden(self, request: Request, title: str) -> Response:
        text = self.localizer.gettext("Ask an admin to do it.")
        return self.renderer.error(request, status=403, title=title, text=text)


def stream_changes(request: Request, changes: AsyncIterator[str], can_read: ReadCheck) -> Response:
    """Respond with server-sent events: `ready`, then `change` for each of `changes`, until the client disconnects.

    At each ping `can_read` is called again with a copy of the request without its cached state: the stream ends once
    the session has ended or access is lost. If the check fails (the database is down), the stream continues: it
    carries no data, only that something changed.
    """
    return EventSourceResponse(_generate_events(request, changes, can_read), headers=STREAM_HEADERS, ping=PING_SECONDS)


async def _generate_events(
    request: Request, changes: AsyncIterator[str], can_read: ReadCheck
) -> AsyncIterator[ServerSentEvent]:
    loop = asyncio.get_running_loop()
    yield ServerSentEvent(event="ready", data="", retry=STREAM_RETRY_MILLISECONDS)
    check_at, next_change = loop.time() + PING_SECONDS, _schedule_next(changes)
    try:
        while True:
            await asyncio.wait([next_change], timeout=max(0.0, check_at - loop.time()))
            if loop.time() >= check_at:
                if not await _can_still_read(request, can_read):
                    return
                check_at = loop.time() + PING_SECONDS
            if next_change.done():
                next_change.result()
                next_change = _schedule_next(changes)
                yield ServerSentEvent(event="change", data="")
    finally:
        next_change.cancel()


def _schedule_next(changes: AsyncIterator[str]) -> asyncio.Future[Any]:
    return asyncio.ensure_future(anext(changes))


async def _can_still_read(request: Request, can_read: ReadCheck) -> bool:
    try:
        return await can_read(Request({**request.scope, "state": {}}))
    except InstepError as error:
        log.warning("stream_check_failed", path=request.url.path, error=str(error))
        return True
