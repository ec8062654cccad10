"""Console pages of users: list, detail, edit, email change, account actions, sessions and password."""

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
    make_bulk_status_badge,
)
from instep.console.layout import get_organization_path
from instep.console.responses import PageResponder
from instep.core.errors import InstepError
from instep.core.templates import is_fragment_request
from instep.domain.emails import is_same_email
from instep.domain.errors import ChangeRejectedError
from instep.users.models import (
    USER_STATUSES,
    ClerkRemoval,
    EmailChange,
    UserChanges,
    UserFilter,
    UserProfile,
    decode_cursor,
)
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
    confirm_session_end,
    derive_idempotency_key,
    get_name_fields,
    make_instance_context,
    make_user_badge,
    read_form,
    show_in_dialog,
)

Handler = Callable[[Request], Awaitable[Response]]
RouteTable = list[tuple[str, str, Handler]]  # method, path below that of the user, handler
PAGE_SIZE = 25
MAX_QUERY_LENGTH = 200
REINVITATION_OUTCOMES = {"invited": DONE, "checking": PENDING, "refused": SKIPPED, "kept": UNCHANGED}
_REMOVALS: dict[str, ClerkRemoval] = {"ban": "ban", "keep": "keep"}


async def load_user_page(
    console: PageResponder, users: UserService, request: Request, *, is_change: bool = False
) -> tuple[UserPageContext, UserProfile] | Response:
    """Return the context of a user page and the user; or the response where the caller may not see or change it."""
    foreign = console.reject_cross_origin(request) if is_change else None
    if foreign:
        return foreign
    context = await _load_context(console, request)
    if isinstance(context, Response):
        return context
    _ = console.localizer.gettext
    try:
        profile = await users.get(context.principal, request.path_params["user_id"])
    except InstepError as error:
        return console.respond_error(request, error, title=_("Not found"))
    if isinstance(context.caller, OrganizationAccess):
        organization_id = context.caller.organization_id
        if not any(membership.organization_id == organization_id for membership in profile.memberships):
            text = _("There is no such user in this organization.")
            return console.renderer.error(request, status=404, title=_("Not found"), text=text)
    return context, profile


async def _load_context(console: PageResponder, request: Request) -> UserPageContext | Response:
    user_id = request.path_params["user_id"]
    if "organization_id" not in request.path_params:
        principal = await console.require_instance_admin(request)
        return principal if isinstance(principal, Response) else make_instance_context(principal, user_id)
    access = await console.require_member(request)
    if isinstance(access, Response):
        return access
    home = get_organization_path(access)
    return UserPageContext(caller=access, at=f"{home}/members/{user_id}", back=f"{home}/members", here="members")


def _make_instance_routes(table: RouteTable) -> list[Route]:
    return [Route(f"/users/{{user_id}}{path}", handler, methods=[method]) for method, path, handler in table]


def _make_organization_routes(table: RouteTable) -> list[Route]:
    prefix = "/organizations/{organization_id}/members/{user_id}"
    return [Route(f"{prefix}{path}", handler, methods=[method]) for method, path, handler in table]


