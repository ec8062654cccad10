"""Limits of texts, numbers and nesting that databases, pages and clients can hold."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

MAX_NESTING = 64
"""Levels of nesting. Clerk's metadata has at most 8 KB (docs, "Metadata"), and pydantic fails at 255."""

MAX_INT = 2**63 - 1
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
NUL_MESSAGE = "Text must not contain NUL characters."
SURROGATE_MESSAGE = "Text must not contain unpaired surrogates."
NESTING_MESSAGE = f"Nested more than {MAX_NESTING} levels deep."
NUMBER_MESSAGE = "A number is out of range."


def is_storable_text(text: str) -> bool:
    """Return whether a text contains neither NUL nor an unpaired surrogate."""
    return (text.isascii() and "\0" not in text) or _UNSTORABLE.search(text) is None


def replace_unstorable(text: str) -> str:
    """Return the text with U+FFFD in place of each NUL and each unpaired surrogate."""
    return text if is_storable_text(text) else _UNSTORABLE.sub("\ufffd", text)


def find_text_error(text: str) -> str | None:
    """Return a sentence that says why a text cannot be stored; None if it can."""
    found = None if is_storable_text(text) else _UNSTORABLE.search(text)
    if found is None:
        return None
    return NUL_MESSAGE if found[0] == "\0" else SURROGATE_MESSAGE


def find_json_error(value: Any) -> tuple[tuple[str | int, ...], str] | None:
    """Return the path in decoded JSON that cannot be stored and a sentence with the reason; None if all of it can.

    Iterative, so that no depth of nesting exhausts the stack.
    """
    pending: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while pending:
        path, node = pending.pop()
        message = _find_scalar_error(node)
        if message is None and isinstance(node, Mapping):
            message = next((error for name in node if (error := find_text_error(str(name)))), None)
        if message is None and isinstance(node, Mapping | list) and len(path) >= MAX_NESTING:
            message = NESTING_MESSAGE
        if message is not None:
            return tuple(replace_unstorable(part) if isinstance(part, str) else part for part in path), message
        pending.extend(((*path, name), child) for name, child in _iterate_children(node))
    return None


def _find_scalar_error(value: Any) -> str | None:
    if isinstance(value, str):
        return find_text_error(value)
    if isinstance(value, float):
        return None if math.isfinite(value) else NUMBER_MESSAGE
    return NUMBER_MESSAGE if isinstance(value, int) and abs(value) > MAX_INT else None


def _iterate_children(value: Any) -> Iterable[tuple[str | int, Any]]:
    if isinstance(value, Mapping):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()


def is_nested_too_deeply(value: Any, levels: int = MAX_NESTING) -> bool:
    """Return whether decoded JSON has more than this many levels of nesting."""
    level = [value]
    for _ in range(levels):
        level = [child for node in level for _, child in _iterate_children(node) if isinstance(child, Mapping | list)]
        if not level:
            return False
    return True


def object_or_empty(value: Any) -> dict[str, Any]:
    """Return a stored value if it is an object within the nesting limit, else an empty object.

    Only for values that earlier versions stored; new input is checked before it is stored.
    """
    return value if isinstance(value, dict) and not is_nested_too_deeply(value) else {}
