"""Validate request bodies: fields, types and bounds."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from clerk_emulator.state.errors import ApiError, ErrorDetail, NotEmulatedError, parameter_detail

Validator = Callable[[str, Any], Any]
LANGUAGE_TAG = re.compile(r"(?:[A-Za-z]{2,8}|[ixIX](?=-))(?:-[A-Za-z0-9]{1,8})*\Z")


class BodySchema:
    """The fields of a request body. `read()` returns the validated values of those that were sent."""

    def __init__(
        self, fields: Mapping[str, Validator], *, required: tuple[str, ...] = (), strict: bool = True, status: int = 422
    ):
        self._status = status
        self._fields = fields
        self._required = required
        self._strict = strict

    def read(self, body: Any) -> dict[str, Any]:
        """Return the values, or raise an ApiError with one problem for each invalid parameter."""
        if body is None:
            body = {}
        if not isinstance(body, dict):
            raise invalid_body_error()
        problems = [_missing_error(name) for name in self._required if body.get(name) is None]
        values: dict[str, Any] = {}
        for name, value in body.items():
            check = self._fields.get(name)
            if check is None:
                if self._strict:
                    message = "is not a parameter of this request"
                    problems.append(parameter_detail("form_param_unknown", name, message))
                continue
            try:
                values[name] = check(name, value)
            except ApiError as error:
                problems.extend(error.problems)
        if problems:
            raise ApiError(self._status, *problems)
        return values

    def read_list(self, body: Any, maximum: int) -> list[dict[str, Any]]:
        """Return the values of each object in a non-empty list."""
        if not isinstance(body, list):
            raise invalid_body_error()
        if not 1 <= len(body) <= maximum:
            message = f"The request accepts a list of 1 to {maximum} items."
            raise ApiError(422, ErrorDetail("form_param_value_invalid", "wrong number of items", message))
        return [self.read(item) for item in body]


def invalid_body_error() -> ApiError:
    """400: the body does not have the form that the request accepts."""
    message = "The request body has an invalid format."
    return ApiError(400, ErrorDetail("request_body_invalid", "invalid request body", message))


def text(name: str, value: Any) -> str:
    """Accept a string."""
    _require_type(name, value, str, "a string")
    return str(value)


def short_text(maximum: int) -> Validator:
    """Accept a non-empty string."""

    def check(name: str, value: Any) -> str:
        found = text(name, value)
        if not 1 <= len(found) <= maximum:
            message = f"must have 1 to {maximum} characters"
            raise ApiError(422, parameter_detail("form_param_value_invalid", name, message))
        return found

    return check


def anything(name: str, value: Any) -> Any:
    """Accept anything."""
    return value


def seconds(name: str, value: Any) -> float:
    """Accept a positive number of seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 10**10:
        raise _type_error(name, "a number of seconds above 0")
    return float(value)


def literal(word: str) -> Validator:
    """Accept one value: others that Clerk accepts are not emulated."""

    def check(name: str, value: Any) -> Any:
        if value not in (None, word):
            raise NotEmulatedError(f"another {name} than {word}")
        return value

    return check


def flag(name: str, value: Any) -> bool:
    """Accept a boolean."""
    _require_type(name, value, bool, "a boolean")
    return bool(value)


def mapping(name: str, value: Any) -> dict[str, Any]:
    """Accept an object."""
    _require_type(name, value, dict, "an object")
    return dict(value)


def texts(name: str, value: Any) -> list[str]:
    """Accept a list of strings."""
    _require_type(name, value, list, "a list of strings")
    for item in value:
        _require_type(name, item, str, "a list of strings")
    return list(value)


def integer(minimum: int, maximum: int | None = None) -> Validator:
    """Accept an integer within bounds."""

    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise _type_error(name, "an integer")
        if value < minimum or (maximum is not None and value > maximum):
            bounds = f"must be {minimum} or more" if maximum is None else f"must be from {minimum} to {maximum}"
            raise ApiError(422, parameter_detail("form_param_value_invalid", name, bounds))
        return value

    return check


def choice(*allowed: str) -> Validator:
    """Accept one of a few values."""

    def check(name: str, value: Any) -> str:
        if value not in allowed:
            message = f"must be one of {', '.join(allowed)}"
            raise ApiError(422, parameter_detail("form_param_value_invalid", name, message))
        return str(value)

    return check


def address(name: str, value: Any) -> str:
    """Accept an absolute URL with any scheme that opens an application."""
    found = text(name, value)
    try:
        parts = urlsplit(found)
        target = parts.hostname if parts.scheme in ("http", "https") else parts.hostname or parts.path
        is_whole = bool(target) and parts.scheme not in ("", "javascript", "data", "vbscript", "file")
    except ValueError:
        is_whole = False
    if not is_whole or any(ord(character) <= 32 for character in found):
        message = "must be an absolute URL"
        raise ApiError(422, parameter_detail("form_param_format_invalid", name, message))
    return found


def locale(name: str, value: Any) -> str:
    """Accept a BCP 47 language tag such as `en-US`."""
    found = text(name, value)
    if not LANGUAGE_TAG.match(found):
        message = "must be a BCP 47 language tag"
        raise ApiError(422, parameter_detail("form_param_format_invalid", name, message))
    return found


def timestamp(name: str, value: Any) -> int:
    """Accept an RFC 3339 time and return milliseconds."""
    message = "must be a time in RFC 3339 form"
    try:
        found = datetime.fromisoformat(text(name, value))
    except ValueError:
        raise ApiError(422, parameter_detail("form_param_format_invalid", name, message)) from None
    aware = found if found.tzinfo else found.replace(tzinfo=UTC)
    return int(aware.timestamp() * 1000)


def nullable(check: Validator) -> Validator:
    """Accept null as well."""
    return lambda name, value: None if value is None else check(name, value)


def not_emulated(name: str, value: Any) -> None:
    """Accept only an empty value: Clerk has this parameter and the emulator does not."""
    if value not in (None, [], "", False):
        raise NotEmulatedError(f"the parameter {name}")


def deprecated(replacement: str) -> Validator:
    """Accept nothing: this version of the API no longer has the parameter."""

    def check(name: str, value: Any) -> None:
        raise ApiError(422, parameter_detail("form_param_deprecated", name, f"is no longer accepted; {replacement}"))

    return check


def _require_type(name: str, value: Any, kind: type, message: str) -> None:
    if not isinstance(value, kind):
        raise _type_error(name, message)


def _type_error(name: str, message: str) -> ApiError:
    return ApiError(422, parameter_detail("form_param_value_invalid", name, f"must be {message}"))


def _missing_error(name: str) -> ErrorDetail:
    return parameter_detail("form_param_missing", name, "is missing")
