"""Handlers of invitation actions: resend, revoke, copy link, timeline and bulk changes."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import Struct
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
from instep.core.i18n import FormattedTime, Localizer
from instep.core.templates import get_request_id, is_fragment_request
from instep.invitations.bulk_service import parse_invitees
from instep.invitations.models import (
    DEFAULT_EXPIRY_DAYS,
    InvitationBatchProgress,
    InvitationHistory,
    InvitationHistoryEvent,
)
from instep.invitations.policies import InvitationRefusedError
from instep.invitations.service import InvitationService

ACTIVE_NAV_ITEM = "members"
Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class InvitationActionPages:
    """The handlers and what they need."""

    console: PageResponder
    desk: InvitationService

    def routes(self) -> list[Route]:
        """All of them, to be put into the app's list."""
        at = "/organizations/{organization_id}/invitations"
        return [
            Route(f"{at}/lost/{{operation}}/again", self.again, methods=["POST"]),
            Route(f"{at}/{{invitation}}/resend", self.resend, methods=["POST"]),
            Route(f"{at}/{{invitation}}/revoke", self.confirm_revoke, methods=["GET"]),
            Route(f"{at}/{{invitation}}/revoke", self.revoke, methods=["POST"]),
            Route(f"{at}/{{invitation}}/link", self.link, methods=["POST"]),
            Route(f"{at}/{{invitation}}/timeline", self.timeline, methods=["GET"]),
        ]

    async def resend(self, request: Request) -> Response:
        """The same address, role and metadata under a new link; the old link is dead."""

        async def do(access: OrganizationAccess, key: str | None) -> Response:
            invitation = request.path_params["invitation"]
            sent = await self.desk.resend(access, invitation=invitation, idempotency_key=key)
            title = self.console.localizer.gettext("Invitation sent again to %(email)s", email=sent.email)
            text = self.console.localizer.gettext("The old link no longer works.")
            marked = {"people-changed": {"marked": sent.clerk_id}}
            return self.console.respond_success(
                request, title, _get_list_url(access, sent.clerk_id), text=text, events=marked
            )

        return await self._do(request, do)

    async def again(self, request: Request) -> Response:
        """An invitation that got lost is made anew."""

        async def do(access: OrganizationAccess, _key: str | None) -> Response:
            await self.desk.resend.again(access, operation=request.path_params["operation"])
            title = self.console.localizer.gettext("The invitation is being sent again")
            return self.console.respond_success(request, title, _get_list_url(access))

        return await self._do(request, do)

    async def confirm_revoke(self, request: Request) -> Response:
        """The question before revoking."""
        access = await self.console.require_admin(request)
        if isinstance(access, Response):
            return access
        invitation = request.path_params["invitation"]
        try:
            email = (await self.desk.timeline(access, invitation=invitation)).email
        except InstepError as error:
            return self.console.respond_error(request, error)
        _ = self.console.localizer.gettext
        question = ConfirmationDialog(
            title=_("Revoke the invitation of %(email)s?", email=email),
            confirm_label=_("Revoke"),
            action=f"{get_organization_path(access)}/invitations/{invitation}/revoke",
            cancel_url=f"{get_organization_path(access)}/members",
            impact=(_("The link in the mail stops working."), _("Nobody is told. You can invite them again.")),
            row_id=f"row-{invitation}",
        )
        return await self.console.respond_confirmation(request, question, access, section=ACTIVE_NAV_ITEM)

    async def revoke(self, request: Request) -> Response:
        """Take it back."""

        async def do(access: OrganizationAccess, key: str | None) -> Response:
            invitation = request.path_params["invitation"]
            ended = await self.desk.revoke(access, invitation=invitation, idempotency_key=key)
            title = self.console.localizer.gettext("Invitation of %(email)s revoked", email=ended.email)
            return self.console.respond_success(request, title, _get_list_url(access))

        return await self._do(request, do)

    async def link(self, request: Request) -> Response:
        """The secret link, shown to be copied: in the answer and nowhere else."""

        async def do(access: OrganizationAccess, _key: str | None) -> Response:
            link = await self.desk.copy_link(access, invitation=request.path_params["invitation"])
            context: dict[str, Any] = {"link": link, "cancel": f"{get_organization_path(access)}/members"}
            if is_fragment_request(request):
                return self.console.renderer.fragment(request, "invitations/link.html", **context)
            return await self.console.respond_page(
                request, "invitations/link_page.html", access, section=ACTIVE_NAV_ITEM, **context
            )

        return await self._do(request, do)

    async def timeline(self, request: Request) -> Response:
        """What happened to it, across its resends: a dialog in an open page, else a page."""
        access = await self.console.require_admin(request)
        if isinstance(access, Response):
            return access
        try:
            story = await self.desk.timeline(access, invitation=request.path_params["invitation"])
        except InstepError as error:
            return self.console.respond_error(request, error)
        told = build_timeline_items(story, now=self.console.renderer.clock(), words=self.console.localizer)
        context: dict[str, Any] = {
            "email": story.email,
            "story": told,
            "cancel": f"{get_organization_path(access)}/members",
        }
        if is_fragment_request(request):
            return self.console.renderer.fragment(request, "invitations/timeline.html", **context)
        return await self.console.respond_page(
            request, "invitations/timeline_page.html", access, section=ACTIVE_NAV_ITEM, **context
        )

    async def _do(
        self, request: Request, do: Callable[[OrganizationAccess, str | None], Awaitable[Response]]
    ) -> Response:
        """1 from our page, by an admin; 2 what is to be done; 3 a refusal in words, or the end awaited."""
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        access = await self.console.require_admin(request)
        if isinstance(access, Response):
            return access
        key = str((await request.form()).get("key", ""))
        hashed = hashlib.sha256(f"{request.url.path} {key}".encode()).hexdigest() if key else None
        try:
            return await do(access, hashed)
        except InstepError as error:
            return self.console.respond_error(request, error, base=get_organization_path(access))


