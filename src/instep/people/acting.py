"""Changing members from their rows: the question first, then the change, then what became of it."""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from instep.access.console import Console
from instep.access.frame import home_of
from instep.access.principal import Access
from instep.kit.errors import InstepError
from instep.people.asking import leave_question, question, role_question
from instep.people.changes import Changed
from instep.people.members import Members
from instep.people.rows import role_name
from instep.people.rules import Policy

HERE = "members"
DEEDS = ("deactivate", "reactivate", "remove")
Run = Callable[[], Awaitable[Changed]]


@dataclass(frozen=True)
class MemberPages:
    """The handlers and what they need. `policy` is how far Clerk follows a deactivation."""

    console: Console
    members: Members
    roles: Callable[[Access], Sequence[tuple[str, str]]]
    policy: Policy

    def routes(self) -> list[Route]:
        """All of them, to be put into the app's list."""
        at = "/organizations/{id}/members/{member}"
        return [
            Route(f"{at}/role", self.ask_role, methods=["GET"]),
            Route(f"{at}/role", self.set_role, methods=["POST"]),
            *(Route(f"{at}/{deed}", self._asking(deed), methods=["GET"]) for deed in DEEDS),
            *(Route(f"{at}/{deed}", self._doing(deed), methods=["POST"]) for deed in DEEDS),
            Route("/organizations/{id}/leave", self.ask_leave, methods=["GET"]),
            Route("/organizations/{id}/leave", self.leave, methods=["POST"]),
        ]

    async def ask_role(self, request: Request) -> Response:
        """Which role?"""
        access = await self.console.admin(request)
        if isinstance(access, Response):
            return access
        try:
            found = await self.members.consequences(access, member=request.path_params["member"])
        except InstepError as error:
            return self.console.refused(request, error)
        at, back = _at(access, request), f"{home_of(access)}/members"
        asked = role_question(found, dict(self.roles(access)), at=at, cancel=back, words=self.console.words)
        return await self.console.ask(request, asked, access, here=HERE)

    async def set_role(self, request: Request) -> Response:
        """The role that was chosen, in the row or in the dialog."""
        role = str((await request.form()).get("role", ""))

        async def change(access: Access, member: str, key: str | None) -> tuple[Changed, str]:
            changed = await self.members.changes.set_role(access, member=member, role=role, idempotency_key=key)
            name, now = changed.member.name, role_name(changed.member.role, dict(self.roles(access)))
            return changed, self.console.words.gettext("%(name)s is now %(role)s", name=name, role=now)

        return await self._do(request, change, salt=role)

    async def ask_leave(self, request: Request) -> Response:
        """Leave?"""
        access = await self.console.member(request)
        if isinstance(access, Response):
            return access
        asked = leave_question(access.organization_name, home=home_of(access), words=self.console.words)
        return await self.console.ask(request, asked, access, here=HERE)

    async def leave(self, request: Request) -> Response:
        """Out, by oneself; what is left is the start page."""
        if foreign := self.console.foreign(request):
            return foreign
        access = await self.console.member(request)
        if isinstance(access, Response):
            return access
        key = await key_of(request)
        try:
            await self.members.changes.leave(access, idempotency_key=key)
        except InstepError as error:
            return self.console.refused(request, error, base=home_of(access))
        title = self.console.words.gettext("You left %(name)s", name=access.organization_name)
        return self.console.done(request, title, "/", events={"go-to": {"url": "/"}})

    def _asking(self, deed: str) -> Callable[[Request], Awaitable[Response]]:
        async def ask(request: Request) -> Response:
            access = await self.console.admin(request)
            if isinstance(access, Response):
                return access
            try:
                found = await self.members.consequences(access, member=request.path_params["member"])
            except InstepError as error:
                return self.console.refused(request, error)
            at, back = _at(access, request), f"{home_of(access)}/members"
            asked = question(deed, found, at=at, cancel=back, words=self.console.words, policy=self.policy)
            return await self.console.ask(request, asked, access, here=HERE)

        return ask

    def _doing(self, deed: str) -> Callable[[Request], Awaitable[Response]]:
        changes = self.members.changes
        methods = {"deactivate": changes.deactivate, "reactivate": changes.reactivate, "remove": changes.remove}

        async def change(access: Access, member: str, key: str | None) -> tuple[Changed, str]:
            changed = await methods[deed](access, member=member, idempotency_key=key)
            _, name = self.console.words.gettext, changed.member.name
            said = {
                "deactivate": _("%(name)s is deactivated", name=name),
                "reactivate": _("%(name)s is active again", name=name),
                "remove": _("%(name)s was removed", name=name),
            }
            return changed, said[deed]

        async def do(request: Request) -> Response:
            return await self._do(request, change)

        return do

    async def _do(
        self,
        request: Request,
        change: Callable[[Access, str, str | None], Awaitable[tuple[Changed, str]]],
        *,
        salt: str = "",
    ) -> Response:
        """1 from our page, by an admin; 2 the change; 3 what became of it, and what Clerk did not do of it."""
        if foreign := self.console.foreign(request):
            return foreign
        access = await self.console.admin(request)
        if isinstance(access, Response):
            return access
        key = await key_of(request, salt=salt)
        try:
            changed, title = await change(access, request.path_params["member"], key)
        except InstepError as error:
            return self.console.refused(request, error, base=home_of(access))
        text = " ".join(self.console.words.gettext(notice) for notice in changed.notices)
        return self.console.done(request, title, f"{home_of(access)}/members", text=text)


async def key_of(request: Request, *, salt: str = "") -> str | None:
    """The idempotency key of a form: the same for the same wish, however often the button is pressed."""
    key = str((await request.form()).get("key", ""))
    return hashlib.sha256(f"{request.url.path} {key} {salt}".encode()).hexdigest() if key else None


def _at(access: Access, request: Request) -> str:
    return f"{home_of(access)}/members/{request.path_params['member']}"
