"""The page where an invitation is accepted, by the link that it carries."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from clerk_emulator.frontend import one_time
from clerk_emulator.frontend.browser import Browser, back_to_application, browser_of
from clerk_emulator.state import (
    emails,
    enrollment,
    invitations,
    organization_invitations,
    sessions,
    sign_in_tokens,
    tickets,
)
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.model import Invitation, OrganizationInvitation, User
from clerk_emulator.state.refusals import Refused
from clerk_emulator.wire.organizations import ACCEPT_PATH
from clerk_emulator.wire.pages import page
from clerk_emulator.wire.site import Site

Found = OrganizationInvitation | Invitation
OVER = {
    "accepted": ("Already accepted", "This invitation was accepted before."),
    "revoked": ("Invitation revoked", "This invitation was taken back."),
    "expired": ("Invitation expired", "This invitation has run out. Ask for a new one."),
}


def show(request: Request, instance: Instance, site: Site) -> Response:
    """Show what the invitation is for, with a button to accept it."""
    ticket = request.query_params.get("ticket", "")
    token = sign_in_tokens.find_by_ticket(instance, ticket)
    if token is not None:
        return one_time.show(instance, token, request.query_params.get("redirect_url", ""))
    found = _find(instance, ticket)
    over = _over(instance, found)
    if over is not None or found is None:
        return over or _form(instance, found)
    target = found.redirect_url or ""
    if instance.settings.ticket_links == "application" and site.may_redirect_to(target):
        return _hand_over(browser_of(request, instance, site), found, target)
    return _form(instance, found)


async def submit(request: Request, instance: Instance, site: Site) -> Response:
    """Accept: the user where needed, the membership, the session; then on to where the invitation leads."""
    form = await request.form()
    token = sign_in_tokens.find_by_ticket(instance, str(form.get("ticket", "")))
    if token is not None:
        return one_time.submit(browser_of(request, instance, site), token, str(form.get("redirect_url", "")))
    found = _find(instance, str(form.get("ticket", "")))
    over = _over(instance, found)
    if over is not None or found is None:
        return over or _form(instance, found)
    names = {name: str(form.get(name, "")).strip() or None for name in ("first_name", "last_name")}
    browser = browser_of(request, instance, site)
    try:
        user = _accept(instance, found, names)
        sessions.start(instance, user, browser.client)
        enrollment.note(instance, user)
    except Refused as refused:
        return _form(instance, found, refused.problems[0].long_message)
    return _leave(browser, found)


def _hand_over(browser: Browser, found: Found, target: str) -> Response:
    """Lead to the application's own page with the ticket, where the invitee goes on as the status says."""
    instance, session = browser.instance, browser.session
    owner = emails.find_owner(instance, found.email_address)
    if session is None or owner is None or session.user_id != owner.id:
        status = tickets.outcome(instance, found)
        return back_to_application(browser, target, __clerk_ticket=found.ticket, __clerk_status=status)
    try:
        _accept(instance, found, {})
    except Refused as refused:
        return _form(instance, found, refused.problems[0].long_message)
    return _leave(browser, found)


def _find(instance: Instance, ticket: str) -> Found | None:
    return organization_invitations.find_by_ticket(instance, ticket) or invitations.find_by_ticket(instance, ticket)


def _over(instance: Instance, found: Found | None) -> Response | None:
    if found is None:
        text = "There is no invitation for this link."
        return page("message.html", status=404, title="Unknown invitation", text=text)
    status = found.status(instance.now)
    if status == "pending":
        return None
    title, text = OVER[status]
    return page("message.html", status=410, title=title, text=text)


def _accept(instance: Instance, found: Found, names: dict[str, Any]) -> User:
    if isinstance(found, OrganizationInvitation):
        return organization_invitations.accept(instance, found, names)[0]
    return invitations.accept(instance, found, names)


def _leave(browser: Browser, found: Found) -> Response:
    target = found.redirect_url
    if target and browser.site.may_redirect_to(target):
        return back_to_application(browser, target, __clerk_status="complete")
    name = _group(browser.instance, found)
    text = f"You joined {name}." if name else "You have an account now."
    if target:
        text += f" Going on to {target} is not allowed by this emulator."
    return browser.remember(page("message.html", title="Welcome", text=text))


def _group(instance: Instance, found: Found | None) -> str:
    if not isinstance(found, OrganizationInvitation):
        return ""
    owner = instance.organizations.find(found.organization_id)
    return owner.name if owner else ""


def _form(instance: Instance, found: Found | None, problem: str = "") -> Response:
    assert found is not None, "looked at by _over() before"  # noqa: S101
    name = _group(instance, found)
    role = instance.roles.get(found.role) if isinstance(found, OrganizationInvitation) else None
    inviter = instance.users.find(getattr(found, "inviter_id", None))
    return page(
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
