"""Who is looking at what: topics that pages listen to, told on this process's event loop."""

import asyncio
from collections.abc import AsyncIterator, Iterable


class Live:
    """Topics within one process. A listener that is slow misses repetitions, never the fact that something changed."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[asyncio.Event]] = {}

    def publish(self, topics: Iterable[str]) -> None:
        """Say that these changed."""
        for topic in topics:
            for event in self._listeners.get(topic, ()):
                event.set()

    async def listen(self, *topics: str) -> AsyncIterator[str]:
        """Yields each time that one of these changed, until the reader goes away."""
        event = asyncio.Event()
        for topic in topics:
            self._listeners.setdefault(topic, set()).add(event)
        try:
            while True:
                await event.wait()
                event.clear()
                yield topics[0]
        finally:
            for topic in topics:
                self._forget(topic, event)

    def _forget(self, topic: str, event: asyncio.Event) -> None:
        listeners = self._listeners[topic]
        listeners.discard(event)
        if not listeners:
            del self._listeners[topic]

    def listeners(self) -> int:
        """How many are listening."""
        return len({event for events in self._listeners.values() for event in events})
