"""Store images uploaded by browsers, as a form file or as the whole body."""

from clerk_emulator.frontend_api.call import FrontendCall
from clerk_emulator.state import images

MAGIC_BYTES = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
)


def save_image(call: FrontendCall, owner_id: str) -> str:
    """Store the uploaded image and return its URL."""
    file = call.files.get("file")
    if file is None:
        raise images.missing_file_error()
    named = (kind for mark, kind in MAGIC_BYTES if file.content.startswith(mark))
    kind = file.content_type if file.content_type in images.IMAGE_TYPES else next(named, file.content_type)
    return call.site.url + images.save(call.instance, owner_id, kind, file.content)


def delete_image(call: FrontendCall, owner_id: str, image_url: str) -> None:
    """Delete an image; raise an ApiError if there is none."""
    images.delete(call.instance, owner_id, image_url)
