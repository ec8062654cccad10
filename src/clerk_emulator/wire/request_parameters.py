"""Typed access to query and form parameters: paging, ordering and filters."""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from clerk_emulator.state.errors import ApiError, invalid_value_error, parameter_detail

DEFAULT_LIMIT = 10
MAX_LIMIT = 500
MAX_VALUES = 100
MAX_INTEGER = 10**15
T = TypeVar("T")


class RequestParameters:
    """The parameters as sent, in order, with repetitions."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name.removesuffix("[]"), []).append(value)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def text(self, name: str) -> str | None:
        """Return the first value, or None."""
        values = self._values.get(name)
        return values[0] if values and values[0] != "" else None

    def texts(self, name: str) -> list[str] | None:
        """Return all values, or None."""
        values = self._values.get(name)
        if values is None:
            return None
        found = [value.strip() for value in values if value.strip()]
        if len(found) > MAX_VALUES:
            raise invalid_value_error(name, f"may have at most {MAX_VALUES} values")
        return found

    def number(self, name: str, minimum: int = 0) -> int | None:
        """Return a whole number, or None."""
        value = self.text(name)
        if value is None:
            return None
        try:
            number = int(value)
        except ValueError:
            raise invalid_value_error(name, "must be an integer") from None
        if not minimum <= number <= MAX_INTEGER:
            raise invalid_value_error(name, f"must be from {minimum} to {MAX_INTEGER}")
        return number

    def flag(self, name: str) -> bool | None:
        """Return true or false, or None."""
        value = self.text(name)
        if value is None:
            return None
        if value.lower() not in ("true", "false", "1", "0"):
            raise invalid_value_error(name, "must be true or false")
        return value.lower() in ("true", "1")

    def mapping(self, name: str) -> dict[str, Any] | None:
        """Return an object that is encoded as JSON, or None."""
        value = self.text(name)
        if value is None:
            return None
        try:
            found = json.loads(value)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise invalid_value_error(name, "must be an object as JSON")
        return found

    def choices(self, name: str, allowed: tuple[str, ...]) -> list[str] | None:
        """Return values of an enumeration, repeated or comma-separated, or None."""
        values = [part.strip() for value in self.texts(name) or [] for part in value.split(",")]
        if values and any(value not in allowed for value in values):
            raise invalid_value_error(name, f"must be one of {', '.join(allowed)}")
        return values or None

    @property
    def limit(self) -> int:
        """Return the page size, from 1 to 500 as in Clerk's specification; ten by default."""
        limit = self.number("limit", minimum=1)
        if limit is not None and limit > MAX_LIMIT:
            raise invalid_value_error("limit", f"must be from 1 to {MAX_LIMIT}")
        return limit or DEFAULT_LIMIT

    @property
    def offset(self) -> int:
        """Return the number of rows to skip."""
        return self.number("offset") or 0

    def order(self, allowed: tuple[str, ...], default: str = "-created_at") -> tuple[str, bool]:
        """Return the sort field and whether it is descending; only the first `order_by` counts."""
        wanted = (self.text("order_by") or default).strip()
        name = wanted.lstrip("+-")
        if name not in allowed:
            message = f"must be one of {', '.join(allowed)}, with + or - before it"
            raise ApiError(422, parameter_detail("form_param_value_invalid", "order_by", message))
        return name, wanted.startswith("-")

    def page(self, rows: Iterable[T]) -> list[T]:
        """Return the requested page."""
        return list(islice(rows, self.offset, self.offset + self.limit))


def iter_sorted(rows: Iterable[T], key: Callable[[T], Any], *, descending: bool) -> Iterator[T]:
    """Iterate over rows sorted by a key; the sort is stable."""
    return iter(sorted(rows, key=key, reverse=descending))
