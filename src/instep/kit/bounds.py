"""The bounds of what is kept: texts, numbers and nesting that every database, page and client can give back. Pure.

A NUL stands in no text of PostgreSQL's; a lone surrogate is no Unicode text and can be neither stored nor sent; JSON
that is nested without end breaks whoever reads it. What Clerk sends is replaced at the edge (`instep.clerk.bounds`);
what comes in by a request is refused (`instep.kit.incoming`). Bounds of times are in `instep.kit.clock`.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

MOST_LEVELS = 64


"""Levels of nesting. Clerk's metadata has at most 8 KB (docs, "Metadata"), and pydantic gives up at 255."""


MOST_INT = 2**63 - 1
_BROKEN = re.compile("[\0\ud800-\udfff]")
NUL = "A text contains a NUL character."
SURROGATE = "A text contains half of a surrogate pair, which is no character."
DEEP = f"Nested more than {MOST_LEVELS} levels deep."
NUMBER = "A number is out of range."


def is_keepable(text: str) -> bool:
    """Return whether a text has neither a NUL nor half of a surrogate pair."""
    return (text.isascii() and "\0" not in text) or _BROKEN.search(text) is None


def replaced(text: str) -> str:
    """Return the text with U+FFFD for each NUL and each half of a surrogate pair."""
    return text if is_keepable(text) else _BROKEN.sub("\ufffd", text)


def fault_of_text(text: str) -> str | None:
    """Return why a text can't be kept, as a sentence; None where it can."""
    found = None if is_keepable(text) else _BROKEN.search(text)
    if found is None:
        return None
    return NUL if found[0] == "\0" else SURROGATE


def fault_of_json(value: Any) -> tuple[tuple[str | int, ...], str] | None:
    """Return where decoded JSON can't be kept, and why; None where all of it can.

    Walks without recursion, so that no nesting is too deep for it.
    """
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while waiting:
        path, it = waiting.pop()
        why = _fault_of_leaf(it)
        if why is None and isinstance(it, Mapping):
            why = next((fault for name in it if (fault := fault_of_text(str(name)))), None)
        if why is None and isinstance(it, Mapping | list) and len(path) >= MOST_LEVELS:
            why = DEEP
        if why is not None:
            return tuple(replaced(part) if isinstance(part, str) else part for part in path), why
        waiting.extend(((*path, name), inner) for name, inner in _inside(it))
    return None


def _fault_of_leaf(value: Any) -> str | None:
    if isinstance(value, str):
        return fault_of_text(value)
    if isinstance(value, float):
        return None if math.isfinite(value) else NUMBER
    return NUMBER if isinstance(value, int) and abs(value) > MOST_INT else None


def _inside(value: Any) -> Iterable[tuple[str | int, Any]]:
    if isinstance(value, Mapping):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()


def is_deep(value: Any, levels: int = MOST_LEVELS) -> bool:
    """Return whether decoded JSON is nested in more levels than this."""
    level = [value]
    for _ in range(levels):
        level = [inner for it in level for _, inner in _inside(it) if isinstance(inner, Mapping | list)]
        if not level:
            return False
    return True


def as_object(value: Any) -> dict[str, Any]:
    """Return stored metadata as the object that it should be: empty for what is none, or is nested too deeply.

    For what an earlier version stored: nothing of the kind comes in any more.
    """
    return value if isinstance(value, dict) and not is_deep(value) else {}
