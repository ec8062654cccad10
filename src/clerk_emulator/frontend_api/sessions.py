"""Frontend API: activate, end and remove sessions; create session tokens."""

from dataclasses import replace
from typing import Any

from clerk_emulator.frontend_api.call import FrontendCall, FrontendRoute, UnwrappedResponse
from clerk_emulator.state import jwt_templates, memberships, organizations, sessions
from clerk_emulator.state.errors import ApiError, ErrorDetail, not_found_error
from clerk_emulator.state.models import Session
from clerk_emulator.wire.client_json import session as session_json
from clerk_emulator.wire.session_tokens import create_session_token
from clerk_emulator.wire.template_tokens import create_template_token


def get(call: FrontendCall) -> Any:
    """Return a session."""
    return session_json(call.instance, _get_session(call), call.site, call.origin, with_token=True)


def touch(call: FrontendCall) -> Any:
    """Make a session and an organization active; an empty field selects none."""
    found = require_active_session(call)
    if "active_organization_id" in call.fields:
        found.last_active_organization_id = _find_organization(call, found, call.fields.text("active_organization_id"))
    sessions.activate(call.instance, found)
    call.record_origin(found.id)
    return session_json(call.instance, found, call.site, call.origin, with_token=True)


def create_token(call: FrontendCall) -> Any:
    """Return a token; for another organization, or none, if the field says so."""
    found = require_active_session(call)
    call.record_origin(found.id)
    sessions.record_activity(call.instance, found)
    if "organization_id" in call.fields:
        named = _find_organization(call, found, call.fields.text("organization_id"))
        found = replace(found, last_active_organization_id=named)
    return UnwrappedResponse({"jwt": create_session_token(call.instance, found, call.site, origin=call.origin)})


def create_token_from_template(call: FrontendCall) -> Any:
    """Return a token with the claims of a template."""
    found = require_active_session(call)
    call.record_origin(found.id)
    template = jwt_templates.get_by_name(call.instance, call.params["template_name"])
    return UnwrappedResponse(
        {"jwt": create_template_token(call.instance, found, call.site, template, origin=call.origin)}
    )


def end(call: FrontendCall) -> Any:
    """End a session."""
    return _end_session(call, "ended")


def remove(call: FrontendCall) -> Any:
    """Sign out of one session."""
    return _end_session(call, "removed")


def remove_all(call: FrontendCall) -> Any:
    """Sign out of all sessions; the client remains."""
    client = call.find_client()
    if client is None:
        raise ApiError(401, ErrorDetail("signed_out", "signed out", "No user is signed in in this browser."))
    for found in sessions.active_sessions(call.instance, client):
        sessions.end(call.instance, found, "removed")
    return call.to_client_json()


def delete_client(call: FrontendCall) -> Any:
    """Sign out of all sessions and delete the client."""
    session_json = remove_all(call)
    sessions.delete_client(call.instance, call.get_or_create_client())
    call.clears_cookies = True
    return UnwrappedResponse({"response": session_json, "client": None})


def _end_session(call: FrontendCall, reason: str) -> Any:
    found = _get_session(call)
    sessions.end(call.instance, found, reason)
    return session_json(call.instance, found, call.site)


def _get_session(call: FrontendCall) -> Session:
    client, wanted = call.find_client(), call.params["session_id"]
    if client is None or wanted not in client.session_ids:
        raise not_found_error("session", wanted)
    return sessions.get(call.instance, wanted)


def require_active_session(call: FrontendCall) -> Session:
    """Return the session in the path if it is active in this client, or raise an ApiError."""
    found = _get_session(call)
    if found.status(call.instance.now) != "active":
        raise ApiError(401, ErrorDetail("signed_out", "signed out", "This session has ended."))
    return found


def _find_organization(call: FrontendCall, session: Session, named: str | None) -> str | None:
    if named is None:
        return None
    found = organizations.find(call.instance, named)
    if found is None or memberships.find(call.instance, found.id, session.user_id) is None:
        message = "There is no such organization, or the user is not a member of it."
        raise ApiError(404, ErrorDetail("organization_not_found_or_unauthorized", "no such organization", message))
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
