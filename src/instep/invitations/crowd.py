"""Many invitations at once: those that are selected, resent or revoked; and a whole list of people, invited."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from instep.access.console import Console
from instep.access.frame import home_of
from instep.access.principal import Access
from instep.invitations.batch import Batch
from instep.invitations.desk import Desk
from instep.invitations.preview import read
from instep.invitations.rules import EXPIRES_IN_DAYS, InviteRefused
from instep.kit.confirm import Confirm, new_key
from instep.kit.errors import InstepError, TemporaryError
from instep.kit.html import is_partial, request_id_of
from instep.kit.outcomes import DONE, OPEN, SKIPPED, Outcome, Outcomes, count, status_of
from instep.kit.sheet import line

HERE = "members"
ACTIONS = ("resend", "revoke")
MOST, AT_ONCE = 100, 4
LONGEST_FILE = 200_000
NOTHING_TYPED = {"text": "", "role": "", "days": str(EXPIRES_IN_DAYS)}
BATCH_WORDS = {"queued": OPEN, "sent": DONE, "refused": SKIPPED, "skipped": SKIPPED}


@dataclass(frozen=True)
class ManyInvitations:
    """The handlers and what they need."""

    console: Console
    desk: Desk

    def routes(self) -> list[Route]:
        """All of them, to be put into the app's list before those of one invitation."""
        at = "/organizations/{id}/invitations"
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
        access = await self.console.admin(request)
        if isinstance(access, Response):
            return access
        action = request.query_params.get("action", "")
        picked = list(dict.fromkeys(request.query_params.getlist("invitation")))[:MOST]
        words, number = self.console.words, len(picked)
        _ = words.gettext
        if action not in ACTIONS or not picked:
            text = _("Choose invitations.")
            return self.console.pages.error(request, status=422, title=_("Nothing is selected"), text=text)
        is_revoke = action == "revoke"
        verb = _("Revoke") if is_revoke else _("Resend")
        question = Confirm(
            title=words.ngettext("Revoke %(num)s invitation?", "Revoke %(num)s invitations?", number)
            if is_revoke
            else words.ngettext("Resend %(num)s invitation?", "Resend %(num)s invitations?", number),
            verb=verb,
            action=f"{home_of(access)}/invitations/bulk",
            cancel=f"{home_of(access)}/members",
            consequences=(
                _("The links in the mails stop working."),
                _("Nobody is told.") if is_revoke else _("Everyone gets a new mail with a new link."),
            ),
            people=tuple(await self._emails(access, picked)),
            is_destructive=is_revoke,
            word=verb.lower() if is_revoke and number > 1 else "",
            fields=(("action", action), *(("invitation", id) for id in picked)),
            is_in_place=True,
        )
        return await self.console.ask(request, question, access, here=HERE)

    async def change(self, request: Request) -> Response:
        """Each by itself; what became of each is told."""
        access = await self._change(request)
        if isinstance(access, Response):
            return access
        form = await request.form()
        action, picked = str(form.get("action", "")), [str(it) for it in form.getlist("invitation")][:MOST]
        words = self.console.words
        word = words.gettext("Revoke").lower()
        if action not in ACTIONS or (action == "revoke" and len(picked) > 1 and form.get("word") != word):
            title, text = words.gettext("Nothing was changed"), words.gettext("The word was not typed as asked.")
            return self.console.pages.error(request, status=422, title=title, text=text)
        emails = await self._emails(access, picked)
        turns, key = asyncio.Semaphore(AT_ONCE), str(form.get("key", ""))
        ends = await asyncio.gather(*(self._one(access, action, it, key, turns) for it in picked))
        rows = [
            Outcome(name=email, status=status_of(end, words), note=words.gettext(note) if note else "")
            for email, (end, note) in zip(emails, ends, strict=True)
        ]
        title = count([end for end, _ in ends], words)
        return await self.console.tell(
            request, Outcomes(title=title, rows=rows, back=f"{home_of(access)}/members"), access, here=HERE
        )

    async def many(self, request: Request) -> Response:
        """The empty list."""
        access = await self.console.admin(request)
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
            typed["text"] += await _file_of(form)
            wishes = read(typed["text"], role=typed["role"] or access.roles.default, roles=access.roles)
            if form.get("step") != "send":
                return await self._form(
                    request, access, typed, preview=await self.desk.invite_many.preview(access, wishes)
                )
            batch = await self.desk.invite_many.send(
                access,
                wishes,
                expires_in_days=int(typed["days"]) if typed["days"].isdecimal() else EXPIRES_IN_DAYS,
                idempotency_key=f"many:{typed['key']}" if typed["key"] else None,
            )
        except InstepError as error:
            return await self._form(request, access, typed, error=error)
        where = f"{home_of(access)}/invitations/batches/{batch.id}"
        if is_partial(request):
            return await self._progress(request, access, batch)
        return RedirectResponse(where, 303)

    async def progress(self, request: Request) -> Response:
        """How far a batch is."""
        access = await self.console.admin(request)
        if isinstance(access, Response):
            return access
        try:
            batch = await self.desk.invite_many.get(access, request.path_params["batch"])
        except InstepError as error:
            return self.console.refused(request, error)
        return await self._progress(request, access, batch)

    async def results(self, request: Request) -> Response:
        """What became of each row, as CSV."""
        access = await self.console.admin(request)
        if isinstance(access, Response):
            return access
        try:
            batch = await self.desk.invite_many.get(access, request.path_params["batch"])
        except InstepError as error:
            return self.console.refused(request, error)
        head = line(["email", "role", "name", "status", "code", "reason", "invitation_id"])
        rows = [
            line([it.email, it.role, it.name, it.status, it.code, it.reason, it.invitation_id]) for it in batch.rows
        ]
        headers = {"Content-Disposition": 'attachment; filename="invitations.csv"', "Cache-Control": "no-store"}
        return Response("\ufeff" + head + "".join(rows), media_type="text/csv; charset=utf-8", headers=headers)

    async def _change(self, request: Request) -> Access | Response:
        if foreign := self.console.foreign(request):
            return foreign
        title = self.console.words.gettext("Only admins can invite people")
        return await self.console.admin(request, title=title)

    async def _emails(self, access: Access, ids: Sequence[str]) -> list[str]:
        """The addresses of invitations, as far as Clerk tells."""
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(id: str) -> str:
            async with turns:
                try:
                    return (await self.desk.timeline(access, invitation=id)).email
                except InstepError:
                    return id

        return list(await asyncio.gather(*map(one, ids)))

    async def _one(self, access: Access, action: str, id: str, key: str, turns: asyncio.Semaphore) -> tuple[str, str]:
        own = f"{action}:{key}:{id}" if key else None
        async with turns:
            try:
                if action == "revoke":
                    await self.desk.revoke(access, invitation=id, idempotency_key=own)
                else:
                    await self.desk.resend(access, invitation=id, idempotency_key=own)
            except InstepError as error:
                is_open = isinstance(error, TemporaryError) and getattr(error, "operation", None) is not None
                return OPEN if is_open else SKIPPED, self.console.words.say(error)
        return DONE, ""

    async def _form(
        self,
        request: Request,
        access: Access,
        typed: dict[str, str],
        *,
        preview: Any = None,
        error: InstepError | None = None,
    ) -> Response:
        context: dict[str, Any] = {
            "home": home_of(access),
            "organization": access.organization_name,
            "roles": [(key, self.console.words.say(name)) for key, name in access.roles.options],
            "typed": {**NOTHING_TYPED, "role": access.roles.default, **typed, "key": typed.get("key") or new_key()},
            "preview": preview,
            "error": self.console.words.say(error) if error else "",
            "request_id": request_id_of(request) if error and not isinstance(error, InviteRefused) else None,
        }
        if is_partial(request):
            piece = "many_form" if request.method == "POST" else "many"
            return self.console.pages.fragment(request, f"invitations/{piece}.html", **context)
        return await self.console.page(request, "invitations/many_page.html", access, here=HERE, **context)

    async def _progress(self, request: Request, access: Access, batch: Batch) -> Response:
        words = self.console.words
        ends = [BATCH_WORDS[row.status] for row in batch.rows]
        at = f"{home_of(access)}/invitations/batches/{batch.id}"
        rows = [
            Outcome(
                name=row.email,
                status=status_of(end, words),
                note=words.gettext(row.reason) if row.reason else "",
            )
            for row, end in zip(batch.rows, ends, strict=True)
        ]
        told = Outcomes(
            title=_title(batch, self.console),
            rows=rows,
            back=f"{home_of(access)}/members",
            download=f"{at}/results" if batch.is_done else "",
        )
        context: dict[str, Any] = {"outcomes": told, "batch": batch, "at": at}
        if is_partial(request):
            changed: dict[str, Any] = {"people-changed": {}}
            part = "batch_inner" if "body" in request.query_params else "batch"
            answer = self.console.pages.fragment(request, f"invitations/{part}.html", events=changed, **context)
            if request.method == "POST":
                answer.headers.update({"HX-Retarget": "#dialog", "HX-Reswap": "innerHTML"})
            return answer
        return await self.console.page(request, "invitations/batch_page.html", access, here=HERE, **context)


async def _file_of(form: FormData) -> str:
    """The text of a file that was sent along. Raises InviteRefused for one that is no text."""
    sent = form.get("file")
    if sent is None or isinstance(sent, str) or not sent.filename:
        return ""
    body = await sent.read(LONGEST_FILE + 1)
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InviteRefused("This file is no text in UTF-8.", code="invalid_csv", field="file") from error


def _title(batch: Batch, console: Console) -> str:
    """`7 invited, 2 skipped`, or how far it is."""
    words = console.words
    if not batch.is_done:
        return words.gettext("%(done)s of %(total)s done", done=batch.done, total=batch.total)
    sent = words.ngettext("%(num)s invited", "%(num)s invited", batch.sent)
    skipped = batch.total - batch.sent
    return f"{sent}, {words.ngettext('%(num)s skipped', '%(num)s skipped', skipped)}" if skipped else sent
