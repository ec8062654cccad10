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
RunChange = Callable[[], Awaitable[MemberChangeOutcome]]


@dataclass(frozen=True)
class MemberActionPages:
    """The handlers and what they need. `policy` is how far Clerk follows a deactivation."""

    console: PageResponder
    members: MemberService
    roles: Callable[[OrganizationAccess], Sequence[tuple[str, str]]]
    policy: DeactivationPolicy

    def routes(self) -> list[Route]:
        """All of them, to be put into the app's list."""
        at = "/organizations/{organization_id}/members/{member}"
        return [
            Route(f"{at}/role", self.show_role_form, methods=["GET"]),
            Route(f"{at}/role", self.set_role, methods=["POST"]),
            *(Route(f"{at}/{deed}", self._asking(deed), methods=["GET"]) for deed in MEMBER_ACTIONS),
            *(Route(f"{at}/{deed}", self._doing(deed), methods=["POST"]) for deed in MEMBER_ACTIONS),
            Route("/organizations/{organization_id}/leave", self.confirm_leave, methods=["GET"]),
            Route("/organizations/{organization_id}/leave", self.leave, methods=["POST"]),
        ]

    async def show_role_form(self, request: Request) -> Response:
        """Which role?"""
        access = await self.console.require_admin(request)
        if isinstance(access, Response):
            return access
        try:
            found = await self.members.consequences(access, member=request.path_params["member"])
        except InstepError as error:
            return self.console.respond_error(request, error)
        at, back = _member_path(access, request), f"{get_organization_path(access)}/members"
        asked = build_role_confirmation(
            found, dict(self.roles(access)), at=at, cancel=back, words=self.console.localizer
        )
        return await self.console.respond_confirmation(request, asked, access, section=NAVIGATION_ITEM)

    async def set_role(self, request: Request) -> Response:
        """The role that was chosen, in the row or in the dialog."""
        role = str((await request.form()).get("role", ""))

        async def change(access: OrganizationAccess, member: str, key: str | None) -> tuple[MemberChangeOutcome, str]:
            changed = await self.members.changes.set_role(access, member=member, role=role, idempotency_key=key)
            name, now = changed.member.name, format_role(changed.member.role, dict(self.roles(access)))
            return changed, self.console.localizer.gettext("%(name)s is now %(role)s", name=name, role=now)

        return await self._do(request, change, salt=role)

    async def confirm_leave(self, request: Request) -> Response:
        """Leave?"""
        access = await self.console.require_member(request)
        if isinstance(access, Response):
            return access
        asked = build_leave_confirmation(
            access.organization_name, home=get_organization_path(access), words=self.console.localizer
        )
        return await self.console.respond_confirmation(request, asked, access, section=NAVIGATION_ITEM)

    async def leave(self, request: Request) -> Response:
        """Out, by oneself; what is left is the start page."""
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        access = await self.console.require_member(request)
        if isinstance(access, Response):
            return access
        key = await read_idempotency_key(request)
        try:
            await self.members.changes.leave(access, idempotency_key=key)
        except InstepError as error:
            return self.console.respond_error(request, error, base=get_organization_path(access))
        title = self.console.localizer.gettext("You left %(name)s", name=access.organization_name)
        return self.console.respond_success(request, title, "/", events={"go-to": {"url": "/"}})

    def _asking(self, deed: str) -> Callable[[Request], Awaitable[Response]]:
        async def ask(request: Request) -> Response:
            access = await self.console.require_admin(request)
            if isinstance(access, Response):
                return access
            try:
                found = await self.members.consequences(access, member=request.path_params["member"])
            except InstepError as error:
                return self.console.respond_error(request, error)
            at, back = _member_path(access, request), f"{get_organization_path(access)}/members"
            asked = build_confirmation(
                deed, found, at=at, cancel=back, words=self.console.localizer, policy=self.policy
            )
            return await self.console.respond_confirmation(request, asked, access, section=NAVIGATION_ITEM)

        return ask

    def _doing(self, deed: str) -> Callable[[Request], Awaitable[Response]]:
        changes = self.members.changes
        methods = {"deactivate": changes.deactivate, "reactivate": changes.reactivate, "remove": changes.remove}

        async def change(access: OrganizationAccess, member: str, key: str | None) -> tuple[MemberChangeOutcome, str]:
            changed = await methods[deed](access, member=member, idempotency_key=key)
            _, name = self.console.localizer.gettext, changed.member.name
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
        change: Callable[[OrganizationAccess, str, str | None], Awaitable[tuple[MemberChangeOutcome, str]]],
        *,
        salt: str = "",
    ) -> Response:
        """1 from our page, by an admin; 2 the change; 3 what became of it, and what Clerk did not do of it."""
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        access = await self.console.require_admin(request)
        if isinstance(access, Response):
            return access
        key = await read_idempotency_key(request, salt=salt)
        try:
            changed, title = await change(access, request.path_params["member"], key)
        except InstepError as error:
            return self.console.respond_error(request, error, base=get_organization_path(access))
        text = " ".join(self.console.localizer.gettext(notice) for notice in changed.notices)
        return self.console.respond_success(request, title, f"{get_organization_path(access)}/members", text=text)


