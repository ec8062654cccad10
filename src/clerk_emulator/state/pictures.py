"""Pictures of users and logos of organizations: which are taken, and keeping them."""

import base64

from clerk_emulator.state.instance import Instance
from clerk_emulator.state.refusals import Problem, Refused, bad_parameter

TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
LARGEST = 10 * 1024 * 1024
PATH = "/images"


def keep(instance: Instance, owner_id: str, content_type: str, content: bytes) -> str:
    """Keep the picture of a user or an organization, and return its path, another one for each picture."""
    if len(content) > LARGEST:
        raise Refused(413, Problem("image_too_large", "too large", "A picture has ten megabytes at most."))
    if content_type not in TYPES:
        words = f"is of type {content_type}; taken are {', '.join(TYPES)}"
        raise Refused(400, bad_parameter("form_param_value_invalid", "file", words))
    instance.images[owner_id] = (content_type, base64.b64encode(content).decode())
    return f"{PATH}/{owner_id}?v={instance.now}"


def missing() -> Refused:
    """400: a picture was to come, and none did."""
    return Refused(400, bad_parameter("form_param_missing", "file", "is missing"))


def drop(instance: Instance, owner_id: str, image_url: str) -> None:
    """Forget a picture; without one, refuse."""
    if not image_url:
        raise Refused(404, Problem("image_not_found", "no picture", "There is no picture."))
    instance.images.pop(owner_id, None)
