"""The edge to Clerk: what it sends is made fit to be kept, or is unreadable; one bad part costs no more than itself.

`mended` goes over every body; `decode` reads one object, and once more with its bad parts taken out where it can't be
read as it came: a time that is none is unknown, an address that can't be read is left out, metadata that are no object
count as empty. Pure.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from instep.kit.bounds import MOST_LEVELS
from instep.kit.clock import is_time

T = TypeVar("T")
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


"""What msgspec raises for JSON that is not as it should be."""


MOST_VERSION = 2**53
LONGEST_ID, LONGEST_ROLE, LONGEST_EMAIL = 200, 200, 320
LONGEST_NAME = 300


"""Characters of a name; more is cut. Indexes of PostgreSQL hold about 2,700 bytes a row."""


LONGEST_URL = 2_000
_LONGEST_NUMBER = 300  # digits; JSON allows any number of them
DEEPEST = 2 * MOST_LEVELS


"""Levels that are read at all: more than may be kept, so that what is left out of them is known to be too deep."""


_BRACKETS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{\]}]', re.DOTALL)
_ESCAPES = re.compile(rb"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u([0-9a-fA-F]{4})|\\.", re.DOTALL)
_TIMES = ("created_at", "expires_at", "expire_at", "last_sign_in_at", "last_active_at")
_METADATA = ("public_metadata", "private_metadata", "unsafe_metadata")


def mended(body: bytes) -> bytes:
    """Return JSON with U+FFFD for each escaped NUL and half of a surrogate pair, and for bytes that are no UTF-8."""
    if b"\\u" in body:
        body = _ESCAPES.sub(_kept, body)
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            return body.decode(errors="replace").encode()
    return body


def _kept(found: "re.Match[bytes]") -> bytes:
    if found[1] is None:  # a whole pair, or another escape
        return found[0]
    point = int(found[1], 16)
    return rb"\ufffd" if point == 0 or 0xD800 <= point <= 0xDFFF else found[0]


def decode(read: Callable[[bytes | Raw], T], raw: bytes | Raw) -> T:
    """Decode one object by `read`, without its bad parts where it must be. Raises one of `UNREADABLE`."""
    try:
        return read(raw)
    except RecursionError:
        flat = flattened(bytes(raw))
        if flat == bytes(raw):
            raise
        return decode(read, flat)
    except UNREADABLE:
        without = _without_bad_parts(raw)
        if without is None:
            raise
        return read(without)


def flattened(body: bytes) -> bytes:
    """Return JSON with null for everything that is nested in more than `DEEPEST` levels."""
    parts, kept, depth = [], 0, 0
    for token in _BRACKETS.finditer(body):
        sign = token[0][:1]
        if sign in b"[{":
            depth += 1
            if depth == DEEPEST + 1:
                parts.append(body[kept : token.start()])
        elif sign in b"]}":
            depth -= 1
            if depth == DEEPEST:
                parts.append(b"null")
                kept = token.end()
    return b"".join([*parts, body[kept:]]) if parts else body


def _without_bad_parts(raw: bytes | Raw) -> bytes | None:
    """The object with what is known to be replaceable replaced; None where it is no object, or none that can be."""
    try:
        value = json.loads(bytes(raw), parse_int=_number)
        return json.dumps(_object(value)).encode() if isinstance(value, dict) else None
    except (ValueError, RecursionError):
        return None


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONGEST_NUMBER else float("inf")


def _object(it: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(it)
    for name in _TIMES:
        if name in found:
            found[name] = known_time(found[name])
    if not _is_version(found.get("updated_at", 0)):
        found["updated_at"] = None
    for name in _METADATA:
        if name in found and not isinstance(found[name], dict):
            found[name] = None
    if isinstance(found.get("email_addresses"), list):
        found["email_addresses"] = _addresses(found)
    if isinstance(found.get("organization"), dict):
        found["organization"] = _object(found["organization"])
    return found


def _is_version(at: Any) -> bool:
    return isinstance(at, int) and not isinstance(at, bool) and 0 <= at <= MOST_VERSION


def _addresses(user: Mapping[str, Any]) -> list[Any]:
    """The addresses that can be read. All of them where the primary one can't be: nobody loses theirs unnoticed."""
    primary, listed = user.get("primary_email_address_id"), user["email_addresses"]
    good = [it for it in listed if _is_address(it)]
    return good if primary is None or any(it["id"] == primary for it in good) else listed


def _is_address(it: Any) -> bool:
    if not isinstance(it, dict) or not isinstance(it.get("id"), str):
        return False
    email, proof = it.get("email_address"), it.get("verification")
    status = proof.get("status") if isinstance(proof, dict) else None
    is_proof = proof is None or (isinstance(proof, dict) and (status is None or isinstance(status, str)))
    return isinstance(email, str) and 0 < len(email) <= LONGEST_EMAIL and is_proof


def known_time(at: Any) -> int | None:
    """Return a time of Clerk's in Unix milliseconds; None, unknown, for what is none between 1970 and 2200."""
    if isinstance(at, bool) or not isinstance(at, int | float) or not is_time(at):
        return None
    return int(at)


def is_object(raw: bytes) -> bool:
    """Return whether a piece of JSON, without space before it, is an object."""
    return raw.startswith(b"{")