async def read_idempotency_key(request: Request, *, salt: str = "") -> str | None:
    """The idempotency key of a form: the same for the same wish, however often the button is pressed."""
    key = str((await request.form()).get("key", ""))
    return hashlib.sha256(f"{request.url.path} {key} {salt}".encode()).hexdigest() if key else None


def _member_path(access: OrganizationAccess, request: Request) -> str:
    return f"{get_organization_path(access)}/members/{request.path_params['member']}"


def build_confirmation(
    deed: str, found: MemberChangeImpact, *, at: str, cancel: str, words: Localizer, policy: DeactivationPolicy
) -> ConfirmationDialog:
    """The question before deactivating, reactivating or removing one member. `at` is above their actions."""
    _, name = words.gettext, found.member.name
    titles = {
        "deactivate": (_("Deactivate %(name)s?", name=name), _("Deactivate")),
        "reactivate": (_("Reactivate %(name)s?", name=name), _("Reactivate")),
        "remove": (_("Remove %(name)s?", name=name), _("Remove")),
    }
    title, verb = titles[deed]
    why_not = {"deactivate": found.no_deactivation, "remove": found.no_removal}.get(deed)
    return ConfirmationDialog(
        title=title,
        confirm_label=verb,
        action=f"{at}/{deed}",
        cancel_url=cancel,
        impact=() if why_not else _describe_impact(deed, found, words, policy),
        blocked_reason=words.gettext(why_not) if why_not else "",
        row_id=f"row-{found.member.id}",
        is_destructive=deed != "reactivate",
    )


def build_role_confirmation(
    found: MemberChangeImpact, roles: Mapping[str, str], *, at: str, cancel: str, words: Localizer
) -> ConfirmationDialog:
    """The question which role a member shall have."""
    _ = words.gettext
    member = found.member
    own = () if member.role in roles else ((member.role, member.role),)
    return ConfirmationDialog(
        title=_("Change role of %(name)s", name=member.name),
        confirm_label=_("Change role"),
        action=f"{at}/role",
        cancel_url=cancel,
        row_id=f"row-{member.id}",
        is_destructive=False,
        field="role",
        label=_("Role"),
        choices=(*own, *roles.items()),
        selected=member.role,
        impact=(_("It counts at once, here and in Clerk."),),
    )


def build_leave_confirmation(organization: str, *, home: str, words: Localizer) -> ConfirmationDialog:
    """The question before leaving an organization oneself."""
    _ = words.gettext
    return ConfirmationDialog(
        title=_("Leave %(name)s?", name=organization),
        confirm_label=_("Leave"),
        action=f"{home}/leave",
        cancel_url=f"{home}/members",
        impact=(
            _("You lose access to %(name)s at once, here and in Clerk.", name=organization),
            _("An admin can invite you again."),
        ),
    )


def _describe_impact(
    deed: str, found: MemberChangeImpact, words: Localizer, policy: DeactivationPolicy
) -> tuple[str, ...]:
    _ = words.gettext
    if deed == "reactivate":
        role = _("Admin") if found.is_admin else _("the role they had")
        return (_("They can come in again at once, as %(role)s.", role=role), _describe_sign_in(found, words))
    said = {
        "database": _("They are out at their next click. Their membership in Clerk stays."),
        "membership": _("They are out at their next click. Their membership in Clerk ends, and is made again later."),
        "ban": _("They are out at their next click, and banned in Clerk where they are in no other organization."),
    }
    first = (
        said[policy] if deed == "deactivate" else _("They lose access here and in Clerk. You can invite them again.")
    )
    return tuple(it for it in (first, _describe_sessions(found, words), _describe_sent_invitations(found, words)) if it)