@dataclass(frozen=True)
class UserDetailPages:
    """Pages of what Clerk knows about a user: sessions, sent invitations and the password."""

    console: PageResponder
    users: UserService

    def routes(self) -> list[Route]:
        """Return the routes; the password only above all organizations."""
        shared: RouteTable = [
            ("GET", "/details", self.show_details),
            ("GET", "/sessions/end", self.confirm_session_end),
            ("POST", "/sessions/end", self.end_sessions),
        ]
        admin_only: RouteTable = [
            ("GET", "/password", self.show_password_form),
            ("POST", "/password", self.set_password),
        ]
        return [*_make_instance_routes([*shared, *admin_only]), *_make_organization_routes(shared)]

    async def show_details(self, request: Request) -> Response:
        """Render the part of a user's drawer that is read live from Clerk."""
        loaded = await load_user_page(self.console, self.users, request)
        if isinstance(loaded, Response):
            return loaded
        context, profile = loaded
        details, words = await self.users.get_details(context.caller, profile), self.console.localizer
        now = self.console.renderer.clock()
        sessions = [(it, words.ago(it.last_active_at, now)) for it in details.sessions or ()]
        invitations = [
            (it, words.until(it.expires_at, now) if it.expires_at else None) for it in details.sent_invitations or ()
        ]
        return self.console.renderer.fragment(
            request,
            "users/details.html",
            details=details,
            sessions=sessions,
            invitations=invitations,
            at=context.at,
        )

    async def confirm_session_end(self, request: Request) -> Response:
        """Ask before one session ends, or all of them."""
        loaded = await load_user_page(self.console, self.users, request)
        if isinstance(loaded, Response):
            return loaded
        context, profile = loaded
        try:
            require_can_see_sessions(await self.users.find_target(context.principal, profile.user.id))
        except InstepError as error:
            return self.console.respond_error(request, error)
        session_id = request.query_params.get("session", "")
        dialog = confirm_session_end(profile, session_id, context, self.console.localizer)
        return await self.console.respond_confirmation(request, dialog, context.caller, section=context.here)

    async def end_sessions(self, request: Request) -> Response:
        """End one session or all of them, in Clerk and here."""
        loaded = await load_user_page(self.console, self.users, request, is_change=True)
        if isinstance(loaded, Response):
            return loaded
        context, profile = loaded
        values = await read_form(request)
        key = derive_idempotency_key(request, values)
        try:
            ended = await self.users.revoke_sessions(
                context.principal, profile.user.id, values.get("session") or None, idempotency_key=key
            )
        except InstepError as error:
            return self.console.respond_error(request, error, base=context.base)
        title = self.console.localizer.ngettext("%(num)s session ended", "%(num)s sessions ended", ended.count)
        return self.console.respond_success(request, title, context.back)

    async def show_password_form(self, request: Request) -> Response:
        """Render the form of a new password."""
        loaded = await load_user_page(self.console, self.users, request)
        if isinstance(loaded, Response):
            return loaded
        context, profile = loaded
        return await UserFormRenderer(self.console).render(request, context, "password", {}, profile)

    async def set_password(self, request: Request) -> Response:
        """Set the password in Clerk; it is never stored here and never sent back."""
        loaded = await load_user_page(self.console, self.users, request, is_change=True)
        if isinstance(loaded, Response):
            return loaded
        context, profile = loaded
        values = await read_form(request)
        key = derive_idempotency_key(request, values)
        try:
            await self.users.set_password(
                context.principal, profile.user.id, values.get("password", ""), idempotency_key=key
            )
        except InstepError as error:
            forms = UserFormRenderer(self.console)
            return await forms.render_error(request, context, "password", values, error, profile)
        title = self.console.localizer.gettext("Password of %(name)s set", name=profile.user.name)
        return self.console.respond_success(request, title, context.back)


