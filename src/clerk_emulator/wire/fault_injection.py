"""Inject faults into API calls and webhook deliveries, a limited number of times."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")
DELIVERY_FAULTS = ("drop", "double", "delay", "reorder", "bad_signature")
HANG_POINTS = ("before", "after")


class InvalidFaultError(ValueError):
    """An invalid description of a fault."""


@dataclass(slots=True, kw_only=True)
class Fault:
    """A fault of an `operation` or an `event`. `count` None: until it is deleted.

    Of an operation: `latency_ms` waits first; `status` and `body` replace the response, with `retry_after`
    as a header; with `after_effect` only after the operation was executed; `hang` "before" or "after" the
    effect sends no response (for at most `hang_ms`). Of an event: `do` is the effect on its delivery.
    """

    id: str = ""
    operation: str | None = None
    event: str | None = None
    count: int | None = None
    status: int | None = None
    body: Any = None
    latency_ms: int = 0
    hang: str | None = None
    hang_ms: int = 120_000
    retry_after: int | None = None
    after_effect: bool = False
    do: str | None = None
    delay_ms: int = 60_000
    hits: int = field(default=0)

    @property
    def is_spent(self) -> bool:
        """Return whether the fault has occurred `count` times."""
        return self.count is not None and self.hits >= self.count

    @property
    def replaces_response(self) -> bool:
        """Return whether the fault replaces the response."""
        return self.status is not None or self.body is not None

    def describe(self) -> dict[str, Any]:
        """Return the fault as JSON, without empty fields."""
        return {name: value for name, value in asdict(self).items() if value is not None}


async def apply_fault(
    fault: Fault | None,
    do: Callable[[], T],
    *,
    replacement: Callable[[Fault], T],
    hang: Callable[[int], Awaitable[T]],
    wait: Callable[[float], Awaitable[Any]],
) -> T:
    """Execute a call with a fault: delayed, skipped, without a response, or with a replaced response."""
    if fault is None:
        return do()
    if fault.latency_ms:
        await wait(fault.latency_ms / 1000)
    if fault.hang == "before":
        return await hang(fault.hang_ms)
    if fault.replaces_response and not fault.after_effect:
        return replacement(fault)
    done = do()
    if fault.hang == "after":
        return await hang(fault.hang_ms)
    return replacement(fault) if fault.replaces_response else done


class FaultRegistry:
    """The active faults. An exact match of the operation or event takes precedence over `*`."""

    def __init__(self, operations: frozenset[str], events: tuple[str, ...]) -> None:
        self._operations = operations
        self._events = events
        self._faults: dict[str, Fault] = {}
        self._number = 0

    def add(self, data: Any) -> Fault:
        """Add a fault from its description, or raise an InvalidFaultError."""
        fault = _parse_fault(data)
        self._check_target(fault)
        _check_values(fault)
        self._number += 1
        fault.id = f"fault_{self._number}"
        self._faults[fault.id] = fault
        return fault

    def list(self) -> list[Fault]:
        """Return all faults, spent ones included."""
        return list(self._faults.values())

    def remove(self, fault_id: str) -> bool:
        """Delete a fault; return whether it existed."""
        return self._faults.pop(fault_id, None) is not None

    def clear(self) -> None:
        """Delete all faults."""
        self._faults.clear()

    def match_operation_fault(self, operation: str) -> Fault | None:
        """Return the fault of this call, and count it."""
        return self._take("operation", operation)

    def match_event_fault(self, type_: str) -> Fault | None:
        """Return the fault of this delivery, and count it."""
        return self._take("event", type_)

    def _take(self, field_: str, name: str) -> Fault | None:
        for wanted in (name, "*"):
            for fault in self._faults.values():
                if getattr(fault, field_) == wanted and not fault.is_spent:
                    fault.hits += 1
                    return fault
        return None

    def _check_target(self, fault: Fault) -> None:
        if (fault.operation is None) == (fault.event is None):
            raise InvalidFaultError("give an operation or an event, not both")
        if fault.operation is not None and fault.operation not in {"*", *self._operations}:
            raise InvalidFaultError(f"there is no operation {fault.operation}")
        if fault.event is not None and fault.event not in {"*", *self._events}:
            raise InvalidFaultError(f"there is no event {fault.event}")


def _parse_fault(data: Any) -> Fault:
    if not isinstance(data, dict):
        raise InvalidFaultError("a fault must be a JSON object")
    known = set(Fault.__dataclass_fields__) - {"id", "hits"}
    unknown = sorted(set(data) - known)
    if unknown:
        raise InvalidFaultError(f"unknown: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    if not all(isinstance(data.get(name), str | None) for name in ("operation", "event", "hang", "do")):
        raise InvalidFaultError("operation, event, hang and do must be strings")
    return Fault(**data)


def _check_values(fault: Fault) -> None:
    for name in ("count", "status", "latency_ms", "hang_ms", "retry_after", "delay_ms"):
        value = getattr(fault, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise InvalidFaultError(f"{name} must be a whole number, 0 or more")
    if fault.status is not None and not 200 <= fault.status <= 599:
        raise InvalidFaultError("status must be from 200 to 599")
    if fault.event is not None and fault.do not in DELIVERY_FAULTS:
        raise InvalidFaultError(f"do must be one of {', '.join(DELIVERY_FAULTS)}")
    if fault.operation is not None and not _has_effect(fault):
        raise InvalidFaultError("an operation's fault needs status, body, latency_ms or hang")
    if fault.hang is not None and fault.hang not in HANG_POINTS:
        raise InvalidFaultError("hang must be before or after")


def _has_effect(fault: Fault) -> bool:
    return bool(fault.status or fault.latency_ms or fault.hang) or fault.body is not None
