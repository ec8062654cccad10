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


def confirm_account_action(deed: str, it: UserProfile, *, at: str, back: str, words: Localizer) -> ConfirmationDialog:
    """The question before a deed; deleting asks for the name to be typed, for it erases the account in Clerk."""
    _, name = words.gettext, it.person.name
    titles = {
        "ban": (_("Ban %(name)s?", name=name), _("Ban")),
        "unban": (_("Let %(name)s in again?", name=name), _("Let in again")),
        "delete": (_("Delete %(name)s?", name=name), _("Delete")),
        "restore": (_("Restore %(name)s?", name=name), _("Restore")),
    }
    said = {
        "ban": (_("Every session ends, and no sign-in works, in Clerk and here."), _("You can let them in again.")),
        "unban": (_("A ban in Clerk is lifted, and they can come in here again."),),
        "delete": (
            _("They may not come in, and are a member nowhere any more."),
            _("Here the row stays and can be restored; what is deleted in Clerk can't be brought back there."),
        ),
        "restore": (
            _("They can come in again; where Clerk has deleted their account they sign up with the same address."),
        ),
    }
    title, verb = titles[deed]
    removals = (("delete", _("Delete it")), ("ban", _("Only ban it")), ("keep", _("Keep it, and sign out everywhere")))
    return ConfirmationDialog(
        title=title,
        confirm_label=verb,
        action=f"{at}/{deed}",
        cancel_url=back,
        impact=said[deed],
        row_id=f"row-{it.person.id}",
        is_destructive=deed in ("ban", "delete"),
        confirmation_text=_("delete") if deed == "delete" else "",
        field="clerk" if deed == "delete" else "",
        label=_("The account in Clerk"),
        choices=removals if deed == "delete" else (),
    )


def confirm_reinvitation(
    change: EmailChange, it: UserProfile, *, at: str, back: str, words: Localizer
) -> ConfirmationDialog:
    """The offer to invite someone anew under another address."""
    _ = words.gettext
    return ConfirmationDialog(
        title=_("Invite %(email)s and deactivate the old account?", email=change.email),
        confirm_label=_("Invite and deactivate"),
        action=f"{at}/email/reinvite",
        cancel_url=back,
        impact=tuple(_(it) for it in change.consequences),
        row_id=f"row-{it.person.id}",
        fields=(("email", change.email),),
        is_inline=True,
    )


NAME_FIELDS = ("first_name", "last_name", "username")
SECRET_FIELDS = ("password", "code")


class UserPageContext(Struct, frozen=True, kw_only=True):
    """Where a person is looked at: in an organization (an access), or above them all (a principal)."""

    asker: OrganizationAccess | Principal
    at: str
    back: str
    here: str

    @property
    def principal(self) -> Principal:
        """Who looks."""
        return self.asker.principal if isinstance(self.asker, OrganizationAccess) else self.asker

    @property
    def base(self) -> str:
        """What is above the operations here."""
        return get_organization_path(self.asker) if isinstance(self.asker, OrganizationAccess) else ""


@dataclass(frozen=True)
class UserFormRenderer:
    """Shows forms: a dialog over an open page, else a page."""

    console: PageResponder

    async def show(
        self,
        request: Request,
        spot: UserPageContext,
        form: str,
        typed: Mapping[str, str],
        it: UserProfile | None = None,
        **more: Any,
    ) -> Response:
        """One form; `more` are `error`, `field`, `rolled` and `request_id`, or `is_new` for an answer of its own."""
        context: dict[str, Any] = {
            "form": form,
            "typed": {"key": new_idempotency_key(), **typed},
            "at": spot.at,
            "back": spot.back,
            "name": it.person.name if it else "",
            "row": f"row-{it.person.id}" if it else "",
            "rolled": {},
            "error": "",
            "field": None,
            "request_id": None,
            **more,
        }
        piece = "form" if request.method == "POST" and not more.get("is_new") else "form_dialog"
        if is_fragment_request(request):
            return self.console.renderer.fragment(request, f"users/{piece}.html", **context)
        return await self.console.respond_page(
            request, "users/form_page.html", spot.asker, section=spot.here, **context
        )

    async def wrong(
        self,
        request: Request,
        spot: UserPageContext,
        form: str,
        typed: Mapping[str, str],
        error: InstepError,
        it: UserProfile | None = None,
    ) -> Response:
        """The form again, with what is wrong. An end that is not known is awaited outside.

        What was typed stays, to be mended; but where Clerk did not take it, the fields go back to what is true, and
        say what was not saved. Secrets are never sent back.
        """
        if isinstance(error, TemporaryError):
            return self.console.respond_error(request, error, base=spot.base)
        stored = get_name_fields(it) if it and form == "edit" and getattr(error, "code", "") == SYNC_FAILED_CODE else {}
        more = {
            "rolled": {name: typed[name] for name in stored if name in typed and typed[name] != stored[name]},
            "error": self.console.localizer.translate(error),
            "field": getattr(error, "field", None),
            "request_id": get_request_id(request),
        }
        kept = {name: text for name, text in typed.items() if name not in SECRET_FIELDS}
        answer = await self.show(request, spot, form, {**kept, **stored, "key": new_idempotency_key()}, it, **more)
        answer.status_code = get_http_status(error)
        return answer


def get_name_fields(it: UserProfile) -> dict[str, str]:
    """The names of somebody, as a form has them."""
    return {name: getattr(it.person, name) or "" for name in NAME_FIELDS}


def show_in_dialog(answer: Response) -> Response:
    """A form is answered by another dialog instead of itself."""
    answer.headers.update({"HX-Retarget": "#dialog", "HX-Reswap": "innerHTML"})
    return answer