@dataclass(frozen=True)
class UserPages:
    """Pages of the user list, of one user, and of their changes. `roles` are the names of roles by key."""

    console: PageResponder
    users: UserService
    roles: Mapping[str, str]

    @property
    def forms(self) -> UserFormRenderer:
        """Return the renderer of the forms."""
        return UserFormRenderer(self.console)

    def routes(self) -> list[Route]:
        """Return the routes; in an organization only the user and the edit of their names."""
        shared: RouteTable = [
            ("GET", "", self.show_user),
            ("GET", "/edit", self.show_edit_form),
            ("POST", "/edit", self.edit),
        ]
        admin_only: RouteTable = [
            ("GET", "/email", self.show_email_form),
            ("POST", "/email", self.change_email),
            ("POST", "/email/reinvite", self.reinvite),
            ("POST", "/email/verify", self.verify_email),
            *(("GET", f"/{action}", self._make_confirm_handler(action)) for action in ACCOUNT_ACTIONS),
            *(("POST", f"/{action}", self._make_action_handler(action)) for action in ACCOUNT_ACTIONS),
        ]
        return [
            Route("/users", self.list_users, methods=["GET"]),
            Route("/users", self.create, methods=["POST"]),
            Route("/users/new", self.show_create_form, methods=["GET"]),
            *_make_instance_routes([*shared, *admin_only]),
            *_make_organization_routes(shared),
        ]

    async def list_users(self, request: Request) -> Response:
        """Render all users, newest first; for htmx only the region, or only the next rows."""
        caller = await self.console.require_instance_admin(request)
        if isinstance(caller, Response):
            return caller
        params = request.query_params
        statuses = [it for it in USER_STATUSES if it == params.get("status")]
        query = params.get("q", "").strip()[:MAX_QUERY_LENGTH].replace("\0", "")
        cursor = params.get("cursor", "")
        try:
            after = decode_cursor(cursor) if cursor else None
            user_filter = UserFilter(limit=PAGE_SIZE, query=query, statuses=frozenset(statuses), cursor=after)
            result = await self.users.list(caller, user_filter)
        except ChangeRejectedError as error:
            return self.console.respond_error(request, error)
        filters = {name: text for name, text in (("q", query), ("status", params.get("status", ""))) if text}
        variables: dict[str, Any] = {
            "rows": [self._build_view(it, f"/users/{it.user.id}") for it in result.rows],
            "more": f"/users?{urlencode({**filters, 'cursor': result.next_cursor})}" if result.next_cursor else None,
            "statuses": [(status, make_user_badge(status, self.console.localizer)) for status in USER_STATUSES],
            "status_filter": statuses[0] if statuses else "",
            "query": query,
            "has_cursor": bool(cursor),
        }
        if is_fragment_request(request):
            template = "users/users_more.html" if cursor else "users/users_region.html"
            return self.console.renderer.fragment(request, template, **variables)
        return await self.console.respond_page(request, "users/users.html", caller, section="/users", **variables)

    async def show_user(self, request: Request) -> Response:
        """Render one user: as a drawer over an open page, otherwise as a page."""
        loaded = await load_user_page(self.console, self.users, request)
        if isinstance(loaded, Response):
            return loaded
        context, profile = loaded
        caller = context.caller
        is_admin = caller.can_manage if isinstance(caller, OrganizationAccess) else True
        variables: dict[str, Any] = {
            "user": self._build_view(profile, context.at),
            "back": context.back,
            "base": context.base,
            "at": context.at,
            "has_history": is_admin,
            "has_details": is_admin or context.principal.user_id == profile.user.id,
        }
        if is_fragment_request(request):
            return self.console.renderer.fragment(request, "users/user.html", **variables)
        return await self.console.respond_page(
            request, "users/user_page.html", caller, section=context.here, **variables
        )

    async def show_create_form(self, request: Request) -> Response:
        """Render the empty form of a new user."""
        caller = await self.console.require_instance_admin(request)
        if isinstance(caller, Response):
            return caller
        return await self.forms.render(request, make_instance_context(caller), "new", {"in_clerk": "1"})

    async def create(self, request: Request) -> Response:
        """Create a user, with a Clerk account or without."""
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        caller = await self.console.require_instance_admin(request)
        if isinstance(caller, Response):
            return caller
        values = await read_form(request)
        names = {name: values[name] for name in NAME_FIELDS if values.get(name)}
        wanted = msgspec.convert({"email": values.get("email", ""), **names}, UserChanges)
        key, in_clerk = derive_idempotency_key(request, values), bool(values.get("in_clerk"))
        try:
            created = await self.users.create(caller, wanted, in_clerk=in_clerk, idempotency_key=key)
        except InstepError as error:
            return await self.forms.render_error(request, make_instance_context(caller), "new", values, error)
        title = self.console.localizer.gettext("%(name)s created", name=created.user.name)
        return self.console.respond_success(request, title, "/users")

    async def show_edit_form(self, request: Request) -> Response:
        """Render the form of the names."""
        loaded = await load_user_page(self.console, self.users, request)
        if isinstance(loaded, Response):
            return loaded
        context, profile = loaded
        return await self.forms.render(request, context, "edit", get_name_fields(profile), profile)

    async def edit(self, request: Request) -> Response:
        """Change the names on both sides; a rejection is shown at its field."""
        loaded = await load_user_page(self.console, self.users, request, is_change=True)
        if isinstance(loaded, Response):
            return loaded
        context, profile = loaded
        values = await read_form(request)
        stored = get_name_fields(profile)
        changed = {name: values[name] for name in NAME_FIELDS if name in values and values[name] != stored[name]}
        key = derive_idempotency_key(request, values)
        try:
            changes = msgspec.convert(changed, UserChanges)
            await self.users.edit_profile(context.principal, profile.user.id, changes, idempotency_key=key)
        except InstepError as error:
            return await self.forms.render_error(request, context, "edit", values, error, profile)
        return self.console.respond_success(request, self.console.localizer.gettext("Saved"), context.back)

    async def show_email_form(self, request: Request) -> Response:
        """Render the form of a new address."""
        loaded = await load_user_page(self.console, self.users, request)
        if isinstance(loaded, Response):
            return loaded
        context, profile = loaded
        return await self.forms.render(request, context, "email", {"email": profile.user.email or ""}, profile)

    async def change_email(self, request: Request) -> Response:
        """Start the change of an address: it is done, a code is requested, or a new invitation is offered."""
        loaded = await load_user_page(self.console, self.users, request, is_change=True)
        if isinstance(loaded, Response):
            return loaded
        context, profile = loaded
        values = await read_form(request)
        changes, key = UserChanges(email=values.get("email", "")), derive_idempotency_key(request, values)
        try:
            change = await self.users.edit_profile(context.principal, profile.user.id, changes, idempotency_key=key)
        except InstepError as error:
            return await self.forms.render_error(request, context, "email", values, error, profile)
        if isinstance(change, EmailChange) and change.outcome == "requires_invitation":
            dialog = confirm_reinvitation(
                change, profile, at=context.at, back=context.back, words=self.console.localizer
            )
            return show_in_dialog(
                await self.console.respond_confirmation(request, dialog, context.caller, section=context.here)
            )
        if isinstance(change, EmailChange) and change.outcome == "requires_verification":
            code = {"email": change.email, "verification": change.verification or ""}
            return show_in_dialog(await self.forms.render(request, context, "code", code, profile, is_new=True))
        _ = self.console.localizer.gettext
        is_changed = not is_same_email(values.get("email"), profile.user.email)
        title = _("Email address changed") if is_changed else _("This is already the address. Nothing was changed")
        return self.console.respond_success(request, title, context.back)

    async def reinvite(self, request: Request) -> Response:
        """Invite the user under a new address in each organization and show the results."""
        loaded = await load_user_page(self.console, self.users, request, is_change=True)
        if isinstance(loaded, Response):
            return loaded
        context, profile = loaded
        values, words = await read_form(request), self.console.localizer
        key = derive_idempotency_key(request, values)
        try:
            change = await self.users.change_email(
                context.principal, profile.user.id, values.get("email", ""), idempotency_key=key
            )
        except InstepError as error:
            return self.console.respond_error(request, error, base=context.base)
        rows = [
            BulkItemView(
                name=it.name,
                status=make_bulk_status_badge(REINVITATION_OUTCOMES[it.state], words),
                note=words.translate(it.detail or " "),
            )
            for it in change.organizations
        ]
        result = BulkResultView(
            title=words.gettext("%(email)s invited", email=change.email), rows=rows, back=context.back
        )
        return await self.console.respond_bulk_result(request, result, context.caller, section=context.here)

    async def verify_email(self, request: Request) -> Response:
        """Verify the new address by the code that was sent to it."""
        loaded = await load_user_page(self.console, self.users, request, is_change=True)
        if isinstance(loaded, Response):
            return loaded
        context, profile = loaded
        values = {"email": "", "verification": "", **await read_form(request)}
        try:
            change = await self.users.verify_email(
                context.principal, profile.user.id, values["verification"], values.get("code", "")
            )
        except InstepError as error:
            return await self.forms.render_error(request, context, "code", values, error, profile)
        words = self.console.localizer
        return self.console.respond_success(
            request, words.gettext("Email address changed"), context.back, text=words.translate(change.note or "")
        )

    def _make_confirm_handler(self, action: str) -> Handler:
        async def confirm(request: Request) -> Response:
            loaded = await load_user_page(self.console, self.users, request)
            if isinstance(loaded, Response):
                return loaded
            context, profile = loaded
            dialog = confirm_account_action(
                action, profile, at=context.at, back=context.back, words=self.console.localizer
            )
            return await self.console.respond_confirmation(request, dialog, context.caller, section=context.here)

        return confirm

    def _make_action_handler(self, action: str) -> Handler:
        async def act(request: Request) -> Response:
            loaded = await load_user_page(self.console, self.users, request, is_change=True)
            if isinstance(loaded, Response):
                return loaded
            context, profile = loaded
            values = await read_form(request)
            key = derive_idempotency_key(request, values)
            try:
                title, note = await self._run_action(action, context, profile, values, key)
            except InstepError as error:
                return self.console.respond_error(request, error, base=context.base)
            return self.console.respond_success(request, title, context.back, text=note)

        return act

    async def _run_action(
        self, action: str, context: UserPageContext, profile: UserProfile, values: dict[str, str], key: str | None
    ) -> tuple[str, str]:
        """Run an account action; returns the title and the note of its toast."""
        words, principal, user_id = self.console.localizer, context.principal, profile.user.id
        _, name = words.gettext, profile.user.name
        if action == "ban":
            banned, note = await self.users.ban(principal, user_id, idempotency_key=key)
            return _("%(name)s banned", name=banned.user.name), words.translate(note or "")
        if action == "unban":
            await self.users.unban(principal, user_id, idempotency_key=key)
            return _("%(name)s can sign in again", name=name), ""
        if action == "restore":
            await self.users.restore(principal, user_id, idempotency_key=key)
            return _("%(name)s restored", name=name), ""
        if values.get("word", "").lower() != _("delete"):
            raise ChangeRejectedError(_("Confirmation text does not match."), code="word", field="word")
        await self.users.delete(principal, user_id, clerk=_REMOVALS.get(values.get("clerk", ""), "delete"))
        return _("%(name)s deleted", name=name), ""

    def _build_view(self, profile: UserProfile, at: str) -> UserView:
        at = f"/users/{profile.user.id}" if profile.is_complete else at
        console = self.console
        return build_user_view(profile, at=at, roles=self.roles, now=console.renderer.clock(), words=console.localizer)
