"""What sync speaks of: runs, the lease, totals, and how a run is refused."""

from typing import Any, Literal

from msgspec import Struct

from instep.identity.refusals import CONFLICT, Refused
from instep.kit.errors import PermanentError, TemporaryError

RunKind = Literal["check", "plan", "apply", "first", "changed"]
RunState = Literal["running", "done", "refused", "failed", "stopped"]
Outcome = Literal["applied", "skipped"]

MINUTE = 60_000
LEASE = MINUTE
PLAN_LASTS = 15 * MINUTE


class Busy(TemporaryError):
    """Another sync is under way."""


class Overtaken(PermanentError):
    """The lease went to another process: whatever this one still wanted to write is refused."""

    def __init__(self) -> None:
        super().__init__("Another process has taken the sync over.", code="overtaken")


class SyncRefused(Refused):
    """A run that was refused as a whole. Nothing was changed."""

    def __init__(self, message: str, *, code: str, status: int = CONFLICT) -> None:
        super().__init__(message, code=code, status=status)


class Lease(Struct, frozen=True):
    """The right to sync, until someone else may take it. `fence` makes a sleeper's write fail."""

    holder: str
    fence: int


class Total(Struct, frozen=True, kw_only=True):
    """How many of a kind Clerk said there are, before and after, and how many were read."""

    before: int
    fetched: int
    after: int
    is_whole: bool
    unreadable: int = 0


class Run(Struct, frozen=True, kw_only=True):
    """One run. `counts` are findings by kind, or what was done; `progress` is where a first sync is."""

    id: str
    kind: RunKind
    state: RunState
    actor: str
    started_at: int
    changed_at: int
    ended_at: int | None = None
    plan_id: str | None = None
    totals: dict[str, Any] = {}
    counts: dict[str, int] = {}
    progress: dict[str, Any] = {}
    hash: str | None = None
    expires_at: int | None = None
    reason: str | None = None
    code: str | None = None

    @property
    def differences(self) -> int:
        """How many findings there are."""
        return sum(self.counts.values())
