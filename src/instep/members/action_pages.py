"""Pages that change one or many members: confirmation dialogs, changes, and results."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
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
    summarize_bulk_result,
)
from instep.console.layout import get_organization_path
from instep.console.responses import PageResponder
from instep.core.errors import InstepError
from instep.core.i18n import Localizer
from instep.members.listing import build_filter, parse_search
from instep.members.models import (
    MAX_BULK_MEMBERS,
    BulkMemberAction,
    DeactivationPolicy,
    MemberChangeImpact,
    MemberChangeOutcome,
    MemberOutcome,
)
from instep.members.service import MemberService
from instep.members.views import format_role

NAVIGATION_ITEM = "members"
MEMBER_ACTIONS = ("deactivate", "reactivate", "remove")
BULK_OUTCOMES = {"done": DONE, "open": PENDING, "unchanged": UNCHANGED, "refused": SKIPPED}
CONFIRMATION_WORD_MIN_PEOPLE = 2  # a destructive change of so many members has to be confirmed by a typed word
MAX_LISTED_ADDRESSES = 3

Handler = Callable[[Request], Awaitable[Response]]
MemberChangeCall = Callable[[OrganizationAccess, str, str | None], Awaitable[tuple[MemberChangeOutcome, str]]]


@dataclass(frozen=True)
class MemberActionPages:
    """Confirmation dialogs and changes of one member.

    `roles` returns the keys and names of an organization's roles. `policy`: how far Clerk follows a deactivation.
    """

    console: PageResponder
    members: MemberService
    roles: Callable[[OrganizationAccess], Sequence[tuple[str, str]]]
    policy: DeactivationPolicy

    def routes(self) -> list[Route]:
        """Build the routes."""
        path = "/organizations/{organization_id}/members/{member}"
        return [
            Route(f"{path}/role", self.show_role_form, methods=["GET"]),
            Route(f"{path}/role", self.change_role, methods=["POST"]),
            *(
                Route(f"{path}/{action}", self._make_confirm_handler(action), methods=["GET"])
                for action in MEMBER_ACTIONS
            ),
            *(
                Route(f"{path}/{action}", self._make_change_handler(action), methods=["POST"])
                for action in MEMBER_ACTIONS
            ),
            Route("/organizations/{organization_id}/leave", self.confirm_leave, methods=["GET"]),
            Route("/organizations/{organization_id}/leave", self.leave, methods=["POST"]),
        ]

    async def show_role_form(self, request: Request) -> Response:
        """Show the dialog to choose a role."""

        def build(access: OrganizationAccess, impact: MemberChangeImpact, path: str, cancel: str) -> ConfirmationDialog:
            roles = dict(self.roles(access))
            return build_role_confirmation(impact, roles, path=path, cancel=cancel, words=self.console.localizer)

        return await self._confirm(request, build)

    async def change_role(self, request: Request) -> Response:
        """Change the role to the one chosen in the row or in the dialog."""
        role = str((await request.form()).get("role", ""))

        async def change(
            access: OrganizationAccess, member_id: str, key: str | None
        ) -> tuple[MemberChangeOutcome, str]:
            outcome = await self.members.change_role(access, member_id=member_id, role=role, idempotency_key=key)
            name, role_name = outcome.member.name, format_role(outcome.member.role, dict(self.roles(access)))
            return outcome, self.console.localizer.gettext("%(name)s is now %(role)s", name=name, role=role_name)

        return await self._change(request, change, salt=role)

    async def confirm_leave(self, request: Request) -> Response:
        """Show the confirmation before leaving the organization."""
        access = await self.console.require_member(request)
        if isinstance(access, Response):
            return access
        dialog = build_leave_confirmation(
            access.organization_name, home=get_organization_path(access), words=self.console.localizer
        )
        return await self.console.respond_confirmation(request, dialog, access, section=NAVIGATION_ITEM)

    async def leave(self, request: Request) -> Response:
        """Leave the organization, and go to the start page."""
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        access = await self.console.require_member(request)
        if isinstance(access, Response):
            return access
        key = await read_idempotency_key(request)
        try:
            await self.members.leave(access, idempotency_key=key)
        except InstepError as error:
            return self.console.respond_error(request, error, base=get_organization_path(access))
        title = self.console.localizer.gettext("You left %(name)s", name=access.organization_name)
        return self.console.respond_success(request, title, "/", events={"go-to": {"url": "/"}})

    def _make_confirm_handler(self, action: str) -> Handler:
        def build(access: OrganizationAccess, impact: MemberChangeImpact, path: str, cancel: str) -> ConfirmationDialog:
            return build_confirmation(
                action, impact, path=path, cancel=cancel, words=self.console.localizer, policy=self.policy
            )

        async def confirm(request: Request) -> Response:
            return await self._confirm(request, build)

        return confirm

    def _make_change_handler(self, action: str) -> Handler:
        members = self.members
        methods = {"deactivate": members.deactivate, "reactivate": members.reactivate, "remove": members.remove}

        async def change(
            access: OrganizationAccess, member_id: str, key: str | None
        ) -> tuple[MemberChangeOutcome, str]:
            outcome = await methods[action](access, member_id=member_id, idempotency_key=key)
            _, name = self.console.localizer.gettext, outcome.member.name
            titles = {
                "deactivate": _("%(name)s is deactivated", name=name),
                "reactivate": _("%(name)s is active again", name=name),
                "remove": _("%(name)s was removed", name=name),
            }
            return outcome, titles[action]

        async def handle(request: Request) -> Response:
            return await self._change(request, change)

        return handle

    async def _confirm(
        self, request: Request, build: Callable[[OrganizationAccess, MemberChangeImpact, str, str], ConfirmationDialog]
    ) -> Response:
        """Show the dialog that `build` makes of the access, the impact, the member's path and the path to cancel."""
        access = await self.console.require_admin(request)
        if isinstance(access, Response):
            return access
        try:
            impact = await self.members.find_impact(access, member_id=request.path_params["member"])
        except InstepError as error:
            return self.console.respond_error(request, error)
        home = get_organization_path(access)
        dialog = build(access, impact, f"{home}/members/{request.path_params['member']}", f"{home}/members")
        return await self.console.respond_confirmation(request, dialog, access, section=NAVIGATION_ITEM)

    async def _change(self, request: Request, change: MemberChangeCall, *, salt: str = "") -> Response:
        """Make a change that an admin sent from a page of ours; `change` returns the outcome and its title."""
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        access = await self.console.require_admin(request)
        if isinstance(access, Response):
            return access
        home = get_organization_path(access)
        key = await read_idempotency_key(request, salt=salt)
        try:
            outcome, title = await change(access, request.path_params["member"], key)
        except InstepError as error:
            return self.console.respond_error(request, error, base=home)
        text = " ".join(self.console.localizer.translate(notice) for notice in outcome.notices)
        return self.console.respond_success(request, title, f"{home}/members", text=text)


