"""What sync speaks of: runs, the lease, totals, and how a run is refused."""

from typing import Any, Literal

from msgspec import Struct

from instep.identity.refusals import CONFLICT, Refused
from instep.kit.clock import HOUR, MINUTE
from instep.kit.errors import PermanentError, TemporaryError

RunKind = Literal["check", "plan", "apply", "first", "changed"]
RunState = Literal["asked", "running", "done", "refused", "failed", "stopped"]
Outcome = Literal["applied", "skipped"]
TOPIC = "sync"
LEASE = MINUTE
PLAN_LASTS = 15 * MINUTE
GRACE = 5 * MINUTE


"""A webhook may be on its way for so long."""


ASKED_LASTS = 10 * MINUTE
NOT_BEGUN = "not_begun"


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
    """One run. `counts` are findings by kind, or what was done; `progress` is where a first sync is.

    `stage` is how far it is, for those who watch (see Telling); `wish` what a page asked of it (see Asked).
    """

    id: str
    kind: RunKind
    state: RunState
    actor: str
    impersonator: str | None = None
    started_at: int
    changed_at: int
    ended_at: int | None = None
    plan_id: str | None = None
    totals: dict[str, Any] = {}
    counts: dict[str, int] = {}
    progress: dict[str, Any] = {}
    stage: dict[str, Any] = {}
    wish: dict[str, Any] = {}
    hash: str | None = None
    expires_at: int | None = None
    reason: str | None = None
    code: str | None = None

    @property
    def differences(self) -> int:
        """How many findings there are."""
        return sum(self.counts.values())


class Freshness(Struct, frozen=True):
    """How things stood at `looked_at`. `behind`: people whom Clerk changed and who are not so here, for too long.

    `newest_event_at` is when the newest delivery came that was applied; None: none ever came. Not `is_synced`:
    nobody has synced yet, and there are people missing who were in Clerk before the first delivery came.
    """

    looked_at: int
    newest_event_at: int | None
    behind: int
    is_synced: bool = True

    @property
    def is_arriving(self) -> bool:
        """Whether the newest delivery is so young that the webhook can't be called quiet."""
        return self.newest_event_at is not None and self.looked_at - self.newest_event_at < GRACE

    @property
    def is_quiet(self) -> bool:
        """Whether someone should look at the webhook."""
        return self.behind > 0

    @property
    def words(self) -> str | None:
        """What to tell an admin; None while all is well."""
        if not self.is_quiet:
            return None
        people = "1 person" if self.behind == 1 else f"{self.behind} people"
        if not self.is_synced:
            return f"Nothing was synced yet. Missing here, or different: {people}."
        if self.is_arriving:
            return f"Webhooks arrive, but not all of them. Missing here, or different: {people}."
        if self.newest_event_at is None:
            return f"No webhook ever came, and Clerk has {people} who are not so here."
        return f"No webhook for {_span(max(0, self.looked_at - self.newest_event_at))} while Clerk changed {people}."


def _span(milliseconds: int) -> str:
    if milliseconds < HOUR:
        return f"{milliseconds // MINUTE} min"
    hours = milliseconds // HOUR
    return f"{hours} h" if hours < 72 else f"{hours // 24} days"
