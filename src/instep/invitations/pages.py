"""Pages to invite a person, and the list of application invitations."""

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from instep.auth.principal import OrganizationAccess, Principal
from instep.console.components import ConfirmationDialog, StatusBadge, new_idempotency_key
from instep.console.layout import get_organization_path
from instep.console.responses import PageResponder
from instep.core.errors import InstepError, PermanentError, TemporaryError
from instep.core.i18n import FormattedTime, Localizer, lazy_gettext
from instep.core.templates import Toast, get_request_id, is_fragment_request
from instep.domain.errors import get_http_status
from instep.domain.models import ClerkApplicationInvitation, ClerkInvitation
from instep.invitations.application_service import ApplicationInvitationService
from instep.invitations.models import (
    ALL_STATUSES,
    DEFAULT_EXPIRY_DAYS,
    MAX_EXPIRY_DAYS,
    ApplicationInvitationRequest,
)
from instep.invitations.policies import InvitationRefusedError
from instep.invitations.service import InvitationService
from instep.mirror.apply import ORGANIZATION_METADATA_KEY, ROLE_METADATA_KEY

APPLICATION_INVITATIONS_PATH = "/invitations"
MAX_QUERY_LENGTH = 200
ALREADY_KNOWN_CODES = ("already_invited", "already_member")


