"""Pictures of users and logos of organizations."""

import base64
from typing import Any

from clerk_emulator.routes.call import Call, Handler, Upload
from clerk_emulator.state import organizations, users
from clerk_emulator.state.refusals import Problem, Refused, bad_parameter
from clerk_emulator.wire import organizations as shapes
from clerk_emulator.wire import people

TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
LARGEST = 10 * 1024 * 1024


def set_user_image(call: Call) -> Any:
    """Give a user a picture."""
    user = users.get(call.instance, call.params["user_id"])
    return people.user(call.instance, users.set_image(call.instance, user, _keep(call, user.id)))


def delete_user_image(call: Call) -> Any:
    """Take the picture away."""
    user = users.get(call.instance, call.params["user_id"])
    _require_image(user.image_url)
    call.instance.images.pop(user.id, None)
    return people.user(call.instance, users.set_image(call.instance, user, ""))


def set_logo(call: Call) -> Any:
    """Give an organization a logo."""
    found = organizations.get(call.instance, call.params["organization_id"])
    changed = organizations.set_image(call.instance, found, _keep(call, found.id))
    shape = shapes.organization(call.instance, changed, counts=False)
    return {**shape, "logo_url": changed.image_url}


def delete_logo(call: Call) -> Any:
    """Take the logo away."""
    found = organizations.get(call.instance, call.params["organization_id"])
    _require_image(found.image_url)
    call.instance.images.pop(found.id, None)
    return shapes.organization(call.instance, organizations.set_image(call.instance, found, ""), counts=False)


def _keep(call: Call, owner_id: str) -> str:
    upload = call.body.get("file") if isinstance(call.body, dict) else None
    if not isinstance(upload, Upload):
        raise Refused(400, bad_parameter("form_param_missing", "file", "is missing"))
    if len(upload.content) > LARGEST:
        raise Refused(413, Problem("image_too_large", "too large", "A picture has ten megabytes at most."))
    if upload.content_type not in TYPES:
        words = f"is of type {upload.content_type}; taken are {', '.join(TYPES)}"
        raise Refused(400, bad_parameter("form_param_value_invalid", "file", words))
    call.instance.images[owner_id] = (upload.content_type, base64.b64encode(upload.content).decode())
    return f"{call.site.url}/images/{owner_id}?v={call.instance.now}"


def _require_image(image_url: str) -> None:
    if not image_url:
        raise Refused(404, Problem("image_not_found", "no picture", "There is no picture."))


HANDLERS: dict[str, Handler] = {
    "SetUserProfileImage": set_user_image,
    "DeleteUserProfileImage": delete_user_image,
    "UploadOrganizationLogo": set_logo,
    "DeleteOrganizationLogo": delete_logo,
}
UPLOADS = ("SetUserProfileImage", "UploadOrganizationLogo")
