"""The signed-in user: profile, password, picture, sessions on other devices, and the end of the account."""

import json
from typing import Any

from clerk_emulator.frontend import uploads
from clerk_emulator.frontend.visit import Bare, Route, Visit
from clerk_emulator.frontend.visit import require as require_field
from clerk_emulator.state import passwords, sessions, users
from clerk_emulator.state.model import User
from clerk_emulator.state.refusals import Problem, Refused, bad_parameter, bad_value, missing_resource
from clerk_emulator.wire import front
from clerk_emulator.wire.clients import session as session_shape
from clerk_emulator.wire.people import deleted

OWN = ("username", "first_name", "last_name", "primary_email_address_id", "primary_phone_number_id")


def get(visit: Visit) -> Any:
    """Answer the user."""
    return front.user(visit.instance, visit.user)


def update(visit: Visit) -> Any:
    """Change what a user may change of himself."""
    changes: dict[str, Any] = {name: visit.fields.text(name) for name in OWN if name in visit.fields}
    if "unsafe_metadata" in visit.fields:
        changes["unsafe_metadata"] = _metadata(visit)
    return front.user(visit.instance, users.update(visit.instance, visit.user, changes))


def merge_metadata(visit: Visit) -> Any:
    """Merge the metadata that users may write."""
    changes = {"unsafe_metadata": _metadata(visit)}
    return front.user(visit.instance, users.merge_metadata(visit.instance, visit.user, changes))


def delete(visit: Visit) -> Any:
    """Delete the account."""
    user = visit.user
    if not user.delete_self_enabled:
        raise Refused(403, Problem("user_delete_self_not_enabled", "not enabled", "This user may not delete himself."))
    users.delete(visit.instance, user)
    return deleted("user", user.id)


def change_password(visit: Visit) -> Any:
    """Give the user another password; the old one has to be known where there is one."""
    user, session = visit.user, visit.session
    new = require_field(visit.fields, "new_password")
    if user.password is not None:
        _check(user, require_field(visit.fields, "current_password"))
    changed = users.update(visit.instance, user, {"password": new})
    if visit.fields.flag("sign_out_of_other_sessions"):
        for other in sessions.of_user(visit.instance, user.id):
            if other.id != session.id:
                sessions.end(visit.instance, other, "revoked")
    return front.user(visit.instance, changed)


def remove_password(visit: Visit) -> Any:
    """Take the password away."""
    user = visit.user
    if user.password is None:
        raise Refused(400, Problem("no_password_set", "no password", "This user has no password."))
    _check(user, require_field(visit.fields, "current_password"))
    return front.user(visit.instance, users.remove_password(visit.instance, user, sign_out=False))


def set_image(visit: Visit) -> Any:
    """Give the user a picture."""
    user = visit.user
    changed = users.set_image(visit.instance, user, uploads.keep(visit, user.id))
    return {"object": "image", "id": user.id, "name": "", "public_url": changed.image_url}


def delete_image(visit: Visit) -> Any:
    """Take the picture away."""
    user = visit.user
    uploads.drop(visit, user.id, user.image_url)
    users.set_image(visit.instance, user, "")
    return deleted("image", user.id)


def list_sessions(visit: Visit) -> Any:
    """Answer all sessions of the user, on all devices."""
    found = sessions.of_user(visit.instance, visit.user.id)
    return Bare([session_shape(visit.instance, row, visit.site) for row in found])


def list_active_sessions(visit: Visit) -> Any:
    """Answer the active sessions of the user, on all devices."""
    now = visit.instance.now
    found = [row for row in sessions.of_user(visit.instance, visit.user.id) if row.status(now) == "active"]
    names = ("id", "object", "status", "expire_at", "abandon_at", "last_active_at", "actor", "tasks")
    shapes = [session_shape(visit.instance, row, visit.site) for row in found]
    return Bare(
        [
            {name: shape[name] for name in names}
            | {"latest_activity": {"object": "session_activity", "id": f"sess_activity_{place}", "is_mobile": False}}
            for place, shape in enumerate(shapes)
        ]
    )


def revoke_session(visit: Visit) -> Any:
    """Sign the user out on another device."""
    wanted, user = visit.params["session_id"], visit.user
    found = visit.instance.sessions.find(wanted)
    if found is None or found.user_id != user.id:
        raise missing_resource("session", wanted)
    return session_shape(visit.instance, sessions.end(visit.instance, found, "revoked"), visit.site)


def _metadata(visit: Visit) -> dict[str, Any]:
    try:
        found = json.loads(require_field(visit.fields, "unsafe_metadata"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise bad_value("unsafe_metadata", "must be an object as JSON")
    return found


def _check(user: User, password: str) -> None:
    if user.password is None or not passwords.matches(user.password, password):
        raise Refused(
            422, bad_parameter("form_password_validation_failed", "current_password", "is not the user's password")
        )


ROUTES = (
    Route("GET", "/me", "getUser", get),
    Route("PATCH", "/me", "patchUser", update),
    Route("DELETE", "/me", "deleteUser", delete),
    Route("PATCH", "/me/metadata", "patchUserMetadata", merge_metadata),
    Route("POST", "/me/change_password", "changePassword", change_password),
    Route("POST", "/me/remove_password", "removePassword", remove_password),
    Route("POST", "/me/profile_image", "updateProfileImage", set_image),
    Route("DELETE", "/me/profile_image", "deleteProfileImage", delete_image),
    Route("GET", "/me/sessions", "getUsersSessions", list_sessions),
    Route("GET", "/me/sessions/active", "getSessions", list_active_sessions),
    Route("POST", "/me/sessions/{session_id}/revoke", "revokeSession", revoke_session),
)