class InvitationForm(Struct, frozen=True, kw_only=True):
    """Values and error of the invitation form; the error belongs to one `field`, or to the whole form.

    Submitting the same values with the same `key` again sends one invitation.
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
    """Handlers of the page that invites one person. `roles` returns (key, name) of the roles to choose from."""

    console: PageResponder
    roles: Callable[[OrganizationAccess], Sequence[tuple[str, str]]]
    invitations: InvitationService

    def routes(self) -> list[Route]:
        """Return the routes of these pages."""
        return [
            Route("/organizations/{organization_id}/invitations/new", self.new, name="invitation_new"),
            Route(
                "/organizations/{organization_id}/invitations", self.create, methods=["POST"], name="invitation_create"
            ),
        ]

    async def new(self, request: Request) -> Response:
        """Show the empty form, as a dialog in an open page or as a page of its own."""
        access = await self._require_admin(request)
        if isinstance(access, Response):
            return access
        email = request.query_params.get("email", "")
        form = InvitationForm(key=new_form_key(), role=access.roles.default, email=email)
        if is_fragment_request(request):
            return self.console.renderer.fragment(request, "invitations/dialog.html", **self._context(access, form))
        return await self._page(request, access, form)

    async def create(self, request: Request) -> Response:
        """Send an invitation; show errors in the form with the values entered."""
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        access = await self._require_admin(request)
        if isinstance(access, Response):
            return access
        submitted = await request.form()
        key, email, role = (str(submitted.get(name, "")).strip() for name in ("key", "email", "role"))
        form = InvitationForm(key=key, email=email, role=role)
        try:
            invitation = await self._invite(access, form)
        except (PermanentError, TemporaryError) as error:
            return await self._show_error(request, access, form, error)
        return self._confirm_sent(request, access, invitation)

    async def _invite(self, access: OrganizationAccess, form: InvitationForm) -> ClerkInvitation:
        if not form.email:
            raise InvitationRefusedError(lazy_gettext("Enter an email address."), code="invalid_email", field="email")
        if form.role not in dict(self.roles(access)):
            raise InvitationRefusedError(lazy_gettext("Choose a role."), code="unknown_role", field="role")
        key = hashlib.sha256(f"{form.key} {form.email} {form.role}".encode()).hexdigest() if form.key else None
        return await self.invitations.invite(access, email=form.email, role=form.role, idempotency_key=key)

    async def _require_admin(self, request: Request) -> OrganizationAccess | Response:
        return await self.console.require_admin(
            request, title=self.console.localizer.gettext("Only admins can invite people")
        )

    async def _show_error(
        self, request: Request, access: OrganizationAccess, form: InvitationForm, error: PermanentError | TemporaryError
    ) -> Response:
        message = self.console.localizer.translate(error)
        form = build_form_with_error(form, error, message, get_request_id(request), get_organization_path(access))
        status = 503 if form.is_unknown else 422
        if not is_fragment_request(request):
            return await self._page(request, access, form, status=status)
        events: dict[str, Any] | None = {"people-changed": {}} if form.is_unknown else None
        return self.console.renderer.fragment(
            request, "invitations/form.html", status=status, events=events, **self._context(access, form)
        )

    async def _page(
        self, request: Request, access: OrganizationAccess, form: InvitationForm, status: int = 200
    ) -> Response:
        context = self._context(access, form)
        return await self.console.respond_page(
            request, "invitations/new.html", access, section="members", status=status, **context
        )

    def _confirm_sent(self, request: Request, access: OrganizationAccess, invitation: ClerkInvitation) -> Response:
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
    form: InvitationForm, error: PermanentError | TemporaryError, message: str, request_id: str | None, home: str
) -> InvitationForm:
    """Return the form with an error: at its field if that can be corrected, else with the request id.

    The key stays while the outcome is unknown, so that another submission repeats the same request. After a refusal
    there is a new one.
    """
    is_refused = isinstance(error, InvitationRefusedError)
    field = error.field if isinstance(error, InvitationRefusedError) else None
    is_known = is_refused and isinstance(error, PermanentError) and error.code in ALREADY_KNOWN_CODES
    is_unknown = isinstance(error, TemporaryError)
    return InvitationForm(
        key=form.key if is_unknown else new_form_key(),
        email=form.email,
        role=form.role,
        error=message,
        field=field,
        view=f"{home}/members?{urlencode({'q': form.email})}" if is_known else "",
        is_unknown=is_unknown,
        request_id=None if field else request_id,
    )


def new_form_key() -> str:
    """Return a random key for one form."""
    return secrets.token_hex(8)


class ApplicationInvitationItem(Struct, frozen=True, kw_only=True):
    """Row of the list of application invitations."""

    id: str
    email: str
    role: str
    organization_name: str
    status: StatusBadge
    invited: FormattedTime
    expires: FormattedTime | None
    can_resend: bool
    can_revoke: bool


@dataclass(frozen=True)
class ApplicationInvitationPages:
    """Handlers of the pages of application invitations, for instance admins."""

    console: PageResponder
    applications: ApplicationInvitationService

    def routes(self) -> list[Route]:
        """Return the routes of these pages."""
        one = f"{APPLICATION_INVITATIONS_PATH}/{{invitation_id}}"
        return [
            Route(APPLICATION_INVITATIONS_PATH, self.list, methods=["GET"]),
            Route(APPLICATION_INVITATIONS_PATH, self.invite, methods=["POST"]),
            Route(f"{APPLICATION_INVITATIONS_PATH}/new", self.new, methods=["GET"]),
            Route(f"{one}/resend", self.resend, methods=["POST"]),
            Route(f"{one}/revoke", self.confirm_revoke, methods=["GET"]),
            Route(f"{one}/revoke", self.revoke, methods=["POST"]),
        ]

    async def list(self, request: Request) -> Response:
        """Show the newest invitations as Clerk has them now; only the region of the page for htmx."""
        principal = await self.console.require_instance_admin(request)
        if isinstance(principal, Response):
            return principal
        params, words = request.query_params, self.console.localizer
        status = params.get("status", "") if params.get("status") in ALL_STATUSES else ""
        query = params.get("q", "").strip()[:MAX_QUERY_LENGTH].replace("\0", "")
        error, found = "", []
        try:
            found = await self.applications.list(principal, status=status or None, query=query)
        except InstepError as failed:
            error = words.translate(failed)
        accesses = await self.console.list_organizations(principal)
        organization_names = {it.organization_id: it.organization_name for it in accesses}
        now = self.console.renderer.clock()
        context: dict[str, Any] = {
            "rows": [_build_application_item(it, organization_names, now, words) for it in found],
            "selected_status": status,
            "query": query,
            "statuses": [(key, _build_application_status(key, words)) for key in ALL_STATUSES],
            "error": error,
        }
        if is_fragment_request(request):
            return self.console.renderer.fragment(request, "invitations/app_region.html", **context)
        return await self.console.respond_page(
            request, "invitations/app.html", principal, section=APPLICATION_INVITATIONS_PATH, **context
        )

    async def new(self, request: Request) -> Response:
        """Show the empty form."""
        principal = await self.console.require_instance_admin(request)
        if isinstance(principal, Response):
            return principal
        return await self._form(request, principal, {"role": "member", "expires_in_days": str(DEFAULT_EXPIRY_DAYS)})

    async def invite(self, request: Request) -> Response:
        """Send an invitation; show errors in the form with the values entered."""
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        principal = await self.console.require_instance_admin(request)
        if isinstance(principal, Response):
            return principal
        values = {name: text.strip() for name, text in (await request.form()).items() if isinstance(text, str)}
        try:
            invitation = await self.applications.invite(
                principal, _parse_application_form(values), idempotency_key=values.get("key") or None
            )
        except TemporaryError as error:
            return self.console.respond_error(request, error)
        except PermanentError as error:
            return await self._form(request, principal, values, error)
        title = self.console.localizer.gettext("Invitation sent to %(email)s", email=invitation.email)
        return self.console.respond_success(request, title, APPLICATION_INVITATIONS_PATH)

    async def resend(self, request: Request) -> Response:
        """Revoke an invitation and create a new one with the same role and organization."""
        return await self._change(request, is_revoking=False)

    async def confirm_revoke(self, request: Request) -> Response:
        """Show the confirmation before revoking."""
        principal = await self.console.require_instance_admin(request)
        if isinstance(principal, Response):
            return principal
        _, invitation_id = self.console.localizer.gettext, request.path_params["invitation_id"]
        try:
            found = await self.applications.get(principal, invitation_id)
        except InstepError as error:
            return self.console.respond_error(request, error)
        confirmation = ConfirmationDialog(
            title=_("Revoke the invitation of %(email)s?", email=found.email),
            confirm_label=_("Revoke"),
            action=f"{APPLICATION_INVITATIONS_PATH}/{invitation_id}/revoke",
            cancel_url=APPLICATION_INVITATIONS_PATH,
            impact=(
                _("The link in the email stops working immediately."),
                _("Where sign-up is open to all, they can still sign up without it."),
            ),
            row_id=f"row-{invitation_id}",
        )
        return await self.console.respond_confirmation(
            request, confirmation, principal, section=APPLICATION_INVITATIONS_PATH
        )

    async def revoke(self, request: Request) -> Response:
        """Revoke an invitation."""
        return await self._change(request, is_revoking=True)

    async def _change(self, request: Request, *, is_revoking: bool) -> Response:
        if foreign := self.console.reject_cross_origin(request):
            return foreign
        principal = await self.console.require_instance_admin(request)
        if isinstance(principal, Response):
            return principal
        key = str((await request.form()).get("key", "")) or None
        change = self.applications.revoke if is_revoking else self.applications.resend
        try:
            changed = await change(principal, request.path_params["invitation_id"], idempotency_key=key)
        except InstepError as error:
            return self.console.respond_error(request, error)
        _ = self.console.localizer.gettext
        title = _("Invitation revoked") if is_revoking else _("Invitation sent to %(email)s", email=changed.email)
        return self.console.respond_success(request, title, APPLICATION_INVITATIONS_PATH)

    async def _form(
        self, request: Request, principal: Principal, values: Mapping[str, str], error: PermanentError | None = None
    ) -> Response:
        organizations = await self.console.list_organizations(principal)
        status = get_http_status(error) if error else 200
        context: dict[str, Any] = {
            "values": {**values, "key": new_idempotency_key()},
            "organizations": [it for it in organizations if it.organization_clerk_id is None],
            "error": self.console.localizer.translate(error) if error else "",
            "field": getattr(error, "field", None),
            "request_id": get_request_id(request),
        }
        if is_fragment_request(request):
            template = "app_form" if request.method == "POST" else "app_dialog"
            return self.console.renderer.fragment(request, f"invitations/{template}.html", status=status, **context)
        return await self.console.respond_page(
            request,
            "invitations/app_form_page.html",
            principal,
            section=APPLICATION_INVITATIONS_PATH,
            status=status,
            **context,
        )


def _parse_application_form(values: Mapping[str, str]) -> ApplicationInvitationRequest:
    days = values.get("expires_in_days", "")
    if not (days.isdecimal() and len(days) < 4):
        raise InvitationRefusedError(
            lazy_gettext("An invitation can expire after 1 to %(max_days)s days.", max_days=MAX_EXPIRY_DAYS),
            code="invalid_days",
            field="expires_in_days",
        )
    return ApplicationInvitationRequest(
        email=values.get("email", ""),
        role=values.get("role", ""),
        organization=values.get("organization") or None,
        expires_in_days=int(days),
        notify=bool(values.get("notify")),
    )


def _build_application_item(
    invitation: ClerkApplicationInvitation, organization_names: Mapping[str, str], now: int, words: Localizer
) -> ApplicationInvitationItem:
    public = invitation.public_metadata
    organization_id = str(public.get(ORGANIZATION_METADATA_KEY) or "")
    has_expired = invitation.expires_at is not None and invitation.expires_at <= now
    is_pending = invitation.status == "pending" and not has_expired
    status = "expired" if invitation.status == "pending" and has_expired else invitation.status
    format_expiry = words.until if is_pending else words.ago
    return ApplicationInvitationItem(
        id=invitation.clerk_id,
        email=invitation.email,
        role=str(public.get(ROLE_METADATA_KEY) or ""),
        organization_name=organization_names.get(organization_id, organization_id),
        status=_build_application_status(status, words),
        invited=words.ago(invitation.created_at, now),
        expires=format_expiry(invitation.expires_at, now) if invitation.expires_at else None,
        can_resend=status in ("pending", "expired"),
        can_revoke=status == "pending",
    )


def _build_application_status(status: str, words: Localizer) -> StatusBadge:
    _ = words.gettext
    badges = {
        "pending": StatusBadge(_("Invited"), "mail", "info"),
        "accepted": StatusBadge(_("Accepted"), "circle-check", "good"),
        "revoked": StatusBadge(_("Revoked"), "circle-minus", "quiet"),
        "expired": StatusBadge(_("Invite expired"), "clock-alert", "warn"),
    }
    return badges.get(status) or StatusBadge(status.capitalize(), "circle-minus", "quiet")
