"""Sessions in a browser: taking one up, its tokens, and every way out."""

from dataclasses import replace
from typing import Any

from clerk_emulator.frontend.visit import Bare, Route, Visit
from clerk_emulator.state import memberships, organizations, sessions, templates
from clerk_emulator.state.model import Session
from clerk_emulator.state.refusals import Problem, Refused, missing_resource
from clerk_emulator.wire.clients import session as shape
from clerk_emulator.wire.template_tokens import template_token
from clerk_emulator.wire.tokens import session_token


def get(visit: Visit) -> Any:
    """Answer a session."""
    return shape(visit.instance, _session(visit), visit.site, visit.origin, with_token=True)


def touch(visit: Visit) -> Any:
    """Take a session up, and an organization, or none where the field is empty."""
    found = active(visit)
    if "active_organization_id" in visit.fields:
        found.last_active_organization_id = _organization(visit, found, visit.fields.text("active_organization_id"))
    sessions.take_up(visit.instance, found)
    visit.note_origin(found.id)
    return shape(visit.instance, found, visit.site, visit.origin, with_token=True)


def token(visit: Visit) -> Any:
    """Answer a token; of another organization, or of none, where the field says so."""
    found = active(visit)
    visit.note_origin(found.id)
    sessions.use(visit.instance, found)
    if "organization_id" in visit.fields:
        named = _organization(visit, found, visit.fields.text("organization_id"))
        found = replace(found, last_active_organization_id=named)
    return Bare({"jwt": session_token(visit.instance, found, visit.site, origin=visit.origin)})


def token_by_template(visit: Visit) -> Any:
    """Answer a token with the claims of a template."""
    found = active(visit)
    visit.note_origin(found.id)
    template = templates.by_name(visit.instance, visit.params["template_name"])
    return Bare({"jwt": template_token(visit.instance, found, visit.site, template, origin=visit.origin)})


def end(visit: Visit) -> Any:
    """End a session."""
    return _over(visit, "ended")


def remove(visit: Visit) -> Any:
    """Sign one person out."""
    return _over(visit, "removed")


def remove_all(visit: Visit) -> Any:
    """Sign everybody out; the browser stays known."""
    client = visit.find_client()
    if client is None:
        raise Refused(401, Problem("signed_out", "signed out", "Nobody is signed in in this browser."))
    for found in sessions.active_sessions(visit.instance, client):
        sessions.end(visit.instance, found, "removed")
    return visit.shape()


def forget(visit: Visit) -> Any:
    """Sign everybody out and forget the browser."""
    shape = remove_all(visit)
    sessions.forget_client(visit.instance, visit.need_client())
    visit.is_over = True
    return Bare({"response": shape, "client": None})


def _over(visit: Visit, how: str) -> Any:
    found = _session(visit)
    sessions.end(visit.instance, found, how)
    return shape(visit.instance, found, visit.site)


def _session(visit: Visit) -> Session:
    client, wanted = visit.find_client(), visit.params["session_id"]
    if client is None or wanted not in client.session_ids:
        raise missing_resource("session", wanted)
    return sessions.get(visit.instance, wanted)


def active(visit: Visit) -> Session:
    """Return the session that the path names, as long as it is active in this browser, or refuse."""
    found = _session(visit)
    if found.status(visit.instance.now) != "active":
        raise Refused(401, Problem("signed_out", "signed out", "This session is over."))
    return found


def _organization(visit: Visit, session: Session, named: str | None) -> str | None:
    if named is None:
        return None
    found = organizations.find(visit.instance, named)
    if found is None or memberships.find(visit.instance, found.id, session.user_id) is None:
        words = "There is no such organization, or the user is not a member of it."
        raise Refused(404, Problem("organization_not_found_or_unauthorized", "no such organization", words))
    return found.id


ROUTES = (
    Route("GET", "/client/sessions/{session_id}", "getSession", get),
    Route("POST", "/client/sessions/{session_id}/touch", "touchSession", touch),
    Route("POST", "/client/sessions/{session_id}/tokens", "createSessionToken", token),
    Route(
        "POST",
        "/client/sessions/{session_id}/tokens/{template_name}",
        "createSessionTokenWithTemplate",
        token_by_template,
    ),
    Route("POST", "/client/sessions/{session_id}/end", "endSession", end),
    Route("POST", "/client/sessions/{session_id}/remove", "removeSession", remove),
    Route("DELETE", "/client/sessions", "removeClientSessionsAndRetainCookie", remove_all),
    Route("DELETE", "/client", "deleteClientSessions", forget),
)
