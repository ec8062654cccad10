"""Pages to invite a person, and the list of application invitations."""

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode

from msgspec import Struct
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from instep.auth.principal import OrganizationAccess, Principal
from instep.console.components import ConfirmationDialog, StatusBadge, new_idempotency_key
from instep.console.layout import get_organization_path
from instep.console.responses import PageResponder
from instep.core.errors import InstepError, PermanentError, TemporaryError
from instep.core.i18n import FormattedTime, Localizer
from instep.core.templates import Toast, get_request_id, is_fragment_request
from instep.domain.errors import get_http_status
from instep.domain.models import ClerkApplicationInvitation, ClerkInvitation
from instep.invitations.application_service import APPLICATION_INVITATION_STATUSES, ApplicationInvitationService
from instep.invitations.models import DEFAULT_EXPIRY_DAYS, ApplicationInvitationRequest
from instep.invitations.policies import InvitationRefusedError
from instep.mirror.apply import ORGANIZATION_METADATA_KEY, ROLE_METADATA_KEY

APPLICATION_INVITATIONS_PATH = "/invitations"
MAX_QUERY_LENGTH = 200


class ApplicationInvitationItem(Struct, frozen=True, kw_only=True):
    """An invitation in words."""

    id: str
    email: str
    role: str
    place: str
    status: StatusBadge
    invited: FormattedTime
    expires: FormattedTime | None
    can_resend: bool
    can_revoke: bool


