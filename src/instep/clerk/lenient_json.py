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
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


"""What msgspec raises for JSON that is not as it should be."""


MAX_VERSION = 2**53
MAX_ID_LENGTH, MAX_ROLE_LENGTH, MAX_EMAIL_LENGTH = 200, 200, 320
MAX_NAME_LENGTH = 300


"""Characters of a name; more is cut. Indexes of PostgreSQL hold about 2,700 bytes a row."""


MAX_URL_LENGTH = 2_000
_MAX_NUMBER_DIGITS = 300  # digits; JSON allows any number of them
MAX_DECODED_NESTING = 2 * MAX_NESTING


"""Levels that are read at all: more than may be kept, so that what is left out of them is known to be too deep."""


_BRACKETS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{\]}]', re.DOTALL)
_ESCAPES = re.compile(rb"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u([0-9a-fA-F]{4})|\\.", re.DOTALL)
_TIME_FIELDS = ("created_at", "expires_at", "expire_at", "last_sign_in_at", "last_active_at")
_METADATA_FIELDS = ("public_metadata", "private_metadata", "unsafe_metadata")


def replace_invalid_characters(body: bytes) -> bytes:
    """Return JSON with U+FFFD for each escaped NUL and half of a surrogate pair, and for bytes that are no UTF-8."""
    if b"\\u" in body:
        body = _ESCAPES.sub(_replace_escape, body)
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            return body.decode(errors="replace").encode()
    return body


def _replace_escape(found: "re.Match[bytes]") -> bytes:
    if found[1] is None:  # a whole pair, or another escape
        return found[0]
    point = int(found[1], 16)
    return rb"\ufffd" if point == 0 or 0xD800 <= point <= 0xDFFF else found[0]


def decode_leniently(read: Callable[[bytes | Raw], T], raw: bytes | Raw) -> T:
    """Decode one object by `read`, without its bad parts where it must be. Raises one of `UNREADABLE`."""
    try:
        return read(raw)
    except RecursionError:
        flat = prune_deep_nesting(bytes(raw))
        if flat == bytes(raw):
            raise
        return decode_leniently(read, flat)
    except DECODE_ERRORS:
        without = _replace_invalid_fields(raw)
        if without is None:
            raise
        return read(without)


def prune_deep_nesting(body: bytes) -> bytes:
    """Return JSON with null for everything that is nested in more than `DEEPEST` levels."""
    parts, kept, depth = [], 0, 0
    for token in _BRACKETS.finditer(body):
        sign = token[0][:1]
        if sign in b"[{":
            depth += 1
            if depth == MAX_DECODED_NESTING + 1:
                parts.append(body[kept : token.start()])
        elif sign in b"]}":
            depth -= 1
            if depth == MAX_DECODED_NESTING:
                parts.append(b"null")
                kept = token.end()
    return b"".join([*parts, body[kept:]]) if parts else body


def _replace_invalid_fields(raw: bytes | Raw) -> bytes | None:
    """The object with what is known to be replaceable replaced; None where it is no object, or none that can be."""
    try:
        value = json.loads(bytes(raw), parse_int=_parse_integer)
        return json.dumps(_sanitize_object(value)).encode() if isinstance(value, dict) else None
    except (ValueError, RecursionError):
        return None


def _parse_integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_NUMBER_DIGITS else float("inf")


def _sanitize_object(it: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(it)
    for name in _TIME_FIELDS:
        if name in found:
            found[name] = parse_unix_millis(found[name])
    if not _is_version(found.get("updated_at", 0)):
        found["updated_at"] = None
    for name in _METADATA_FIELDS:
        if name in found and not isinstance(found[name], dict):
            found[name] = None
    if isinstance(found.get("email_addresses"), list):
        found["email_addresses"] = _select_readable_addresses(found)
    if isinstance(found.get("organization"), dict):
        found["organization"] = _sanitize_object(found["organization"])
    return found


def _is_version(at: Any) -> bool:
    return isinstance(at, int) and not isinstance(at, bool) and 0 <= at <= MAX_VERSION


def _select_readable_addresses(user: Mapping[str, Any]) -> list[Any]:
    """The addresses that can be read. All of them where the primary one can't be: nobody loses theirs unnoticed."""
    primary, listed = user.get("primary_email_address_id"), user["email_addresses"]
    good = [it for it in listed if _is_readable_address(it)]
    return good if primary is None or any(it["id"] == primary for it in good) else listed


def _is_readable_address(it: Any) -> bool:
    if not isinstance(it, dict) or not isinstance(it.get("id"), str):
        return False
    email, proof = it.get("email_address"), it.get("verification")
    status = proof.get("status") if isinstance(proof, dict) else None
    is_proof = proof is None or (isinstance(proof, dict) and (status is None or isinstance(status, str)))
    return isinstance(email, str) and 0 < len(email) <= MAX_EMAIL_LENGTH and is_proof


def parse_unix_millis(at: Any) -> int | None:
    """Return a time of Clerk's in Unix milliseconds; None, unknown, for what is none between 1970 and 2200."""
    if isinstance(at, bool) or not isinstance(at, int | float) or not is_valid_time(at):
        return None
    return int(at)


def is_json_object(raw: bytes) -> bool:
    """Return whether a piece of JSON, without space before it, is an object."""
    return raw.startswith(b"{")