async def read_idempotency_key(request: Request, *, salt: str = "") -> str | None:
    """Return the idempotency key of a form: repeated submissions of the same change have the same key."""
    key = str((await request.form()).get("key", ""))
    return hashlib.sha256(f"{request.url.path} {key} {salt}".encode()).hexdigest() if key else None


def build_confirmation(
    action: str, impact: MemberChangeImpact, *, path: str, cancel: str, words: Localizer, policy: DeactivationPolicy
) -> ConfirmationDialog:
    """Build the confirmation before deactivating, reactivating or removing a member. `path` is the member's."""
    _, name = words.gettext, impact.member.name
    titles = {
        "deactivate": (_("Deactivate %(name)s?", name=name), _("Deactivate")),
        "reactivate": (_("Reactivate %(name)s?", name=name), _("Reactivate")),
        "remove": (_("Remove %(name)s?", name=name), _("Remove")),
    }
    title, verb = titles[action]
    reason = {"deactivate": impact.no_deactivation, "remove": impact.no_removal}.get(action)
    return ConfirmationDialog(
        title=title,
        confirm_label=verb,
        action=f"{path}/{action}",
        cancel_url=cancel,
        impact=() if reason else _describe_impact(action, impact, words, policy),
        blocked_reason=words.translate(reason) if reason else "",
        row_id=f"row-{impact.member.id}",
        is_destructive=action != "reactivate",
    )


def build_role_confirmation(
    impact: MemberChangeImpact, roles: Mapping[str, str], *, path: str, cancel: str, words: Localizer
) -> ConfirmationDialog:
    """Build the dialog to choose a member's role."""
    _ = words.gettext
    member = impact.member
    present_role = () if member.role in roles else ((member.role, member.role),)
    return ConfirmationDialog(
        title=_("Change role of %(name)s", name=member.name),
        confirm_label=_("Change role"),
        action=f"{path}/role",
        cancel_url=cancel,
        row_id=f"row-{member.id}",
        is_destructive=False,
        field="role",
        label=_("Role"),
        choices=(*present_role, *roles.items()),
        selected=member.role,
        impact=(_("Takes effect immediately, here and in Clerk."),),
    )


def build_leave_confirmation(organization: str, *, home: str, words: Localizer) -> ConfirmationDialog:
    """Build the confirmation before leaving an organization."""
    _ = words.gettext
    return ConfirmationDialog(
        title=_("Leave %(name)s?", name=organization),
        confirm_label=_("Leave"),
        action=f"{home}/leave",
        cancel_url=f"{home}/members",
        impact=(
            _("You lose access to %(name)s immediately, here and in Clerk.", name=organization),
            _("An admin can invite you again."),
        ),
    )