@dataclass(frozen=True)
class ApplicationInvitationPages:
    """The handlers and what they need; for instance admins alone."""

    console: PageResponder
    applications: ApplicationInvitationService

    def routes(self) -> list[Route]:
        """All of them, to be put into the app's list."""
        one = f"{APPLICATION_INVITATIONS_PATH}/{{invitation}}"
        return [
            Route(APPLICATION_INVITATIONS_PATH, self.list, methods=["GET"]),
            Route(APPLICATION_INVITATIONS_PATH, self.invite, methods=["POST"]),
            Route(f"{APPLICATION_INVITATIONS_PATH}/new", self.new, methods=["GET"]),
            Route(f"{one}/resend", self.resend, methods=["POST"]),
            Route(f"{one}/revoke", self.ask, methods=["GET"]),
            Route(f"{one}/revoke", self.revoke, methods=["POST"]),
        ]

    async def list(self, request: Request) -> Response:
        """The newest ones, as Clerk has them now; for htmx the region alone."""
        asker = await self.console.require_instance_admin(request)
        if isinstance(asker, Response):
            return asker
        query, words = request.query_params, self.console.localizer
        wanted = query.get("status", "") if query.get("status") in APPLICATION_INVITATION_STATUSES else ""
        sought = query.get("q", "").strip()[:MAX_QUERY_LENGTH].replace("\0", "")
        error, found = "", []
        try:
            found = await self.applications.list(asker, status=wanted or None, query=sought)
        except InstepError as failed:
            error = words.translate(failed)
        places = {it.organization_id: it.organization_name for it in await self.console.list_organizations(asker)}
        now = self.console.renderer.clock()
        context: dict[str, Any] = {
            "rows": [_build_application_item(it, places, now, words) for it in found],
            "wanted": wanted,
            "sought": sought,
            "statuses": [(key, _build_application_status(key, words)) for key in APPLICATION_INVITATION_STATUSES],
            "error": error,
        }
        if is_fragment_request(request):
            return self.console.renderer.fragment(request, "invitations/app_region.html", **context)
        return await self.console.respond_page(
            request, "invitations/app.html", asker, section=APPLICATION_INVITATIONS_PATH, **context
        )

    async def new(self, request: Request) -> Response:
        """The empty form."""
        asker = await self.console.require_instance_admin(request)
        if isinstance(asker, Response):
            return asker
        return await self._form(request, asker, {"role": "member", "expires_in_days": str(DEFAULT_EXPIRY_DAYS)})

    async def invite(self, request: Request) -> Response:
        """Sent by Clerk; what is wrong is said in the form, and what was typed stays."""
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        asker = await self.console.require_instance_admin(request)
        if isinstance(asker, Response):
            return asker
        typed = {name: text.strip() for name, text in (await request.form()).items() if isinstance(text, str)}
        try:
            made = await self.applications.invite(
                asker, _parse_application_form(typed), idempotency_key=typed.get("key") or None
            )
        except TemporaryError as error:
            return self.console.respond_error(request, error)
        except PermanentError as error:
            return await self._form(request, asker, typed, error)
        title = self.console.localizer.gettext("Invitation sent to %(email)s", email=made.email)
        return self.console.respond_success(request, title, APPLICATION_INVITATIONS_PATH)

    async def resend(self, request: Request) -> Response:
        """Revoked, and made anew with the same role and organization."""
        return await self._act(request, is_revoking=False)

    async def ask(self, request: Request) -> Response:
        """The question before one is taken back."""
        asker = await self.console.require_instance_admin(request)
        if isinstance(asker, Response):
            return asker
        _, id = self.console.localizer.gettext, request.path_params["invitation"]
        try:
            found = await self.applications.find(asker, id)
        except InstepError as error:
            return self.console.respond_error(request, error)
        question = ConfirmationDialog(
            title=_("Revoke the invitation of %(email)s?", email=found.email),
            confirm_label=_("Revoke"),
            action=f"{APPLICATION_INVITATIONS_PATH}/{id}/revoke",
            cancel_url=APPLICATION_INVITATIONS_PATH,
            impact=(
                _("The link that was mailed is dead at once."),
                _("Where sign-up is open to all, they can still sign up without it."),
            ),
            row_id=f"row-{id}",
        )
        return await self.console.respond_confirmation(request, question, asker, section=APPLICATION_INVITATIONS_PATH)

    async def revoke(self, request: Request) -> Response:
        """Taken back."""
        return await self._act(request, is_revoking=True)

    async def _act(self, request: Request, *, is_revoking: bool) -> Response:
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        asker = await self.console.require_instance_admin(request)
        if isinstance(asker, Response):
            return asker
        key = str((await request.form()).get("key", "")) or None
        act = self.applications.revoke if is_revoking else self.applications.resend
        try:
            found = await act(asker, invitation=request.path_params["invitation"], idempotency_key=key)
        except InstepError as error:
            return self.console.respond_error(request, error)
        _ = self.console.localizer.gettext
        title = _("Invitation revoked") if is_revoking else _("Invitation sent to %(email)s", email=found.email)
        return self.console.respond_success(request, title, APPLICATION_INVITATIONS_PATH)

    async def _form(
        self, request: Request, asker: Principal, typed: Mapping[str, str], error: PermanentError | None = None
    ) -> Response:
        local = [it for it in await self.console.list_organizations(asker) if it.organization_clerk_id is None]
        status = get_http_status(error) if error else 200
        context: dict[str, Any] = {
            "typed": {**typed, "key": new_idempotency_key()},
            "places": local,
            "error": self.console.localizer.translate(error) if error else "",
            "field": getattr(error, "field", None),
            "request_id": get_request_id(request),
        }
        if is_fragment_request(request):
            piece = "app_form" if request.method == "POST" else "app_dialog"
            return self.console.renderer.fragment(request, f"invitations/{piece}.html", status=status, **context)
        page = self.console.respond_page
        return await page(
            request,
            "invitations/app_form_page.html",
            asker,
            section=APPLICATION_INVITATIONS_PATH,
            status=status,
            **context,
        )


