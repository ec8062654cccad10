"""Frontend API: the signed-in user's profile, password, image, sessions and deletion."""

import json
from typing import Any

from clerk_emulator.frontend_api import image_uploads
from clerk_emulator.frontend_api.call import FrontendCall, FrontendRoute, UnwrappedResponse, require_field
from clerk_emulator.state import passwords, sessions, users
from clerk_emulator.state.errors import ApiError, ErrorDetail, invalid_value_error, not_found_error, parameter_detail
from clerk_emulator.state.models import User
from clerk_emulator.wire import frontend_json
from clerk_emulator.wire.client_json import session as session_shape
from clerk_emulator.wire.user_json import deleted_object

EDITABLE_FIELDS = ("username", "first_name", "last_name", "primary_email_address_id", "primary_phone_number_id")


def get(visit: FrontendCall) -> Any:
    """Answer the user."""
    return frontend_json.user(visit.instance, visit.user)


def update(visit: FrontendCall) -> Any:
    """Change what a user may change of himself."""
    changes: dict[str, Any] = {name: visit.fields.text(name) for name in EDITABLE_FIELDS if name in visit.fields}
    if "unsafe_metadata" in visit.fields:
        changes["unsafe_metadata"] = _read_metadata(visit)
    return frontend_json.user(visit.instance, users.update(visit.instance, visit.user, changes))


def merge_metadata(visit: FrontendCall) -> Any:
    """Merge the metadata that users may write."""
    changes = {"unsafe_metadata": _read_metadata(visit)}
    return frontend_json.user(visit.instance, users.merge_metadata(visit.instance, visit.user, changes))


def delete(visit: FrontendCall) -> Any:
    """Delete the account."""
    user = visit.user
    if not user.delete_self_enabled:
        raise ApiError(
            403, ErrorDetail("user_delete_self_not_enabled", "not enabled", "This user may not delete himself.")
        )
    users.delete(visit.instance, user)
    return deleted_object("user", user.id)


def change_password(visit: FrontendCall) -> Any:
    """Give the user another password; the old one has to be known where there is one."""
    user, session = visit.user, visit.session
    new = require_field(visit.fields, "new_password")
    if user.password is not None:
        _require_current_password(user, require_field(visit.fields, "current_password"))
    changed = users.update(visit.instance, user, {"password": new})
    if visit.fields.flag("sign_out_of_other_sessions"):
        for other in sessions.list_by_user(visit.instance, user.id):
            if other.id != session.id:
                sessions.end(visit.instance, other, "revoked")
    return frontend_json.user(visit.instance, changed)


def remove_password(visit: FrontendCall) -> Any:
    """Take the password away."""
    user = visit.user
    if user.password is None:
        raise ApiError(400, ErrorDetail("no_password_set", "no password", "This user has no password."))
    _require_current_password(user, require_field(visit.fields, "current_password"))
    return frontend_json.user(visit.instance, users.remove_password(visit.instance, user, sign_out=False))


def set_image(visit: FrontendCall) -> Any:
    """Give the user a picture."""
    user = visit.user
    changed = users.set_image(visit.instance, user, image_uploads.save_image(visit, user.id))
    return {"object": "image", "id": user.id, "name": "", "public_url": changed.image_url}


def delete_image(visit: FrontendCall) -> Any:
    """Take the picture away."""
    user = visit.user
    image_uploads.delete_image(visit, user.id, user.image_url)
    users.set_image(visit.instance, user, "")
    return deleted_object("image", user.id)


def list_sessions(visit: FrontendCall) -> Any:
    """Answer all sessions of the user, on all devices."""
    found = sessions.list_by_user(visit.instance, visit.user.id)
    return UnwrappedResponse([session_shape(visit.instance, row, visit.site) for row in found])


def list_active_sessions(visit: FrontendCall) -> Any:
    """Answer the active sessions of the user, on all devices."""
    now = visit.instance.now
    found = [row for row in sessions.list_by_user(visit.instance, visit.user.id) if row.status(now) == "active"]
    names = ("id", "object", "status", "expire_at", "abandon_at", "last_active_at", "actor", "tasks")
    shapes = [session_shape(visit.instance, row, visit.site) for row in found]
    return UnwrappedResponse(
        [
            {name: shape[name] for name in names}
            | {"latest_activity": {"object": "session_activity", "id": f"sess_activity_{place}", "is_mobile": False}}
            for place, shape in enumerate(shapes)
        ]
    )


def revoke_session(visit: FrontendCall) -> Any:
    """Sign the user out on another device."""
    wanted, user = visit.params["session_id"], visit.user
    found = visit.instance.sessions.find(wanted)
    if found is None or found.user_id != user.id:
        raise not_found_error("session", wanted)
    return session_shape(visit.instance, sessions.end(visit.instance, found, "revoked"), visit.site)


def _read_metadata(visit: FrontendCall) -> dict[str, Any]:
    try:
        found = json.loads(require_field(visit.fields, "unsafe_metadata"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise invalid_value_error("unsafe_metadata", "must be an object as JSON")
    return found


def _require_current_password(user: User, password: str) -> None:
    if user.password is None or not passwords.verify_password(user.password, password):
        raise ApiError(
            422, parameter_detail("form_password_validation_failed", "current_password", "is not the user's password")
        )


ROUTES = (
    FrontendRoute("GET", "/me", "getUser", get),
    FrontendRoute("PATCH", "/me", "patchUser", update),
    FrontendRoute("DELETE", "/me", "deleteUser", delete),
    FrontendRoute("PATCH", "/me/metadata", "patchUserMetadata", merge_metadata),
    FrontendRoute("POST", "/me/change_password", "changePassword", change_password),
    FrontendRoute("POST", "/me/remove_password", "removePassword", remove_password),
    FrontendRoute("POST", "/me/profile_image", "updateProfileImage", set_image),
    FrontendRoute("DELETE", "/me/profile_image", "deleteProfileImage", delete_image),
    FrontendRoute("GET", "/me/sessions", "getUsersSessions", list_sessions),
    FrontendRoute("GET", "/me/sessions/active", "getSessions", list_active_sessions),
    FrontendRoute("POST", "/me/sessions/{session_id}/revoke", "revokeSession", revoke_session),
)
