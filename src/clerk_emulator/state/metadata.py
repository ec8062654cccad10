"""Metadata: deep merge, replacement and size limit."""

import json
from copy import deepcopy
from typing import Any

from clerk_emulator.state.errors import ApiError, parameter_detail
from clerk_emulator.state.models import Metadata

MAX_BYTES = 8 * 1024


def merge(old: Metadata, new: Metadata) -> Metadata:
    """Return the metadata with the changes merged deeply; null removes a key."""
    result = dict(old)
    for key, value in new.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            nested = result.get(key)
            result[key] = merge(nested if isinstance(nested, dict) else {}, value)
        else:
            result[key] = deepcopy(value)
    return result


def merge_into(record: Any, changes: dict[str, Metadata | None]) -> None:
    """Merge each named metadata field of a record; all of them or none."""
    _set_fields(record, {name: merge(getattr(record, name), value or {}) for name, value in changes.items()})


def replace_in(record: Any, changes: dict[str, Metadata | None]) -> None:
    """Replace each named metadata field of a record; all of them or none."""
    _set_fields(record, {name: deepcopy(value or {}) for name, value in changes.items()})


def check_size(name: str, value: Metadata) -> None:
    """Reject metadata that exceeds the size limit."""
    if len(json.dumps(value, separators=(",", ":")).encode()) > MAX_BYTES:
        message = f"must not exceed {MAX_BYTES} bytes"
        raise ApiError(422, parameter_detail("form_param_exceeds_allowed_size", name, message))


def _set_fields(record: Any, values: dict[str, Metadata]) -> None:
    for name, value in values.items():
        check_size(name, value)
    for name, value in values.items():
        setattr(record, name, value)