def _parse_application_form(typed: Mapping[str, str]) -> ApplicationInvitationRequest:
    days = typed.get("expires_in_days", "")
    if not (days.isdecimal() and len(days) < 4):
        raise InvitationRefusedError(
            "An invitation lasts from 1 to 365 days.", code="invalid_days", field="expires_in_days"
        )
    return ApplicationInvitationRequest(
        email=typed.get("email", ""),
        role=typed.get("role", ""),
        organization=typed.get("organization") or None,
        expires_in_days=int(days),
        notify=bool(typed.get("notify")),
    )


def _build_application_item(
    it: ClerkApplicationInvitation, places: Mapping[str, str], now: int, words: Localizer
) -> ApplicationInvitationItem:
    role, place = (
        str(it.public_metadata.get(ROLE_METADATA_KEY) or ""),
        str(it.public_metadata.get(ORGANIZATION_METADATA_KEY) or ""),
    )
    is_open = it.status == "pending" and (it.expires_at is None or it.expires_at > now)
    status = it.status if it.status != "pending" or is_open else "expired"
    show = words.until if is_open else words.ago
    return ApplicationInvitationItem(
        id=it.clerk_id,
        email=it.email,
        role=role,
        place=places.get(place, place),
        status=_build_application_status(status, words),
        invited=words.ago(it.created_at, now),
        expires=show(it.expires_at, now) if it.expires_at else None,
        can_resend=status in ("pending", "expired"),
        can_revoke=status == "pending",
    )


def _build_application_status(key: str, words: Localizer) -> StatusBadge:
    _ = words.gettext
    known = {
        "pending": StatusBadge(_("Invited"), "mail", "info"),
        "accepted": StatusBadge(_("Accepted"), "circle-check", "good"),
        "revoked": StatusBadge(_("Revoked"), "circle-minus", "quiet"),
        "expired": StatusBadge(_("Invite expired"), "clock-alert", "warn"),
    }
    return known.get(key) or StatusBadge(key.capitalize(), "circle-minus", "quiet")


ALREADY_KNOWN_CODES = ("already_invited", "already_member")


class InvitationCreator(Protocol):
    """Sends one invitation. Raises InvitationRefusedError (nothing was changed) or TemporaryError (unknown)."""

    async def __call__(
        self, access: OrganizationAccess, *, email: str, role: str, idempotency_key: str | None = None
    ) -> ClerkInvitation: ...


class InvitationForm(Struct, frozen=True, kw_only=True):
    """What the form shows: what was typed, and what is wrong with it (of one `field`, or of all).

    With the same `key` the same words are sent once, however often the button is pressed.
    """

    key: str
    email: str = ""
    role: str = ""
    error: str = ""
    field: str | None = None
    view: str = ""
    is_unknown: bool = False
    request_id: str | None = None