def _describe_impact(
    action: str, impact: MemberChangeImpact, words: Localizer, policy: DeactivationPolicy
) -> tuple[str, ...]:
    _ = words.gettext
    if action == "reactivate":
        as_admin = _("They regain access immediately, as an admin.")
        as_before = _("They regain access immediately, with the role they had.")
        return as_admin if impact.is_admin else as_before, _("They have to sign in again; nothing else changes.")
    by_policy = {
        "database": _("They lose access immediately. Their membership in Clerk stays."),
        "membership": _(
            "They lose access immediately. Their membership in Clerk ends; reactivating creates a new one."
        ),
        "ban": _("They lose access immediately. They are banned in Clerk unless they are in another organization."),
    }
    removal = _("They lose access here and in Clerk. You can invite them again.")
    sentences = (
        by_policy[policy] if action == "deactivate" else removal,
        _describe_sessions(impact, words),
        _describe_sent_invitations(impact, words),
    )
    return tuple(sentence for sentence in sentences if sentence)


def _describe_sessions(impact: MemberChangeImpact, words: Localizer) -> str:
    if impact.sessions is None:
        return words.gettext("Their sessions in Clerk end. Clerk did not report how many there are.")
    if not impact.sessions:
        return ""
    if impact.organizations:
        return words.ngettext(
            "%(num)s session ends; they have to sign in again to %(organizations)s.",
            "%(num)s sessions end; they have to sign in again to %(organizations)s.",
            impact.sessions,
            organizations=", ".join(impact.organizations),
        )
    return words.ngettext("%(num)s session ends.", "%(num)s sessions end.", impact.sessions)


def _describe_sent_invitations(impact: MemberChangeImpact, words: Localizer) -> str:
    addresses = impact.invitations
    if not addresses:
        return ""
    return words.ngettext(
        "%(num)s invitation that they sent stays pending: %(emails)s.",
        "%(num)s invitations that they sent stay pending: %(emails)s.",
        len(addresses),
        emails=", ".join(addresses[:MAX_LISTED_ADDRESSES]) + ("…" if len(addresses) > MAX_LISTED_ADDRESSES else ""),
    )


