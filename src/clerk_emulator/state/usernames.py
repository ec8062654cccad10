"""Username rules."""

import re

from clerk_emulator.state.errors import ApiError, parameter_detail

MIN_LENGTH = 4
MAX_LENGTH = 64
ALLOWED_PATTERN = re.compile(r"[A-Za-z0-9_-]*\Z")


def validate_username(username: str) -> None:
    """Reject a username that is too short or too long, has invalid characters, or is a number."""
    if not MIN_LENGTH <= len(username) <= MAX_LENGTH:
        raise _username_error("invalid_length", f"must have {MIN_LENGTH} to {MAX_LENGTH} characters")
    if not ALLOWED_PATTERN.match(username):
        raise _username_error("invalid_character", "may contain only Latin letters, digits, underscores and hyphens")
    if username.isdigit():
        raise _username_error("needs_non_number_char", "must contain a character that is not a digit")


def _username_error(code: str, message: str) -> ApiError:
    return ApiError(422, parameter_detail(f"form_username_{code}", "username", message))