@dataclass(frozen=True)
class InvitationPages:
    """The handlers and what they need; `roles` are (key, name), the first one chosen beforehand."""

    console: PageResponder
    roles: Callable[[OrganizationAccess], Sequence[tuple[str, str]]]
    invite: InvitationCreator

    def routes(self) -> list[Route]:
        """All of them, to be put into the app's list."""
        return [
            Route("/organizations/{organization_id}/invitations/new", self.new, name="invitation_new"),
            Route(
                "/organizations/{organization_id}/invitations", self.create, methods=["POST"], name="invitation_create"
            ),
        ]

    async def new(self, request: Request) -> Response:
        """The empty form: a dialog in an open page, else a page."""
        access = await self._admin(request)
        if isinstance(access, Response):
            return access
        form = InvitationForm(
            key=new_form_key(), role=access.roles.default, email=request.query_params.get("email", "")
        )
        if is_fragment_request(request):
            return self.console.renderer.fragment(request, "invitations/dialog.html", **self._context(access, form))
        return await self._page(request, access, form)

    async def create(self, request: Request) -> Response:
        """Sends one invitation; what is wrong is said in the form, and what was typed stays."""
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        access = await self._admin(request)
        if isinstance(access, Response):
            return access
        sent = await request.form()
        key, email, role = (str(sent.get(name, "")).strip() for name in ("key", "email", "role"))
        form = InvitationForm(key=key, email=email, role=role)
        try:
            invitation = await self._invite(access, form)
        except (PermanentError, TemporaryError) as error:
            return await self._refused(request, access, self._wrong(request, access, form, error))
        return self._sent(request, access, invitation)

    async def _invite(self, access: OrganizationAccess, form: InvitationForm) -> ClerkInvitation:
        _ = self.console.localizer.gettext
        if not form.email:
            raise InvitationRefusedError(_("Enter an e-mail address."), code="invalid_email", field="email")
        if form.role not in dict(self.roles(access)):
            raise InvitationRefusedError(_("Choose a role."), code="unknown_role", field="role")
        key = hashlib.sha256(f"{form.key} {form.email} {form.role}".encode()).hexdigest() if form.key else None
        return await self.invite(access, email=form.email, role=form.role, idempotency_key=key)

    def _wrong(
        self, request: Request, access: OrganizationAccess, form: InvitationForm, error: PermanentError | TemporaryError
    ) -> InvitationForm:
        told = build_form_with_error(form, error, get_request_id(request), get_organization_path(access))
        return replace(told, error=self.console.localizer.translate(error))

    async def _admin(self, request: Request) -> OrganizationAccess | Response:
        return await self.console.require_admin(
            request, title=self.console.localizer.gettext("Only admins can invite people")
        )

    async def _refused(self, request: Request, access: OrganizationAccess, form: InvitationForm) -> Response:
        status = 503 if form.is_unknown else 422
        if is_fragment_request(request):
            context = self._context(access, form)
            events: dict[str, Any] | None = {"people-changed": {}} if form.is_unknown else None
            return self.console.renderer.fragment(
                request, "invitations/form.html", status=status, events=events, **context
            )
        return await self._page(request, access, form, status=status)

    async def _page(
        self, request: Request, access: OrganizationAccess, form: InvitationForm, status: int = 200
    ) -> Response:
        context = self._context(access, form)
        return await self.console.respond_page(
            request, "invitations/new.html", access, section="members", status=status, **context
        )

    def _sent(self, request: Request, access: OrganizationAccess, invitation: ClerkInvitation) -> Response:
        if not is_fragment_request(request):
            return RedirectResponse(f"{get_organization_path(access)}/members?marked={invitation.clerk_id}", 303)
        title = self.console.localizer.gettext("Invitation sent to %(email)s", email=invitation.email)
        return self.console.renderer.no_content(
            events={"dialog-close": {}, "toast": Toast(title=title), "people-changed": {"marked": invitation.clerk_id}}
        )

    def _context(self, access: OrganizationAccess, form: InvitationForm) -> dict[str, Any]:
        return {
            "form": form,
            "home": get_organization_path(access),
            "roles": self.roles(access),
            "organization": access.organization_name,
        }


def build_form_with_error(
    form: InvitationForm, error: PermanentError | TemporaryError, request_id: str | None, home: str
) -> InvitationForm:
    """The form with what is wrong. What can be corrected belongs to a field; the rest carries the request's id.

    The key stays while the end is unknown: pressing again then asks for the same. After a refusal it is another.
    """
    refused = isinstance(error, InvitationRefusedError)
    field = error.field if isinstance(error, InvitationRefusedError) else None
    seen = refused and isinstance(error, PermanentError) and error.code in ALREADY_KNOWN_CODES
    is_unknown = isinstance(error, TemporaryError)
    return InvitationForm(
        key=form.key if is_unknown else new_form_key(),
        email=form.email,
        role=form.role,
        error=str(error),
        field=field,
        view=f"{home}/members?{urlencode({'q': form.email})}" if seen else "",
        is_unknown=is_unknown,
        request_id=None if field else request_id,
    )


def new_form_key() -> str:
    """A key for one form."""
    return secrets.token_hex(8)
