"""Doing things with an invitation from its row: again, its link, its story, revoking it, finding a lost one."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from instep.access.console import Console
from instep.access.frame import home_of
from instep.access.principal import Access
from instep.invitations.desk import Desk
from instep.invitations.story import story_of
from instep.kit.confirm import Confirm
from instep.kit.errors import InstepError
from instep.kit.html import is_partial

HERE = "members"
Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class InvitationActs:
    """The handlers and what they need."""

    console: Console
    desk: Desk

    def routes(self) -> list[Route]:
        """All of them, to be put into the app's list."""
        at = "/organizations/{id}/invitations"
        return [
            Route(f"{at}/lost/{{operation}}/again", self.again, methods=["POST"]),
            Route(f"{at}/{{invitation}}/resend", self.resend, methods=["POST"]),
            Route(f"{at}/{{invitation}}/revoke", self.ask_revoke, methods=["GET"]),
            Route(f"{at}/{{invitation}}/revoke", self.revoke, methods=["POST"]),
            Route(f"{at}/{{invitation}}/link", self.link, methods=["POST"]),
            Route(f"{at}/{{invitation}}/timeline", self.timeline, methods=["GET"]),
        ]

    async def resend(self, request: Request) -> Response:
        """The same address, role and metadata under a new link; the old link is dead."""

        async def do(access: Access, key: str | None) -> Response:
            invitation = request.path_params["invitation"]
            sent = await self.desk.resend(access, invitation=invitation, idempotency_key=key)
            title = self.console.words.gettext("Invitation sent again to %(email)s", email=sent.email)
            text = self.console.words.gettext("The old link no longer works.")
            marked = {"people-changed": {"marked": sent.clerk_id}}
            return self.console.done(request, title, _back(access, sent.clerk_id), text=text, events=marked)

        return await self._do(request, do)

    async def again(self, request: Request) -> Response:
        """An invitation that got lost is made anew."""

        async def do(access: Access, _key: str | None) -> Response:
            await self.desk.resend.again(access, operation=request.path_params["operation"])
            title = self.console.words.gettext("The invitation is being sent again")
            return self.console.done(request, title, _back(access))

        return await self._do(request, do)

    async def ask_revoke(self, request: Request) -> Response:
        """The question before revoking."""
        access = await self.console.admin(request)
        if isinstance(access, Response):
            return access
        invitation = request.path_params["invitation"]
        try:
            email = (await self.desk.timeline(access, invitation=invitation)).email
        except InstepError as error:
            return self.console.refused(request, error)
        _ = self.console.words.gettext
        question = Confirm(
            title=_("Revoke the invitation of %(email)s?", email=email),
            verb=_("Revoke"),
            action=f"{home_of(access)}/invitations/{invitation}/revoke",
            cancel=f"{home_of(access)}/members",
            consequences=(_("The link in the mail stops working."), _("Nobody is told. You can invite them again.")),
            row=f"row-{invitation}",
        )
        return await self.console.ask(request, question, access, here=HERE)

    async def revoke(self, request: Request) -> Response:
        """Take it back."""

        async def do(access: Access, key: str | None) -> Response:
            invitation = request.path_params["invitation"]
            ended = await self.desk.revoke(access, invitation=invitation, idempotency_key=key)
            title = self.console.words.gettext("Invitation of %(email)s revoked", email=ended.email)
            return self.console.done(request, title, _back(access))

        return await self._do(request, do)

    async def link(self, request: Request) -> Response:
        """The secret link, shown to be copied: in the answer and nowhere else."""

        async def do(access: Access, _key: str | None) -> Response:
            link = await self.desk.copy_link(access, invitation=request.path_params["invitation"])
            context: dict[str, Any] = {"link": link, "cancel": f"{home_of(access)}/members"}
            if is_partial(request):
                return self.console.pages.fragment(request, "invitations/link.html", **context)
            return await self.console.page(request, "invitations/link_page.html", access, here=HERE, **context)

        return await self._do(request, do)

    async def timeline(self, request: Request) -> Response:
        """What happened to it, across its resends: a dialog in an open page, else a page."""
        access = await self.console.admin(request)
        if isinstance(access, Response):
            return access
        try:
            story = await self.desk.timeline(access, invitation=request.path_params["invitation"])
        except InstepError as error:
            return self.console.refused(request, error)
        told = story_of(story, now=self.console.pages.clock(), words=self.console.words)
        context: dict[str, Any] = {"email": story.email, "story": told, "cancel": f"{home_of(access)}/members"}
        if is_partial(request):
            return self.console.pages.fragment(request, "invitations/timeline.html", **context)
        return await self.console.page(request, "invitations/timeline_page.html", access, here=HERE, **context)

    async def _do(self, request: Request, do: Callable[[Access, str | None], Awaitable[Response]]) -> Response:
        """1 from our page, by an admin; 2 what is to be done; 3 a refusal in words, or the end awaited."""
        if foreign := self.console.foreign(request):
            return foreign
        access = await self.console.admin(request)
        if isinstance(access, Response):
            return access
        key = str((await request.form()).get("key", ""))
        hashed = hashlib.sha256(f"{request.url.path} {key}".encode()).hexdigest() if key else None
        try:
            return await do(access, hashed)
        except InstepError as error:
            return self.console.refused(request, error, base=home_of(access))


def _back(access: Access, marked: str = "") -> str:
    return f"{home_of(access)}/members" + (f"?marked={marked}" if marked else "")