def _describe_sign_in(found: MemberChangeImpact, words: Localizer) -> str:
    return words.gettext("They sign in anew; nothing else changes.")


def _describe_sessions(found: MemberChangeImpact, words: Localizer) -> str:
    if found.sessions is None:
        return words.gettext("Their sessions in Clerk are ended (Clerk does not say now how many there are).")
    if not found.sessions:
        return ""
    others = ", ".join(found.organizations)
    ends = words.ngettext("%(num)s session ends", "%(num)s sessions end", found.sessions)
    if others:
        return words.gettext("%(ends)s; in %(others)s they sign in again.", ends=ends, others=others)
    return f"{ends}."


def _describe_sent_invitations(found: MemberChangeImpact, words: Localizer) -> str:
    if not found.invitations:
        return ""
    sent = found.invitations
    return words.ngettext(
        "%(num)s invitation that they sent stays open: %(who)s.",
        "%(num)s invitations that they sent stay open: %(who)s.",
        len(sent),
        who=", ".join(sent[:3]) + ("…" if len(sent) > 3 else ""),
    )


OUTCOME_KINDS = {"done": DONE, "open": PENDING, "unchanged": UNCHANGED, "refused": SKIPPED}
CONFIRMATION_WORD_MIN_PEOPLE = 2  # that many people at once, and a destructive change asks for a word


