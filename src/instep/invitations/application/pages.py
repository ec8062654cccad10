"""The page of invitations to the application: who is invited, inviting, sending again and taking back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from instep.access.console import Console
from instep.access.principal import Principal
from instep.identity.model import AppInvitation
from instep.identity.refusals import status_of
from instep.invitations.application.flows import STATUSES, Applications, WantedInApp
from instep.invitations.rules import EXPIRES_IN_DAYS, InviteRefused
from instep.kit.confirm import Confirm, new_key
from instep.kit.errors import InstepError, PermanentError, TemporaryError
from instep.kit.html import is_partial, request_id_of
from instep.kit.signs import Status
from instep.kit.words import When, Words
from instep.mirror.joining import ORGANIZATION, ROLE

HERE = "/invitations"
LONGEST = 200


class AppRow(Struct, frozen=True, kw_only=True):
    """An invitation in words."""

    id: str
    email: str
    role: str
    place: str
    status: Status
    invited: When
    expires: When | None
    may_resend: bool
    may_revoke: bool


@dataclass(frozen=True)
class AppInvitationPages:
    """The handlers and what they need; for instance admins alone."""

    console: Console
    applications: Applications

    def routes(self) -> list[Route]:
        """All of them, to be put into the app's list."""
        one = f"{HERE}/{{invitation}}"
        return [
            Route(HERE, self.list, methods=["GET"]),
            Route(HERE, self.invite, methods=["POST"]),
            Route(f"{HERE}/new", self.new, methods=["GET"]),
            Route(f"{one}/resend", self.resend, methods=["POST"]),
            Route(f"{one}/revoke", self.ask, methods=["GET"]),
            Route(f"{one}/revoke", self.revoke, methods=["POST"]),
        ]

    async def list(self, request: Request) -> Response:
        """The newest ones, as Clerk has them now; for htmx the region alone."""
        asker = await self.console.instance_admin(request)
        if isinstance(asker, Response):
            return asker
        query, words = request.query_params, self.console.words
        wanted = query.get("status", "") if query.get("status") in STATUSES else ""
        sought = query.get("q", "").strip()[:LONGEST].replace("\0", "")
        error, found = "", []
        try:
            found = await self.applications.list(asker, status=wanted or None, query=sought)
        except InstepError as failed:
            error = words.say(failed)
        places = {it.organization_id: it.organization_name for it in await self.console.organizations(asker)}
        now = self.console.pages.clock()
        context: dict[str, Any] = {
            "rows": [_row(it, places, now, words) for it in found],
            "wanted": wanted,
            "sought": sought,
            "statuses": [(key, _status(key, words)) for key in STATUSES],
            "error": error,
        }
        if is_partial(request):
            return self.console.pages.fragment(request, "invitations/app_region.html", **context)
        return await self.console.page(request, "invitations/app.html", asker, here=HERE, **context)

    async def new(self, request: Request) -> Response:
        """The empty form."""
        asker = await self.console.instance_admin(request)
        if isinstance(asker, Response):
            return asker
        return await self._form(request, asker, {"role": "member", "expires_in_days": str(EXPIRES_IN_DAYS)})

    async def invite(self, request: Request) -> Response:
        """Sent by Clerk; what is wrong is said in the form, and what was typed stays."""
        if foreign := self.console.foreign(request):
            return foreign
        asker = await self.console.instance_admin(request)
        if isinstance(asker, Response):
            return asker
        typed = {name: text.strip() for name, text in (await request.form()).items() if isinstance(text, str)}
        try:
            made = await self.applications.invite(asker, _wanted(typed), idempotency_key=typed.get("key") or None)
        except TemporaryError as error:
            return self.console.refused(request, error)
        except PermanentError as error:
            return await self._form(request, asker, typed, error)
        title = self.console.words.gettext("Invitation sent to %(email)s", email=made.email)
        return self.console.done(request, title, HERE)

    async def resend(self, request: Request) -> Response:
        """Revoked, and made anew with the same role and organization."""
        return await self._act(request, is_revoking=False)

    async def ask(self, request: Request) -> Response:
        """The question before one is taken back."""
        asker = await self.console.instance_admin(request)
        if isinstance(asker, Response):
            return asker
        _, id = self.console.words.gettext, request.path_params["invitation"]
        try:
            found = await self.applications.find(asker, id)
        except InstepError as error:
            return self.console.refused(request, error)
        question = Confirm(
            title=_("Revoke the invitation of %(email)s?", email=found.email),
            verb=_("Revoke"),
            action=f"{HERE}/{id}/revoke",
            cancel=HERE,
            consequences=(
                _("The link that was mailed is dead at once."),
                _("Where sign-up is open to all, they can still sign up without it."),
            ),
            row=f"row-{id}",
        )
        return await self.console.ask(request, question, asker, here=HERE)

    async def revoke(self, request: Request) -> Response:
        """Taken back."""
        return await self._act(request, is_revoking=True)

    async def _act(self, request: Request, *, is_revoking: bool) -> Response:
        if foreign := self.console.foreign(request):
            return foreign
        asker = await self.console.instance_admin(request)
        if isinstance(asker, Response):
            return asker
        key = str((await request.form()).get("key", "")) or None
        act = self.applications.revoke if is_revoking else self.applications.resend
        try:
            found = await act(asker, invitation=request.path_params["invitation"], idempotency_key=key)
        except InstepError as error:
            return self.console.refused(request, error)
        _ = self.console.words.gettext
        title = _("Invitation revoked") if is_revoking else _("Invitation sent to %(email)s", email=found.email)
        return self.console.done(request, title, HERE)

    async def _form(
        self, request: Request, asker: Principal, typed: Mapping[str, str], error: PermanentError | None = None
    ) -> Response:
        local = [it for it in await self.console.organizations(asker) if it.organization_clerk_id is None]
        status = status_of(error) if error else 200
        context: dict[str, Any] = {
            "typed": {**typed, "key": new_key()},
            "places": local,
            "error": self.console.words.say(error) if error else "",
            "field": getattr(error, "field", None),
            "request_id": request_id_of(request),
        }
        if is_partial(request):
            piece = "app_form" if request.method == "POST" else "app_dialog"
            return self.console.pages.fragment(request, f"invitations/{piece}.html", status=status, **context)
        page = self.console.page
        return await page(request, "invitations/app_form_page.html", asker, here=HERE, status=status, **context)


