"""The pages of people: one person's, in an organization or above them all, and the list of everyone."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from instep.access.console import Console
from instep.access.principal import Access
from instep.identity.addresses import is_same
from instep.identity.refusals import Refused
from instep.kit.errors import InstepError
from instep.kit.html import is_partial
from instep.kit.outcomes import DONE, OPEN, SAME, SKIPPED, Outcome, Outcomes, status_of
from instep.profiles.asking import DEEDS, question, reinvite_question
from instep.profiles.flows import Profiles
from instep.profiles.forms import NAMES, Forms, in_dialog, key_in, names_of, typed_in
from instep.profiles.profile import STATUSES, Ask, EmailChange, Profile, decode_cursor
from instep.profiles.rules import Edit
from instep.profiles.spots import Finder, Spot, above
from instep.profiles.view import PersonView, person_view, status

PAGE = 25
MOVED = {"invited": DONE, "checking": OPEN, "refused": SKIPPED, "kept": SAME}
Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class ProfilePages:
    """The handlers and what they need; `roles` are the names of roles by key."""

    console: Console
    profiles: Profiles
    roles: Mapping[str, str]

    @property
    def find(self) -> Finder:
        """Who looks, from where, at whom."""
        return Finder(self.console, self.profiles)

    @property
    def forms(self) -> Forms:
        """The forms about a person."""
        return Forms(self.console)

    def routes(self) -> list[Route]:
        """All of them, to be put into the app's list."""
        of_one: list[tuple[str, str, Handler]] = [
            ("GET", "", self.person),
            ("GET", "/edit", self.edit),
            ("POST", "/edit", self.save),
            ("GET", "/email", self.ask_email),
            ("POST", "/email", self.change_email),
            ("POST", "/email/reinvite", self.reinvite),
            ("POST", "/email/verify", self.verify),
            *(("GET", f"/{deed}", self._asking(deed)) for deed in DEEDS),
            *(("POST", f"/{deed}", self._doing(deed)) for deed in DEEDS),
        ]
        everyone = [
            Route("/users", self.everyone, methods=["GET"]),
            Route("/users", self.create, methods=["POST"]),
            Route("/users/new", self.new, methods=["GET"]),
        ]
        above = [Route(f"/users/{{user}}{path}", handler, methods=[method]) for method, path, handler in of_one]
        at = "/organizations/{id}/members/{user}"
        within = [Route(f"{at}{path}", handler, methods=[method]) for method, path, handler in of_one[:3]]
        return [*everyone, *above, *within]

    async def everyone(self, request: Request) -> Response:
        """Everyone of the installation, newest first; for htmx the region, or the next rows alone."""
        asker = await self.console.instance_admin(request)
        if isinstance(asker, Response):
            return asker
        query = request.query_params
        wanted = [it for it in STATUSES if it == query.get("status")]
        words, cursor = query.get("q", "").strip()[:200].replace("\0", ""), query.get("cursor", "")
        try:
            after = decode_cursor(cursor) if cursor else None
            ask = Ask(limit=PAGE, query=words, statuses=frozenset(wanted), cursor=after)
            found = await self.profiles.users.list(asker, ask)
        except Refused as refused:
            return self.console.refused(request, refused)
        kept = {name: text for name, text in (("q", words), ("status", query.get("status", ""))) if text}
        context: dict[str, Any] = {
            "rows": [self._view(it, f"/users/{it.person.id}") for it in found.rows],
            "more": f"/users?{urlencode({**kept, 'cursor': found.next_cursor})}" if found.next_cursor else None,
            "statuses": [(key, status(key, self.console.words)) for key in STATUSES],
            "wanted": wanted[0] if wanted else "",
            "sought": words,
            "has_cursor": bool(cursor),
        }
        if is_partial(request):
            piece = "more" if cursor else "region"
            return self.console.pages.fragment(request, f"profiles/users_{piece}.html", **context)
        return await self.console.page(request, "profiles/users.html", asker, here="/users", **context)

    async def person(self, request: Request) -> Response:
        """One person: a drawer over an open page, else a page."""
        found = await self.find(request)
        if isinstance(found, Response):
            return found
        spot, it = found
        is_admin = spot.asker.may_act if isinstance(spot.asker, Access) else True
        context = {
            "person": self._view(it, spot.at),
            "back": spot.back,
            "base": spot.base,
            "at": spot.at,
            "has_story": is_admin,
            "has_details": is_admin or spot.principal.user_id == it.person.id,
        }
        return await self._show(request, spot, "person", context)

    async def new(self, request: Request) -> Response:
        """The empty form of a new person."""
        asker = await self.console.instance_admin(request)
        if isinstance(asker, Response):
            return asker
        return await self.forms.show(request, above(asker), "new", {"in_clerk": "1"})

    async def create(self, request: Request) -> Response:
        """A new person, with a Clerk account or without."""
        if foreign := self.console.foreign(request):
            return foreign
        asker = await self.console.instance_admin(request)
        if isinstance(asker, Response):
            return asker
        typed = await typed_in(request)
        named = {name: typed[name] for name in NAMES if typed.get(name)}
        wanted = msgspec.convert({"email": typed.get("email", ""), **named}, Edit)
        key, in_clerk = key_in(request, typed), bool(typed.get("in_clerk"))
        try:
            made = await self.profiles.manage.create(asker, wanted, in_clerk=in_clerk, idempotency_key=key)
        except InstepError as error:
            return await self.forms.wrong(request, above(asker), "new", typed, error)
        title = self.console.words.gettext("%(name)s was made", name=made.person.name)
        return self.console.done(request, title, "/users")

    async def edit(self, request: Request) -> Response:
        """The form with the names."""
        found = await self.find(request)
        if isinstance(found, Response):
            return found
        spot, it = found
        return await self.forms.show(request, spot, "edit", names_of(it), it)

    async def save(self, request: Request) -> Response:
        """What was typed, on both sides; a refusal is said beside its field, and nothing was changed."""
        found = await self.find(request, is_change=True)
        if isinstance(found, Response):
            return found
        spot, it = found
        typed = await typed_in(request)
        before = names_of(it)
        changed = {name: typed[name] for name in NAMES if name in typed and typed[name] != before[name]}
        try:
            edit = msgspec.convert(changed, Edit)
            await self.profiles.edit(spot.principal, it.person.id, edit, idempotency_key=key_in(request, typed))
        except InstepError as error:
            return await self.forms.wrong(request, spot, "edit", typed, error, it)
        title = self.console.words.gettext("Saved")
        return self.console.done(request, title, spot.back)

    async def ask_email(self, request: Request) -> Response:
        """The form with the address."""
        found = await self.find(request)
        if isinstance(found, Response):
            return found
        spot, it = found
        return await self.forms.show(request, spot, "email", {"email": it.person.email or ""}, it)

    async def change_email(self, request: Request) -> Response:
        """A new address, as far as the installation's policy goes at once: done, a code, or the offer to invite."""
        found = await self.find(request, is_change=True)
        if isinstance(found, Response):
            return found
        spot, it = found
        typed = await typed_in(request)
        edit, key = Edit(email=typed.get("email", "")), key_in(request, typed)
        try:
            change = await self.profiles.edit(spot.principal, it.person.id, edit, idempotency_key=key)
        except InstepError as error:
            return await self.forms.wrong(request, spot, "email", typed, error, it)
        if isinstance(change, EmailChange) and change.outcome == "requires_invitation":
            asked = reinvite_question(change, it, at=spot.at, back=spot.back, words=self.console.words)
            return in_dialog(await self.console.ask(request, asked, spot.asker, here=spot.here))
        if isinstance(change, EmailChange) and change.outcome == "requires_verification":
            context = {"email": change.email, "verification": change.verification or ""}
            return in_dialog(await self.forms.show(request, spot, "code", context, it, is_new=True))
        _ = self.console.words.gettext
        is_new = not is_same(typed.get("email"), it.person.email)
        title = _("Address changed") if is_new else _("This is the address already. Nothing was changed")
        return self.console.done(request, title, spot.back)

    async def reinvite(self, request: Request) -> Response:
        """Invited anew in each organization, and what became of each."""
        found = await self.find(request, is_change=True)
        if isinstance(found, Response):
            return found
        spot, it = found
        typed, words = await typed_in(request), self.console.words
        try:
            change = await self.profiles.change_email(
                spot.principal, it.person.id, typed.get("email", ""), idempotency_key=key_in(request, typed)
            )
        except InstepError as error:
            return self.console.refused(request, error, base=spot.base)
        rows = [
            Outcome(
                name=place.name, status=status_of(MOVED[place.state], words), note=words.gettext(place.detail or " ")
            )
            for place in change.organizations
        ]
        title = words.gettext("%(email)s is invited", email=change.email)
        return await self.console.tell(
            request, Outcomes(title=title, rows=rows, back=spot.back), spot.asker, here=spot.here
        )

    async def verify(self, request: Request) -> Response:
        """The code that was sent to the new address."""
        found = await self.find(request, is_change=True)
        if isinstance(found, Response):
            return found
        spot, it = found
        typed = await typed_in(request)
        try:
            change = await self.profiles.change_email.verify(
                spot.principal, it.person.id, typed.get("verification", ""), typed.get("code", "")
            )
        except InstepError as error:
            typed = {"email": "", "verification": "", **typed}
            return await self.forms.wrong(request, spot, "code", typed, error, it)
        title = self.console.words.gettext("Address changed")
        return self.console.done(request, title, spot.back, text=change.note or "")

    def _asking(self, deed: str) -> Handler:
        async def ask(request: Request) -> Response:
            found = await self.find(request)
            if isinstance(found, Response):
                return found
            spot, it = found
            asked = question(deed, it, at=spot.at, back=spot.back, words=self.console.words)
            return await self.console.ask(request, asked, spot.asker, here=spot.here)

        return ask

    def _doing(self, deed: str) -> Handler:
        async def do(request: Request) -> Response:
            found = await self.find(request, is_change=True)
            if isinstance(found, Response):
                return found
            spot, it = found
            try:
                title, note = await self._do(deed, spot, it, await typed_in(request), request)
            except InstepError as error:
                return self.console.refused(request, error, base=spot.base)
            return self.console.done(request, title, spot.back, text=note)

        return do

    async def _do(self, deed: str, spot: Spot, it: Profile, typed: dict[str, str], request: Request) -> tuple[str, str]:
        """The deed, and what is said of it."""
        manage, who, ref, key = self.profiles.manage, spot.principal, it.person.id, key_in(request, typed)
        _, name = self.console.words.gettext, it.person.name
        if deed == "ban":
            banned, note = await manage.ban(who, ref, idempotency_key=key)
            return _("%(name)s is banned", name=banned.person.name), _(note) if note else ""
        if deed == "unban":
            await manage.unban(who, ref, idempotency_key=key)
            return _("%(name)s can come in again", name=name), ""
        if deed == "restore":
            await manage.restore(who, ref, idempotency_key=key)
            return _("%(name)s is restored", name=name), ""
        if typed.get("word", "").lower() != _("delete"):
            raise Refused(_("The word was not typed as asked."), code="word", field="word")
        how = typed.get("clerk")
        await manage.delete(who, ref, clerk="ban" if how == "ban" else "keep" if how == "keep" else "delete")
        return _("%(name)s is deleted", name=name), ""

    def _view(self, it: Profile, at: str) -> PersonView:
        at = f"/users/{it.person.id}" if it.is_whole else at
        return person_view(it, at=at, roles=self.roles, now=self.console.pages.clock(), words=self.console.words)

    async def _show(self, request: Request, spot: Spot, what: str, context: dict[str, Any]) -> Response:
        if is_partial(request):
            return self.console.pages.fragment(request, f"profiles/{what}.html", **context)
        return await self.console.page(request, f"profiles/{what}_page.html", spot.asker, here=spot.here, **context)
