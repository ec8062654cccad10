"""Pages and time windows of complete listings of Clerk's entities."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from instep.domain.events import Observation
from instep.domain.models import EntityKind

ListingCursor = dict[str, Any]


class MirroredEntity(Struct, frozen=True, gc=False):
    """A row of the mirror that Clerk has, or had. `content` is in the order of `FIELDS`.

    `is_kept`: it is in our list although Clerk may not have it any more, by our own word. `absent_at`: it is called
    gone only because readings did not find it.
    """

    clerk_id: str
    id: str
    version: int
    digest: str
    is_gone: bool
    is_kept: bool
    is_deactivated: bool
    changed_at: int
    content: tuple[Any, ...]
    absent_at: int | None = None


CONTENT_FIELDS: dict[EntityKind, tuple[str, ...]] = {
    "user": (
        "email",
        "is_email_verified",
        "first_name",
        "last_name",
        "username",
        "external_id",
        "is_banned",
        "is_deprovisioned",
        "public_metadata",
    ),
    "organization": ("name", "slug", "max_members", "public_metadata"),
    "membership": ("role",),
}


class CreationWindow(Struct, frozen=True, kw_only=True):
    """A stretch of the time in which things were made: from `since` until before `until` (None: the present).

    `is_open`: things are still being made in it, so that no count of it proves anything.
    """

    kind: EntityKind
    since: int = 0
    until: int | None = None
    is_open: bool = False


class ListingPage(Struct, frozen=True, kw_only=True):
    """A part of a window: everything that was made in it from `since` until before `until` (None: to the end).

    `fetched` counts rows of this window so far, `total` is what the provider says there are (where it says so with
    the page). `cursor` is where to go on after a stop, None at the end. `unreadable` are rows that could not be
    read. `is_sure` is False where the page may not follow the one before without a gap.
    """

    items: Sequence[Observation]
    since: int
    until: int | None
    cursor: ListingCursor | None
    fetched: int
    total: int | None = None
    unreadable: Sequence[str] = ()
    is_contiguous: bool = True
