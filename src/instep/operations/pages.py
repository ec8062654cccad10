"""Console pages of operations: list, outcome, retry and give up; operations as rows of text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from instep.auth.principal import OrganizationAccess
from instep.console import labels
from instep.console.admin_pages import (
    PAGE_SIZE,
    AdminPageScope,
    build_next_page_url,
    load_label_context,
    resolve_admin_page_scope,
    respond_list,
)
from instep.console.components import ConfirmationDialog, StatusBadge
from instep.console.labels import LabelContext
from instep.console.responses import PageResponder
from instep.core.db import Database
from instep.core.errors import PermanentError
from instep.core.i18n import FormattedTime, Localizer
from instep.operations.service import OperationService
from instep.operations.workflow import Operation

UNFINISHED_STATES: tuple[str, ...] = ("attention", "open")
FINISHED_STATES: tuple[str, ...] = ("settled", "refused", "given_up")
OPERATION_STATES = (*UNFINISHED_STATES, *FINISHED_STATES)
MAX_UNFINISHED_SHOWN = 100


class OperationView(Struct, frozen=True, kw_only=True):
    """An operation as text. `organization_name` is empty on the pages of a single organization."""

    id: str
    action_label: str
    target_label: str
    organization_name: str
    actor_label: str
    state: str
    status: StatusBadge
    requested_at: FormattedTime
    reason: str
    next_attempt_at: FormattedTime | None
    attempts: int
    steps: tuple[str, ...]
    request_id: str | None
    can_retry: bool
    can_give_up: bool
    href: str


@dataclass(frozen=True)
class OperationPages:
    """Handlers of the pages of operations, of one organization and of the whole installation."""

    console: PageResponder
    db: Database
    operations: OperationService

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route(base + path, handler, methods=[method])
            for base in ("", "/organizations/{organization_id}")
            for method, path, handler in (
                ("GET", "/operations", self.list_operations),
                ("GET", "/operations/{operation_id}/outcome", self.show_outcome),
                ("POST", "/operations/{operation_id}/retry", self.retry),
                ("GET", "/operations/{operation_id}/give-up", self.confirm_give_up),
                ("POST", "/operations/{operation_id}/give-up", self.give_up),
            )
        ]

    async def list_operations(self, request: Request) -> Response:
        """List operations; without a filter the unfinished ones come first, whatever their age."""
        scope = await resolve_admin_page_scope(self.console, request)
        if isinstance(scope, Response):
            return scope
        state = request.query_params.get("state", "")
        state = state if state in OPERATION_STATES else ""
        before = request.query_params.get("before", "")
        unfinished = [] if before or state else await self._list_unfinished(scope)
        states = (state,) if state else FINISHED_STATES
        found = await self.operations.list(scope.organization_id, states=states, before=before, limit=PAGE_SIZE + 1)
        shown = [*unfinished, *found[:PAGE_SIZE]]
        context = {
            "rows": await self._make_views(scope, shown),
            "more": build_next_page_url(request, found[PAGE_SIZE - 1].id) if len(found) > PAGE_SIZE else None,
            "has_cursor": bool(before),
            "is_open": any(operation.state == "open" for operation in shown),
            "state": state,
            "states": [(key, make_operation_status(key, self.console.localizer)) for key in OPERATION_STATES],
            "path": f"{scope.base_path}/operations",
        }
        return await respond_list(self.console, request, scope, "operations", context)

    async def show_outcome(self, request: Request) -> Response:
        """Return the outcome as JSON to the script that waits for it, for admins and the operation's actor."""
        found = await self._find_own(request) or await self._find(request)
        if isinstance(found, Response):
            return found
        _, operation = found
        if operation.state == "open":
            return JSONResponse({"is_open": True}, headers={"Cache-Control": "no-store"})
        names = await self.db.read(labels.list_names, labels.collect_ids([operation]))
        title, text, tone = describe_operation_result(operation, names, self.console.localizer)
        toast = {"title": title, "text": text, "tone": tone, "request_id": operation.request_id}
        return JSONResponse({"is_open": False, "toast": toast}, headers={"Cache-Control": "no-store"})

    async def retry(self, request: Request) -> Response:
        """Retry an operation that needs attention."""
        return await self._change(request, is_retry=True)

    async def confirm_give_up(self, request: Request) -> Response:
        """Show the confirmation dialog of giving up an operation."""
        found = await self._find(request)
        if isinstance(found, Response):
            return found
        scope, operation = found
        (row,) = await self._make_views(scope, [operation])
        _ = self.console.localizer.gettext
        effect = _("What Clerk may have done already stays done.")
        if row.steps:
            effect = _("What was done stays done: %(steps)s.", steps=", ".join(row.steps))
        title = _('Give up "%(action)s: %(target)s"?', action=row.action_label, target=row.target_label)
        dialog = ConfirmationDialog(
            title=title,
            confirm_label=_("Give up"),
            action=f"{row.href}/give-up",
            cancel_url=f"{scope.base_path}/operations",
            impact=(_("No further attempt is made."), effect, _("The audit log records who gave up.")),
            row_id=f"row-{row.id}",
        )
        return await self.console.respond_confirmation(
            request, dialog, scope.viewer, section=scope.get_section("operations")
        )

    async def give_up(self, request: Request) -> Response:
        """End an operation as it is."""
        return await self._change(request, is_retry=False)

    async def _find_own(self, request: Request) -> tuple[AdminPageScope, Operation] | None:
        """Return an operation that the viewer requested, in this organization or outside of all organizations."""
        is_organization_page = "organization_id" in request.path_params
        viewer = await (
            self.console.require_member(request) if is_organization_page else self.console.require_principal(request)
        )
        if isinstance(viewer, Response):
            return None
        principal = viewer.principal if isinstance(viewer, OrganizationAccess) else viewer
        found = await self.operations.find_own(principal, request.path_params["operation_id"])
        if found is None:
            return None
        scope = AdminPageScope(viewer)
        return (scope, found) if found.organization_id is None or scope.includes(found.organization_id) else None

    async def _find(self, request: Request) -> tuple[AdminPageScope, Operation] | Response:
        scope = await resolve_admin_page_scope(self.console, request)
        if isinstance(scope, Response):
            return scope
        viewer = scope.viewer
        principal = viewer.principal if isinstance(viewer, OrganizationAccess) else viewer
        accesses = {viewer.organization_id: viewer} if isinstance(viewer, OrganizationAccess) else {}
        try:
            found = await self.operations.get(principal, accesses, request.path_params["operation_id"])
        except PermanentError as error:
            return self.console.respond_error(request, error)
        if scope.includes(found.organization_id):
            return scope, found
        _ = self.console.localizer.gettext
        text = _("There is no such operation.")
        return self.console.renderer.error(request, status=404, title=_("Not found"), text=text)

    async def _change(self, request: Request, *, is_retry: bool) -> Response:
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        found = await self._find(request)
        if isinstance(found, Response):
            return found
        scope, operation = found
        try:
            await (self.operations.retry if is_retry else self.operations.give_up)(operation)
        except PermanentError as error:
            return self.console.respond_error(request, error)
        _ = self.console.localizer.gettext
        title = _("Retrying") if is_retry else _("Given up")
        return self.console.respond_success(request, title, f"{scope.base_path}/operations")

    async def _list_unfinished(self, scope: AdminPageScope) -> list[Operation]:
        """Return the unfinished operations, up to the number that a page can hold."""
        found = await self.operations.list(scope.organization_id, states=UNFINISHED_STATES, limit=MAX_UNFINISHED_SHOWN)
        return sorted(found, key=lambda operation: UNFINISHED_STATES.index(operation.state))

    async def _make_views(self, scope: AdminPageScope, operations: Sequence[Operation]) -> list[OperationView]:
        context = await load_label_context(self.console, self.db, scope, labels.collect_ids(operations))
        return [
            make_operation_view(each, context, self.console.localizer, has_organization=scope.has_all_organizations)
            for each in operations
        ]


