"""Prometheus metrics of this process."""

from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from instep.core.clock import SECOND
from instep.sync.models import Freshness
from instep.webhooks.processor import ProcessingResult


@dataclass(frozen=True)
class Metrics:
    """What is counted."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    worked: Counter = field(init=False)
    parked: Counter = field(init=False)
    foreign: Gauge = field(init=False)
    waiting: Gauge = field(init=False)
    listeners: Gauge = field(init=False)
    behind: Gauge = field(init=False)
    newest: Gauge = field(init=False)
    database_up: Gauge = field(init=False)
    clerk_wait: Counter = field(init=False)
    clerk_limited: Counter = field(init=False)

    def __post_init__(self) -> None:
        """Register everything."""
        registry = self.registry
        put = object.__setattr__
        put(self, "worked", Counter("instep_deliveries", "Deliveries worked", ["outcome"], registry=registry))
        put(self, "parked", Counter("instep_deliveries_parked", "Deliveries that need a person", registry=registry))
        words = "Deliveries of another Clerk instance, such as tests of the dashboard: kept, and not applied"
        put(self, "foreign", Gauge("instep_deliveries_foreign", words, registry=registry))
        put(self, "waiting", Gauge("instep_deliveries_unsettled", "Deliveries by state", ["state"], registry=registry))
        put(self, "listeners", Gauge("instep_live_pages", "Open pages that listen", registry=registry))
        words = "People whom Clerk changed and who are not so here, when last looked"
        put(self, "behind", Gauge("instep_people_behind", words, registry=registry))
        words = "When the newest delivery came that was applied, in Unix seconds, when last looked"
        put(self, "newest", Gauge("instep_newest_event_timestamp_seconds", words, registry=registry))
        words = "Whether the database answered just now (1) or not (0)"
        put(self, "database_up", Gauge("instep_database_up", words, registry=registry))
        words = "Seconds that calls to Clerk waited for the pace, together"
        put(self, "clerk_wait", Counter("instep_clerk_wait_seconds", words, registry=registry))
        words = "Calls that Clerk turned away because there were too many (429)"
        put(self, "clerk_limited", Counter("instep_clerk_limited", words, registry=registry))

    def count(self, worked: ProcessingResult) -> None:
        """Count what one transaction of the inbox did."""
        for outcome in worked.outcomes.values():
            self.worked.labels(outcome).inc()
        self.parked.inc(len(worked.failed))

    def text(self, *, unsettled: dict[str, int] | None, listeners: int, fresh: Freshness | None = None) -> bytes:
        """Everything, in Prometheus' text format. `unsettled` None: the database does not answer, and nothing is said
        of what only it knows."""
        self.database_up.set(unsettled is not None)
        if fresh is not None:
            self.behind.set(fresh.behind)
            self.newest.set((fresh.newest_event_at or 0) / SECOND)
        self.waiting.clear()
        for state in ("new", "waiting", "parked") if unsettled is not None else ():
            self.waiting.labels(state).set((unsettled or {}).get(state, 0))
        if unsettled is not None:
            self.foreign.set(unsettled.get("foreign", 0))
        self.listeners.set(listeners)
        return generate_latest(self.registry)
