"""Console pages of users: list, detail, edit, e-mail change, account actions, sessions and password."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from instep.auth.principal import OrganizationAccess
from instep.console.components import (
    DONE,
    PENDING,
    SKIPPED,
    UNCHANGED,
    BulkItemView,
    BulkResultView,
    ConfirmationDialog,
    make_bulk_status_badge,
)
from instep.console.layout import get_organization_path
from instep.console.responses import PageResponder
from instep.core.errors import InstepError
from instep.core.templates import is_fragment_request
from instep.domain.emails import is_same_email
from instep.domain.errors import ChangeRejectedError
from instep.users.models import USER_STATUSES, EmailChange, UserChanges, UserFilter, UserProfile, decode_cursor
from instep.users.policies import require_can_see_sessions
from instep.users.service import UserService
from instep.users.views import (
    ACCOUNT_ACTIONS,
    NAME_FIELDS,
    UserFormRenderer,
    UserPageContext,
    UserView,
    build_user_view,
    confirm_account_action,
    confirm_reinvitation,
    derive_idempotency_key,
    get_name_fields,
    make_instance_context,
    make_user_badge,
    read_form,
    show_in_dialog,
)

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class UserPageLoader:
    """Finds who looks, from where, at whom."""

    console: PageResponder
    profiles: UserService

    async def __call__(
        self, request: Request, *, is_change: bool = False
    ) -> tuple[UserPageContext, UserProfile] | Response:
        """Who looks, from where, at whom; or what to answer instead."""
        foreign = self.console.reject_cross_origin(request) if is_change else None
        if foreign:
            return foreign
        spot = await self._spot(request)
        if isinstance(spot, Response):
            return spot
        _ = self.console.localizer.gettext
        try:
            found = await self.profiles.users.get(spot.principal, request.path_params["user"])
        except InstepError as error:
            return self.console.respond_error(request, error, title=_("Not found"))
        is_here = not isinstance(spot.asker, OrganizationAccess) or any(
            place.organization_id == spot.asker.organization_id for place in found.memberships
        )
        if is_here:
            return spot, found
        text = _("There is no such person in this organization.")
        return self.console.renderer.error(request, status=404, title=_("Not found"), text=text)

    async def _spot(self, request: Request) -> UserPageContext | Response:
        user = request.path_params["user"]
        if "organization_id" not in request.path_params:
            asker = await self.console.require_instance_admin(request)
            return asker if isinstance(asker, Response) else make_instance_context(asker, user)
        access = await self.console.require_member(request)
        if isinstance(access, Response):
            return access
        home = get_organization_path(access)
        return UserPageContext(asker=access, at=f"{home}/members/{user}", back=f"{home}/members", here="members")


@dataclass(frozen=True)
class UserDetailPages:
    """The handlers and what they need."""

    console: PageResponder
    profiles: UserService

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
        within = "/organizations/{organization_id}/members/{user}"
        return [
            *(Route(f"/users/{{user}}{path}", it, methods=[method]) for method, path, it in [*of_one, *of_admins]),
            *(Route(f"{within}{path}", it, methods=[method]) for method, path, it in of_one),
        ]

    @property
    def find(self) -> UserPageLoader:
        """Who looks, from where, at whom."""
        return UserPageLoader(self.console, self.profiles)

    async def details(self, request: Request) -> Response:
        """The part of a person's drawer that Clerk is asked for."""
        found = await self.find(request)
        if isinstance(found, Response):
            return found
        spot, it = found
        read, words = await self.profiles.details(spot.asker, it), self.console.localizer
        now = self.console.renderer.clock()
        sessions = [(one, words.ago(one.last_active_at, now)) for one in read.sessions or ()]
        sent = [(one, words.until(one.expires_at, now) if one.expires_at else None) for one in read.sent or ()]
        context: dict[str, Any] = {"details": read, "sessions": sessions, "sent": sent, "at": spot.at}
        return self.console.renderer.fragment(request, "users/details.html", **context)

    async def ask(self, request: Request) -> Response:
        """The question before one session ends, or all of them."""
        found = await self.find(request)
        if isinstance(found, Response):
            return found
        spot, it = found
        try:
            require_can_see_sessions(await self.profiles.edit.desk.find(spot.principal, it.person.id))
        except InstepError as error:
            return self.console.respond_error(request, error)
        _, session = self.console.localizer.gettext, request.query_params.get("session", "")
        title = _("End this session of %(name)s?") if session else _("End every session of %(name)s?")
        question = ConfirmationDialog(
            title=title % {"name": it.person.name},
            confirm_label=_("End session") if session else _("End all sessions"),
            action=f"{spot.at}/sessions/end",
            cancel_url=spot.at,
            impact=(_("They are signed out there, in Clerk and here, and can sign in again."),),
            row_id=f"row-{it.person.id}",
            fields=(("session", session),) if session else (),
        )
        return await self.console.respond_confirmation(request, question, spot.asker, section=spot.here)

    async def end(self, request: Request) -> Response:
        """Ended, in Clerk and here."""
        found = await self.find(request, is_change=True)
        if isinstance(found, Response):
            return found
        spot, it = found
        typed, words = await read_form(request), self.console.localizer
        session = typed.get("session") or None
        try:
            ended = await self.profiles.end_sessions(
                spot.principal, it.person.id, session, idempotency_key=derive_idempotency_key(request, typed)
            )
        except InstepError as error:
            return self.console.respond_error(request, error, base=spot.base)
        title = words.ngettext("%(num)s session ended", "%(num)s sessions ended", ended.count)
        return self.console.respond_success(request, title, spot.back)

    async def ask_password(self, request: Request) -> Response:
        """The form with the password."""
        found = await self.find(request)
        if isinstance(found, Response):
            return found
        spot, it = found
        return await UserFormRenderer(self.console).show(request, spot, "password", {}, it)

    async def set_password(self, request: Request) -> Response:
        """Set in Clerk, by Clerk's rules; what was typed is kept nowhere, and never sent back."""
        found = await self.find(request, is_change=True)
        if isinstance(found, Response):
            return found
        spot, it = found
        typed = await read_form(request)
        try:
            await self.profiles.set_password(
                spot.principal,
                it.person.id,
                typed.get("password", ""),
                idempotency_key=derive_idempotency_key(request, typed),
            )
        except InstepError as error:
            return await UserFormRenderer(self.console).wrong(request, spot, "password", typed, error, it)
        title = self.console.localizer.gettext("The password of %(name)s is set", name=it.person.name)
        return self.console.respond_success(request, title, spot.back)


