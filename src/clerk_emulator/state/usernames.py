"""Usernames: which Clerk takes with the settings of a new instance."""

import re

from clerk_emulator.state.refusals import Refused, bad_parameter

SHORTEST = 4
LONGEST = 64
LETTERS = re.compile(r"[A-Za-z0-9_-]*\Z")


def check(username: str) -> None:
    """Refuse a username that is too short or too long, has other characters, or is a number."""
    if not SHORTEST <= len(username) <= LONGEST:
        raise _refused("invalid_length", f"must have {SHORTEST} to {LONGEST} characters")
    if not LETTERS.match(username):
        raise _refused("invalid_character", "may have Latin letters, digits, underscores and hyphens only")
    if username.isdigit():
        raise _refused("needs_non_number_char", "must have a character that is no digit")


def _refused(code: str, words: str) -> Refused:
    return Refused(422, bad_parameter(f"form_username_{code}", "username", words))