async def read_form(request: Request) -> dict[str, str]:
    """What was typed into a form, without the space around it; a password as it is."""
    fields = (await request.form()).items()
    return {name: text if name in SECRET_FIELDS else text.strip() for name, text in fields if isinstance(text, str)}


def derive_idempotency_key(request: Request, typed: Mapping[str, str]) -> str | None:
    """The key of one form as it was filled in: the same twice is one operation. No secret goes into it."""
    words = " ".join(f"{name}={text}" for name, text in sorted(typed.items()) if name not in SECRET_FIELDS)
    return hashlib.sha256(f"{request.url.path} {words}".encode()).hexdigest() if typed.get("key") else None


def make_instance_context(asker: Principal, user: str = "") -> UserPageContext:
    """Above all organizations."""
    return UserPageContext(asker=asker, at=f"/users/{user}" if user else "/users", back="/users", here="/users")


class UserAction(Struct, frozen=True, kw_only=True):
    """Something that may be done with a person."""

    label: str
    icon: str
    href: str
    is_destructive: bool = False


def make_user_badge(key: str, words: Localizer) -> StatusBadge:
    """Where a person stands."""
    _ = words.gettext
    known = {
        "active": StatusBadge(_("Active"), "circle-check", "good"),
        "deactivated": StatusBadge(_("Deactivated"), "circle-minus", "quiet"),
        "banned": StatusBadge(_("Banned"), "ban", "bad"),
        "deprovisioned": StatusBadge(_("Deprovisioned"), "ban", "bad"),
        "deleted": StatusBadge(_("Deleted"), "trash-2", "quiet"),
        "local": StatusBadge(_("Without a Clerk account"), "database", "info"),
    }
    return known[key]


class UserMembershipView(Struct, frozen=True, kw_only=True):
    """An organization of a person."""

    name: str
    href: str
    role: str
    status: str


def list_user_actions(it: UserProfile, at: str, words: Localizer) -> tuple[UserAction, ...]:
    """What may be done with this person, for whoever sees all of them; only the names for the others."""
    _ = words.gettext
    if it.person.is_deleted:
        restore = UserAction(label=_("Restore"), icon="undo-2", href=f"{at}/restore")
        return (restore,) if it.is_whole else ()
    edit = UserAction(label=_("Edit profile"), icon="pencil", href=f"{at}/edit")
    if not it.is_whole:
        return (edit,)
    email = UserAction(label=_("Change e-mail"), icon="mail", href=f"{at}/email")
    is_out = it.person.is_banned or not it.person.is_active
    unban = UserAction(label=_("Let in again"), icon="user-check", href=f"{at}/unban")
    ban = UserAction(label=_("Ban"), icon="ban", href=f"{at}/ban", is_destructive=True)
    delete = UserAction(label=_("Delete"), icon="trash-2", href=f"{at}/delete", is_destructive=True)
    password = UserAction(label=_("Set password"), icon="key-round", href=f"{at}/password")
    of_clerk = (password,) if it.person.clerk_id else ()
    return (edit, email, *of_clerk, unban if is_out else ban, delete)


class UserView(Struct, frozen=True, kw_only=True):
    """A person in words; `facts` are what else is known, by name; `ids` can be copied."""

    id: str
    name: str
    email: str
    image_url: str | None
    status: StatusBadge
    is_verified: bool
    places: tuple[UserMembershipView, ...]
    facts: tuple[tuple[str, str], ...]
    times: tuple[tuple[str, FormattedTime], ...]
    ids: tuple[tuple[str, str], ...]
    deeds: tuple[UserAction, ...]
    href: str
    joined: FormattedTime
    last_active: FormattedTime | None


def build_user_view(it: UserProfile, *, at: str, roles: Mapping[str, str], now: int, words: Localizer) -> UserView:
    """A person; `at` is the address of their page."""
    _, person = words.gettext, it.person
    times = [
        (_("Joined"), person.joined_at),
        (_("Last sign-in"), person.last_sign_in_at),
        (_("Last active"), person.last_active_at),
        (_("Deactivated"), person.deactivated_at),
        (_("Deleted"), person.deleted_at),
    ]
    facts = [(_("Username"), person.username), (_("Role in the application"), it.role if it.is_whole else None)]
    ids = [(_("instep's id"), person.id), (_("Clerk's id"), person.clerk_id)]
    if it.is_whole:
        ids.append((_("External id"), person.external_id))
    return UserView(
        id=person.id,
        name=person.name,
        email=format_email(person.email),
        image_url=person.image_url,
        status=make_user_badge(it.status, words),
        is_verified=person.is_email_verified,
        places=tuple(
            UserMembershipView(
                name=place.name,
                href=f"/organizations/{place.slug or place.organization_id}/members",
                role=roles.get(place.role, place.role),
                status=describe_membership_status(place.status, words),
            )
            for place in it.memberships
        ),
        facts=tuple((name, text) for name, text in facts if text),
        times=tuple((name, words.ago(time, now)) for name, time in times if time),
        ids=tuple((name, text) for name, text in ids if text),
        deeds=list_user_actions(it, at, words),
        href=at,
        joined=words.ago(person.joined_at, now),
        last_active=words.ago(person.last_active_at, now) if person.last_active_at else None,
    )


def describe_membership_status(key: str, words: Localizer) -> str:
    """Return what to say of a membership that is not an active one; empty for an active one."""
    _ = words.gettext
    known = {"active": "", "banned": _("Banned"), "deprovisioned": _("Deprovisioned")}
    return known.get(key, _("Deactivated"))
