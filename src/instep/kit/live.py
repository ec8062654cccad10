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

    async def listen(self, topic: str) -> AsyncIterator[str]:
        """Yields the topic each time that it changed, until the reader goes away."""
        event = asyncio.Event()
        self._listeners.setdefault(topic, set()).add(event)
        try:
            while True:
                await event.wait()
                event.clear()
                yield topic
        finally:
            listeners = self._listeners[topic]
            listeners.discard(event)
            if not listeners:
                del self._listeners[topic]

    def listeners(self) -> int:
        """How many are listening."""
        return sum(len(events) for events in self._listeners.values())
