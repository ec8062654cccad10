"""Lenient decoding of Clerk's JSON: repair invalid characters, limit nesting, drop unreadable fields."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from instep.core.clock import is_valid_time
from instep.core.input_limits import MAX_NESTING

T = TypeVar("T")
# What msgspec raises for JSON that is not as it should be.
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
MAX_VERSION = 2**53
MAX_ID_LENGTH, MAX_ROLE_LENGTH, MAX_EMAIL_LENGTH = 200, 200, 320
# Characters of a name; more is cut. Indexes of PostgreSQL hold about 2,700 bytes a row.
MAX_NAME_LENGTH = 300
MAX_URL_LENGTH = 2_000
_MAX_NUMBER_DIGITS = 300  # digits; JSON allows any number of them
# Levels that are read at all: more than may be kept, so that what is left out of them is known to be too deep.
MAX_DECODED_NESTING = 2 * MAX_NESTING
_BRACKETS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{\]}]', re.DOTALL)
_ESCAPES = re.compile(rb"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u([0-9a-fA-F]{4})|\\.", re.DOTALL)
_TIME_FIELDS = ("created_at", "expires_at", "expire_at", "last_sign_in_at", "last_active_at")
_METADATA_FIELDS = ("public_metadata", "private_metadata", "unsafe_metadata")


def replace_invalid_characters(body: bytes) -> bytes:
    """Replace escaped NULs, unpaired surrogates and invalid UTF-8 in JSON with U+FFFD."""
    if b"\\u" in body:
        body = _ESCAPES.sub(_replace_escape, body)
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            return body.decode(errors="replace").encode()
    return body


def _replace_escape(match: "re.Match[bytes]") -> bytes:
    if match[1] is None:  # a whole pair, or another escape
        return match[0]
    code_point = int(match[1], 16)
    return rb"\ufffd" if code_point == 0 or 0xD800 <= code_point <= 0xDFFF else match[0]


def decode_leniently(decode: Callable[[bytes | Raw], T], raw: bytes | Raw) -> T:
    """Decode one object; if that fails, without its replaceable invalid parts. Raises one of DECODE_ERRORS."""
    try:
        return decode(raw)
    except RecursionError:
        pruned = prune_deep_nesting(bytes(raw))
        if pruned == bytes(raw):
            raise
        return decode_leniently(decode, pruned)
    except DECODE_ERRORS:
        sanitized = _replace_invalid_fields(raw)
        if sanitized is None:
            raise
        return decode(sanitized)


def prune_deep_nesting(body: bytes) -> bytes:
    """Replace everything in JSON that is nested deeper than MAX_DECODED_NESTING levels with null."""
    parts, position, depth = [], 0, 0
    for token in _BRACKETS.finditer(body):
        bracket = token[0][:1]
        if bracket in b"[{":
            depth += 1
            if depth == MAX_DECODED_NESTING + 1:
                parts.append(body[position : token.start()])
        elif bracket in b"]}":
            depth -= 1
            if depth == MAX_DECODED_NESTING:
                parts.append(b"null")
                position = token.end()
    return b"".join([*parts, body[position:]]) if parts else body


def _replace_invalid_fields(raw: bytes | Raw) -> bytes | None:
    """Return the object with invalid optional fields replaced; None if it is not a JSON object."""
    try:
        value = json.loads(bytes(raw), parse_int=_parse_integer)
        return json.dumps(_sanitize_object(value)).encode() if isinstance(value, dict) else None
    except (ValueError, RecursionError):
        return None


def _parse_integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_NUMBER_DIGITS else float("inf")


def _sanitize_object(value: Mapping[str, Any]) -> dict[str, Any]:
    sanitized = dict(value)
    for name in _TIME_FIELDS:
        if name in sanitized:
            sanitized[name] = parse_unix_millis(sanitized[name])
    if not _is_version(sanitized.get("updated_at", 0)):
        sanitized["updated_at"] = None
    for name in _METADATA_FIELDS:
        if name in sanitized and not isinstance(sanitized[name], dict):
            sanitized[name] = None
    if isinstance(sanitized.get("email_addresses"), list):
        sanitized["email_addresses"] = _select_readable_addresses(sanitized)
    if isinstance(sanitized.get("organization"), dict):
        sanitized["organization"] = _sanitize_object(sanitized["organization"])
    return sanitized


def _is_version(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_VERSION


def _select_readable_addresses(user: Mapping[str, Any]) -> list[Any]:
    """Return the readable addresses; all of them if the primary one is unreadable, so that its loss is noticed."""
    primary, listed = user.get("primary_email_address_id"), user["email_addresses"]
    readable = [address for address in listed if _is_readable_address(address)]
    return readable if primary is None or any(address["id"] == primary for address in readable) else listed


def _is_readable_address(address: Any) -> bool:
    if not isinstance(address, dict) or not isinstance(address.get("id"), str):
        return False
    email, verification = address.get("email_address"), address.get("verification")
    status = verification.get("status") if isinstance(verification, dict) else None
    has_valid_status = verification is None or (
        isinstance(verification, dict) and (status is None or isinstance(status, str))
    )
    return isinstance(email, str) and 0 < len(email) <= MAX_EMAIL_LENGTH and has_valid_status


def parse_unix_millis(value: Any) -> int | None:
    """Return a time in Unix milliseconds; None, unknown, outside the years 1970 to 2200 or for another type."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not is_valid_time(value):
        return None
    return int(value)


def is_json_object(raw: bytes) -> bool:
    """Return whether JSON without leading whitespace is an object."""
    return raw.startswith(b"{")
