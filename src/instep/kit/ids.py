"""Ids of our own: a prefix, the time in milliseconds, and randomness; they sort by the time they were made."""

import os

from instep.kit.clock import now


def new_id(prefix: str) -> str:
    """A new id such as `usr_0193f2a51c3e8f1b2c3d4e5f`: unique, and ordered by time within a prefix."""
    return f"{prefix}_{now():012x}{os.urandom(7).hex()}"
