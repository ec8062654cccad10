"""Settings of the interpreter for a process of our own: threads that come back from the database often get their turn.

Only commands call this, in a process that does nothing else. A library never does: the process is its host's.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

TURN = 0.0005  # seconds; the interpreter's own is ten times that
YOUNG = 50_000  # objects made until the garbage collector looks: a page of answers is thousands, and none is a cycle


@contextmanager
def quick_turns() -> Iterator[None]:
    """Give threads quick turns while everything is read on one and written on another.

    A thread that comes back from a statement waits for the interpreter as long as the other one's turn lasts: 5 ms are
    longer than most statements. What was made before is left out of what the garbage collector looks through.
    """
    before, thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(TURN)
    gc.freeze()
    gc.set_threshold(YOUNG, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
        sys.setswitchinterval(before)
