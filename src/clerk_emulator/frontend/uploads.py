"""Pictures that browsers send: as a file in a form, or alone, and then their type is in their first bytes."""

from clerk_emulator.frontend.visit import Visit
from clerk_emulator.state import pictures

MARKS = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
)


def keep(visit: Visit, owner_id: str) -> str:
    """Keep the picture that was sent, and return its address."""
    file = visit.files.get("file")
    if file is None:
        raise pictures.missing()
    named = (kind for mark, kind in MARKS if file.content.startswith(mark))
    kind = file.content_type if file.content_type in pictures.TYPES else next(named, file.content_type)
    return visit.site.url + pictures.keep(visit.instance, owner_id, kind, file.content)


def drop(visit: Visit, owner_id: str, image_url: str) -> None:
    """Forget a picture; without one, refuse."""
    pictures.drop(visit.instance, owner_id, image_url)
