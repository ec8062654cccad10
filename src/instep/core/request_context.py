"""The request and the impersonation that the running code belongs to."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

_IMPERSONATION_KEYS = ("impersonated", "impersonator")


@contextmanager
def request_context(request_id: str, client_address: str | None) -> Iterator[None]:
    """Add the request to every log line and operation inside the block; keep what the host application has bound."""
    with structlog.contextvars.bound_contextvars(request_id=request_id, origin=client_address):
        structlog.contextvars.unbind_contextvars(*_IMPERSONATION_KEYS)
        try:
            yield
        finally:  # a task that serves several requests in a row keeps its context
            structlog.contextvars.unbind_contextvars(*_IMPERSONATION_KEYS)


def bind_impersonator(actor: str, impersonator: str) -> None:
    """Record in the current request that `impersonator` acts as `actor`: in the log and in all that it stores."""
    structlog.contextvars.bind_contextvars(impersonated=actor, impersonator=impersonator)


@contextmanager
def impersonation_context(actor: str, impersonator: str | None) -> Iterator[None]:
    """Run the block as a previously requested action of `actor`; `impersonator` is None without impersonation."""
    with structlog.contextvars.bound_contextvars(impersonated=actor, impersonator=impersonator):
        yield


def get_impersonator(actor: str) -> str | None:
    """Return the user who impersonates `actor` in the current request; None without impersonation or request."""
    context = structlog.contextvars.get_contextvars()
    impersonator: str | None = context.get("impersonator")
    return impersonator if context.get("impersonated") == actor else None


def get_current_request() -> dict[str, str | None]:
    """Return `request_id` and `origin` (the client's address) of the current request; both None outside of one."""
    context = structlog.contextvars.get_contextvars()
    return {"request_id": context.get("request_id"), "origin": context.get("origin")}
