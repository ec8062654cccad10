"""User images and organization logos."""

import base64

from clerk_emulator.state.errors import ApiError, ErrorDetail, parameter_detail
from clerk_emulator.state.instance import Instance

IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
MAX_BYTES = 10 * 1024 * 1024
IMAGES_PATH = "/images"


def save(instance: Instance, owner_id: str, content_type: str, content: bytes) -> str:
    """Store the image of a user or an organization, and return its path, a new one for each image."""
    if len(content) > MAX_BYTES:
        raise ApiError(413, ErrorDetail("image_too_large", "too large", "An image may have at most 10 MB."))
    if content_type not in IMAGE_TYPES:
        message = f"is of type {content_type}; allowed types are {', '.join(IMAGE_TYPES)}"
        raise ApiError(400, parameter_detail("form_param_value_invalid", "file", message))
    instance.images[owner_id] = (content_type, base64.b64encode(content).decode())
    return f"{IMAGES_PATH}/{owner_id}?v={instance.now}"


def missing_file_error() -> ApiError:
    """400: the image is missing."""
    return ApiError(400, parameter_detail("form_param_missing", "file", "is missing"))


def delete(instance: Instance, owner_id: str, image_url: str) -> None:
    """Delete an image; raise an ApiError if there is none."""
    if not image_url:
        raise ApiError(404, ErrorDetail("image_not_found", "no image", "There is no image."))
    instance.images.pop(owner_id, None)
