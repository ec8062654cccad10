"""Sortable unique identifiers with a prefix."""

import itertools
import os

from instep.core.clock import now

_COUNTER_LIMIT = 1 << 24
_counter = itertools.count(int.from_bytes(os.urandom(3), "big") // 2)


def new_id(prefix: str) -> str:
    """Return a new identifier such as `usr_0193f2a51c3e8f1b2c3d4e5f60`, unique and sortable by creation time.

    The counter keeps the order within a millisecond, so that rows of one transaction are read in the order of creation.
    """
    return f"{prefix}_{now():012x}{next(_counter) % _COUNTER_LIMIT:06x}{os.urandom(4).hex()}"
