"""Where the windows of a first sync are, and how they go on. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from instep.identity.model import Kind
from instep.identity.whole import Cursor, Window


class Place(Struct):
    """Where a window is: `cursor` None and `is_done` False is its beginning."""

    window: Window
    cursor: Cursor | None = None
    is_done: bool = False
    fetched: int = 0


class Step(Struct):
    """A window (the `index`-th of its kind) that is at `before` goes on to `after`."""

    kind: Kind
    index: int
    before: Cursor | None
    after: Place


def go_on(kept: dict[str, Any], first: Mapping[Kind, Sequence[Place]], steps: Sequence[Step]) -> dict[str, Any]:
    """Where every window is after these steps, from where the database has it (`first`: kinds it does not know yet).

    No page is passed of which one before is not kept: a step counts only for a window that is where it begins.
    """
    places = {kind: list(places) for kind, places in first.items()} | places_of(kept)
    for step in steps:
        it = places[step.kind][step.index]
        if it.cursor == step.before and not it.is_done:
            places[step.kind][step.index] = step.after
    plain: dict[str, Any] = msgspec.to_builtins(places)
    return plain


def places_of(progress: dict[str, Any]) -> dict[Kind, list[Place]]:
    """Where an interrupted run was."""
    return msgspec.convert(progress, dict[Kind, list[Place]])
