"""The request and the impersonation that the running code belongs to."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

_IMPERSONATION_KEYS = ("impersonated", "impersonator")


@contextmanager
def request_context(id: str, client: str | None) -> Iterator[None]:
    """Have every line of the log, and every operation, name the request; what the host had bound is left as it was."""
    with structlog.contextvars.bound_contextvars(request_id=id, origin=client):
        structlog.contextvars.unbind_contextvars(*_IMPERSONATION_KEYS)
        try:
            yield
        finally:  # a task that serves one request after the other keeps its context
            structlog.contextvars.unbind_contextvars(*_IMPERSONATION_KEYS)


def bind_impersonator(actor: str, impersonator: str) -> None:
    """Note that in the request under way `impersonator` acts as `actor`: in the log, and in all that it records."""
    structlog.contextvars.bind_contextvars(impersonated=actor, impersonator=impersonator)


@contextmanager
def impersonation_context(actor: str, impersonator: str | None) -> Iterator[None]:
    """Do what somebody asked for earlier as somebody else; `impersonator` None: they asked for it themselves."""
    with structlog.contextvars.bound_contextvars(impersonated=actor, impersonator=impersonator):
        yield


def get_impersonator(actor: str) -> str | None:
    """Return who acts as `actor` in the request under way; None where they act themselves, and outside of one."""
    found = structlog.contextvars.get_contextvars()
    impersonator: str | None = found.get("impersonator")
    return impersonator if found.get("impersonated") == actor else None


def get_current_request() -> dict[str, str | None]:
    """`request_id` and `origin` (the client's address) of the request that this code runs for; None outside of one."""
    found = structlog.contextvars.get_contextvars()
    return {"request_id": found.get("request_id"), "origin": found.get("origin")}
