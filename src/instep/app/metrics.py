"""Prometheus metrics of this process: a registry of its own, no global one."""

from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from instep.inbox.work import Worked


@dataclass(frozen=True)
class Metrics:
    """What is counted."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    worked: Counter = field(init=False)
    parked: Counter = field(init=False)
    waiting: Gauge = field(init=False)
    listeners: Gauge = field(init=False)

    def __post_init__(self) -> None:
        """Register everything."""
        registry = self.registry
        put = object.__setattr__
        put(self, "worked", Counter("instep_deliveries", "Deliveries worked", ["outcome"], registry=registry))
        put(self, "parked", Counter("instep_deliveries_parked", "Deliveries that need a person", registry=registry))
        put(self, "waiting", Gauge("instep_deliveries_unsettled", "Deliveries by state", ["state"], registry=registry))
        put(self, "listeners", Gauge("instep_live_pages", "Open pages that listen", registry=registry))

    def count(self, worked: Worked) -> None:
        """Count what one transaction of the inbox did."""
        for outcome in worked.outcomes.values():
            self.worked.labels(outcome).inc()
        self.parked.inc(len(worked.parked))

    def text(self, *, unsettled: dict[str, int], listeners: int) -> bytes:
        """Everything, in Prometheus' text format."""
        for state in ("new", "waiting", "parked"):
            self.waiting.labels(state).set(unsettled.get(state, 0))
        self.listeners.set(listeners)
        return generate_latest(self.registry)
