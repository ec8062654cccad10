"""Sortable unique identifiers with a prefix."""

import itertools
import os

from instep.core.clock import now

_COUNTER_LIMIT = 1 << 24
_counter = itertools.count(int.from_bytes(os.urandom(3), "big") // 2)


def new_id(prefix: str) -> str:
    """A new id such as `usr_0193f2a51c3e8f1b2c3d4e5f60`: unique, and in the order of making within a process.

    The count keeps the order within a millisecond: what one transaction notes is read again in the order of its noting.
    """
    return f"{prefix}_{now():012x}{next(_counter) % _COUNTER_LIMIT:06x}{os.urandom(4).hex()}"
