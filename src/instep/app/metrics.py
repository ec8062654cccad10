"""Prometheus metrics of this process."""

from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from instep.core.clock import SECOND
from instep.sync.models import Freshness
from instep.webhooks.processor import ProcessingResult

DELIVERY_STATES = ("new", "waiting", "parked")


@dataclass(frozen=True)
class Metrics:
    """Counters and gauges, in a registry of their own."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    deliveries: Counter = field(init=False)
    failed_deliveries: Counter = field(init=False)
    foreign_deliveries: Gauge = field(init=False)
    pending_deliveries: Gauge = field(init=False)
    live_connections: Gauge = field(init=False)
    users_behind: Gauge = field(init=False)
    newest_event: Gauge = field(init=False)
    database_up: Gauge = field(init=False)
    clerk_wait_seconds: Counter = field(init=False)
    clerk_rate_limited: Counter = field(init=False)

    def __post_init__(self) -> None:
        """Register all metrics."""
        self._register(
            "deliveries", Counter, "instep_webhook_deliveries", "Webhook deliveries processed, by outcome", "outcome"
        )
        self._register(
            "failed_deliveries", Counter, "instep_webhook_deliveries_failed", "Webhook deliveries that need a person"
        )
        self._register(
            "foreign_deliveries",
            Gauge,
            "instep_webhook_deliveries_foreign",
            "Stored deliveries of another Clerk instance, such as tests from the dashboard; they are not applied",
        )
        self._register(
            "pending_deliveries", Gauge, "instep_webhook_deliveries_pending", "Unprocessed deliveries by state", "state"
        )
        self._register("live_connections", Gauge, "instep_live_connections", "Open pages that receive live updates")
        self._register(
            "users_behind",
            Gauge,
            "instep_sync_users_behind",
            "Users whose change in Clerk was missing here at the last freshness check",
        )
        self._register(
            "newest_event",
            Gauge,
            "instep_webhook_newest_event_timestamp_seconds",
            "Time at which the newest applied delivery was received, as of the last freshness check",
        )
        self._register("database_up", Gauge, "instep_database_up", "1 if the database responded just now, else 0")
        self._register(
            "clerk_wait_seconds",
            Counter,
            "instep_clerk_rate_limit_wait_seconds",
            "Total time for which calls to Clerk waited for the rate limiter",
        )
        self._register(
            "clerk_rate_limited", Counter, "instep_clerk_rate_limited", "Calls that Clerk rejected with status 429"
        )

    def _register(
        self, name: str, kind: type[Counter] | type[Gauge], metric: str, documentation: str, *labels: str
    ) -> None:
        object.__setattr__(self, name, kind(metric, documentation, labels, registry=self.registry))

    def count(self, result: ProcessingResult) -> None:
        """Count the deliveries of one processing transaction."""
        for outcome in result.outcomes.values():
            self.deliveries.labels(outcome).inc()
        self.failed_deliveries.inc(len(result.failed))

    def text(
        self, *, pending: dict[str, int] | None, live_connections: int, freshness: Freshness | None = None
    ) -> bytes:
        """Return all metrics in the Prometheus text format.

        `pending` are deliveries by state; None while the database does not respond, which leaves out the metrics that
        are read from it.
        """
        self.database_up.set(pending is not None)
        if freshness is not None:
            self.users_behind.set(freshness.behind)
            self.newest_event.set((freshness.newest_event_at or 0) / SECOND)
        self.pending_deliveries.clear()
        if pending is not None:
            for state in DELIVERY_STATES:
                self.pending_deliveries.labels(state).set(pending.get(state, 0))
            self.foreign_deliveries.set(pending.get("foreign", 0))
        self.live_connections.set(live_connections)
        return generate_latest(self.registry)