@dataclass(frozen=True)
class BulkMemberPages:
    """The handlers and what they need. `names` gives what to call members, by the ids of their persons."""

    console: PageResponder
    members: MemberService
    roles: Callable[[OrganizationAccess], Sequence[tuple[str, str]]]
    names: Callable[[OrganizationAccess, Sequence[str]], Awaitable[dict[str, str]]]

    def routes(self) -> list[Route]:
        """All of them, to be put into the app's list before those of one member."""
        at = "/organizations/{organization_id}/members"
        return [
            Route(f"{at}/bulk", self.ask, methods=["GET"]),
            Route(f"{at}/bulk", self.change, methods=["POST"]),
            Route(f"{at}/export", self.export, methods=["GET"]),
        ]

    async def ask(self, request: Request) -> Response:
        """The question, with everyone who is meant."""
        access = await self.console.require_admin(request)
        if isinstance(access, Response):
            return access
        action = parse_bulk_action(request.query_params.get("action", ""))
        picked = list(dict.fromkeys(request.query_params.getlist("member")))[:MAX_BULK_MEMBERS]
        names = await self.names(access, picked)
        if action is None or not names:
            _ = self.console.localizer.gettext
            return self.console.renderer.error(
                request, status=422, title=_("Nobody is selected"), text=_("Choose people.")
            )
        return await self.console.respond_confirmation(
            request, self._question(access, action, names), access, section=NAVIGATION_ITEM
        )

    async def change(self, request: Request) -> Response:
        """Each is a change of its own; what became of each is told."""
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        access = await self.console.require_admin(request)
        if isinstance(access, Response):
            return access
        form = await request.form()
        action = parse_bulk_action(str(form.get("action", "")))
        picked, role = [str(it) for it in form.getlist("member")], str(form.get("role", ""))
        names = await self.names(access, picked)
        try:
            if action is None or not self._is_meant(action, names, str(form.get("word", ""))):
                return self._not_meant(request)
            key = await read_idempotency_key(request, salt=f"{action} {role}")
            result = await self.members.bulk(access, action, picked, role=role or None, idempotency_key=key)
        except InstepError as error:
            return self.console.respond_error(request, error, base=get_organization_path(access))
        return await self.console.respond_bulk_result(
            request, self._told(access, result.rows, names), access, section=NAVIGATION_ITEM
        )

    async def export(self, request: Request) -> Response:
        """The filtered list as a file: CSV, or JSON."""
        access = await self.console.require_member(request)
        if isinstance(access, Response):
            return access
        query = request.query_params
        search = parse_search(query.get("q", ""), has_deactivated=query.get("deactivated") == "1", roles=access.roles)
        ending = "json" if query.get("format") == "json" else "csv"
        found = await self.members.export(
            access,
            build_filter(search, limit=MAX_BULK_MEMBERS, now=self.console.renderer.clock()),
            format="json" if ending == "json" else "csv",
        )
        media = "application/json" if ending == "json" else "text/csv; charset=utf-8"
        headers = {"Content-Disposition": f'attachment; filename="people.{ending}"', "Cache-Control": "no-store"}
        return StreamingResponse(found.parts, media_type=media, headers=headers)

    def _question(
        self, access: OrganizationAccess, action: BulkMemberAction, names: dict[str, str]
    ) -> ConfirmationDialog:
        words, number = self.console.localizer, len(names)
        _ = words.gettext
        titles = {
            "role": words.ngettext("Change the role of %(num)s person", "Change the role of %(num)s people", number),
            "deactivate": words.ngettext("Deactivate %(num)s person?", "Deactivate %(num)s people?", number),
            "reactivate": words.ngettext("Reactivate %(num)s person?", "Reactivate %(num)s people?", number),
            "remove": words.ngettext("Remove %(num)s person?", "Remove %(num)s people?", number),
        }
        said = {
            "role": _("It counts at once, here and in Clerk."),
            "deactivate": _("They are out at their next click, and their sessions in Clerk end."),
            "reactivate": _("They can come in again at once, with the role they had."),
            "remove": _("They lose access here and in Clerk. You can invite them again."),
        }
        return ConfirmationDialog(
            title=titles[action],
            confirm_label=translate_bulk_action(action, self.console),
            action=f"{get_organization_path(access)}/members/bulk",
            cancel_url=f"{get_organization_path(access)}/members",
            impact=(said[action], _("Each is changed by itself; whoever can't be is skipped, with the reason.")),
            people=tuple(names.values()),
            is_destructive=action in ("deactivate", "remove"),
            confirmation_text=_confirmation_word(action, names, self.console),
            field="role" if action == "role" else "",
            label=_("Role"),
            choices=tuple(self.roles(access)) if action == "role" else (),
            fields=(("action", action), *(("member", id) for id in names)),
            is_inline=True,
        )

    def _is_meant(self, action: BulkMemberAction, names: dict[str, str], word: str) -> bool:
        wanted = _confirmation_word(action, names, self.console)
        return bool(names) and (not wanted or word.strip().lower() == wanted.lower())

    def _not_meant(self, request: Request) -> Response:
        _ = self.console.localizer.gettext
        text = _("The word was not typed as asked.")
        return self.console.renderer.error(request, status=422, title=_("Nothing was changed"), text=text)

    def _told(self, access: OrganizationAccess, rows: Sequence[MemberOutcome], names: dict[str, str]) -> BulkResultView:
        words = self.console.localizer
        return BulkResultView(
            title=summarize_bulk_result([OUTCOME_KINDS[row.outcome] for row in rows], words),
            rows=[
                BulkItemView(
                    name=names.get(row.member, row.member),
                    status=make_bulk_status_badge(OUTCOME_KINDS[row.outcome], words),
                    note=words.gettext(row.message) if row.message else "",
                )
                for row in rows
            ],
            back=f"{get_organization_path(access)}/members",
        )


def parse_bulk_action(text: str) -> BulkMemberAction | None:
    """An action that was asked for."""
    known: tuple[BulkMemberAction, ...] = get_args(BulkMemberAction)
    return next((action for action in known if action == text), None)


def translate_bulk_action(action: BulkMemberAction, console: PageResponder) -> str:
    """The word on the button."""
    _ = console.localizer.gettext
    verbs = {"role": _("Change role"), "deactivate": _("Deactivate")}
    return (verbs | {"reactivate": _("Reactivate"), "remove": _("Remove")})[action]


def _confirmation_word(action: BulkMemberAction, names: dict[str, str], console: PageResponder) -> str:
    is_grave = action in ("deactivate", "remove") and len(names) >= CONFIRMATION_WORD_MIN_PEOPLE
    return translate_bulk_action(action, console).lower() if is_grave else ""
