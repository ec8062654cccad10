"""What a person's details read when they are opened: sessions, and invitations sent; ending sessions; a password."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from instep.access.console import Console
from instep.kit.confirm import Confirm
from instep.kit.errors import InstepError
from instep.profiles.flows import Profiles
from instep.profiles.forms import Forms, key_in, typed_in
from instep.profiles.sessions import require_sessions
from instep.profiles.spots import Finder

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class DetailPages:
    """The handlers and what they need."""

    console: Console
    profiles: Profiles

    def routes(self) -> list[Route]:
        """All of them, to be put into the app's list."""
        of_one: list[tuple[str, str, Handler]] = [
            ("GET", "/details", self.details),
            ("GET", "/sessions/end", self.ask),
            ("POST", "/sessions/end", self.end),
        ]
        of_admins: list[tuple[str, str, Handler]] = [
            ("GET", "/password", self.ask_password),
            ("POST", "/password", self.set_password),
        ]
        within = "/organizations/{id}/members/{user}"
        return [
            *(Route(f"/users/{{user}}{path}", it, methods=[method]) for method, path, it in [*of_one, *of_admins]),
            *(Route(f"{within}{path}", it, methods=[method]) for method, path, it in of_one),
        ]

    @property
    def find(self) -> Finder:
        """Who looks, from where, at whom."""
        return Finder(self.console, self.profiles)

    async def details(self, request: Request) -> Response:
        """The part of a person's drawer that Clerk is asked for."""
        found = await self.find(request)
        if isinstance(found, Response):
            return found
        spot, it = found
        read, words = await self.profiles.details(spot.asker, it), self.console.words
        now = self.console.pages.clock()
        sessions = [(one, words.ago(one.last_active_at, now)) for one in read.sessions or ()]
        sent = [(one, words.until(one.expires_at, now) if one.expires_at else None) for one in read.sent or ()]
        context: dict[str, Any] = {"details": read, "sessions": sessions, "sent": sent, "at": spot.at}
        return self.console.pages.fragment(request, "profiles/details.html", **context)

    async def ask(self, request: Request) -> Response:
        """The question before one session ends, or all of them."""
        found = await self.find(request)
        if isinstance(found, Response):
            return found
        spot, it = found
        try:
            require_sessions(await self.profiles.edit.desk.find(spot.principal, it.person.id))
        except InstepError as error:
            return self.console.refused(request, error)
        _, session = self.console.words.gettext, request.query_params.get("session", "")
        title = _("End this session of %(name)s?") if session else _("End every session of %(name)s?")
        question = Confirm(
            title=title % {"name": it.person.name},
            verb=_("End session") if session else _("End all sessions"),
            action=f"{spot.at}/sessions/end",
            cancel=spot.at,
            consequences=(_("They are signed out there, in Clerk and here, and can sign in again."),),
            row=f"row-{it.person.id}",
            fields=(("session", session),) if session else (),
        )
        return await self.console.ask(request, question, spot.asker, here=spot.here)

    async def end(self, request: Request) -> Response:
        """Ended, in Clerk and here."""
        found = await self.find(request, is_change=True)
        if isinstance(found, Response):
            return found
        spot, it = found
        typed, words = await typed_in(request), self.console.words
        session = typed.get("session") or None
        try:
            ended = await self.profiles.end_sessions(
                spot.principal, it.person.id, session, idempotency_key=key_in(request, typed)
            )
        except InstepError as error:
            return self.console.refused(request, error, base=spot.base)
        title = words.ngettext("%(num)s session ended", "%(num)s sessions ended", ended.count)
        return self.console.done(request, title, spot.back)

    async def ask_password(self, request: Request) -> Response:
        """The form with the password."""
        found = await self.find(request)
        if isinstance(found, Response):
            return found
        spot, it = found
        return await Forms(self.console).show(request, spot, "password", {}, it)

    async def set_password(self, request: Request) -> Response:
        """Set in Clerk, by Clerk's rules; what was typed is kept nowhere, and never sent back."""
        found = await self.find(request, is_change=True)
        if isinstance(found, Response):
            return found
        spot, it = found
        typed = await typed_in(request)
        try:
            await self.profiles.set_password(
                spot.principal, it.person.id, typed.get("password", ""), idempotency_key=key_in(request, typed)
            )
        except InstepError as error:
            return await Forms(self.console).wrong(request, spot, "password", typed, error, it)
        title = self.console.words.gettext("The password of %(name)s is set", name=it.person.name)
        return self.console.done(request, title, spot.back)
