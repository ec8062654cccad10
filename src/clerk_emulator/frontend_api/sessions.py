"""Frontend API: activate, end and remove sessions; mint session tokens."""

from dataclasses import replace
from typing import Any

from clerk_emulator.frontend_api.call import FrontendCall, FrontendRoute, UnwrappedResponse
from clerk_emulator.state import jwt_templates, memberships, organizations, sessions
from clerk_emulator.state.errors import ApiError, ErrorDetail, not_found_error
from clerk_emulator.state.models import Session
from clerk_emulator.wire.client_json import session as shape
from clerk_emulator.wire.session_tokens import create_session_token
from clerk_emulator.wire.template_tokens import create_template_token


def get(visit: FrontendCall) -> Any:
    """Answer a session."""
    return shape(visit.instance, _get_session(visit), visit.site, visit.origin, with_token=True)


def touch(visit: FrontendCall) -> Any:
    """Take a session up, and an organization, or none where the field is empty."""
    found = require_active_session(visit)
    if "active_organization_id" in visit.fields:
        found.last_active_organization_id = _find_organization(
            visit, found, visit.fields.text("active_organization_id")
        )
    sessions.activate(visit.instance, found)
    visit.record_origin(found.id)
    return shape(visit.instance, found, visit.site, visit.origin, with_token=True)


def create_token(visit: FrontendCall) -> Any:
    """Answer a token; of another organization, or of none, where the field says so."""
    found = require_active_session(visit)
    visit.record_origin(found.id)
    sessions.record_activity(visit.instance, found)
    if "organization_id" in visit.fields:
        named = _find_organization(visit, found, visit.fields.text("organization_id"))
        found = replace(found, last_active_organization_id=named)
    return UnwrappedResponse({"jwt": create_session_token(visit.instance, found, visit.site, origin=visit.origin)})


def create_token_from_template(visit: FrontendCall) -> Any:
    """Answer a token with the claims of a template."""
    found = require_active_session(visit)
    visit.record_origin(found.id)
    template = jwt_templates.get_by_name(visit.instance, visit.params["template_name"])
    return UnwrappedResponse(
        {"jwt": create_template_token(visit.instance, found, visit.site, template, origin=visit.origin)}
    )


def end(visit: FrontendCall) -> Any:
    """End a session."""
    return _end_session(visit, "ended")


def remove(visit: FrontendCall) -> Any:
    """Sign one person out."""
    return _end_session(visit, "removed")


def remove_all(visit: FrontendCall) -> Any:
    """Sign everybody out; the browser stays known."""
    client = visit.find_client()
    if client is None:
        raise ApiError(401, ErrorDetail("signed_out", "signed out", "Nobody is signed in in this browser."))
    for found in sessions.active_sessions(visit.instance, client):
        sessions.end(visit.instance, found, "removed")
    return visit.shape()


def delete_client(visit: FrontendCall) -> Any:
    """Sign everybody out and forget the browser."""
    shape = remove_all(visit)
    sessions.delete_client(visit.instance, visit.get_or_create_client())
    visit.is_over = True
    return UnwrappedResponse({"response": shape, "client": None})


def _end_session(visit: FrontendCall, how: str) -> Any:
    found = _get_session(visit)
    sessions.end(visit.instance, found, how)
    return shape(visit.instance, found, visit.site)


def _get_session(visit: FrontendCall) -> Session:
    client, wanted = visit.find_client(), visit.params["session_id"]
    if client is None or wanted not in client.session_ids:
        raise not_found_error("session", wanted)
    return sessions.get(visit.instance, wanted)


def require_active_session(visit: FrontendCall) -> Session:
    """Return the session that the path names, as long as it is active in this browser, or refuse."""
    found = _get_session(visit)
    if found.status(visit.instance.now) != "active":
        raise ApiError(401, ErrorDetail("signed_out", "signed out", "This session is over."))
    return found


def _find_organization(visit: FrontendCall, session: Session, named: str | None) -> str | None:
    if named is None:
        return None
    found = organizations.find(visit.instance, named)
    if found is None or memberships.find(visit.instance, found.id, session.user_id) is None:
        words = "There is no such organization, or the user is not a member of it."
        raise ApiError(404, ErrorDetail("organization_not_found_or_unauthorized", "no such organization", words))
    return found.id


ROUTES = (
    FrontendRoute("GET", "/client/sessions/{session_id}", "getSession", get),
    FrontendRoute("POST", "/client/sessions/{session_id}/touch", "touchSession", touch),
    FrontendRoute("POST", "/client/sessions/{session_id}/tokens", "createSessionToken", create_token),
    FrontendRoute(
        "POST",
        "/client/sessions/{session_id}/tokens/{template_name}",
        "createSessionTokenWithTemplate",
        create_token_from_template,
    ),
    FrontendRoute("POST", "/client/sessions/{session_id}/end", "endSession", end),
    FrontendRoute("POST", "/client/sessions/{session_id}/remove", "removeSession", remove),
    FrontendRoute("DELETE", "/client/sessions", "removeClientSessionsAndRetainCookie", remove_all),
    FrontendRoute("DELETE", "/client", "deleteClientSessions", delete_client),
)
