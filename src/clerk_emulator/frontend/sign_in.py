"""The pages for signing in and out: choose a person, or type an address and a password."""

from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from clerk_emulator.frontend.browser import Browser, back_to_application, browser_of, target_of
from clerk_emulator.state import access_lists, enrollment, search, sessions, users
from clerk_emulator.state.instance import Instance
from clerk_emulator.state.model import User
from clerk_emulator.state.refusals import NotEmulated, Refused
from clerk_emulator.wire.pages import page
from clerk_emulator.wire.site import Site

MOST_SHOWN = 50
SEARCH_FROM = 12


def show(request: Request, instance: Instance, site: Site) -> Response:
    """Show the page; one who is signed in goes on at once where there is somewhere to go."""
    browser = browser_of(request, instance, site)
    target = target_of(request, site)
    session = browser.session
    if session is None:
        query = request.query_params.get("query", "")
        return browser.remember(_form(instance, site, target, query=query))
    if target and site.may_redirect_to(target):
        return back_to_application(browser, target)
    person = users.get(instance, session.user_id)
    return browser.remember(page("signed_in.html", title="You are signed in", name=_name(person)))


async def submit(request: Request, instance: Instance, site: Site) -> Response:
    """Sign a person in and go on."""
    browser = browser_of(request, instance, site)
    form = await request.form()
    fields = {name: value for name, value in form.items() if isinstance(value, str)}
    target = fields.get("redirect_url", "")
    try:
        person = _who(instance, fields)
        access_lists.require_welcome(instance, person)
        sessions.start(instance, person, browser.client)
        enrollment.note(instance, person)
    except (Refused, NotEmulated) as refused:
        return browser.remember(
            _form(instance, site, target, problem=_words(refused), address=fields.get("email_address", ""))
        )
    return leave(browser, target)


def leave(browser: Browser, target: str) -> Response:
    """Send a browser where it wanted to go, as far as that is allowed."""
    if target and browser.site.may_redirect_to(target):
        return back_to_application(browser, target)
    return browser.remember(RedirectResponse("/sign-in", status_code=303))


def sign_out(request: Request, instance: Instance, site: Site) -> Response:
    """End the session of this browser and go on."""
    browser = browser_of(request, instance, site)
    session = browser.session
    if session is not None:
        sessions.end(instance, session, "removed")
    target = request.query_params.get("redirect_url", "")
    if target and site.may_redirect_to(target):
        return back_to_application(browser, target)
    response = page(
        "message.html",
        title="You are signed out",
        text="Nobody is signed in in this browser.",
        link="/sign-in",
        link_text="Sign in",
    )
    return browser.remember(response)


def _who(instance: Instance, fields: dict[str, str]) -> User:
    if fields.get("user_id"):
        return users.get(instance, fields["user_id"])
    return sessions.check_credentials(instance, fields.get("email_address", ""), fields.get("password", ""))


def _words(refused: Exception) -> str:
    if isinstance(refused, Refused):
        return refused.problems[0].long_message
    return f"The emulator does not have {refused}."


def _form(
    instance: Instance, site: Site, target: str, *, query: str = "", problem: str = "", address: str = ""
) -> Response:
    total = len(instance.users)
    if query:
        found = search.walk(instance, search.Criteria(query=query))
    else:
        found = instance.users.oldest_first()
    shown = list(islice(found, MOST_SHOWN))
    is_allowed = not target or site.may_redirect_to(target)
    return page(
        "sign_in.html",
        status=200 if not problem else 422,
        title="Sign in",
        people=[_person(instance, user) for user in shown],
        more=total - len(shown) if not query else 0,
        has_search=total > SEARCH_FROM,
        query=query,
        problem=problem if is_allowed else f"Going back to {target} is not allowed.",
        email_address=address,
        redirect_url=target if is_allowed else "",
        destination=urlsplit(target).netloc if is_allowed else "",
    )


def _person(instance: Instance, user: User) -> dict[str, Any]:
    note = "banned" if user.banned else "locked" if user.is_locked(instance.now) else ""
    return {"id": user.id, "name": _full_name(user), "email": user.identifier, "note": note}


def _full_name(user: User) -> str:
    return " ".join(part for part in (user.first_name, user.last_name) if part)


def _name(user: User) -> str:
    return _full_name(user) or user.identifier or user.id
