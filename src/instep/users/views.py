"""View models, confirmation dialogs and forms of the user pages."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from instep.auth.principal import OrganizationAccess, Principal
from instep.console.components import ConfirmationDialog, StatusBadge, new_idempotency_key
from instep.console.layout import get_organization_path
from instep.console.responses import PageResponder
from instep.core.errors import InstepError, TemporaryError
from instep.core.i18n import FormattedTime, Localizer
from instep.core.templates import get_request_id, is_fragment_request
from instep.domain.emails import format_email
from instep.domain.errors import get_http_status
from instep.users.models import EmailChange, UserProfile
from instep.users.policies import SYNC_FAILED_CODE

ACCOUNT_ACTIONS = ("ban", "unban", "delete", "restore")
NAME_FIELDS = ("first_name", "last_name", "username")
SECRET_FIELDS = ("password", "code")


class UserPageContext(Struct, frozen=True, kw_only=True):
    """Location of a user page: in an organization (the caller's access to it), or above all (a principal).

    `at` is the path of the user, `back` that of the list; `here` marks the entry of the navigation.
    """

    caller: OrganizationAccess | Principal
    at: str
    back: str
    here: str

    @property
    def principal(self) -> Principal:
        """Return the principal of the caller."""
        return self.caller.principal if isinstance(self.caller, OrganizationAccess) else self.caller

    @property
    def base(self) -> str:
        """Return the path prefix of the operations page."""
        return get_organization_path(self.caller) if isinstance(self.caller, OrganizationAccess) else ""


class UserAction(Struct, frozen=True, kw_only=True):
    """A link to something that the caller may do with a user."""

    label: str
    icon: str
    href: str
    is_destructive: bool = False


class UserMembershipView(Struct, frozen=True, kw_only=True):
    """An organization of a user."""

    name: str
    href: str
    role: str
    status: str


class UserView(Struct, frozen=True, kw_only=True):
    """A user as the pages show them. `facts`, `times` and `ids` are (label, value); `ids` can be copied."""

    id: str
    name: str
    email: str
    image_url: str | None
    status: StatusBadge
    is_verified: bool
    memberships: tuple[UserMembershipView, ...]
    facts: tuple[tuple[str, str], ...]
    times: tuple[tuple[str, FormattedTime], ...]
    ids: tuple[tuple[str, str], ...]
    actions: tuple[UserAction, ...]
    href: str
    joined: FormattedTime
    last_active: FormattedTime | None


def make_instance_context(principal: Principal, user_id: str = "") -> UserPageContext:
    """Create the context of a page above all organizations."""
    at = f"/users/{user_id}" if user_id else "/users"
    return UserPageContext(caller=principal, at=at, back="/users", here="/users")


def build_user_view(profile: UserProfile, *, at: str, roles: Mapping[str, str], now: int, words: Localizer) -> UserView:
    """Build the view of a user. `at` is the path of their page; `roles` are names by key; `now` in Unix ms."""
    _, user = words.gettext, profile.user
    times = [
        (_("Joined"), user.joined_at),
        (_("Last sign-in"), user.last_sign_in_at),
        (_("Last active"), user.last_active_at),
        (_("Deactivated"), user.deactivated_at),
        (_("Deleted"), user.deleted_at),
    ]
    facts = [
        (_("Username"), user.username),
        (_("Role in the application"), profile.role if profile.is_complete else None),
    ]
    ids = [(_("instep ID"), user.id), (_("Clerk ID"), user.clerk_id)]
    if profile.is_complete:
        ids.append((_("External ID"), user.external_id))
    return UserView(
        id=user.id,
        name=user.name,
        email=format_email(user.email),
        image_url=user.image_url,
        status=make_user_badge(profile.status, words),
        is_verified=user.is_email_verified,
        memberships=tuple(
            UserMembershipView(
                name=membership.name,
                href=f"/organizations/{membership.slug or membership.organization_id}/members",
                role=roles.get(membership.role, membership.role),
                status=describe_membership_status(membership.status, words),
            )
            for membership in profile.memberships
        ),
        facts=tuple((name, text) for name, text in facts if text),
        times=tuple((name, words.ago(time, now)) for name, time in times if time),
        ids=tuple((name, text) for name, text in ids if text),
        actions=list_user_actions(profile, at, words),
        href=at,
        joined=words.ago(user.joined_at, now),
        last_active=words.ago(user.last_active_at, now) if user.last_active_at else None,
    )


def list_user_actions(profile: UserProfile, at: str, words: Localizer) -> tuple[UserAction, ...]:
    """Return the actions on a user: all for instance admins, only the edit of names for others."""
    _, user = words.gettext, profile.user
    if user.is_deleted:
        restore = UserAction(label=_("Restore"), icon="undo-2", href=f"{at}/restore")
        return (restore,) if profile.is_complete else ()
    edit = UserAction(label=_("Edit profile"), icon="pencil", href=f"{at}/edit")
    if not profile.is_complete:
        return (edit,)
    email = UserAction(label=_("Change email"), icon="mail", href=f"{at}/email")
    password = UserAction(label=_("Set password"), icon="key-round", href=f"{at}/password")
    unban_label = _("Unban") if user.is_banned else _("Reactivate")
    unban = UserAction(label=unban_label, icon="user-check", href=f"{at}/unban")
    ban = UserAction(label=_("Ban"), icon="ban", href=f"{at}/ban", is_destructive=True)
    delete = UserAction(label=_("Delete"), icon="trash-2", href=f"{at}/delete", is_destructive=True)
    can_sign_in = user.is_active and not user.is_banned
    return (edit, email, *((password,) if user.clerk_id else ()), ban if can_sign_in else unban, delete)


def make_user_badge(status: str, words: Localizer) -> StatusBadge:
    """Create the badge of a user status."""
    _ = words.gettext
    known = {
        "active": StatusBadge(_("Active"), "circle-check", "good"),
        "deactivated": StatusBadge(_("Deactivated"), "circle-minus", "quiet"),
        "banned": StatusBadge(_("Banned"), "ban", "bad"),
        "deprovisioned": StatusBadge(_("Deprovisioned"), "ban", "bad"),
        "deleted": StatusBadge(_("Deleted"), "trash-2", "quiet"),
        "local": StatusBadge(_("No Clerk account"), "database", "info"),
    }
    return known[status]


def describe_membership_status(status: str, words: Localizer) -> str:
    """Return the label of a membership status; empty for an active one."""
    _ = words.gettext
    known = {"active": "", "banned": _("Banned"), "deprovisioned": _("Deprovisioned")}
    return known.get(status, _("Deactivated"))


def confirm_account_action(
    action: str, profile: UserProfile, *, at: str, back: str, words: Localizer
) -> ConfirmationDialog:
    """Create the confirmation of an account action; a deletion requires typing a word, for it erases the account."""
    _, user = words.gettext, profile.user
    unban = (
        (_("Unban %(name)s?", name=user.name), _("Unban"))
        if user.is_banned
        else (_("Reactivate %(name)s?", name=user.name), _("Reactivate"))
    )
    titles = {
        "ban": (_("Ban %(name)s?", name=user.name), _("Ban")),
        "unban": unban,
        "delete": (_("Delete %(name)s?", name=user.name), _("Delete")),
        "restore": (_("Restore %(name)s?", name=user.name), _("Restore")),
    }
    consequences = {
        "ban": (_("All sessions end and they can no longer sign in, in Clerk and here."), _("You can unban them.")),
        "unban": (_("A ban in Clerk is lifted, and they can sign in here again."),),
        "delete": (
            _("They can no longer sign in and lose all memberships."),
            _("You can restore them here; an account deleted in Clerk can't be restored there."),
        ),
        "restore": (
            _("They can sign in again. If Clerk has deleted their account, they sign up with the same address."),
        ),
    }
    removals = (("delete", _("Delete")), ("ban", _("Ban only")), ("keep", _("Keep, and sign out everywhere")))
    title, verb = titles[action]
    is_deletion = action == "delete"
    return ConfirmationDialog(
        title=title,
        confirm_label=verb,
        action=f"{at}/{action}",
        cancel_url=back,
        impact=consequences[action],
        row_id=f"row-{user.id}",
        is_destructive=action in ("ban", "delete"),
        confirmation_text=_("delete") if is_deletion else "",
        field="clerk" if is_deletion else "",
        label=_("The account in Clerk"),
        choices=removals if is_deletion else (),
    )


def confirm_reinvitation(
    change: EmailChange, profile: UserProfile, *, at: str, back: str, words: Localizer
) -> ConfirmationDialog:
    """Create the confirmation of an invitation under another address."""
    _ = words.gettext
    return ConfirmationDialog(
        title=_("Invite %(email)s and deactivate the old account?", email=change.email),
        confirm_label=_("Invite and deactivate"),
        action=f"{at}/email/reinvite",
        cancel_url=back,
        impact=tuple(words.translate(consequence) for consequence in change.consequences),
        row_id=f"row-{profile.user.id}",
        fields=(("email", change.email),),
        is_inline=True,
    )


def confirm_session_end(
    profile: UserProfile, session_id: str, context: UserPageContext, words: Localizer
) -> ConfirmationDialog:
    """Create the confirmation before one session ends, or all of them (an empty `session_id`)."""
    _, name = words.gettext, profile.user.name
    return ConfirmationDialog(
        title=_("End this session of %(name)s?", name=name)
        if session_id
        else _("End all sessions of %(name)s?", name=name),
        confirm_label=_("End session") if session_id else _("End all sessions"),
        action=f"{context.at}/sessions/end",
        cancel_url=context.at,
        impact=(_("They are signed out there, in Clerk and here, and can sign in again."),),
        row_id=f"row-{profile.user.id}",
        fields=(("session", session_id),) if session_id else (),
    )


@dataclass(frozen=True)
class UserFormRenderer:
    """Renders forms: as a dialog over an open page, otherwise as a page."""

    console: PageResponder

    async def render(
        self,
        request: Request,
        context: UserPageContext,
        form: str,
        values: Mapping[str, str],
        profile: UserProfile | None = None,
        **more: Any,
    ) -> Response:
        """Render a form. `more`: `error`, `field`, `rolled` and `request_id`; `is_new` after another form."""
        variables: dict[str, Any] = {
            "form": form,
            "values": {"key": new_idempotency_key(), **values},
            "at": context.at,
            "back": context.back,
            "name": profile.user.name if profile else "",
            "row": f"row-{profile.user.id}" if profile else "",
            "rolled": {},
            "error": "",
            "field": None,
            "request_id": None,
            **more,
        }
        template = "form" if request.method == "POST" and not more.get("is_new") else "form_dialog"
        if is_fragment_request(request):
            return self.console.renderer.fragment(request, f"users/{template}.html", **variables)
        return await self.console.respond_page(
            request, "users/form_page.html", context.caller, section=context.here, **variables
        )

    async def render_error(
        self,
        request: Request,
        context: UserPageContext,
        form: str,
        values: Mapping[str, str],
        error: InstepError,
        profile: UserProfile | None = None,
    ) -> Response:
        """Render a form again with its error; an outcome that is not known yet is shown outside of the form.

        The values stay, to be corrected. Where Clerk did not accept them, the fields go back to the stored values and
        name the ones that were not saved. Secrets are never sent back.
        """
        if isinstance(error, TemporaryError):
            return self.console.respond_error(request, error, base=context.base)
        is_rolled_back = form == "edit" and getattr(error, "code", "") == SYNC_FAILED_CODE
        stored = get_name_fields(profile) if profile and is_rolled_back else {}
        more = {
            "rolled": {name: values[name] for name in stored if name in values and values[name] != stored[name]},
            "error": self.console.localizer.translate(error),
            "field": getattr(error, "field", None),
            "request_id": get_request_id(request),
        }
        public = {name: text for name, text in values.items() if name not in SECRET_FIELDS}
        shown = {**public, **stored, "key": new_idempotency_key()}
        response = await self.render(request, context, form, shown, profile, **more)
        response.status_code = get_http_status(error)
        return response


def get_name_fields(profile: UserProfile) -> dict[str, str]:
    """Return the names of a user as form values."""
    return {name: getattr(profile.user, name) or "" for name in NAME_FIELDS}


def show_in_dialog(response: Response) -> Response:
    """Let a form be replaced by another dialog instead of itself."""
    response.headers.update({"HX-Retarget": "#dialog", "HX-Reswap": "innerHTML"})
    return response


async def read_form(request: Request) -> dict[str, str]:
    """Read the values of a form without surrounding space; secrets unchanged."""
    fields = (await request.form()).items()
    return {name: text if name in SECRET_FIELDS else text.strip() for name, text in fields if isinstance(text, str)}


def derive_idempotency_key(request: Request, values: Mapping[str, str]) -> str | None:
    """Derive the key of a form from its values: the same form sent twice is one operation. Secrets are left out."""
    text = " ".join(f"{name}={value}" for name, value in sorted(values.items()) if name not in SECRET_FIELDS)
    return hashlib.sha256(f"{request.url.path} {text}".encode()).hexdigest() if values.get("key") else None
