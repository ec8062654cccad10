"""Sessions: list, create, get, revoke, and their tokens."""

from itertools import islice
from secrets import compare_digest
from typing import Any
from urllib.parse import urlsplit

from clerk_emulator.routes.call import Call, Handler
from clerk_emulator.state import sessions, templates, users
from clerk_emulator.state.model import Session
from clerk_emulator.state.refusals import Problem, Refused, missing_resource
from clerk_emulator.wire import forms
from clerk_emulator.wire.sessions import client as client_shape
from clerk_emulator.wire.sessions import session as shape
from clerk_emulator.wire.template_tokens import template_token
from clerk_emulator.wire.tokens import LIFETIME, session_token

REFRESH = forms.Form(
    {
        "expired_token": forms.text,
        "refresh_token": forms.text,
        "request_origin": forms.text,
        "request_headers": forms.nullable(forms.mapping),
        "format": forms.nullable(forms.choice("token", "cookie")),
        "request_originating_ip": forms.nullable(forms.text),
    },
    required=("expired_token", "refresh_token", "request_origin"),
    strict=False,
    status=400,
)
VERIFY = forms.Form({"token": forms.text}, required=("token",), strict=False, status=400)
STATUSES = ("abandoned", "active", "ended", "expired", "removed", "replaced", "revoked", "pending")
CREATE = forms.Form(
    {"user_id": forms.text, "active_organization_id": forms.nullable(forms.text)},
    required=("user_id",),
    strict=False,
)
TOKEN = forms.Form({"expires_in_seconds": forms.nullable(forms.integer(30, 315_360_000))}, strict=False)


def list_sessions(call: Call) -> Any:
    """Answer a page of sessions, newest first."""
    statuses = call.query.choices("status", STATUSES)
    user_id, client_id = call.query.text("user_id"), call.query.text("client_id")
    now = call.instance.now
    rows = sessions.of_user(call.instance, user_id) if user_id else call.instance.sessions.newest_first()
    found = [
        row
        for row in rows
        if (not client_id or row.client_id == client_id) and (not statuses or row.status(now) in statuses)
    ]
    page = islice(found, call.query.offset, call.query.offset + call.query.limit)
    return call.listing([shape(call.instance, row) for row in page], len(found))


def create(call: Call) -> Any:
    """Sign a user in, in a browser of its own; for tests."""
    fields = CREATE.read(call.body)
    user = users.get(call.instance, fields["user_id"])
    if user.deprovisioned:
        words = "A directory has deactivated this user."
        raise Refused(400, Problem("deprovisioned", "account deprovisioned", words))
    client = sessions.new_client(call.instance)
    active = fields.get("active_organization_id")
    return shape(call.instance, sessions.start(call.instance, user, client, organization_id=active))


def get(call: Call) -> Any:
    """Answer one session."""
    return shape(call.instance, _session(call))


def revoke(call: Call) -> Any:
    """End a session."""
    return shape(call.instance, sessions.end(call.instance, _session(call), "revoked"))


def create_token(call: Call) -> Any:
    """Answer a token for an active session."""
    found = _active(call)
    lifetime = TOKEN.read(call.body).get("expires_in_seconds") or LIFETIME
    return {"object": "token", "jwt": session_token(call.instance, found, call.site, lifetime=lifetime)}


def create_token_from_template(call: Call) -> Any:
    """Answer a token for an active session, with the claims of a template."""
    found = _active(call)
    template = templates.by_name(call.instance, call.params["template_name"])
    lifetime = TOKEN.read(call.body).get("expires_in_seconds")
    return {"object": "token", "jwt": template_token(call.instance, found, call.site, template, lifetime=lifetime)}


def refresh(call: Call) -> Any:
    """Answer a new token for one that has run out; the proof is what the handshake put into the cookie __refresh."""
    fields = REFRESH.read(call.body)
    claims = call.site.keyring.read(fields["expired_token"])
    if claims is None:
        raise _stale("expired_session_token_invalid", "The token is none of this instance.")
    session = call.instance.sessions.find(call.params["session_id"])
    if session is None:
        raise _stale("session_refresh_session_not_found", "There is no such session.")
    if claims.get("sid") != session.id:
        raise _stale("refresh_sid_mismatch", "The expired token is of another session.")
    if session.refresh_token is None or not compare_digest(session.refresh_token, fields["refresh_token"]):
        raise _stale("refresh_token_not_found", "This session has another refresh token.")
    if urlsplit(fields["request_origin"]).hostname is None:
        raise _stale("refresh_request_origin_invalid", "The origin of the request can't be read.")
    if claims.get("azp") not in (None, fields["request_origin"]):
        raise _stale("refresh_request_origin_azp_mismatch", "The expired token is for another origin.")
    if session.status(call.instance.now) != "active":
        raise _stale("session_refresh_inactive_session", "The session is over.")
    jwt = session_token(call.instance, session, call.site, origin=fields["request_origin"])
    if fields.get("format") != "cookie":
        return {"object": "token", "jwt": jwt}
    names = ("__session", f"__session_{call.site.cookie_suffix}")
    return {"object": "cookies", "cookies": [f"{name}={jwt}; Path=/; SameSite=Lax" for name in names]}


def list_clients(call: Call) -> Any:
    """Answer a page of browsers, newest first."""
    return call.bare_page(reversed(call.instance.clients.values()), lambda row: client_shape(call.instance, row))


def get_client(call: Call) -> Any:
    """Answer one browser."""
    found = call.instance.clients.get(call.params["client_id"])
    if found is None:
        raise missing_resource("client", call.params["client_id"])
    return client_shape(call.instance, found)


def verify_client(call: Call) -> Any:
    """Answer the browser behind a token."""
    token = VERIFY.read(call.body)["token"]
    found = sessions.find_client(call.instance, token)
    if found is None:
        claims = call.site.keyring.read(token) or {}
        session = call.instance.sessions.find(claims.get("sid"))
        found = call.instance.clients.get(session.client_id) if session else None
    if found is None:
        words = "The token is none of this instance."
        raise Refused(400, Problem("invalid_session_token", "invalid token", words))
    return client_shape(call.instance, found)


def _stale(code: str, words: str) -> Refused:
    return Refused(401, Problem(code, "can't be refreshed", words))


def _active(call: Call) -> Session:
    found = _session(call)
    if found.status(call.instance.now) != "active":
        raise missing_resource("active session", found.id)
    return found


def _session(call: Call) -> Session:
    return sessions.get(call.instance, call.params["session_id"])


HANDLERS: dict[str, Handler] = {
    "GetSessionList": list_sessions,
    "createSession": create,
    "GetSession": get,
    "RevokeSession": revoke,
    "CreateSessionToken": create_token,
    "CreateSessionTokenFromTemplate": create_token_from_template,
    "RefreshSession": refresh,
    "GetClientList": list_clients,
    "GetClient": get_client,
    "VerifyClient": verify_client,
}
