"""Server-sent events of an open page: they end when its reader may not see it any more."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import structlog
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response

from instep.kit.errors import InstepError

log = structlog.get_logger(__name__)
PING_SECONDS = 20
RETRY = 2_000  # milliseconds until a browser that lost the stream asks again
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
MayRead = Callable[[Request], Awaitable[bool]]


def event_stream(request: Request, changes: AsyncIterator[str], may_read: MayRead) -> Response:
    """Answer with `ready`, then `change` for each of `changes`, until the reader goes away.

    At each ping `may_read` is asked again, with a copy of the request that remembers nobody: the stream ends once the
    session is over, or what it shows is not the reader's to see. While that can't be told (the database is down), it
    goes on: it carries no data, only that something changed.
    """
    return EventSourceResponse(_events(request, changes, may_read), headers=HEADERS, ping=PING_SECONDS)


async def _events(request: Request, changes: AsyncIterator[str], may_read: MayRead) -> AsyncIterator[ServerSentEvent]:
    loop = asyncio.get_running_loop()
    yield ServerSentEvent(event="ready", data="", retry=RETRY)
    due, waiting = loop.time() + PING_SECONDS, _next_of(changes)
    try:
        while True:
            await asyncio.wait([waiting], timeout=max(0.0, due - loop.time()))
            if loop.time() >= due:
                if not await _may_still_read(request, may_read):
                    return
                due = loop.time() + PING_SECONDS
            if waiting.done():
                waiting.result()
                waiting = _next_of(changes)
                yield ServerSentEvent(event="change", data="")
    finally:
        waiting.cancel()


def _next_of(changes: AsyncIterator[str]) -> asyncio.Future[Any]:
    return asyncio.ensure_future(anext(changes))


async def _may_still_read(request: Request, may_read: MayRead) -> bool:
    try:
        return await may_read(Request({**request.scope, "state": {}}))
    except InstepError as error:
        log.warning("stream_unchecked", path=request.url.path, error=str(error))
        return True
