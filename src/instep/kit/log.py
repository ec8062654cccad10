"""Logging: structured, one line an event, with the fields that are never logged taken out."""

import logging
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog

HIDDEN = frozenset(
    {"authorization", "cookie", "secret", "secret_key", "token", "password", "key", "url", "body", "signature"}
)


def configure(*, is_json: bool) -> None:
    """Set up logging for this process: JSON for machines, or lines for people, to standard error."""
    renderer: Any = structlog.processors.JSONRenderer() if is_json else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _hide,
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _hide(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in event:
        if name.lower() in HIDDEN:
            event[name] = "(hidden)"
    return event


@contextmanager
def request_context(id: str, client: str | None) -> Iterator[None]:
    """Have every line of the log, and every operation, name the request; what the host had bound is left as it was."""
    with structlog.contextvars.bound_contextvars(request_id=id, origin=client):
        yield


def request_under_way() -> dict[str, str | None]:
    """`request_id` and `origin` (the client's address) of the request that this code runs for; None outside of one."""
    found = structlog.contextvars.get_contextvars()
    return {"request_id": found.get("request_id"), "origin": found.get("origin")}