PAGE_SIZE = 25
REINVITATION_OUTCOMES = {"invited": DONE, "checking": PENDING, "refused": SKIPPED, "kept": UNCHANGED}


@dataclass(frozen=True)
class UserPages:
    """The handlers and what they need; `roles` are the names of roles by key."""

    console: PageResponder
    profiles: UserService
    roles: Mapping[str, str]

    @property
    def find(self) -> UserPageLoader:
        """Who looks, from where, at whom."""
        return UserPageLoader(self.console, self.profiles)

    @property
    def forms(self) -> UserFormRenderer:
        """The forms about a person."""
        return UserFormRenderer(self.console)

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
            *(("GET", f"/{deed}", self._asking(deed)) for deed in ACCOUNT_ACTIONS),
            *(("POST", f"/{deed}", self._doing(deed)) for deed in ACCOUNT_ACTIONS),
        ]
        everyone = [
            Route("/users", self.everyone, methods=["GET"]),
            Route("/users", self.create, methods=["POST"]),
            Route("/users/new", self.new, methods=["GET"]),
        ]
        above = [Route(f"/users/{{user}}{path}", handler, methods=[method]) for method, path, handler in of_one]
        at = "/organizations/{organization_id}/members/{user}"
        within = [Route(f"{at}{path}", handler, methods=[method]) for method, path, handler in of_one[:3]]
        return [*everyone, *above, *within]

    async def everyone(self, request: Request) -> Response:
        """Everyone of the installation, newest first; for htmx the region, or the next rows alone."""
        asker = await self.console.require_instance_admin(request)
        if isinstance(asker, Response):
            return asker
        query = request.query_params
        wanted = [it for it in USER_STATUSES if it == query.get("status")]
        words, cursor = query.get("q", "").strip()[:200].replace("\0", ""), query.get("cursor", "")
        try:
            after = decode_cursor(cursor) if cursor else None
            ask = UserFilter(limit=PAGE_SIZE, query=words, statuses=frozenset(wanted), cursor=after)
            found = await self.profiles.users.list(asker, ask)
        except ChangeRejectedError as refused:
            return self.console.respond_error(request, refused)
        kept = {name: text for name, text in (("q", words), ("status", query.get("status", ""))) if text}
        context: dict[str, Any] = {
            "rows": [self._view(it, f"/users/{it.person.id}") for it in found.rows],
            "more": f"/users?{urlencode({**kept, 'cursor': found.next_cursor})}" if found.next_cursor else None,
            "statuses": [(key, make_user_badge(key, self.console.localizer)) for key in USER_STATUSES],
            "wanted": wanted[0] if wanted else "",
            "sought": words,
            "has_cursor": bool(cursor),
        }
        if is_fragment_request(request):
            piece = "more" if cursor else "region"
            return self.console.renderer.fragment(request, f"users/users_{piece}.html", **context)
        return await self.console.respond_page(request, "users/users.html", asker, section="/users", **context)

    async def person(self, request: Request) -> Response:
        """One person: a drawer over an open page, else a page."""
        found = await self.find(request)
        if isinstance(found, Response):
            return found
        spot, it = found
        is_admin = spot.asker.can_manage if isinstance(spot.asker, OrganizationAccess) else True
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
        asker = await self.console.require_instance_admin(request)
        if isinstance(asker, Response):
            return asker
        return await self.forms.show(request, make_instance_context(asker), "new", {"in_clerk": "1"})

    async def create(self, request: Request) -> Response:
        """A new person, with a Clerk account or without."""
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        asker = await self.console.require_instance_admin(request)
        if isinstance(asker, Response):
            return asker
        typed = await read_form(request)
        named = {name: typed[name] for name in NAME_FIELDS if typed.get(name)}
        wanted = msgspec.convert({"email": typed.get("email", ""), **named}, UserChanges)
        key, in_clerk = derive_idempotency_key(request, typed), bool(typed.get("in_clerk"))
        try:
            made = await self.profiles.manage.create(asker, wanted, in_clerk=in_clerk, idempotency_key=key)
        except InstepError as error:
            return await self.forms.wrong(request, make_instance_context(asker), "new", typed, error)
        title = self.console.localizer.gettext("%(name)s was made", name=made.person.name)
        return self.console.respond_success(request, title, "/users")

    async def edit(self, request: Request) -> Response:
        """The form with the names."""
        found = await self.find(request)
        if isinstance(found, Response):
            return found
        spot, it = found
        return await self.forms.show(request, spot, "edit", get_name_fields(it), it)

    async def save(self, request: Request) -> Response:
        """What was typed, on both sides; a refusal is said beside its field, and nothing was changed."""
        found = await self.find(request, is_change=True)
        if isinstance(found, Response):
            return found
        spot, it = found
        typed = await read_form(request)
        before = get_name_fields(it)
        changed = {name: typed[name] for name in NAME_FIELDS if name in typed and typed[name] != before[name]}
        try:
            edit = msgspec.convert(changed, UserChanges)
            await self.profiles.edit(
                spot.principal, it.person.id, edit, idempotency_key=derive_idempotency_key(request, typed)
            )
        except InstepError as error:
            return await self.forms.wrong(request, spot, "edit", typed, error, it)
        title = self.console.localizer.gettext("Saved")
        return self.console.respond_success(request, title, spot.back)

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
        typed = await read_form(request)
        edit, key = UserChanges(email=typed.get("email", "")), derive_idempotency_key(request, typed)
        try:
            change = await self.profiles.edit(spot.principal, it.person.id, edit, idempotency_key=key)
        except InstepError as error:
            return await self.forms.wrong(request, spot, "email", typed, error, it)
        if isinstance(change, EmailChange) and change.outcome == "requires_invitation":
            asked = confirm_reinvitation(change, it, at=spot.at, back=spot.back, words=self.console.localizer)
            return show_in_dialog(
                await self.console.respond_confirmation(request, asked, spot.asker, section=spot.here)
            )
        if isinstance(change, EmailChange) and change.outcome == "requires_verification":
            context = {"email": change.email, "verification": change.verification or ""}
            return show_in_dialog(await self.forms.show(request, spot, "code", context, it, is_new=True))
        _ = self.console.localizer.gettext
        is_new = not is_same_email(typed.get("email"), it.person.email)
        title = _("Address changed") if is_new else _("This is the address already. Nothing was changed")
        return self.console.respond_success(request, title, spot.back)

    async def reinvite(self, request: Request) -> Response:
        """Invited anew in each organization, and what became of each."""
        found = await self.find(request, is_change=True)
        if isinstance(found, Response):
            return found
        spot, it = found
        typed, words = await read_form(request), self.console.localizer
        try:
            change = await self.profiles.change_email(
                spot.principal,
                it.person.id,
                typed.get("email", ""),
                idempotency_key=derive_idempotency_key(request, typed),
            )
        except InstepError as error:
            return self.console.respond_error(request, error, base=spot.base)
        rows = [
            BulkItemView(
                name=place.name,
                status=make_bulk_status_badge(REINVITATION_OUTCOMES[place.state], words),
                note=words.gettext(place.detail or " "),
            )
            for place in change.organizations
        ]
        title = words.gettext("%(email)s is invited", email=change.email)
        return await self.console.respond_bulk_result(
            request, BulkResultView(title=title, rows=rows, back=spot.back), spot.asker, section=spot.here
        )

    async def verify(self, request: Request) -> Response:
        """The code that was sent to the new address."""
        found = await self.find(request, is_change=True)
        if isinstance(found, Response):
            return found
        spot, it = found
        typed = await read_form(request)
        try:
            change = await self.profiles.change_email.verify(
                spot.principal, it.person.id, typed.get("verification", ""), typed.get("code", "")
            )
        except InstepError as error:
            typed = {"email": "", "verification": "", **typed}
            return await self.forms.wrong(request, spot, "code", typed, error, it)
        title = self.console.localizer.gettext("Address changed")
        return self.console.respond_success(request, title, spot.back, text=change.note or "")

    def _asking(self, deed: str) -> Handler:
        async def ask(request: Request) -> Response:
            found = await self.find(request)
            if isinstance(found, Response):
                return found
            spot, it = found
            asked = confirm_account_action(deed, it, at=spot.at, back=spot.back, words=self.console.localizer)
            return await self.console.respond_confirmation(request, asked, spot.asker, section=spot.here)

        return ask

    def _doing(self, deed: str) -> Handler:
        async def do(request: Request) -> Response:
            found = await self.find(request, is_change=True)
            if isinstance(found, Response):
                return found
            spot, it = found
            try:
                title, note = await self._do(deed, spot, it, await read_form(request), request)
            except InstepError as error:
                return self.console.respond_error(request, error, base=spot.base)
            return self.console.respond_success(request, title, spot.back, text=note)

        return do

    async def _do(
        self, deed: str, spot: UserPageContext, it: UserProfile, typed: dict[str, str], request: Request
    ) -> tuple[str, str]:
        """The deed, and what is said of it."""
        manage, who, ref, key = (
            self.profiles.manage,
            spot.principal,
            it.person.id,
            derive_idempotency_key(request, typed),
        )
        _, name = self.console.localizer.gettext, it.person.name
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
            raise ChangeRejectedError(_("The word was not typed as asked."), code="word", field="word")
        how = typed.get("clerk")
        await manage.delete(who, ref, clerk="ban" if how == "ban" else "keep" if how == "keep" else "delete")
        return _("%(name)s is deleted", name=name), ""

    def _view(self, it: UserProfile, at: str) -> UserView:
        at = f"/users/{it.person.id}" if it.is_whole else at
        return build_user_view(
            it, at=at, roles=self.roles, now=self.console.renderer.clock(), words=self.console.localizer
        )

    async def _show(self, request: Request, spot: UserPageContext, what: str, context: dict[str, Any]) -> Response:
        if is_fragment_request(request):
            return self.console.renderer.fragment(request, f"users/{what}.html", **context)
        return await self.console.respond_page(
            request, f"users/{what}_page.html", spot.asker, section=spot.here, **context
        )
