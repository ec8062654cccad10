"""Hosted sign-in and sign-out pages."""

from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from clerk_emulator.frontend_api.browser import Browser, load_browser, redirect_target, redirect_to_application
from clerk_emulator.state import access_lists, domain_enrollment, search, sessions, users
from clerk_emulator.state.errors import ApiError, NotEmulatedError
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.models import User
from clerk_emulator.wire.html_pages import render_page
from clerk_emulator.wire.site_config import SiteConfig

MAX_USERS = 50
SEARCH_THRESHOLD = 12


def show(request: Request, instance: Instance, site: SiteConfig) -> Response:
    """Show the page; redirect a signed-in user if there is a target."""
    browser = load_browser(request, instance, site)
    target = redirect_target(request, site)
    session = browser.session
    if session is None:
        query = request.query_params.get("query", "")
        return browser.set_cookies(_render_form(instance, site, target, query=query))
    if target and site.is_redirect_allowed(target):
        return redirect_to_application(browser, target)
    person = users.get(instance, session.user_id)
    return browser.set_cookies(render_page("signed_in.html", title="You are signed in", name=_display_name(person)))


async def submit(request: Request, instance: Instance, site: SiteConfig) -> Response:
    """Sign a user in and redirect."""
    browser = load_browser(request, instance, site)
    form = await request.form()
    fields = {name: value for name, value in form.items() if isinstance(value, str)}
    target = fields.get("redirect_url", "")
    try:
        person = _identify_user(instance, fields)
        access_lists.require_user_allowed(instance, person)
        sessions.start(instance, person, browser.client)
        domain_enrollment.enroll_user(instance, person)
    except (ApiError, NotEmulatedError) as error:
        return browser.set_cookies(
            _render_form(instance, site, target, problem=_error_message(error), address=fields.get("email_address", ""))
        )
    return redirect_to_target(browser, target)


def redirect_to_target(browser: Browser, target: str) -> Response:
    """Redirect a browser to its target if that is allowed."""
    if target and browser.site.is_redirect_allowed(target):
        return redirect_to_application(browser, target)
    return browser.set_cookies(RedirectResponse("/sign-in", status_code=303))


def sign_out(request: Request, instance: Instance, site: SiteConfig) -> Response:
    """End the session of this browser and redirect."""
    browser = load_browser(request, instance, site)
    session = browser.session
    if session is not None:
        sessions.end(instance, session, "removed")
    target = request.query_params.get("redirect_url", "")
    if target and site.is_redirect_allowed(target):
        return redirect_to_application(browser, target)
    response = render_page(
        "message.html",
        title="You are signed out",
        text="No user is signed in in this browser.",
        link="/sign-in",
        link_text="Sign in",
    )
    return browser.set_cookies(response)


def _identify_user(instance: Instance, fields: dict[str, str]) -> User:
    if fields.get("user_id"):
        return users.get(instance, fields["user_id"])
    return sessions.check_credentials(instance, fields.get("email_address", ""), fields.get("password", ""))


def _error_message(error: Exception) -> str:
    if isinstance(error, ApiError):
        return error.problems[0].long_message
    return f"The emulator does not support {error}."


def _render_form(
    instance: Instance, site: SiteConfig, target: str, *, query: str = "", problem: str = "", address: str = ""
) -> Response:
    total = len(instance.users)
    if query:
        found = search.iter_users(instance, search.UserFilter(query=query))
    else:
        found = instance.users.oldest_first()
    listed_users = list(islice(found, MAX_USERS))
    is_allowed = not target or site.is_redirect_allowed(target)
    return render_page(
        "sign_in.html",
        status=200 if not problem else 422,
        title="Sign in",
        people=[_user_entry(instance, user) for user in listed_users],
        more=total - len(listed_users) if not query else 0,
        has_search=total > SEARCH_THRESHOLD,
        query=query,
        problem=problem if is_allowed else f"Redirecting to {target} is not allowed.",
        email_address=address,
        redirect_url=target if is_allowed else "",
        destination=urlsplit(target).netloc if is_allowed else "",
    )


def _user_entry(instance: Instance, user: User) -> dict[str, Any]:
    note = "banned" if user.banned else "locked" if user.is_locked(instance.now) else ""
    return {"id": user.id, "name": _full_name(user), "email": user.identifier, "note": note}


def _full_name(user: User) -> str:
    return " ".join(part for part in (user.first_name, user.last_name) if part)


def _display_name(user: User) -> str:
    return _full_name(user) or user.identifier or user.id
