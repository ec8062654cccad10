"""Backend API: user images and organization logos."""

from typing import Any

from clerk_emulator.backend_api.call import BackendCall, BackendHandler, UploadedFile
from clerk_emulator.state import images, organizations, users
from clerk_emulator.wire import organization_json, user_json


def set_user_image(call: BackendCall) -> Any:
    """Set the image of a user."""
    user = users.get(call.instance, call.params["user_id"])
    return user_json.user(call.instance, users.set_image(call.instance, user, _save_image(call, user.id)))


def delete_user_image(call: BackendCall) -> Any:
    """Delete the image of a user."""
    user = users.get(call.instance, call.params["user_id"])
    images.delete(call.instance, user.id, user.image_url)
    return user_json.user(call.instance, users.set_image(call.instance, user, ""))


def set_logo(call: BackendCall) -> Any:
    """Set the logo of an organization."""
    found = organizations.get(call.instance, call.params["organization_id"])
    changed = organizations.set_image(call.instance, found, _save_image(call, found.id))
    result = organization_json.organization(call.instance, changed, counts=False)
    return {**result, "logo_url": changed.image_url}


def delete_logo(call: BackendCall) -> Any:
    """Delete the logo of an organization."""
    found = organizations.get(call.instance, call.params["organization_id"])
    images.delete(call.instance, found.id, found.image_url)
    return organization_json.organization(
        call.instance, organizations.set_image(call.instance, found, ""), counts=False
    )


def _save_image(call: BackendCall, owner_id: str) -> str:
    upload = call.body.get("file") if isinstance(call.body, dict) else None
    if not isinstance(upload, UploadedFile):
        raise images.missing_file_error()
    return call.site.url + images.save(call.instance, owner_id, upload.content_type, upload.content)


HANDLERS: dict[str, BackendHandler] = {
    "SetUserProfileImage": set_user_image,
    "DeleteUserProfileImage": delete_user_image,
    "UploadOrganizationLogo": set_logo,
    "DeleteOrganizationLogo": delete_logo,
}
UPLOAD_OPERATIONS = ("SetUserProfileImage", "UploadOrganizationLogo")
