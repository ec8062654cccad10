"""Logging: structured, one line an event, with the fields that are never logged taken out."""

import logging
import re
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog

HIDDEN = frozenset(
    {"authorization", "cookie", "secret", "secret_key", "token", "password", "key", "url", "body", "signature"}
)
_LINES = frozenset({"exception", "stack"})
# C0 and C1 controls, the separators that some programs take for line ends, and marks that change the reading direction.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_CONTROL_IN_LINES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def configure(*, is_json: bool) -> None:
    """Set up logging for this process: JSON for machines, or lines for people, to standard error."""
    renderer: Any = structlog.processors.JSONRenderer() if is_json else structlog.dev.ConsoleRenderer(colors=False)
    escaping = [] if is_json else [_escape]  # JSON escapes by itself
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _hide,
            structlog.processors.format_exc_info,
            *escaping,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _hide(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in event:
        if name.lower() in HIDDEN:
            event[name] = "(hidden)"
    return event


def _escape(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Show control characters instead of sending them to the terminal; a traceback keeps its lines."""
    for name, value in event.items():
        if isinstance(value, str):
            pattern = _CONTROL_IN_LINES if name in _LINES else _CONTROL
            event[name] = pattern.sub(lambda found: found[0].encode("unicode_escape").decode(), value)
    return event


_ACTING = ("impersonated", "impersonator")


@contextmanager
def request_context(id: str, client: str | None) -> Iterator[None]:
    """Have every line of the log, and every operation, name the request; what the host had bound is left as it was."""
    with structlog.contextvars.bound_contextvars(request_id=id, origin=client):
        structlog.contextvars.unbind_contextvars(*_ACTING)
        try:
            yield
        finally:  # a task that serves one request after the other keeps its context
            structlog.contextvars.unbind_contextvars(*_ACTING)


def act_as(actor: str, impersonator: str) -> None:
    """Note that in the request under way `impersonator` acts as `actor`: in the log, and in all that it records."""
    structlog.contextvars.bind_contextvars(impersonated=actor, impersonator=impersonator)


@contextmanager
def acting_as(actor: str, impersonator: str | None) -> Iterator[None]:
    """Do what somebody asked for earlier as somebody else; `impersonator` None: they asked for it themselves."""
    with structlog.contextvars.bound_contextvars(impersonated=actor, impersonator=impersonator):
        yield


def impersonator_of(actor: str) -> str | None:
    """Return who acts as `actor` in the request under way; None where they act themselves, and outside of one."""
    found = structlog.contextvars.get_contextvars()
    impersonator: str | None = found.get("impersonator")
    return impersonator if found.get("impersonated") == actor else None


def request_under_way() -> dict[str, str | None]:
    """`request_id` and `origin` (the client's address) of the request that this code runs for; None outside of one."""
    found = structlog.contextvars.get_contextvars()
    return {"request_id": found.get("request_id"), "origin": found.get("origin")}
