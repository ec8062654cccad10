"""Whom and what a webhook is about, in Clerk's ids: to find it again. Whatever can't be read is about nobody."""

from typing import Any

import msgspec
from msgspec import Raw, Struct


class _Data(Struct):
    id: Any = None
    user_id: Any = None
    organization_id: Any = None
    organization: Any = None
    public_user_data: Any = None


_decode = msgspec.json.Decoder(_Data).decode


def subject(type: str, data: Raw) -> tuple[str | None, str | None]:
    """The user and the organization that the data of an event name."""
    try:
        it = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None, None
    family = type.partition(".")[0]
    user = it.id if family == "user" else it.user_id or _within(it.public_user_data, "user_id")
    organization = it.id if family == "organization" else it.organization_id or _within(it.organization, "id")
    return _text(user), _text(organization)


def _within(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) < 200 and "\0" not in value else None
