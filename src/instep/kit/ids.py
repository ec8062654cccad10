"""Ids of our own: a prefix, the time in milliseconds, a count, and randomness; they sort by the time they were made."""

import itertools
import os

from instep.kit.clock import now

_COUNTED = 1 << 24
_count = itertools.count(int.from_bytes(os.urandom(3), "big") // 2)


def new_id(prefix: str) -> str:
    """A new id such as `usr_0193f2a51c3e8f1b2c3d4e5f60`: unique, and in the order of making within a process.

    The count keeps the order within a millisecond: what one transaction notes is read again in the order of its noting.
    """
    return f"{prefix}_{now():012x}{next(_count) % _COUNTED:06x}{os.urandom(4).hex()}"