def _wanted(typed: Mapping[str, str]) -> WantedInApp:
    days = typed.get("expires_in_days", "")
    if not (days.isdecimal() and len(days) < 4):
        raise InviteRefused("An invitation lasts from 1 to 365 days.", code="invalid_days", field="expires_in_days")
    return WantedInApp(
        email=typed.get("email", ""),
        role=typed.get("role", ""),
        organization=typed.get("organization") or None,
        expires_in_days=int(days),
        notify=bool(typed.get("notify")),
    )


def _row(it: AppInvitation, places: Mapping[str, str], now: int, words: Words) -> AppRow:
    role, place = str(it.public_metadata.get(ROLE) or ""), str(it.public_metadata.get(ORGANIZATION) or "")
    is_open = it.status == "pending" and (it.expires_at is None or it.expires_at > now)
    status = it.status if it.status != "pending" or is_open else "expired"
    show = words.until if is_open else words.ago
    return AppRow(
        id=it.clerk_id,
        email=it.email,
        role=role,
        place=places.get(place, place),
        status=_status(status, words),
        invited=words.ago(it.created_at, now),
        expires=show(it.expires_at, now) if it.expires_at else None,
        may_resend=status in ("pending", "expired"),
        may_revoke=status == "pending",
    )


def _status(key: str, words: Words) -> Status:
    _ = words.gettext
    known = {
        "pending": Status(_("Invited"), "mail", "info"),
        "accepted": Status(_("Accepted"), "circle-check", "good"),
        "revoked": Status(_("Revoked"), "circle-minus", "quiet"),
        "expired": Status(_("Invite expired"), "clock-alert", "warn"),
    }
    return known.get(key) or Status(key.capitalize(), "circle-minus", "quiet")
