"""Inviting from the page: the dialog, and what it answers."""

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode

from msgspec import Struct
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from instep.access.console import Console
from instep.access.frame import home_of
from instep.access.principal import Access
from instep.identity.model import Invitation
from instep.invitations.rules import InviteRefused
from instep.kit.errors import PermanentError, TemporaryError
from instep.kit.html import Toast, is_partial, request_id_of

SEEN = ("already_invited", "already_member")


class Inviter(Protocol):
    """Sends one invitation. Raises InviteRefused (nothing was changed) or TemporaryError (unknown)."""

    async def __call__(
        self, access: Access, *, email: str, role: str, idempotency_key: str | None = None
    ) -> Invitation: ...


class InviteForm(Struct, frozen=True, kw_only=True):
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

    console: Console
    roles: Callable[[Access], Sequence[tuple[str, str]]]
    invite: Inviter

    def routes(self) -> list[Route]:
        """All of them, to be put into the app's list."""
        return [
            Route("/organizations/{id}/invitations/new", self.new, name="invitation_new"),
            Route("/organizations/{id}/invitations", self.create, methods=["POST"], name="invitation_create"),
        ]

    async def new(self, request: Request) -> Response:
        """The empty form: a dialog in an open page, else a page."""
        access = await self._admin(request)
        if isinstance(access, Response):
            return access
        form = InviteForm(key=new_key(), role=access.roles.default, email=request.query_params.get("email", ""))
        if is_partial(request):
            return self.console.pages.fragment(request, "invitations/dialog.html", **self._context(access, form))
        return await self._page(request, access, form)

    async def create(self, request: Request) -> Response:
        """Sends one invitation; what is wrong is said in the form, and what was typed stays."""
        if foreign := self.console.foreign(request):
            return foreign
        access = await self._admin(request)
        if isinstance(access, Response):
            return access
        sent = await request.form()
        key, email, role = (str(sent.get(name, "")).strip() for name in ("key", "email", "role"))
        form = InviteForm(key=key, email=email, role=role)
        try:
            invitation = await self._invite(access, form)
        except (PermanentError, TemporaryError) as error:
            return await self._refused(request, access, self._wrong(request, access, form, error))
        return self._sent(request, access, invitation)

    async def _invite(self, access: Access, form: InviteForm) -> Invitation:
        _ = self.console.words.gettext
        if not form.email:
            raise InviteRefused(_("Enter an e-mail address."), code="invalid_email", field="email")
        if form.role not in dict(self.roles(access)):
            raise InviteRefused(_("Choose a role."), code="unknown_role", field="role")
        key = hashlib.sha256(f"{form.key} {form.email} {form.role}".encode()).hexdigest() if form.key else None
        return await self.invite(access, email=form.email, role=form.role, idempotency_key=key)

    def _wrong(
        self, request: Request, access: Access, form: InviteForm, error: PermanentError | TemporaryError
    ) -> InviteForm:
        told = wrong(form, error, request_id_of(request), home_of(access))
        return replace(told, error=self.console.words.say(error))

    async def _admin(self, request: Request) -> Access | Response:
        return await self.console.admin(request, title=self.console.words.gettext("Only admins can invite people"))

    async def _refused(self, request: Request, access: Access, form: InviteForm) -> Response:
        status = 503 if form.is_unknown else 422
        if is_partial(request):
            context = self._context(access, form)
            events: dict[str, Any] | None = {"people-changed": {}} if form.is_unknown else None
            return self.console.pages.fragment(
                request, "invitations/form.html", status=status, events=events, **context
            )
        return await self._page(request, access, form, status=status)

    async def _page(self, request: Request, access: Access, form: InviteForm, status: int = 200) -> Response:
        context = self._context(access, form)
        return await self.console.page(
            request, "invitations/new.html", access, here="members", status=status, **context
        )

    def _sent(self, request: Request, access: Access, invitation: Invitation) -> Response:
        if not is_partial(request):
            return RedirectResponse(f"{home_of(access)}/members?marked={invitation.clerk_id}", 303)
        title = self.console.words.gettext("Invitation sent to %(email)s", email=invitation.email)
        return self.console.pages.nothing(
            events={"dialog-close": {}, "toast": Toast(title=title), "people-changed": {"marked": invitation.clerk_id}}
        )

    def _context(self, access: Access, form: InviteForm) -> dict[str, Any]:
        return {
            "form": form,
            "home": home_of(access),
            "roles": self.roles(access),
            "organization": access.organization_name,
        }


def wrong(form: InviteForm, error: PermanentError | TemporaryError, request_id: str | None, home: str) -> InviteForm:
    """The form with what is wrong. What can be corrected belongs to a field; the rest carries the request's id.

    The key stays while the end is unknown: pressing again then asks for the same. After a refusal it is another.
    """
    refused = isinstance(error, InviteRefused)
    field = error.field if isinstance(error, InviteRefused) else None
    seen = refused and isinstance(error, PermanentError) and error.code in SEEN
    is_unknown = isinstance(error, TemporaryError)
    return InviteForm(
        key=form.key if is_unknown else new_key(),
        email=form.email,
        role=form.role,
        error=str(error),
        field=field,
        view=f"{home}/members?{urlencode({'q': form.email})}" if seen else "",
        is_unknown=is_unknown,
        request_id=None if field else request_id,
    )


def new_key() -> str:
    """A key for one form."""
    return secrets.token_hex(8)
