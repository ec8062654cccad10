"""Frontend API: the signed-in user's profile, password, image, sessions and deletion."""

import json
from typing import Any

from clerk_emulator.frontend_api import image_uploads
from clerk_emulator.frontend_api.call import FrontendCall, FrontendRoute, UnwrappedResponse, require_field
from clerk_emulator.state import passwords, sessions, users
from clerk_emulator.state.errors import ApiError, ErrorDetail, invalid_value_error, not_found_error, parameter_detail
from clerk_emulator.state.models import User
from clerk_emulator.wire import frontend_json
from clerk_emulator.wire.client_json import session as session_json
from clerk_emulator.wire.user_json import deleted_object

EDITABLE_FIELDS = ("username", "first_name", "last_name", "primary_email_address_id", "primary_phone_number_id")


def get(call: FrontendCall) -> Any:
    """Return the user."""
    return frontend_json.user(call.instance, call.user)


def update(call: FrontendCall) -> Any:
    """Update the fields that users may change."""
    changes: dict[str, Any] = {name: call.fields.text(name) for name in EDITABLE_FIELDS if name in call.fields}
    if "unsafe_metadata" in call.fields:
        changes["unsafe_metadata"] = _read_metadata(call)
    return frontend_json.user(call.instance, users.update(call.instance, call.user, changes))


def merge_metadata(call: FrontendCall) -> Any:
    """Merge the metadata that users may write."""
    changes = {"unsafe_metadata": _read_metadata(call)}
    return frontend_json.user(call.instance, users.merge_metadata(call.instance, call.user, changes))


def delete(call: FrontendCall) -> Any:
    """Delete the account."""
    user = call.user
    if not user.delete_self_enabled:
        raise ApiError(
            403, ErrorDetail("user_delete_self_not_enabled", "not enabled", "This user may not delete their account.")
        )
    users.delete(call.instance, user)
    return deleted_object("user", user.id)


def change_password(call: FrontendCall) -> Any:
    """Change the password; the current one is required if there is one."""
    user, session = call.user, call.session
    new = require_field(call.fields, "new_password")
    if user.password is not None:
        _require_current_password(user, require_field(call.fields, "current_password"))
    changed = users.update(call.instance, user, {"password": new})
    if call.fields.flag("sign_out_of_other_sessions"):
        for other in sessions.list_by_user(call.instance, user.id):
            if other.id != session.id:
                sessions.end(call.instance, other, "revoked")
    return frontend_json.user(call.instance, changed)


def remove_password(call: FrontendCall) -> Any:
    """Remove the password."""
    user = call.user
    if user.password is None:
        raise ApiError(400, ErrorDetail("no_password_set", "no password", "This user has no password."))
    _require_current_password(user, require_field(call.fields, "current_password"))
    return frontend_json.user(call.instance, users.remove_password(call.instance, user, sign_out=False))


def set_image(call: FrontendCall) -> Any:
    """Set the user's image."""
    user = call.user
    changed = users.set_image(call.instance, user, image_uploads.save_image(call, user.id))
    return {"object": "image", "id": user.id, "name": "", "public_url": changed.image_url}


def delete_image(call: FrontendCall) -> Any:
    """Delete the user's image."""
    user = call.user
    image_uploads.delete_image(call, user.id, user.image_url)
    users.set_image(call.instance, user, "")
    return deleted_object("image", user.id)


def list_sessions(call: FrontendCall) -> Any:
    """List all sessions of the user, on all devices."""
    found = sessions.list_by_user(call.instance, call.user.id)
    return UnwrappedResponse([session_json(call.instance, row, call.site) for row in found])


def list_active_sessions(call: FrontendCall) -> Any:
    """List the active sessions of the user, on all devices."""
    now = call.instance.now
    found = [row for row in sessions.list_by_user(call.instance, call.user.id) if row.status(now) == "active"]
    names = ("id", "object", "status", "expire_at", "abandon_at", "last_active_at", "actor", "tasks")
    results = [session_json(call.instance, row, call.site) for row in found]
    return UnwrappedResponse(
        [
            {name: result[name] for name in names}
            | {"latest_activity": {"object": "session_activity", "id": f"sess_activity_{position}", "is_mobile": False}}
            for position, result in enumerate(results)
        ]
    )


def revoke_session(call: FrontendCall) -> Any:
    """Sign the user out on another device."""
    wanted, user = call.params["session_id"], call.user
    found = call.instance.sessions.find(wanted)
    if found is None or found.user_id != user.id:
        raise not_found_error("session", wanted)
    return session_json(call.instance, sessions.end(call.instance, found, "revoked"), call.site)


def _read_metadata(call: FrontendCall) -> dict[str, Any]:
    try:
        found = json.loads(require_field(call.fields, "unsafe_metadata"))
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
