"""Who is looking at what: topics that pages listen to, told in this process and, by a relay, in others."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable


class Live:
    """Topics of open pages. A listener that is slow misses repetitions, never the fact that something changed.

    `relay`, where there is one, carries what is published to the other processes.
    """

    def __init__(self) -> None:
        self.relay: Callable[[Iterable[str]], None] | None = None
        self._listeners: dict[str, set[asyncio.Event]] = {}

    def publish(self, topics: Iterable[str]) -> None:
        """Say that these changed, here and in every other process."""
        told = list(topics)
        self.tell(told)
        if self.relay is not None:
            self.relay(told)

    def tell(self, topics: Iterable[str]) -> None:
        """Say it to the listeners of this process alone."""
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