def _get_list_url(access: OrganizationAccess, marked: str = "") -> str:
    return f"{get_organization_path(access)}/members" + (f"?marked={marked}" if marked else "")


BULK_ACTIONS = ("resend", "revoke")
MAX_SELECTED, MAX_CONCURRENT_ACTIONS = 100, 4
MAX_FILE_SIZE = 200_000
EMPTY_BULK_FORM = {"text": "", "role": "", "days": str(DEFAULT_EXPIRY_DAYS)}
OUTCOME_BY_ROW_STATUS = {"queued": PENDING, "sent": DONE, "refused": SKIPPED, "skipped": SKIPPED}


@dataclass(frozen=True)
class BulkInvitationPages:
    """The handlers and what they need."""

    console: PageResponder
    desk: InvitationService

    def routes(self) -> list[Route]:
        """All of them, to be put into the app's list before those of one invitation."""
        at = "/organizations/{organization_id}/invitations"
        return [
            Route(f"{at}/bulk", self.ask, methods=["GET"]),
            Route(f"{at}/bulk", self.change, methods=["POST"]),
            Route(f"{at}/many", self.many, methods=["GET"]),
            Route(f"{at}/many", self.send, methods=["POST"]),
            Route(f"{at}/batches/{{batch}}", self.progress, methods=["GET"]),
            Route(f"{at}/batches/{{batch}}/results", self.results, methods=["GET"]),
        ]

    async def ask(self, request: Request) -> Response:
        """The question before resending or revoking those that are selected."""
        access = await self.console.require_admin(request)
        if isinstance(access, Response):
            return access
        action = request.query_params.get("action", "")
        picked = list(dict.fromkeys(request.query_params.getlist("invitation")))[:MAX_SELECTED]
        words, number = self.console.localizer, len(picked)
        _ = words.gettext
        if action not in BULK_ACTIONS or not picked:
            text = _("Choose invitations.")
            return self.console.renderer.error(request, status=422, title=_("Nothing is selected"), text=text)
        is_revoke = action == "revoke"
        verb = _("Revoke") if is_revoke else _("Resend")
        question = ConfirmationDialog(
            title=words.ngettext("Revoke %(num)s invitation?", "Revoke %(num)s invitations?", number)
            if is_revoke
            else words.ngettext("Resend %(num)s invitation?", "Resend %(num)s invitations?", number),
            confirm_label=verb,
            action=f"{get_organization_path(access)}/invitations/bulk",
            cancel_url=f"{get_organization_path(access)}/members",
            impact=(
                _("The links in the mails stop working."),
                _("Nobody is told.") if is_revoke else _("Everyone gets a new mail with a new link."),
            ),
            people=tuple(await self._emails(access, picked)),
            is_destructive=is_revoke,
            confirmation_text=verb.lower() if is_revoke and number > 1 else "",
            fields=(("action", action), *(("invitation", id) for id in picked)),
            is_inline=True,
        )
        return await self.console.respond_confirmation(request, question, access, section=ACTIVE_NAV_ITEM)

    async def change(self, request: Request) -> Response:
        """Each by itself; what became of each is told."""
        access = await self._change(request)
        if isinstance(access, Response):
            return access
        form = await request.form()
        action, picked = str(form.get("action", "")), [str(it) for it in form.getlist("invitation")][:MAX_SELECTED]
        words = self.console.localizer
        word = words.gettext("Revoke").lower()
        if action not in BULK_ACTIONS or (action == "revoke" and len(picked) > 1 and form.get("word") != word):
            title, text = words.gettext("Nothing was changed"), words.gettext("The word was not typed as asked.")
            return self.console.renderer.error(request, status=422, title=title, text=text)
        emails = await self._emails(access, picked)
        turns, key = asyncio.Semaphore(MAX_CONCURRENT_ACTIONS), str(form.get("key", ""))
        ends = await asyncio.gather(*(self._one(access, action, it, key, turns) for it in picked))
        rows = [
            BulkItemView(
                name=email, status=make_bulk_status_badge(end, words), note=words.gettext(note) if note else ""
            )
            for email, (end, note) in zip(emails, ends, strict=True)
        ]
        title = summarize_bulk_result([end for end, _ in ends], words)
        return await self.console.respond_bulk_result(
            request,
            BulkResultView(title=title, rows=rows, back=f"{get_organization_path(access)}/members"),
            access,
            section=ACTIVE_NAV_ITEM,
        )

    async def many(self, request: Request) -> Response:
        """The empty list."""
        access = await self.console.require_admin(request)
        if isinstance(access, Response):
            return access
        return await self._form(request, access, {})

    async def send(self, request: Request) -> Response:
        """First what would become of each; then, with the same text and `step` send, the batch."""
        access = await self._change(request)
        if isinstance(access, Response):
            return access
        form = await request.form()
        typed = {name: str(form.get(name, "")) for name in ("text", "role", "days", "key")}
        try:
            typed["text"] += await _read_uploaded_file(form)
            wishes = parse_invitees(typed["text"], role=typed["role"] or access.roles.default, roles=access.roles)
            if form.get("step") != "send":
                return await self._form(
                    request, access, typed, preview=await self.desk.invite_many.preview(access, wishes)
                )
            batch = await self.desk.invite_many.send(
                access,
                wishes,
                expires_in_days=int(typed["days"]) if typed["days"].isdecimal() else DEFAULT_EXPIRY_DAYS,
                idempotency_key=f"many:{typed['key']}" if typed["key"] else None,
            )
        except InstepError as error:
            return await self._form(request, access, typed, error=error)
        where = f"{get_organization_path(access)}/invitations/batches/{batch.id}"
        if is_fragment_request(request):
            return await self._progress(request, access, batch)
        return RedirectResponse(where, 303)

    async def progress(self, request: Request) -> Response:
        """How far a batch is."""
        access = await self.console.require_admin(request)
        if isinstance(access, Response):
            return access
        try:
            batch = await self.desk.invite_many.get(access, request.path_params["batch"])
        except InstepError as error:
            return self.console.respond_error(request, error)
        return await self._progress(request, access, batch)

    async def results(self, request: Request) -> Response:
        """What became of each row, as CSV."""
        access = await self.console.require_admin(request)
        if isinstance(access, Response):
            return access
        try:
            batch = await self.desk.invite_many.get(access, request.path_params["batch"])
        except InstepError as error:
            return self.console.respond_error(request, error)
        head = format_csv_line(["email", "role", "name", "status", "code", "reason", "invitation_id"])
        rows = [
            format_csv_line([it.email, it.role, it.name, it.status, it.code, it.reason, it.invitation_id])
            for it in batch.rows
        ]
        headers = {"Content-Disposition": 'attachment; filename="invitations.csv"', "Cache-Control": "no-store"}
        return Response("\ufeff" + head + "".join(rows), media_type="text/csv; charset=utf-8", headers=headers)

    async def _change(self, request: Request) -> OrganizationAccess | Response:
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        title = self.console.localizer.gettext("Only admins can invite people")
        return await self.console.require_admin(request, title=title)

    async def _emails(self, access: OrganizationAccess, ids: Sequence[str]) -> list[str]:
        """The addresses of invitations, as far as Clerk tells."""
        turns = asyncio.Semaphore(MAX_CONCURRENT_ACTIONS)

        async def one(id: str) -> str:
            async with turns:
                try:
                    return (await self.desk.timeline(access, invitation=id)).email
                except InstepError:
                    return id

        return list(await asyncio.gather(*map(one, ids)))

    async def _one(
        self, access: OrganizationAccess, action: str, id: str, key: str, turns: asyncio.Semaphore
    ) -> tuple[str, str]:
        own = f"{action}:{key}:{id}" if key else None
        async with turns:
            try:
                if action == "revoke":
                    await self.desk.revoke(access, invitation=id, idempotency_key=own)
                else:
                    await self.desk.resend(access, invitation=id, idempotency_key=own)
            except InstepError as error:
                is_open = isinstance(error, TemporaryError) and getattr(error, "operation", None) is not None
                return PENDING if is_open else SKIPPED, self.console.localizer.translate(error)
        return DONE, ""

    async def _form(
        self,
        request: Request,
        access: OrganizationAccess,
        typed: dict[str, str],
        *,
        preview: Any = None,
        error: InstepError | None = None,
    ) -> Response:
        context: dict[str, Any] = {
            "home": get_organization_path(access),
            "organization": access.organization_name,
            "roles": [(key, self.console.localizer.translate(name)) for key, name in access.roles.options],
            "typed": {
                **EMPTY_BULK_FORM,
                "role": access.roles.default,
                **typed,
                "key": typed.get("key") or new_idempotency_key(),
            },
            "preview": preview,
            "error": self.console.localizer.translate(error) if error else "",
            "request_id": get_request_id(request) if error and not isinstance(error, InvitationRefusedError) else None,
        }
        if is_fragment_request(request):
            piece = "many_form" if request.method == "POST" else "many"
            return self.console.renderer.fragment(request, f"invitations/{piece}.html", **context)
        return await self.console.respond_page(
            request, "invitations/many_page.html", access, section=ACTIVE_NAV_ITEM, **context
        )

    async def _progress(self, request: Request, access: OrganizationAccess, batch: InvitationBatchProgress) -> Response:
        words = self.console.localizer
        ends = [OUTCOME_BY_ROW_STATUS[row.status] for row in batch.rows]
        at = f"{get_organization_path(access)}/invitations/batches/{batch.id}"
        rows = [
            BulkItemView(
                name=row.email,
                status=make_bulk_status_badge(end, words),
                note=words.gettext(row.reason) if row.reason else "",
            )
            for row, end in zip(batch.rows, ends, strict=True)
        ]
        told = BulkResultView(
            title=_format_batch_title(batch, self.console),
            rows=rows,
            back=f"{get_organization_path(access)}/members",
            download=f"{at}/results" if batch.is_done else "",
        )
        context: dict[str, Any] = {"outcomes": told, "batch": batch, "at": at}
        if is_fragment_request(request):
            changed: dict[str, Any] = {"people-changed": {}}
            part = "batch_inner" if "body" in request.query_params else "batch"
            answer = self.console.renderer.fragment(request, f"invitations/{part}.html", events=changed, **context)
            if request.method == "POST":
                answer.headers.update({"HX-Retarget": "#dialog", "HX-Reswap": "innerHTML"})
            return answer
        return await self.console.respond_page(
            request, "invitations/batch_page.html", access, section=ACTIVE_NAV_ITEM, **context
        )