@dataclass(frozen=True)
class BulkMemberPages:
    """Confirmation, change and result of several members, and the export of the list.

    `roles` returns the keys and names of an organization's roles, `names` the display names of members by user id.
    """

    console: PageResponder
    members: MemberService
    roles: Callable[[OrganizationAccess], Sequence[tuple[str, str]]]
    names: Callable[[OrganizationAccess, Sequence[str]], Awaitable[dict[str, str]]]

    def routes(self) -> list[Route]:
        """Build the routes. They come before those of one member in the application's list."""
        path = "/organizations/{organization_id}/members"
        return [
            Route(f"{path}/bulk", self.confirm, methods=["GET"]),
            Route(f"{path}/bulk", self.change, methods=["POST"]),
            Route(f"{path}/export", self.export, methods=["GET"]),
        ]

    async def confirm(self, request: Request) -> Response:
        """Show the confirmation with the names of all selected members."""
        access = await self.console.require_admin(request)
        if isinstance(access, Response):
            return access
        action = parse_bulk_action(request.query_params.get("action", ""))
        member_ids = list(dict.fromkeys(request.query_params.getlist("member")))[:MAX_BULK_MEMBERS]
        names = await self.names(access, member_ids)
        if action is None or not names:
            _ = self.console.localizer.gettext
            return self.console.renderer.error(
                request, status=422, title=_("No one is selected"), text=_("Select at least one person.")
            )
        dialog = self._build_confirmation(access, action, names)
        return await self.console.respond_confirmation(request, dialog, access, section=NAVIGATION_ITEM)

    async def change(self, request: Request) -> Response:
        """Change the selected members, each separately, and show the outcome of each."""
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        access = await self.console.require_admin(request)
        if isinstance(access, Response):
            return access
        form = await request.form()
        action = parse_bulk_action(str(form.get("action", "")))
        member_ids, role = [str(value) for value in form.getlist("member")], str(form.get("role", ""))
        names = await self.names(access, member_ids)
        try:
            if action is None or not self._is_confirmed(action, names, str(form.get("word", ""))):
                return self._answer_unconfirmed(request)
            key = await read_idempotency_key(request, salt=f"{action} {role}")
            result = await self.members.change_many(access, action, member_ids, role=role or None, idempotency_key=key)
        except InstepError as error:
            return self.console.respond_error(request, error, base=get_organization_path(access))
        view = self._build_result(access, result.rows, names)
        return await self.console.respond_bulk_result(request, view, access, section=NAVIGATION_ITEM)

    async def export(self, request: Request) -> Response:
        """Send the filtered list as a CSV or JSON file."""
        access = await self.console.require_member(request)
        if isinstance(access, Response):
            return access
        query = request.query_params
        search = parse_search(query.get("q", ""), has_deactivated=query.get("deactivated") == "1", roles=access.roles)
        filters = build_filter(search, limit=MAX_BULK_MEMBERS, now=self.console.renderer.clock())
        is_json = query.get("format") == "json"
        export = await self.members.export(access, filters, export_format="json" if is_json else "csv")
        filename = "people.json" if is_json else "people.csv"
        headers = {"Content-Disposition": f'attachment; filename="{filename}"', "Cache-Control": "no-store"}
        media_type = "application/json" if is_json else "text/csv; charset=utf-8"
        return StreamingResponse(export.chunks, media_type=media_type, headers=headers)

    def _build_confirmation(
        self, access: OrganizationAccess, action: BulkMemberAction, names: dict[str, str]
    ) -> ConfirmationDialog:
        words, count = self.console.localizer, len(names)
        _ = words.gettext
        titles = {
            "role": words.ngettext("Change the role of %(num)s person", "Change the role of %(num)s people", count),
            "deactivate": words.ngettext("Deactivate %(num)s person?", "Deactivate %(num)s people?", count),
            "reactivate": words.ngettext("Reactivate %(num)s person?", "Reactivate %(num)s people?", count),
            "remove": words.ngettext("Remove %(num)s person?", "Remove %(num)s people?", count),
        }
        consequences = {
            "role": _("Takes effect immediately, here and in Clerk."),
            "deactivate": _("They lose access immediately, and their sessions in Clerk end."),
            "reactivate": _("They regain access immediately, with the role they had."),
            "remove": _("They lose access here and in Clerk. You can invite them again."),
        }
        skipping = _("Each person is changed separately. Anyone who can't be changed is skipped, with the reason.")
        return ConfirmationDialog(
            title=titles[action],
            confirm_label=translate_bulk_action(action, self.console),
            action=f"{get_organization_path(access)}/members/bulk",
            cancel_url=f"{get_organization_path(access)}/members",
            impact=(consequences[action], skipping),
            people=tuple(names.values()),
            is_destructive=action in ("deactivate", "remove"),
            confirmation_text=_get_confirmation_word(action, names, self.console),
            field="role" if action == "role" else "",
            label=_("Role"),
            choices=tuple(self.roles(access)) if action == "role" else (),
            fields=(("action", action), *(("member", user_id) for user_id in names)),
            is_inline=True,
        )

    def _is_confirmed(self, action: BulkMemberAction, names: dict[str, str], typed_word: str) -> bool:
        word = _get_confirmation_word(action, names, self.console)
        return bool(names) and (not word or typed_word.strip().lower() == word.lower())

    def _answer_unconfirmed(self, request: Request) -> Response:
        _ = self.console.localizer.gettext
        text = _("Confirmation text does not match.")
        return self.console.renderer.error(request, status=422, title=_("Nothing was changed"), text=text)

    def _build_result(
        self, access: OrganizationAccess, rows: Sequence[MemberOutcome], names: dict[str, str]
    ) -> BulkResultView:
        words = self.console.localizer
        return BulkResultView(
            title=summarize_bulk_result([BULK_OUTCOMES[row.status] for row in rows], words),
            rows=[
                BulkItemView(
                    name=names.get(row.member_id, row.member_id),
                    status=make_bulk_status_badge(BULK_OUTCOMES[row.status], words),
                    note=" ".join(words.translate(message) for message in row.messages),
                )
                for row in rows
            ],
            back=f"{get_organization_path(access)}/members",
        )


def parse_bulk_action(text: str) -> BulkMemberAction | None:
    """Return the bulk action of this name, None if there is none."""
    actions: tuple[BulkMemberAction, ...] = get_args(BulkMemberAction)
    return next((action for action in actions if action == text), None)


def translate_bulk_action(action: BulkMemberAction, console: PageResponder) -> str:
    """Return the verb on the button, in the reader's language."""
    _ = console.localizer.gettext
    verbs = {
        "role": _("Change role"),
        "deactivate": _("Deactivate"),
        "reactivate": _("Reactivate"),
        "remove": _("Remove"),
    }
    return verbs[action]


def _get_confirmation_word(action: BulkMemberAction, names: dict[str, str], console: PageResponder) -> str:
    needs_word = action in ("deactivate", "remove") and len(names) >= CONFIRMATION_WORD_MIN_PEOPLE
    return translate_bulk_action(action, console).lower() if needs_word else ""
