"""Page that accepts an invitation by the ticket in its link."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from clerk_emulator.frontend_api import sign_in_token_page
from clerk_emulator.frontend_api.browser import Browser, load_browser, redirect_to_application
from clerk_emulator.state import (
    domain_enrollment,
    emails,
    invitations,
    organization_invitations,
    sessions,
    sign_in_tokens,
    tickets,
)
from clerk_emulator.state.errors import ApiError
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import Invitation, OrganizationInvitation, User
from clerk_emulator.wire.html_pages import render_page
from clerk_emulator.wire.organization_json import ACCEPT_PATH
from clerk_emulator.wire.site_config import SiteConfig

AnyInvitation = OrganizationInvitation | Invitation
CLOSED_MESSAGES = {
    "accepted": ("Already accepted", "This invitation has already been accepted."),
    "revoked": ("Invitation revoked", "This invitation has been revoked."),
    "expired": ("Invitation expired", "This invitation has expired. Ask for a new one."),
}


def show(request: Request, instance: Instance, site: SiteConfig) -> Response:
    """Show the invitation with a button to accept it."""
    ticket = request.query_params.get("ticket", "")
    token = sign_in_tokens.find_by_ticket(instance, ticket)
    if token is not None:
        return sign_in_token_page.show(instance, token, request.query_params.get("redirect_url", ""))
    found = _find_invitation(instance, ticket)
    over = _render_closed(instance, found)
    if over is not None or found is None:
        return over or _render_form(instance, found)
    target = found.redirect_url or ""
    if instance.settings.ticket_links == "application" and site.is_redirect_allowed(target):
        return _redirect_with_ticket(load_browser(request, instance, site), found, target)
    return _render_form(instance, found)


async def submit(request: Request, instance: Instance, site: SiteConfig) -> Response:
    """Accept the invitation: create the user if needed, the membership and the session; then redirect."""
    form = await request.form()
    token = sign_in_tokens.find_by_ticket(instance, str(form.get("ticket", "")))
    if token is not None:
        return sign_in_token_page.submit(
            load_browser(request, instance, site), token, str(form.get("redirect_url", ""))
        )
    found = _find_invitation(instance, str(form.get("ticket", "")))
    over = _render_closed(instance, found)
    if over is not None or found is None:
        return over or _render_form(instance, found)
    names = {name: str(form.get(name, "")).strip() or None for name in ("first_name", "last_name")}
    browser = load_browser(request, instance, site)
    try:
        user = _accept(instance, found, names)
        sessions.start(instance, user, browser.client)
        domain_enrollment.enroll_user(instance, user)
    except ApiError as error:
        return _render_form(instance, found, error.problems[0].long_message)
    return _redirect_after(browser, found)


def _redirect_with_ticket(browser: Browser, found: AnyInvitation, target: str) -> Response:
    """Redirect to the application's own page with the ticket, where the invitee continues as the status says."""
    instance, session = browser.instance, browser.session
    owner = emails.find_owner(instance, found.email_address)
    if session is None or owner is None or session.user_id != owner.id:
        status = tickets.required_flow(instance, found)
        return redirect_to_application(browser, target, __clerk_ticket=found.ticket, __clerk_status=status)
    try:
        _accept(instance, found, {})
    except ApiError as error:
        return _render_form(instance, found, error.problems[0].long_message)
    return _redirect_after(browser, found)


def _find_invitation(instance: Instance, ticket: str) -> AnyInvitation | None:
    return organization_invitations.find_by_ticket(instance, ticket) or invitations.find_by_ticket(instance, ticket)


def _render_closed(instance: Instance, found: AnyInvitation | None) -> Response | None:
    if found is None:
        text = "There is no invitation for this link."
        return render_page("message.html", status=404, title="Unknown invitation", text=text)
    status = found.status(instance.now)
    if status == "pending":
        return None
    title, text = CLOSED_MESSAGES[status]
    return render_page("message.html", status=410, title=title, text=text)


def _accept(instance: Instance, found: AnyInvitation, names: dict[str, Any]) -> User:
    if isinstance(found, OrganizationInvitation):
        return organization_invitations.accept(instance, found, names)[0]
    return invitations.accept(instance, found, names)


def _redirect_after(browser: Browser, found: AnyInvitation) -> Response:
    target = found.redirect_url
    if target and browser.site.is_redirect_allowed(target):
        return redirect_to_application(browser, target, __clerk_status="complete")
    name = _organization_name(browser.instance, found)
    text = f"You joined {name}." if name else "Your account has been created."
    if target:
        text += f" This emulator does not allow redirects to {target}."
    return browser.set_cookies(render_page("message.html", title="Welcome", text=text))


def _organization_name(instance: Instance, found: AnyInvitation | None) -> str:
    if not isinstance(found, OrganizationInvitation):
        return ""
    owner = instance.organizations.find(found.organization_id)
    return owner.name if owner else ""


def _render_form(instance: Instance, found: AnyInvitation | None, problem: str = "") -> Response:
    assert found is not None, "checked by _render_closed()"  # noqa: S101
    name = _organization_name(instance, found)
    role = instance.roles.get(found.role) if isinstance(found, OrganizationInvitation) else None
    inviter = instance.users.find(getattr(found, "inviter_id", None))
    return render_page(
        "accept.html",
        status=422 if problem else 200,
        title=f"Join {name}" if name else "Create your account",
        organization=name,
        role=role.name if role else "",
        address=found.email_address,
        inviter=inviter.identifier if inviter else "",
        is_new=emails.find_owner(instance, found.email_address) is None,
        problem=problem,
        ticket=found.ticket,
        action=ACCEPT_PATH,
    )
