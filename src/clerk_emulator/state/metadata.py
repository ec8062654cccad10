"""Metadata: merging deeply, replacing whole, and the size that is allowed."""

import json
from copy import deepcopy
from typing import Any

from clerk_emulator.state.model import Metadata
from clerk_emulator.state.refusals import Refused, bad_parameter

LARGEST_BYTES = 8 * 1024


def merged(old: Metadata, new: Metadata) -> Metadata:
    """Return the old metadata with the new laid over it, deeply; null takes a key away."""
    result = dict(old)
    for key, value in new.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            below = result.get(key)
            result[key] = merged(below if isinstance(below, dict) else {}, value)
        else:
            result[key] = deepcopy(value)
    return result


def merge_into(thing: Any, changes: dict[str, Metadata | None]) -> None:
    """Merge each named metadata field of a thing; all of them or none."""
    _put(thing, {name: merged(getattr(thing, name), value or {}) for name, value in changes.items()})


def replace_in(thing: Any, changes: dict[str, Metadata | None]) -> None:
    """Replace each named metadata field of a thing as a whole; all of them or none."""
    _put(thing, {name: deepcopy(value or {}) for name, value in changes.items()})


def check_size(name: str, value: Metadata) -> None:
    """Refuse metadata that is too large to be kept."""
    if len(json.dumps(value, separators=(",", ":")).encode()) > LARGEST_BYTES:
        words = f"must not exceed {LARGEST_BYTES} bytes"
        raise Refused(422, bad_parameter("form_param_exceeds_allowed_size", name, words))


def _put(thing: Any, values: dict[str, Metadata]) -> None:
    for name, value in values.items():
        check_size(name, value)
    for name, value in values.items():
        setattr(thing, name, value)
