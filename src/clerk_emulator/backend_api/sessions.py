"""Backend API: sessions, clients and session tokens."""

from itertools import islice
from secrets import compare_digest
from typing import Any
from urllib.parse import urlsplit

from clerk_emulator.backend_api.call import BackendCall, BackendHandler
from clerk_emulator.state import jwt_templates, sessions, users
from clerk_emulator.state.errors import ApiError, ErrorDetail, not_found_error
from clerk_emulator.state.models import Session
from clerk_emulator.wire import validation
from clerk_emulator.wire.session_json import client as client_json
from clerk_emulator.wire.session_json import session as session_json
from clerk_emulator.wire.session_tokens import LIFETIME, create_session_token
from clerk_emulator.wire.template_tokens import create_template_token

REFRESH = validation.BodySchema(
    {
        "expired_token": validation.text,
        "refresh_token": validation.text,
        "request_origin": validation.text,
        "request_headers": validation.nullable(validation.mapping),
        "format": validation.nullable(validation.choice("token", "cookie")),
        "request_originating_ip": validation.nullable(validation.text),
    },
    required=("expired_token", "refresh_token", "request_origin"),
    strict=False,
    status=400,
)
VERIFY = validation.BodySchema({"token": validation.text}, required=("token",), strict=False, status=400)
STATUSES = ("abandoned", "active", "ended", "expired", "removed", "replaced", "revoked", "pending")
CREATE = validation.BodySchema(
    {"user_id": validation.text, "active_organization_id": validation.nullable(validation.text)},
    required=("user_id",),
    strict=False,
)
TOKEN = validation.BodySchema(
    {"expires_in_seconds": validation.nullable(validation.integer(30, 315_360_000))}, strict=False
)


def list_sessions(call: BackendCall) -> Any:
    """List sessions, newest first."""
    statuses = call.query.choices("status", STATUSES)
    user_id, client_id = call.query.text("user_id"), call.query.text("client_id")
    now = call.instance.now
    rows = sessions.list_by_user(call.instance, user_id) if user_id else call.instance.sessions.newest_first()
    found = [
        row
        for row in rows
        if (not client_id or row.client_id == client_id) and (not statuses or row.status(now) in statuses)
    ]
    page = islice(found, call.query.offset, call.query.offset + call.query.limit)
    return call.listing([session_json(call.instance, row) for row in page], len(found))


def create_session(call: BackendCall) -> Any:
    """Create a session in a new client; for tests."""
    fields = CREATE.read(call.body)
    user = users.get(call.instance, fields["user_id"])
    if user.deprovisioned:
        message = "A directory has deactivated this user."
        raise ApiError(400, ErrorDetail("deprovisioned", "account deprovisioned", message))
    client = sessions.create_client(call.instance)
    active = fields.get("active_organization_id")
    return session_json(call.instance, sessions.start(call.instance, user, client, organization_id=active))


def get_session(call: BackendCall) -> Any:
    """Return a session."""
    return session_json(call.instance, _get_session(call))


def revoke_session(call: BackendCall) -> Any:
    """Revoke a session."""
    return session_json(call.instance, sessions.end(call.instance, _get_session(call), "revoked"))


def create_token(call: BackendCall) -> Any:
    """Return a token of an active session."""
    found = _require_active_session(call)
    lifetime = TOKEN.read(call.body).get("expires_in_seconds") or LIFETIME
    return {"object": "token", "jwt": create_session_token(call.instance, found, call.site, lifetime=lifetime)}


def create_token_from_template(call: BackendCall) -> Any:
    """Return a token of an active session with the claims of a template."""
    found = _require_active_session(call)
    template = jwt_templates.get_by_name(call.instance, call.params["template_name"])
    lifetime = TOKEN.read(call.body).get("expires_in_seconds")
    return {
        "object": "token",
        "jwt": create_template_token(call.instance, found, call.site, template, lifetime=lifetime),
    }


def refresh_session(call: BackendCall) -> Any:
    """Return a new token for an expired one; the refresh token comes from the handshake's cookie __refresh."""
    fields = REFRESH.read(call.body)
    claims = call.site.keyring.read(fields["expired_token"])
    if claims is None:
        raise _refresh_error("expired_session_token_invalid", "The token does not belong to this instance.")
    session = call.instance.sessions.find(call.params["session_id"])
    if session is None:
        raise _refresh_error("session_refresh_session_not_found", "There is no such session.")
    if claims.get("sid") != session.id:
        raise _refresh_error("refresh_sid_mismatch", "The expired token belongs to another session.")
    if session.refresh_token is None or not compare_digest(session.refresh_token, fields["refresh_token"]):
        raise _refresh_error("refresh_token_not_found", "This session has another refresh token.")
    if urlsplit(fields["request_origin"]).hostname is None:
        raise _refresh_error("refresh_request_origin_invalid", "The origin of the request is invalid.")
    if claims.get("azp") not in (None, fields["request_origin"]):
        raise _refresh_error("refresh_request_origin_azp_mismatch", "The expired token is for another origin.")
    if session.status(call.instance.now) != "active":
        raise _refresh_error("session_refresh_inactive_session", "The session has ended.")
    jwt = create_session_token(call.instance, session, call.site, origin=fields["request_origin"])
    if fields.get("format") != "cookie":
        return {"object": "token", "jwt": jwt}
    names = ("__session", f"__session_{call.site.cookie_suffix}")
    return {"object": "cookies", "cookies": [f"{name}={jwt}; Path=/; SameSite=Lax" for name in names]}


def list_clients(call: BackendCall) -> Any:
    """List clients, newest first."""
    return call.bare_page(reversed(call.instance.clients.values()), lambda row: client_json(call.instance, row))


def get_client(call: BackendCall) -> Any:
    """Return a client."""
    found = call.instance.clients.get(call.params["client_id"])
    if found is None:
        raise not_found_error("client", call.params["client_id"])
    return client_json(call.instance, found)


def verify_client(call: BackendCall) -> Any:
    """Return the client of a token."""
    token = VERIFY.read(call.body)["token"]
    found = sessions.find_client(call.instance, token)
    if found is None:
        claims = call.site.keyring.read(token) or {}
        session = call.instance.sessions.find(claims.get("sid"))
        found = call.instance.clients.get(session.client_id) if session else None
    if found is None:
        message = "The token does not belong to this instance."
        raise ApiError(400, ErrorDetail("invalid_session_token", "invalid token", message))
    return client_json(call.instance, found)


def _refresh_error(code: str, message: str) -> ApiError:
    return ApiError(401, ErrorDetail(code, "can't be refreshed", message))


def _require_active_session(call: BackendCall) -> Session:
    found = _get_session(call)
    if found.status(call.instance.now) != "active":
        raise not_found_error("active session", found.id)
    return found


def _get_session(call: BackendCall) -> Session:
    return sessions.get(call.instance, call.params["session_id"])


HANDLERS: dict[str, BackendHandler] = {
    "GetSessionList": list_sessions,
    "createSession": create_session,
    "GetSession": get_session,
    "RevokeSession": revoke_session,
    "CreateSessionToken": create_token,
    "CreateSessionTokenFromTemplate": create_token_from_template,
    "RefreshSession": refresh_session,
    "GetClientList": list_clients,
    "GetClient": get_client,
    "VerifyClient": verify_client,
}
