"""Pages and time windows of complete listings of Clerk's entities."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from instep.domain.events import Observation
from instep.domain.models import EntityKind

ListingCursor = dict[str, Any]


class MirroredEntity(Struct, frozen=True, gc=False):
    """A row of the mirror that exists, or existed, in Clerk. `content` is in the order of `CONTENT_FIELDS`.

    `is_kept`: it stays in our list by a local decision, although Clerk may no longer have it. `absent_at`: it counts as
    deleted only because reads did not find it.
    """

    clerk_id: str
    id: str
    version: int
    digest: str
    is_deleted: bool
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
    """An interval of creation times: from `since` until before `until` (None: the present).

    `is_open`: entities are still being created in it, so its count proves nothing.
    """

    kind: EntityKind
    since: int = 0
    until: int | None = None
    is_open: bool = False


class ListingPage(Struct, frozen=True, kw_only=True):
    """A part of a window: all entities created from `since` until before `until` (None: to the end).

    `fetched` counts the rows of this window so far; `total` is the number that Clerk reports with the page, if any.
    `cursor` resumes after an interruption, None at the end. `unreadable` are rows that could not be parsed.
    `is_contiguous` is False if there may be a gap after the previous page.
    """

    items: Sequence[Observation]
    since: int
    until: int | None
    cursor: ListingCursor | None
    fetched: int
    total: int | None = None
    unreadable: Sequence[str] = ()
    is_contiguous: bool = True