def make_operation_view(
    operation: Operation, context: LabelContext, localizer: Localizer, *, has_organization: bool
) -> OperationView:
    """Return an operation as text."""
    names, now, due_at = context.names, context.now, operation.due_at
    return OperationView(
        id=operation.id,
        action_label=labels.format_action(operation.kind, localizer),
        target_label=labels.format_target(operation.target, names, localizer),
        organization_name=names.get(operation.organization_id or "", "") if has_organization else "",
        actor_label=labels.format_actor_with_impersonator(operation.actor, operation.impersonator, names, localizer),
        state=operation.state,
        status=make_operation_status(operation.state, localizer),
        requested_at=localizer.ago(operation.asked_at, now),
        reason=localizer.gettext(operation.reason) if operation.reason else "",
        next_attempt_at=localizer.until(due_at, now) if due_at and due_at > now else None,
        attempts=operation.attempts,
        steps=tuple(step.replace("_", " ") for step, result in operation.done.items() if result),
        request_id=operation.request_id,
        can_retry=operation.state == "attention",
        can_give_up=operation.state in UNFINISHED_STATES,
        href=f"{context.base_path}/operations/{operation.id}",
    )


def make_operation_status(state: str, localizer: Localizer) -> StatusBadge:
    """Return the badge of an operation's state."""
    _ = localizer.gettext
    badges: dict[str, StatusBadge] = {
        "open": StatusBadge(_("Syncing"), "refresh-cw", "info"),
        "attention": StatusBadge(_("Needs attention"), "triangle-alert", "warn"),
        "settled": StatusBadge(_("Done"), "circle-check", "good"),
        "refused": StatusBadge(_("Refused"), "circle-x", "quiet"),
        "given_up": StatusBadge(_("Given up"), "circle-minus", "quiet"),
    }
    return badges[state]


def describe_operation_result(
    operation: Operation, names: Mapping[str, str], localizer: Localizer
) -> tuple[str, str, Literal["success", "error"]]:
    """Return title, text and tone of the toast about an operation that has ended."""
    _ = localizer.gettext
    action = labels.format_action(operation.kind, localizer)
    title = _("%(action)s: %(target)s", action=action, target=labels.format_target(operation.target, names, localizer))
    status = make_operation_status(operation.state, localizer).text
    if operation.state == "settled":
        return title, status, "success"
    if not operation.reason:
        return title, _("%(status)s.", status=status), "error"
    return title, _("%(status)s. %(reason)s", status=status, reason=operation.reason), "error"