async def _read_uploaded_file(form: FormData) -> str:
    """The text of a file that was sent along. Raises InvitationRefusedError for one that is no text."""
    sent = form.get("file")
    if sent is None or isinstance(sent, str) or not sent.filename:
        return ""
    body = await sent.read(MAX_FILE_SIZE + 1)
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvitationRefusedError("This file is no text in UTF-8.", code="invalid_csv", field="file") from error


def _format_batch_title(batch: InvitationBatchProgress, console: PageResponder) -> str:
    """`7 invited, 2 skipped`, or how far it is."""
    words = console.localizer
    if not batch.is_done:
        return words.gettext("%(done)s of %(total)s done", done=batch.done, total=batch.total)
    sent = words.ngettext("%(num)s invited", "%(num)s invited", batch.sent)
    skipped = batch.total - batch.sent
    return f"{sent}, {words.ngettext('%(num)s skipped', '%(num)s skipped', skipped)}" if skipped else sent


class InvitationTimelineItem(Struct, frozen=True, kw_only=True):
    """One thing that happened, as the page says it."""

    text: str
    icon: str
    at: FormattedTime
    who: str = ""
    note: str = ""


def build_timeline_items(story: InvitationHistory, *, now: int, words: Localizer) -> list[InvitationTimelineItem]:
    """Every event, oldest first."""
    return [_build_timeline_item(it, story, now, words) for it in story.events]


def _build_timeline_item(
    event: InvitationHistoryEvent, story: InvitationHistory, now: int, words: Localizer
) -> InvitationTimelineItem:
    _ = words.gettext
    said = {
        "asked": (_("Asked for"), "user-plus"),
        "sent": (_("Sent by Clerk"), "mail"),
        "link_copied": (_("Link copied"), "link"),
        "resent": (_("Sent again"), "send"),
        "lost": (_("Lost: revoked, and not sent again yet"), "mail-x"),
        "revoked": (_("Revoked"), "mail-x"),
        "expired": (_("Expired"), "clock-alert"),
        "accepted": (_("Accepted"), "circle-check"),
        "member_made": (_("Member here"), "users"),
        "first_seen": (_("Signed in for the first time"), "log-in"),
    }
    text, icon = said[event.what]
    note = _("%(old)s became %(new)s", old=event.previous, new=event.invitation) if event.previous else ""
    ours = {"break_glass": _("Break-glass key")}
    who = "" if event.actor is None else story.names.get(event.actor) or ours.get(event.actor) or event.actor
    return InvitationTimelineItem(text=text, icon=icon, at=words.ago(event.at, now), who=who, note=note)
