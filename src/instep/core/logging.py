"""Structured logging with redacted fields."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

REDACTED_FIELDS = frozenset(
    {"authorization", "cookie", "secret", "secret_key", "token", "password", "key", "url", "body", "signature"}
)
_MULTILINE_FIELDS = frozenset({"exception", "stack"})
# C0 and C1 controls, separators that some programs treat as line ends, and marks that change the text direction.
_CONTROL_CHARACTERS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_CONTROL_CHARACTERS_EXCEPT_NEWLINES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def configure_logging(*, is_json: bool) -> None:
    """Set up logging to standard error for this process: JSON for machines, or lines for people."""
    renderer: Any = structlog.processors.JSONRenderer() if is_json else structlog.dev.ConsoleRenderer(colors=False)
    escape_processors = [] if is_json else [_escape_control_characters]  # the JSON renderer escapes them
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _redact,
            structlog.processors.format_exc_info,
            *escape_processors,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in event:
        if name.lower() in REDACTED_FIELDS:
            event[name] = "(hidden)"
    return event


def _escape_control_characters(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape control characters instead of sending them to the terminal; tracebacks keep their lines."""
    for name, value in event.items():
        if isinstance(value, str):
            pattern = _CONTROL_CHARACTERS_EXCEPT_NEWLINES if name in _MULTILINE_FIELDS else _CONTROL_CHARACTERS
            event[name] = pattern.sub(lambda match: match[0].encode("unicode_escape").decode(), value)
    return event
