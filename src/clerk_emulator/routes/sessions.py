"""Sessions: list, create, get, revoke, and their tokens."""

from itertools import islice
from typing import Any

from clerk_emulator.routes.call import Call, Handler
from clerk_emulator.state import sessions, users
from clerk_emulator.state.model import Session
from clerk_emulator.state.refusals import missing_resource
from clerk_emulator.wire import forms
from clerk_emulator.wire.sessions import session as shape
from clerk_emulator.wire.tokens import LIFETIME, session_token

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
    found = _session(call)
    if found.status(call.instance.now) != "active":
        raise missing_resource("active session", found.id)
    lifetime = TOKEN.read(call.body).get("expires_in_seconds") or LIFETIME
    return {"object": "token", "jwt": session_token(call.instance, found, call.site, lifetime)}


def _session(call: Call) -> Session:
    return sessions.get(call.instance, call.params["session_id"])


HANDLERS: dict[str, Handler] = {
    "GetSessionList": list_sessions,
    "createSession": create,
    "GetSession": get,
    "RevokeSession": revoke,
    "CreateSessionToken": create_token,
}
