"""Handlers of invitation actions: resend, revoke, copy link, timeline and bulk changes."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from instep.auth.principal import OrganizationAccess
from instep.console.components import (
    DONE,
    PENDING,
    SKIPPED,
    BulkItemView,
    BulkResultView,
    ConfirmationDialog,
    make_bulk_status_badge,
    new_idempotency_key,
    summarize_bulk_result,
)
from instep.console.layout import get_organization_path
from instep.console.responses import PageResponder
from instep.core.csv_export import format_csv_line
from instep.core.errors import InstepError, TemporaryError
from instep.core.i18n import FormattedTime, Localizer, lazy_gettext
from instep.core.templates import get_request_id, is_fragment_request
from instep.invitations.bulk_service import BulkInvitationService, parse_invitees
from instep.invitations.models import (
    DEFAULT_EXPIRY_DAYS,
    InvitationBatchPreview,
    InvitationBatchProgress,
    InvitationHistory,
    InvitationHistoryEvent,
)
from instep.invitations.policies import InvitationRefusedError
from instep.invitations.service import InvitationService

ACTIVE_NAV_ITEM = "members"
BULK_ACTIONS = ("resend", "revoke")
MAX_SELECTED = 100
MAX_CONCURRENT_ACTIONS = 4
MAX_FILE_SIZE = 200_000
EMPTY_BULK_FORM = {"text": "", "role": "", "days": str(DEFAULT_EXPIRY_DAYS)}
OUTCOME_BY_ROW_STATUS = {"queued": PENDING, "sent": DONE, "refused": SKIPPED, "skipped": SKIPPED}
InvitationAction = Callable[[OrganizationAccess, str | None], Awaitable[Response]]


@dataclass(frozen=True)
class InvitationActionPages:
    """Handlers of the actions on one invitation: resend, revoke, copy link, timeline."""

    console: PageResponder
    invitations: InvitationService

    def routes(self) -> list[Route]:
        """Return the routes of these pages."""
        base = "/organizations/{organization_id}/invitations"
        return [
            Route(f"{base}/lost/{{operation_id}}/again", self.retry_lost, methods=["POST"]),
            Route(f"{base}/{{invitation_id}}/resend", self.resend, methods=["POST"]),
            Route(f"{base}/{{invitation_id}}/revoke", self.confirm_revoke, methods=["GET"]),
            Route(f"{base}/{{invitation_id}}/revoke", self.revoke, methods=["POST"]),
            Route(f"{base}/{{invitation_id}}/link", self.copy_link, methods=["POST"]),
            Route(f"{base}/{{invitation_id}}/timeline", self.show_timeline, methods=["GET"]),
        ]

    async def resend(self, request: Request) -> Response:
        """Revoke an invitation and create a new one with the same address, role and metadata."""

        async def resend(access: OrganizationAccess, key: str | None) -> Response:
            invitation_id = request.path_params["invitation_id"]
            sent = await self.invitations.resend(access, invitation_id, idempotency_key=key)
            title = self.console.localizer.gettext("Invitation resent to %(email)s", email=sent.email)
            text = self.console.localizer.gettext("The old link no longer works.")
            events = {"people-changed": {"marked": sent.clerk_id}}
            return self.console.respond_success(
                request, title, _get_list_url(access, sent.clerk_id), text=text, events=events
            )

        return await self._change(request, resend)

    async def retry_lost(self, request: Request) -> Response:
        """Retry creating the new invitation of a failed resend."""

        async def retry(access: OrganizationAccess, _key: str | None) -> Response:
            await self.invitations.retry_lost(access, request.path_params["operation_id"])
            title = self.console.localizer.gettext("The invitation is being resent")
            return self.console.respond_success(request, title, _get_list_url(access))

        return await self._change(request, retry)

    async def confirm_revoke(self, request: Request) -> Response:
        """Show the confirmation before revoking."""
        access = await self.console.require_admin(request)
        if isinstance(access, Response):
            return access
        invitation_id = request.path_params["invitation_id"]
        try:
            email = (await self.invitations.get_timeline(access, invitation_id)).email
        except InstepError as error:
            return self.console.respond_error(request, error)
        _ = self.console.localizer.gettext
        confirmation = ConfirmationDialog(
            title=_("Revoke the invitation of %(email)s?", email=email),
            confirm_label=_("Revoke"),
            action=f"{get_organization_path(access)}/invitations/{invitation_id}/revoke",
            cancel_url=_get_list_url(access),
            impact=(
                _("The link in the email stops working."),
                _("They are not notified. You can invite them again."),
            ),
            row_id=f"row-{invitation_id}",
        )
        return await self.console.respond_confirmation(request, confirmation, access, section=ACTIVE_NAV_ITEM)

    async def revoke(self, request: Request) -> Response:
        """Revoke an invitation."""

        async def revoke(access: OrganizationAccess, key: str | None) -> Response:
            invitation_id = request.path_params["invitation_id"]
            revoked = await self.invitations.revoke(access, invitation_id, idempotency_key=key)
            title = self.console.localizer.gettext("Invitation of %(email)s revoked", email=revoked.email)
            return self.console.respond_success(request, title, _get_list_url(access))

        return await self._change(request, revoke)

    async def copy_link(self, request: Request) -> Response:
        """Show the secret link to copy. It is in this answer only, and is stored nowhere."""

        async def show_link(access: OrganizationAccess, _key: str | None) -> Response:
            link = await self.invitations.copy_link(access, request.path_params["invitation_id"])
            context: dict[str, Any] = {"link": link, "cancel": _get_list_url(access)}
            if is_fragment_request(request):
                return self.console.renderer.fragment(request, "invitations/link.html", **context)
            return await self.console.respond_page(
                request, "invitations/link_page.html", access, section=ACTIVE_NAV_ITEM, **context
            )

        return await self._change(request, show_link)

    async def show_timeline(self, request: Request) -> Response:
        """Show the history across resends, as a dialog in an open page or as a page of its own."""
        access = await self.console.require_admin(request)
        if isinstance(access, Response):
            return access
        try:
            history = await self.invitations.get_timeline(access, request.path_params["invitation_id"])
        except InstepError as error:
            return self.console.respond_error(request, error)
        context: dict[str, Any] = {
            "email": history.email,
            "items": build_timeline_items(history, now=self.console.renderer.clock(), words=self.console.localizer),
            "cancel": _get_list_url(access),
        }
        if is_fragment_request(request):
            return self.console.renderer.fragment(request, "invitations/timeline.html", **context)
        return await self.console.respond_page(
            request, "invitations/timeline_page.html", access, section=ACTIVE_NAV_ITEM, **context
        )

    async def _change(self, request: Request, action: InvitationAction) -> Response:
        """Run an action of an admin from our own page; answer a refusal, or an outcome that is still unknown."""
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        access = await self.console.require_admin(request)
        if isinstance(access, Response):
            return access
        key = str((await request.form()).get("key", ""))
        hashed = hashlib.sha256(f"{request.url.path} {key}".encode()).hexdigest() if key else None
        try:
            return await action(access, hashed)
        except InstepError as error:
            return self.console.respond_error(request, error, base=get_organization_path(access))


def _get_list_url(access: OrganizationAccess, marked: str = "") -> str:
    return f"{get_organization_path(access)}/members" + (f"?marked={marked}" if marked else "")


class InvitationTimelineItem(Struct, frozen=True, kw_only=True):
    """Event of the timeline as shown on the page."""

    text: str
    icon: str
    at: FormattedTime
    actor_name: str = ""
    note: str = ""


def build_timeline_items(history: InvitationHistory, *, now: int, words: Localizer) -> list[InvitationTimelineItem]:
    """Return the items of the timeline, oldest first."""
    return [_build_timeline_item(event, history, now, words) for event in history.events]


def _build_timeline_item(
    event: InvitationHistoryEvent, history: InvitationHistory, now: int, words: Localizer
) -> InvitationTimelineItem:
    _ = words.gettext
    texts = {
        "asked": (_("Requested"), "user-plus"),
        "sent": (_("Sent by Clerk"), "mail"),
        "link_copied": (_("Link copied"), "link"),
        "resent": (_("Resent"), "send"),
        "lost": (_("Lost: revoked, and not resent yet"), "mail-x"),
        "revoked": (_("Revoked"), "mail-x"),
        "expired": (_("Expired"), "clock-alert"),
        "accepted": (_("Accepted"), "circle-check"),
        "member_made": (_("Became a member"), "users"),
        "first_seen": (_("Signed in for the first time"), "log-in"),
    }
    text, icon = texts[event.what]
    note = (
        _("%(old)s was replaced by %(new)s", old=event.previous_invitation_id, new=event.invitation_id)
        if event.previous_invitation_id
        else ""
    )
    actor_name = ""
    if event.actor is not None:
        names = {"break_glass": _("Break-glass key"), **history.names}
        actor_name = names.get(event.actor) or event.actor
    return InvitationTimelineItem(text=text, icon=icon, at=words.ago(event.at, now), actor_name=actor_name, note=note)


@dataclass(frozen=True)
class BulkInvitationPages:
    """Handlers that invite a list of people, and that resend or revoke selected invitations."""

    console: PageResponder
    invitations: InvitationService
    bulk: BulkInvitationService

    def routes(self) -> list[Route]:
        """Return the routes of these pages; they must come before those of one invitation."""
        base = "/organizations/{organization_id}/invitations"
        return [
            Route(f"{base}/bulk", self.confirm_change, methods=["GET"]),
            Route(f"{base}/bulk", self.change_selected, methods=["POST"]),
            Route(f"{base}/many", self.new, methods=["GET"]),
            Route(f"{base}/many", self.preview_or_send, methods=["POST"]),
            Route(f"{base}/batches/{{batch_id}}", self.show_progress, methods=["GET"]),
            Route(f"{base}/batches/{{batch_id}}/results", self.export_results, methods=["GET"]),
        ]

    async def confirm_change(self, request: Request) -> Response:
        """Show the confirmation before resending or revoking the selected invitations."""
        access = await self.console.require_admin(request)
        if isinstance(access, Response):
            return access
        action = request.query_params.get("action", "")
        invitation_ids = list(dict.fromkeys(request.query_params.getlist("invitation")))[:MAX_SELECTED]
        words, count = self.console.localizer, len(invitation_ids)
        _ = words.gettext
        if action not in BULK_ACTIONS or not invitation_ids:
            text = _("Select invitations first.")
            return self.console.renderer.error(request, status=422, title=_("Nothing is selected"), text=text)
        is_revoke = action == "revoke"
        verb = _("Revoke") if is_revoke else _("Resend")
        confirmation = ConfirmationDialog(
            title=words.ngettext("Revoke %(num)s invitation?", "Revoke %(num)s invitations?", count)
            if is_revoke
            else words.ngettext("Resend %(num)s invitation?", "Resend %(num)s invitations?", count),
            confirm_label=verb,
            action=f"{get_organization_path(access)}/invitations/bulk",
            cancel_url=_get_list_url(access),
            impact=(
                _("The links in the emails stop working."),
                _("They are not notified.") if is_revoke else _("Everyone gets a new email with a new link."),
            ),
            people=tuple(await self._find_emails(access, invitation_ids)),
            is_destructive=is_revoke,
            confirmation_text=verb.lower() if is_revoke and count > 1 else "",
            fields=(("action", action), *(("invitation", it) for it in invitation_ids)),
            is_inline=True,
        )
        return await self.console.respond_confirmation(request, confirmation, access, section=ACTIVE_NAV_ITEM)

    async def change_selected(self, request: Request) -> Response:
        """Resend or revoke each selected invitation, and show the result of each."""
        access = await self._require_admin(request)
        if isinstance(access, Response):
            return access
        form = await request.form()
        action = str(form.get("action", ""))
        invitation_ids = [str(it) for it in form.getlist("invitation")][:MAX_SELECTED]
        words = self.console.localizer
        word = words.gettext("Revoke").lower()
        if action not in BULK_ACTIONS or (action == "revoke" and len(invitation_ids) > 1 and form.get("word") != word):
            title, text = words.gettext("Nothing was changed"), words.gettext("Confirmation text does not match.")
            return self.console.renderer.error(request, status=422, title=title, text=text)
        emails = await self._find_emails(access, invitation_ids)
        limit, key = asyncio.Semaphore(MAX_CONCURRENT_ACTIONS), str(form.get("key", ""))
        results = await asyncio.gather(*(self._change_one(access, action, it, key, limit) for it in invitation_ids))
        rows = [
            BulkItemView(
                name=email, status=make_bulk_status_badge(outcome, words), note=words.gettext(note) if note else ""
            )
            for email, (outcome, note) in zip(emails, results, strict=True)
        ]
        title = summarize_bulk_result([outcome for outcome, _ in results], words)
        return await self.console.respond_bulk_result(
            request,
            BulkResultView(title=title, rows=rows, back=_get_list_url(access)),
            access,
            section=ACTIVE_NAV_ITEM,
        )

    async def new(self, request: Request) -> Response:
        """Show the empty form."""
        access = await self.console.require_admin(request)
        if isinstance(access, Response):
            return access
        return await self._form(request, access, {})

    async def preview_or_send(self, request: Request) -> Response:
        """Show a preview of the list; send it when the same text comes with `step=send`."""
        access = await self._require_admin(request)
        if isinstance(access, Response):
            return access
        form = await request.form()
        values = {name: str(form.get(name, "")) for name in ("text", "role", "days", "key")}
        try:
            values["text"] += await _read_uploaded_file(form)
            role = values["role"] or access.roles.default
            invitees = parse_invitees(values["text"], role=role, roles=access.roles)
            if form.get("step") != "send":
                preview = await self.bulk.preview(access, invitees)
                return await self._form(request, access, values, preview=preview)
            batch = await self.bulk.send(
                access,
                invitees,
                expires_in_days=int(values["days"]) if values["days"].isdecimal() else DEFAULT_EXPIRY_DAYS,
                idempotency_key=f"many:{values['key']}" if values["key"] else None,
            )
        except InstepError as error:
            return await self._form(request, access, values, error=error)
        if is_fragment_request(request):
            return await self._progress(request, access, batch)
        return RedirectResponse(f"{get_organization_path(access)}/invitations/batches/{batch.id}", 303)

    async def show_progress(self, request: Request) -> Response:
        """Show the progress of a batch."""
        access = await self.console.require_admin(request)
        if isinstance(access, Response):
            return access
        try:
            batch = await self.bulk.get_batch(access, request.path_params["batch_id"])
        except InstepError as error:
            return self.console.respond_error(request, error)
        return await self._progress(request, access, batch)

    async def export_results(self, request: Request) -> Response:
        """Return the result of each row as CSV."""
        access = await self.console.require_admin(request)
        if isinstance(access, Response):
            return access
        try:
            batch = await self.bulk.get_batch(access, request.path_params["batch_id"])
        except InstepError as error:
            return self.console.respond_error(request, error)
        head = format_csv_line(["email", "role", "name", "status", "code", "reason", "invitation_id"])
        rows = [
            format_csv_line([row.email, row.role, row.name, row.status, row.code, row.reason, row.invitation_id])
            for row in batch.rows
        ]
        headers = {"Content-Disposition": 'attachment; filename="invitations.csv"', "Cache-Control": "no-store"}
        return Response("\ufeff" + head + "".join(rows), media_type="text/csv; charset=utf-8", headers=headers)

    async def _require_admin(self, request: Request) -> OrganizationAccess | Response:
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        title = self.console.localizer.gettext("Only admins can invite people")
        return await self.console.require_admin(request, title=title)

    async def _find_emails(self, access: OrganizationAccess, invitation_ids: Sequence[str]) -> list[str]:
        """Return the addresses of invitations; the id where Clerk does not give one."""
        limit = asyncio.Semaphore(MAX_CONCURRENT_ACTIONS)

        async def find_email(invitation_id: str) -> str:
            async with limit:
                try:
                    return (await self.invitations.get_timeline(access, invitation_id)).email
                except InstepError:
                    return invitation_id

        return list(await asyncio.gather(*map(find_email, invitation_ids)))

    async def _change_one(
        self, access: OrganizationAccess, action: str, invitation_id: str, key: str, limit: asyncio.Semaphore
    ) -> tuple[str, str]:
        """Return the outcome of one change, and a note for one that was not made."""
        own_key = f"{action}:{key}:{invitation_id}" if key else None
        async with limit:
            try:
                if action == "revoke":
                    await self.invitations.revoke(access, invitation_id, idempotency_key=own_key)
                else:
                    await self.invitations.resend(access, invitation_id, idempotency_key=own_key)
            except InstepError as error:
                is_open = isinstance(error, TemporaryError) and getattr(error, "operation", None) is not None
                return PENDING if is_open else SKIPPED, self.console.localizer.translate(error)
        return DONE, ""

    async def _form(
        self,
        request: Request,
        access: OrganizationAccess,
        values: dict[str, str],
        *,
        preview: InvitationBatchPreview | None = None,
        error: InstepError | None = None,
    ) -> Response:
        words = self.console.localizer
        context: dict[str, Any] = {
            "home": get_organization_path(access),
            "organization": access.organization_name,
            "roles": [(key, words.translate(name)) for key, name in access.roles.options],
            "values": {
                **EMPTY_BULK_FORM,
                "role": access.roles.default,
                **values,
                "key": values.get("key") or new_idempotency_key(),
            },
            "preview": _localize_preview(preview, words) if preview else None,
            "error": words.translate(error) if error else "",
            "request_id": get_request_id(request) if error and not isinstance(error, InvitationRefusedError) else None,
        }
        if is_fragment_request(request):
            template = "many_form" if request.method == "POST" else "many"
            return self.console.renderer.fragment(request, f"invitations/{template}.html", **context)
        return await self.console.respond_page(
            request, "invitations/many_page.html", access, section=ACTIVE_NAV_ITEM, **context
        )

    async def _progress(self, request: Request, access: OrganizationAccess, batch: InvitationBatchProgress) -> Response:
        words = self.console.localizer
        url = f"{get_organization_path(access)}/invitations/batches/{batch.id}"
        rows = [
            BulkItemView(
                name=row.email,
                status=make_bulk_status_badge(OUTCOME_BY_ROW_STATUS[row.status], words),
                note=words.gettext(row.reason) if row.reason else "",
            )
            for row in batch.rows
        ]
        outcomes = BulkResultView(
            title=_format_batch_title(batch, words),
            rows=rows,
            back=_get_list_url(access),
            download=f"{url}/results" if batch.is_done else "",
        )
        context: dict[str, Any] = {"outcomes": outcomes, "batch": batch, "url": url}
        if is_fragment_request(request):
            events: dict[str, Any] = {"people-changed": {}}
            template = "batch_inner" if "body" in request.query_params else "batch"
            answer = self.console.renderer.fragment(request, f"invitations/{template}.html", events=events, **context)
            if request.method == "POST":
                answer.headers.update({"HX-Retarget": "#dialog", "HX-Reswap": "innerHTML"})
            return answer
        return await self.console.respond_page(
            request, "invitations/batch_page.html", access, section=ACTIVE_NAV_ITEM, **context
        )


async def _read_uploaded_file(form: FormData) -> str:
    """Return the text of the uploaded file, empty if there is none. Raises InvitationRefusedError if not UTF-8."""
    upload = form.get("file")
    if upload is None or isinstance(upload, str) or not upload.filename:
        return ""
    body = await upload.read(MAX_FILE_SIZE + 1)
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvitationRefusedError(
            lazy_gettext("This file is not UTF-8 text."), code="invalid_csv", field="file"
        ) from error


def _localize_preview(preview: InvitationBatchPreview, words: Localizer) -> InvitationBatchPreview:
    return replace(
        preview,
        lines=tuple(replace(line, note=words.translate(line.note)) for line in preview.lines),
        refusal=words.translate(preview.refusal) if preview.refusal else None,
    )


def _format_batch_title(batch: InvitationBatchProgress, words: Localizer) -> str:
    """Return `7 invited, 2 skipped`, or the progress of an unfinished batch."""
    if not batch.is_done:
        return words.gettext("%(done)s of %(total)s done", done=batch.done, total=batch.total)
    if skipped := batch.total - batch.sent:
        return words.gettext("%(sent)s invited, %(skipped)s skipped", sent=batch.sent, skipped=skipped)
    return words.ngettext("%(num)s invited", "%(num)s invited", batch.sent)
