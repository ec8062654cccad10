"""Limits of texts, numbers and nesting that databases, pages and clients can hold."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

MAX_NESTING = 64


"""Levels of nesting. Clerk's metadata has at most 8 KB (docs, "Metadata"), and pydantic gives up at 255."""


MAX_INT = 2**63 - 1
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
NUL_MESSAGE = "A text contains a NUL character."
SURROGATE_MESSAGE = "A text contains half of a surrogate pair, which is no character."
NESTING_MESSAGE = f"Nested more than {MAX_NESTING} levels deep."
NUMBER_MESSAGE = "A number is out of range."


def is_storable_text(text: str) -> bool:
    """Return whether a text has neither a NUL nor half of a surrogate pair."""
    return (text.isascii() and "\0" not in text) or _UNSTORABLE.search(text) is None


def replace_unstorable(text: str) -> str:
    """Return the text with U+FFFD for each NUL and each half of a surrogate pair."""
    return text if is_storable_text(text) else _UNSTORABLE.sub("\ufffd", text)


def find_text_error(text: str) -> str | None:
    """Return why a text can't be kept, as a sentence; None where it can."""
    found = None if is_storable_text(text) else _UNSTORABLE.search(text)
    if found is None:
        return None
    return NUL_MESSAGE if found[0] == "\0" else SURROGATE_MESSAGE


def find_json_error(value: Any) -> tuple[tuple[str | int, ...], str] | None:
    """Return where decoded JSON can't be kept, and why; None where all of it can.

    Walks without recursion, so that no nesting is too deep for it.
    """
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while waiting:
        path, it = waiting.pop()
        why = _find_scalar_error(it)
        if why is None and isinstance(it, Mapping):
            why = next((fault for name in it if (fault := find_text_error(str(name)))), None)
        if why is None and isinstance(it, Mapping | list) and len(path) >= MAX_NESTING:
            why = NESTING_MESSAGE
        if why is not None:
            return tuple(replace_unstorable(part) if isinstance(part, str) else part for part in path), why
        waiting.extend(((*path, name), inner) for name, inner in _iterate_children(it))
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
    """Return whether decoded JSON is nested in more levels than this."""
    level = [value]
    for _ in range(levels):
        level = [inner for it in level for _, inner in _iterate_children(it) if isinstance(inner, Mapping | list)]
        if not level:
            return False
    return True


def object_or_empty(value: Any) -> dict[str, Any]:
    """Return stored metadata as the object that it should be: empty for what is none, or is nested too deeply.

    For what an earlier version stored: nothing of the kind comes in any more.
    """
    return value if isinstance(value, dict) and not is_nested_too_deeply(value) else {}
