"""Serving until told to stop: a signal ends the server in order, and then whatever else was opened."""

import asyncio
import contextlib
import signal
from collections.abc import Iterator

import uvicorn

from instep.app.web import make_app
from instep.app.wiring import Services

GRACE = 5


class Server(uvicorn.Server):
    """uvicorn, without raising the signal a second time after it has stopped: what comes after must still run."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop in order on the first Ctrl-C or SIGTERM, at once on the second."""
        loop = asyncio.get_running_loop()
        caught = (signal.SIGINT, signal.SIGTERM)
        for it in caught:
            loop.add_signal_handler(it, self.handle_exit, it, None)
        yield
        for it in caught:
            loop.remove_signal_handler(it)


def make_server(services: Services, *, host: str, port: int) -> Server:
    """A server of the application, not started."""
    return Server(
        uvicorn.Config(
            make_app(services),
            host=host,
            port=port,
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=GRACE,
        )
    )
