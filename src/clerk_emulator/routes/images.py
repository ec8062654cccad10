"""Pictures of users and logos of organizations."""

from typing import Any

from clerk_emulator.routes.call import Call, Handler, Upload
from clerk_emulator.state import organizations, pictures, users
from clerk_emulator.wire import organizations as shapes
from clerk_emulator.wire import people


def set_user_image(call: Call) -> Any:
    """Give a user a picture."""
    user = users.get(call.instance, call.params["user_id"])
    return people.user(call.instance, users.set_image(call.instance, user, _keep(call, user.id)))


def delete_user_image(call: Call) -> Any:
    """Take the picture away."""
    user = users.get(call.instance, call.params["user_id"])
    pictures.drop(call.instance, user.id, user.image_url)
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
    pictures.drop(call.instance, found.id, found.image_url)
    return shapes.organization(call.instance, organizations.set_image(call.instance, found, ""), counts=False)


def _keep(call: Call, owner_id: str) -> str:
    upload = call.body.get("file") if isinstance(call.body, dict) else None
    if not isinstance(upload, Upload):
        raise pictures.missing()
    return call.site.url + pictures.keep(call.instance, owner_id, upload.content_type, upload.content)


HANDLERS: dict[str, Handler] = {
    "SetUserProfileImage": set_user_image,
    "DeleteUserProfileImage": delete_user_image,
    "UploadOrganizationLogo": set_logo,
    "DeleteOrganizationLogo": delete_logo,
}
UPLOADS = ("SetUserProfileImage", "UploadOrganizationLogo")
